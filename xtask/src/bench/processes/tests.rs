use super::*;

#[test]
fn a_name_with_brackets_and_spaces_moves_no_field() {
    let text = "7 (a) b) (c) S 1 7 7 0 -1 4194560 9 8 0 0 120 30 50 5 20 0 1 0 4242 1000 10";
    let fields = fields(text);
    assert_eq!(fields[field::START], 4242);
    let all = [field::USER, field::SYSTEM, field::WAITED_USER, field::WAITED_SYSTEM];
    assert_eq!(sum(&fields, &all), 2.05);
    assert_eq!(sum(&[], &all), 0.0);
}

#[test]
fn this_process_is_found() {
    let id = std::process::id();
    assert!(start_time(id).is_some_and(|start| start > 0));
    assert!(peak_bytes(id).is_some_and(|bytes| bytes > 100_000));
    let (near, far) = Watch::start(id, None, Duration::from_secs(60)).finish();
    assert!(near > 100_000);
    assert_eq!(far, 0);
}
