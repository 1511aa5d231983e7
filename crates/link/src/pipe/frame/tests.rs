use super::*;

#[test]
fn frames_have_one_form() {
    let heads = [
        Head::Open { connection: 7 },
        Head::Data { connection: 1, length: MOST_DATA },
        Head::Credit { connection: 2, bytes: WINDOW },
        Head::End { connection: u32::MAX },
        Head::Reset { connection: 3 },
        Head::Ping { number: u32::MAX },
        Head::Pong { number: 0 },
        Head::Bye,
    ];
    for head in heads {
        assert_eq!(Head::decode(&head.encode()), Ok(head));
    }
    let refused = |kind: u8, connection: u8, value: u32| {
        let mut bytes = [0; HEAD_BYTES];
        (bytes[0], bytes[4]) = (kind, connection);
        bytes[5..].copy_from_slice(&value.to_be_bytes());
        assert!(Head::decode(&bytes).is_err(), "{bytes:?}");
    };
    refused(0, 0, 0);
    refused(9, 0, 0);
    refused(1, 0, 1);
    refused(2, 0, 0);
    refused(2, 0, MOST_DATA as u32 + 1);
    refused(3, 0, WINDOW as u32 + 1);
    refused(6, 1, 0);
    refused(8, 0, 1);
}

#[test]
fn a_connection_lives_from_its_opening_to_both_ends() {
    let (mut near, mut far) =
        (Table::new(true, MOST_CONNECTIONS), Table::new(false, MOST_CONNECTIONS));
    let number = near.open().unwrap();
    assert_eq!(far.take(Head::Open { connection: number }), Ok(Meaning::Opened));
    assert_eq!(far.open(), None, "only the dialer opens");
    assert_eq!(near.spend(number, WINDOW + 5), Some(WINDOW));
    assert_eq!(near.spend(number, 1), Some(0), "nothing is left");
    for _ in 0..WINDOW / MOST_DATA {
        let data = Head::Data { connection: number, length: MOST_DATA };
        assert_eq!(far.take(data), Ok(Meaning::Data));
    }
    let more = Head::Data { connection: number, length: 1 };
    assert!(far.take(more).is_err(), "more than the window");
    assert!(far.passed_on(number, MOST_DATA));
    let credit = Head::Credit { connection: number, bytes: MOST_DATA };
    assert_eq!(near.take(credit), Ok(Meaning::Credited));
    assert_eq!(near.spend(number, WINDOW), Some(MOST_DATA));
    assert!(near.end(number));
    assert_eq!(far.take(Head::End { connection: number }), Ok(Meaning::Ended));
    assert!(far.take(Head::End { connection: number }).is_err());
    assert!(far.end(number));
    assert_eq!(near.take(Head::End { connection: number }), Ok(Meaning::Ended));
    assert_eq!(near.take(credit), Ok(Meaning::Stale));
    assert!(!far.end(number) && !near.passed_on(number, 1));
}

#[test]
fn what_no_honest_end_says_is_refused() {
    let mut far = Table::new(false, MOST_CONNECTIONS);
    assert!(far.take(Head::Open { connection: 1 }).is_err(), "the first has number 0");
    assert!(far.take(Head::Data { connection: 0, length: 1 }).is_err());
    assert_eq!(far.take(Head::Open { connection: 0 }), Ok(Meaning::Opened));
    assert!(far.take(Head::Open { connection: 0 }).is_err(), "twice");
    assert!(far.take(Head::Credit { connection: 0, bytes: 1 }).is_err(), "nothing was sent");
    assert!(
        Table::new(true, MOST_CONNECTIONS).take(Head::Open { connection: 0 }).is_err(),
        "a listener opens"
    );
    let mut far = Table::new(false, MOST_CONNECTIONS);
    for connection in 0..MOST_CONNECTIONS as u32 {
        assert_eq!(far.take(Head::Open { connection }), Ok(Meaning::Opened));
    }
    let connection = MOST_CONNECTIONS as u32;
    assert_eq!(far.take(Head::Open { connection }), Ok(Meaning::NoPlace));
    assert_eq!(far.take(Head::Data { connection, length: 1 }), Ok(Meaning::Stale));
    assert_eq!(far.take(Head::Reset { connection: 0 }), Ok(Meaning::Over));
    assert_eq!(far.take(Head::Open { connection: connection + 1 }), Ok(Meaning::Opened));
}
