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
        pace: None,
        transfers: [3e6, 4e6],
        flow: 5e6,
        idle: vec![40.0, 40.0],
        busy: vec![50.0, 60.0, 100.0],
        lost: 0,
    };
    assert_eq!(shared.rise(), (30.0, 60.0));
    assert_eq!(shared.sum(), 12e6);
}

#[test]
fn the_words_of_the_link_are_understood() {
    let mut settings = Settings::default();
    for word in WORDS.split_whitespace() {
        settings.apply(&Change::parse(word).unwrap()).unwrap();
    }
    // One bandwidth-delay product: 100 Mbit/s for 40 ms.
    let profile = &settings.profiles[0];
    let product = profile.rate.unwrap() / 8.0 * (2 * profile.delay) as f64 / 1e9;
    assert_eq!(profile.queue.unwrap() as f64, product);
}
