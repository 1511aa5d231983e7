use super::*;

#[test]
fn the_end_is_kept_and_the_rest_counted() {
    for piece in [1, 7, 4_096, 100_000] {
        let all: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
        let mut tail = Tail::default();
        for piece in all.chunks(piece) {
            tail.push(piece);
            assert!(tail.bytes.len() <= 4 * KEPT + piece.len());
        }
        let expected = format!("({} bytes before this)\n", all.len() - KEPT);
        assert_eq!(tail.into_bytes(), [expected.as_bytes(), &all[all.len() - KEPT..]].concat());
    }
    let mut tail = Tail::default();
    tail.push(b"all of it");
    assert_eq!(tail.into_bytes(), b"all of it");
}
