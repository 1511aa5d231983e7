use super::*;

fn frames(parts: &[&[u8]]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes::copy_from_slice(part)).collect()
}

fn read(parts: &[&[u8]]) -> Result<ClientMessage, WireError> {
    ClientMessage::read(&frames(parts), 64)
}

const ZERO: &[u8] = &[0; 4];

#[test]
fn each_message_is_read_as_it_was_written() {
    for message in [
        ClientMessage::PostFile { name: "läufe.tar".into(), metadata: "{\"a\":1}".into() },
        ClientMessage::PostFile { name: String::new(), metadata: String::new() },
        ClientMessage::PostChunk { seek: u64::MAX, data: Bytes::from_static(b"abc"), last: None },
        ClientMessage::PostChunk { seek: 7, data: Bytes::new(), last: Some([9; 32]) },
        ClientMessage::QueryStatus,
        ClientMessage::Error { code: 500, text: "gone".into() },
    ] {
        assert_eq!(ClientMessage::read(&message.write(), 64), Ok(message));
    }
}

#[test]
fn numbers_are_big_endian_and_flags_but_the_lowest_say_nothing() {
    let sum = [5; 32];
    let seek: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 2];
    let chunk = |last| ClientMessage::PostChunk { seek: 0x1_0002, data: Bytes::from("x"), last };
    assert_eq!(read(&[b"post-chunk", ZERO, seek, b"x"]), Ok(chunk(None)));
    // Some clients put an empty checksum into every chunk.
    assert_eq!(read(&[b"post-chunk", ZERO, seek, b"x", b""]), Ok(chunk(None)));
    assert_eq!(read(&[b"post-chunk", &[0, 0, 0, 2], seek, b"x", &sum]), Ok(chunk(None)));
    assert_eq!(read(&[b"post-chunk", &[0, 0, 0, 1], seek, b"x", &sum]), Ok(chunk(Some(sum))));
    assert_eq!(read(&[b"post-chunk", &[9, 0, 0, 3], seek, b"x", &sum]), Ok(chunk(Some(sum))));
}

#[test]
fn what_is_no_message_is_an_error() {
    let long = [b'a'; MAX_NAME + 1];
    let one: &[u8] = &[0, 0, 0, 1];
    let wrong: &[&[&[u8]]] = &[
        &[],
        &[b""],
        &[b"post-file"],
        &[b"POST-FILE", ZERO, b"n", b"{}"],
        &[b"post-file", ZERO, b"n"],
        &[b"post-file", ZERO, b"n", b"{}", b""],
        &[b"post-file", b"\0\0\0", b"n", b"{}"],
        &[b"post-file", ZERO, b"\xff", b"{}"],
        &[b"post-file", ZERO, b"n", b"\xff"],
        &[b"post-file", ZERO, &long, b"{}"],
        &[b"post-file", ZERO, b"n", &[b' '; 65]],
        &[b"post-chunk", ZERO, &[0; 7], b"x"],
        &[b"post-chunk", ZERO, &[0; 8]],
        &[b"post-chunk", one, &[0; 8], b"x"],
        &[b"post-chunk", one, &[0; 8], b"x", &[0; 31]],
        &[b"post-chunk", one, &[0; 8], b"x", &[0; 33]],
        &[b"query-status", b""],
        &[b"error", ZERO],
        &[b"error", b"", b"x"],
        &[b"upload-approved", ZERO, ZERO, ZERO],
    ];
    for parts in wrong {
        assert!(read(parts).is_err(), "{parts:?}");
    }
}

#[test]
fn the_words_of_a_client_that_gives_up_are_never_in_the_way() {
    let text = vec![0xff; 100_000];
    let Ok(ClientMessage::Error { code: 0, text }) = read(&[b"error", ZERO, &text]) else {
        panic!("not read")
    };
    assert_eq!(text.chars().count(), MAX_ERROR_TEXT);
}

#[test]
fn what_the_server_says_has_the_bytes_that_the_text_asks_for() {
    let check =
        |message: ServerMessage, parts: &[&[u8]]| assert_eq!(message.write(), frames(parts));
    let approved =
        ServerMessage::UploadApproved { credit: 1, chunk_bytes: 0x1_0000, max_queue: 258 };
    check(approved, &[b"upload-approved", &[0, 0, 0, 1], &[0, 1, 0, 0], &[0, 0, 1, 2]]);
    check(ServerMessage::TransferCredit(0), &[b"transfer-credit", ZERO]);
    check(
        ServerMessage::StatusReport { seek: 1 << 40, credit: 3 },
        &[b"status-report", &[0, 0, 1, 0, 0, 0, 0, 0], &[0, 0, 0, 3]],
    );
    check(ServerMessage::UploadFinished("é".into()), &[b"upload-finished", "é".as_bytes()]);
    check(ServerMessage::error(422, "no"), &[b"error", &[0, 0, 1, 166], b"no"]);
    // A text is cut between two characters.
    let ServerMessage::Error { text, .. } = ServerMessage::error(1, &"xé".repeat(2000)) else {
        panic!("not an error")
    };
    assert!(text.len() <= MAX_ERROR_TEXT && text.len() > MAX_ERROR_TEXT - 3);
}
