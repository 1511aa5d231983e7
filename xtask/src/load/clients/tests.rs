use super::*;

fn seen(lines: &[(f64, &str)]) -> Seen {
    let upload = Upload {
        client: 0,
        kind: Kind::Small,
        name: "a".to_owned(),
        source: "/a".into(),
        bytes: 1,
        limit: None,
    };
    let mut seen = Seen::new(&upload, 1.0);
    for (now, line) in lines {
        let turn = seen.take(line, *now);
        assert_eq!(turn, line.contains("\"event\":\"admitted\""), "{line}");
    }
    seen
}

#[test]
fn the_wait_is_from_the_first_word_of_it_to_the_turn() {
    let waited = seen(&[
        (1.5, r#"{"event":"started","sources":["waiting"]}"#),
        (2.0, r#"{"event":"waiting","position":3}"#),
        (4.0, r#"{"event":"waiting","position":1}"#),
        (7.0, r#"{"dataset":"x","event":"admitted"}"#),
        (9.0, r#"{"dataset":"x","event":"published"}"#),
    ]);
    assert_eq!((waited.waited(), waited.took()), (Some(5.0), Some(8.0)));
    assert_eq!(waited.dataset.as_deref(), Some("x"));
    let at_once = seen(&[(7.0, r#"{"event":"admitted"}"#)]);
    assert_eq!((at_once.waited(), at_once.took()), (Some(0.0), None));
    assert_eq!(seen(&[(2.0, r#"{"event":"waiting"}"#)]).waited(), None);
    assert_eq!(seen(&[(2.0, "\"admitted\" is no JSON")]).waited(), None);
}
