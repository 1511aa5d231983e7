use super::*;

/// A scene with these rates in MB/s, in which a ping rises by so much.
fn shared(scene: Scene, transfers: &[f64], flow: f64, rise: f64) -> Shared {
    Shared {
        scene,
        transfers: transfers.iter().map(|rate| rate * 1e6).collect(),
        flow: scene.has_flow().then_some(flow * 1e6),
        idle: vec![40.0],
        busy: vec![40.0 + rise],
        lost: 0,
    }
}

#[test]
fn a_ping_beside_cubic_is_held_against_that_with_cubic_alone() {
    let all = [
        shared(Scene::Cubic, &[], 12.0, 70.0),
        shared(Scene::Fair, &[6.0, 6.0], 0.0, 60.0),
        shared(Scene::FairAndCubic, &[4.0, 4.0], 4.0, 85.5),
        shared(Scene::Background, &[6.0, 6.0], 0.0, 14.9),
        shared(Scene::BackgroundAndCubic, &[0.6, 0.6], 10.8, 90.0),
    ];
    let text = verdicts(&all);
    for line in [
        "- Ping, two `--pace fair`: missed, its mean rises by 60.0 ms, wanted below 60 ms.",
        "- Ping, two `--pace fair` and CUBIC: met, its mean rises by 15.5 ms above CUBIC alone, wanted \
         below 60 ms.",
        "- Ping, two `--pace background`: met, its mean rises by 14.9 ms, wanted below 15 ms.",
        "- Ping, two `--pace background` and CUBIC: missed, its mean rises by 20.0 ms above CUBIC alone, \
         wanted below 15 ms.",
        "- Shares, two `--pace background` and CUBIC: CUBIC keeps 90 % of what it has alone.",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in:\n{text}");
    }
    // Without the baseline nothing can be said beside CUBIC.
    let text = verdicts(&all[1..]);
    assert!(text.contains("- Ping, two `--pace fair` and CUBIC: not measured."), "{text}");
    assert!(!text.contains("keeps"), "{text}");
    let unanswered = Shared { busy: Vec::new(), ..all[1].clone() };
    assert!(verdicts(&[unanswered]).contains("- Ping, two `--pace fair`: not measured."));
}

#[test]
fn a_flow_with_less_than_half_of_its_part_is_starved() {
    let check = |transfers: &[f64], flow, expected: &str| {
        let text = verdicts(&[shared(Scene::FairAndCubic, transfers, flow, 1.0)]);
        let line = format!("- Shares, two `--pace fair` and CUBIC: {expected}");
        assert!(text.contains(&line), "{line} is not in:\n{text}");
    };
    check(&[5.0, 5.0], 2.0, "met, the least share is 17 %, wanted half of an equal one, 17 %.");
    check(&[5.5, 5.5], 1.0, "missed, the least share is 8 %, wanted half of an equal one, 17 %.");
    check(&[1.0, 5.0], 6.0, "missed, the least share is 8 %");
}

#[test]
fn the_section_has_a_line_for_each_scene() {
    let all = [
        shared(Scene::Cubic, &[], 12.0, 70.0),
        shared(Scene::FairAndCubic, &[3.0, 3.0], 6.0, 80.0),
    ];
    let text = sharing_section(&all, "Measured.");
    let cells = |name: &str| -> Vec<String> {
        let mut lines = text.lines().filter(|line| line.starts_with('|'));
        let line = lines.find(|line| line.contains(name)).unwrap();
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    assert_eq!(cells("CUBIC alone")[1..4], ["-", "12.00", "100"]);
    let both = cells("`--pace fair` and CUBIC");
    assert_eq!(both[1..4], ["3.00, 3.00", "6.00", "25, 25, 50"]);
    assert_eq!(both[4..], ["40.0 / 40.0", "80.0 ms", "80.0 ms", "0 of 1"]);
    assert_eq!(sharing_plot(&all).groups[1].bars.len(), 3);
}
