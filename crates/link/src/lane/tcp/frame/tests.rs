//! Every frame comes back, and none that cannot be does.

use super::*;

fn all() -> Vec<Frame> {
    vec![
        Frame::Welcome,
        Frame::Control { stream: 7, bytes: b"hello".to_vec() },
        Frame::Control { stream: 0, bytes: vec![3; MAX_FRAME] },
        Frame::ControlEnd { stream: u32::MAX },
        Frame::Credit { stream: 1, bytes: 70_000 },
        Frame::Read { numbers: vec![0, u64::MAX, 1 << 40] },
        Frame::Refused { number: 1 << 33, code: 55 },
        Frame::Ping,
        Frame::Pong,
        Frame::More { connections: 258 },
        Frame::Close { code: 3, reason: b"bye".to_vec() },
    ]
}

#[test]
fn frames_come_back_however_they_are_cut() {
    let mut bytes = Vec::new();
    all().iter().for_each(|frame| frame.encode(&mut bytes));
    for step in [1, 2, 3, 1000, bytes.len()] {
        let (mut frames, mut got) = (Frames::default(), Vec::new());
        for some in bytes.chunks(step) {
            frames
                .feed::<FrameError>(some, |frame| {
                    got.push(frame);
                    Ok(())
                })
                .unwrap();
        }
        assert!(got == all(), "cut every {step} bytes");
        assert!(frames.arrived.is_empty());
    }
}

#[test]
fn lengths_that_cannot_be_are_refused_before_anything_is_kept() {
    for (kind, length) in [
        (0, 0),
        (11, 0),
        (1, 1),
        (2, 3),
        (2, MAX_FRAME as u32 + 5),
        (2, u32::MAX),
        (5, 0),
        (5, 8 * 513),
        (6, 11),
        (10, 3),
        (10, 5000),
    ] {
        let header = [&[kind][..], &length.to_be_bytes()].concat();
        let refused = Frames::default().feed::<FrameError>(&header, |_| Ok(()));
        assert!(refused.is_err(), "kind {kind}, length {length}");
    }
    let odd = [&[5, 0, 0, 0, 9][..], &[1; 9]].concat();
    assert!(Frames::default().feed::<FrameError>(&odd, |_| Ok(())).is_err());
}

#[test]
fn hellos_and_parcels_begin_as_written() {
    let hello = Hello { lane: *b"0123456789abcdef", number: 515 };
    let mut bytes = hello.encode();
    assert_eq!(Hello::decode(&bytes), Some(hello));
    bytes[0] = 2;
    assert_eq!(Hello::decode(&bytes), None);
    let start = ParcelStart { head: 1 << 20, body: u32::MAX, number: 1 << 50 | 9 };
    assert_eq!(ParcelStart::decode(&start.encode()), start);
    assert_eq!(start.content(), (1 << 20) + u64::from(u32::MAX));
}
