use super::*;

fn fault(text: &[u8], most: u64) -> (String, String) {
    let faults = Metadata::read(text, most).expect_err("it is refused");
    assert_eq!(faults.len(), 1);
    (faults[0].path.clone(), faults[0].reason.clone())
}

#[track_caller]
fn check_refused(text: &str, path: &str, part: &str) {
    let (found, reason) = fault(text.as_bytes(), 1 << 20);
    assert_eq!(found, path, "{reason}");
    assert!(reason.contains(part), "{reason}");
}

#[test]
fn what_is_taken_is_kept_byte_for_byte() {
    let text = " {\"b\": [1, -2.50, 6.022e23, null, true], \"a\": {\"\\u00e4\": \"\\u0000\"}}\n";
    let metadata = Metadata::read(text.as_bytes(), 1000).unwrap();
    assert_eq!(metadata.text(), text);
    assert_eq!(metadata.value(), &serde_json::from_str::<Value>(text).unwrap());
}

#[test]
fn each_fault_has_its_place_and_a_reason() {
    for (text, path, part) in [
        ("", "", "not JSON"),
        ("{", "", "not JSON"),
        ("[1]", "", "not a list"),
        ("\"x\"", "", "not a text"),
        ("{} {}", "", "not JSON"),
        ("\u{feff}{}", "", "byte order mark"),
        ("{\"a\": [1, {\"b/c\": tru}]}", "/a/1/b~1c", "not JSON"),
        ("{\"a\": {\"x\": 1, \"y\": 2, \"x\": 3}}", "/a", "\"x\" is there twice"),
        ("{\"a\": 1, \"\\u0061\": 2}", "", "\"a\" is there twice"),
        ("{\"n\": [1, 18446744073709551616]}", "/n/1", "write it as text"),
        ("{\"s\": \"9\\\"9\", \"n\": -9223372036854775809}", "/n", "write it as text"),
        ("{\"n\": 1e999}", "/n", "write it as text"),
        ("{\"n\": NaN}", "/n", "not JSON"),
        ("{\"a\": {\"b\\u0000c\": 1}}", "/a", "control characters"),
        ("{\"a\\nb\": 1}", "", "control characters"),
        ("{\"a\": \"\\ud800\"}", "/a", "not JSON"),
    ] {
        check_refused(text, path, part);
    }
    for taken in
        ["{\"n\": 18446744073709551615}", "{\"n\": -9223372036854775808}", "{\"n\": 1e300}"]
    {
        Metadata::read(taken.as_bytes(), 100).unwrap();
    }
}

#[test]
fn bytes_that_are_no_text_and_texts_that_are_too_long() {
    assert!(fault(b"{\"a\": \"\xff\"}", 100).1.contains("not UTF-8: byte 7"));
    assert!(fault(b"{\"a\": 1}", 7).1.contains("at most 7"));
}

#[test]
fn nesting_ends_at_the_limit_however_much_follows() {
    let nested = |levels: usize| {
        let (open, close) = ("{\"a\":".repeat(levels - 1), "}".repeat(levels - 1));
        format!("{open}{{}}{close}")
    };
    Metadata::read(nested(MOST_DEPTH).as_bytes(), 1 << 20).unwrap();
    let (path, reason) = fault(nested(MOST_DEPTH + 1).as_bytes(), 1 << 20);
    assert_eq!(path, "/a".repeat(MOST_DEPTH));
    assert!(reason.contains("deeper"), "{reason}");
    for opening in ["[", "{\"a\":", "[{\"b\":"] {
        let text = opening.repeat((10 << 20) / opening.len());
        assert!(fault(text.as_bytes(), 1 << 30).1.contains("deeper"));
    }
}

#[test]
fn values_are_counted() {
    let list = |count: u64| format!("{{\"a\": [{}]}}", vec!["0"; count as usize].join(","));
    // The object and the list are values too.
    Metadata::read(list(MOST_VALUES - 2).as_bytes(), 1 << 30).unwrap();
    assert!(fault(list(MOST_VALUES - 1).as_bytes(), 1 << 30).1.contains("values"));
}
