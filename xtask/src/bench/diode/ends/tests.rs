use serde_json::json;

use super::*;

#[test]
fn only_whole_lines_are_read_and_only_events() {
    let mut bytes = b"{\"event\":\"a\"}\nwarning: no event\n{\"event\":".to_vec();
    assert_eq!(whole_lines(&mut bytes), [json!({"event": "a"})]);
    assert_eq!(whole_lines(&mut bytes), Vec::<Value>::new());
    bytes.extend(b"\"b\"}\n");
    assert_eq!(whole_lines(&mut bytes), [json!({"event": "b"})]);
    assert!(bytes.is_empty());
}

#[test]
fn a_generation_is_complete_when_nothing_is_missing_or_different() {
    let event = |number, missing, different| {
        json!({"event": "generation", "generation": number, "same": 5, "different": different,
            "extra": 3, "missing": missing})
    };
    assert!(completes(&event(1, 0, 0), 1));
    assert!(completes(&event(3, 0, 0), 2));
    assert!(!completes(&event(1, 0, 0), 2));
    assert!(!completes(&event(1, 1, 0), 1));
    assert!(!completes(&event(1, 0, 1), 1));
    assert!(!completes(&json!({"event": "missing", "generation": 1, "missing": 0}), 1));
}
