use super::*;

#[test]
fn pings_are_read_and_lost_ones_are_not() {
    let said = "PING 10.99.0.2 (10.99.0.2) 56(84) bytes of data.\n\
                64 bytes from 10.99.0.2: icmp_seq=1 ttl=64 time=40.5 ms\n\
                64 bytes from 10.99.0.2: icmp_seq=3 ttl=64 time=101 ms\n\n\
                --- 10.99.0.2 ping statistics ---\n\
                3 packets transmitted, 2 received, 33% packet loss, time 401ms\n\
                rtt min/avg/max/mdev = 40.500/70.750/101.000/30.250 ms\n";
    assert_eq!(times(said), [40.5, 101.0]);
    assert_eq!(times(""), [0.0; 0]);
}

#[test]
fn a_rise_is_over_the_idle_link() {
    let shared = Shared {
        scene: Scene::FairAndCubic,
        transfers: vec![3e6, 4e6],
        flow: Some(5e6),
        idle: vec![40.0, 40.0],
        busy: vec![50.0, 60.0, 100.0],
        lost: 0,
    };
    assert_eq!(shared.rise(), (30.0, 60.0));
    assert_eq!(shared.rates(), [3e6, 4e6, 5e6]);
}

#[test]
fn the_queue_is_longer_than_what_a_ping_may_rise_by() {
    let mut settings = Settings::default();
    for word in WORDS.split_whitespace() {
        settings.apply(&Change::parse(word).unwrap()).unwrap();
    }
    let profile = &settings.profiles[0];
    let full = profile.queue.unwrap() as f64 / (profile.rate.unwrap() / 8.0);
    assert_eq!((full * 1e3, profile.delay * 2), (120.0, 40_000_000));
}

#[test]
fn every_scene_has_haul_or_the_plain_flow() {
    for scene in Scene::ALL {
        assert!(scene.pace().is_some() || scene.has_flow());
    }
    assert_eq!(Scene::BackgroundAndCubic.describe(), "two `--pace background` and CUBIC");
    assert_eq!(Scene::Fair.describe(), "two `--pace fair`");
}
