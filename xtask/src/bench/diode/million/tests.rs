use serde_json::json;

use super::*;

#[test]
fn both_ends_events_become_a_generation() {
    let cost = Measurement { wall: 9.0, cpu: (1.0, 2.0), memory: (3, 4) };
    let stopped =
        json!({"event": "stopped", "first_bytes": 100, "again_bytes": 0, "other_bytes": 7});
    let mut sent = Sent {
        cost,
        is_complete: true,
        event: Some(
            json!({"event": "generation", "generation": 1_700_000_000_000_u64, "same": 11}),
        ),
        events: vec![(2.5, json!({"event": "generation"})), (8.0, stopped)],
    };
    let told = generation(&sent).unwrap();
    assert_eq!((told.scanned, told.sent_bytes, told.same), (Some(2.5), 107, 11));
    assert_eq!(ended(&sent).unwrap().wall, 8.0);
    assert_eq!(number(&sent).unwrap(), 1_700_000_000_000);
    sent.event = None;
    assert!(number(&sent).is_err());
    assert!(generation(&sent).is_err());
    sent.events.clear();
    assert!(ended(&sent).is_none());
}
