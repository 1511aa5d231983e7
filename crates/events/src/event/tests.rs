//! Who is told what, and how often.

use std::sync::Mutex;

use super::*;

fn warning(text: &str) -> Event {
    Event::Warning { text: text.to_owned() }
}

#[test]
fn every_subscriber_is_told_in_order_and_clones_share_them() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let told = Arc::clone(&told);
        move |event: &Event| told.lock().unwrap().push((name, event.clone()))
    };
    let one = Sink::new(note("first"));
    let two = one.clone().and(note("second"));
    one.emit(&warning("a"));
    two.clone().emit(&warning("b"));
    let expected = [("first", warning("a")), ("first", warning("b")), ("second", warning("b"))];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn a_silent_sink_makes_no_event() {
    Sink::default().emit_with(|| panic!("nobody listens"));
    Sink::default().emit(&warning("a"));
}
