//! Borders of each kind of value, and that nothing has two spellings.

use super::*;

fn encoded(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    write(&mut encoder);
    let length = encoder.len();
    assert!(!encoder.is_empty());
    let bytes = encoder.finish();
    assert_eq!(bytes.len(), length);
    bytes
}

#[test]
fn numbers_come_back_and_are_as_short_as_they_can_be() {
    let borders: Vec<u64> = (0..64)
        .flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1])
        .chain([u64::MAX])
        .collect();
    for value in borders {
        let bytes = encoded(|e| _ = e.varint(value));
        let bits = 64 - value.leading_zeros() as usize;
        assert_eq!(bytes.len(), bits.div_ceil(7).max(1), "{value}");
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(decoder.varint("n"), Ok(value));
        assert_eq!(decoder.finish(), Ok(()));
        for cut in 0..bytes.len() {
            let problem = Decoder::new(&bytes[..cut]).varint("n").unwrap_err().problem;
            assert_eq!(problem, WireProblem::EndsEarly, "{value} cut to {cut}");
        }
        let signed = value as i64;
        let bytes = encoded(|e| _ = e.signed(signed).signed(signed.wrapping_neg()));
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(decoder.signed("n"), Ok(signed));
        assert_eq!(decoder.signed("n"), Ok(signed.wrapping_neg()));
    }
    assert_eq!(encoded(|e| _ = e.signed(-1).signed(1).signed(-64)), [1, 2, 127]);
}

#[test]
fn wrong_bytes_name_the_field_and_the_problem() {
    fn check<T: std::fmt::Debug>(
        bytes: &[u8],
        read: impl FnOnce(&mut Decoder) -> Result<T, WireError>,
        problem: WireProblem,
    ) {
        let error = read(&mut Decoder::new(bytes)).unwrap_err();
        assert_eq!(error, WireError { field: "size", problem }, "{bytes:02x?}");
        assert!(error.to_string().starts_with("field size: "), "{error}");
        assert_eq!(error.fault(), crate::Fault::Corrupt);
    }
    let too_large = WireProblem::NumberTooLarge;
    check(&[0x80, 0x00], |d| d.varint("size"), WireProblem::NotCanonical);
    check(&[0xff, 0x80, 0x00], |d| d.varint("size"), WireProblem::NotCanonical);
    check(
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00],
        |d| d.varint("size"),
        WireProblem::NotCanonical,
    );
    check(
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        |d| d.varint("size"),
        too_large,
    );
    check(&[0xff; 11], |d| d.varint("size"), too_large);
    check(&[0x80; 10], |d| d.varint("size"), too_large);
    check(&[], |d| d.u8("size"), WireProblem::EndsEarly);
    check(&[2], |d| d.boolean("size"), WireProblem::NotBoolean(2));
    check(&[3, 1, 2], |d| d.bytes("size", 3).map(<[u8]>::to_vec), WireProblem::EndsEarly);
    check(
        &[4, 1, 2, 3, 4],
        |d| d.bytes("size", 3).map(<[u8]>::to_vec),
        WireProblem::AboveCap { value: 4, cap: 3 },
    );
    check(&[2, 0xc3, 0x28], |d| d.text("size", 9).map(str::to_owned), WireProblem::NotText);
    check(&[1, 2, 3], |d| d.array::<4>("size"), WireProblem::EndsEarly);
    // A length that no memory could hold is refused before anything is done with it.
    let huge = encoded(|e| _ = e.varint(u64::MAX));
    check(&huge, |d| d.bytes("size", usize::MAX).map(<[u8]>::to_vec), WireProblem::EndsEarly);
}

#[test]
fn a_message_comes_back_and_must_end_where_it_ends() {
    let mut bytes = encoded(|e| {
        e.u8(7)
            .boolean(true)
            .boolean(false)
            .bytes(b"")
            .bytes(b"abc")
            .text("häuser")
            .array(&[1, 2, 3]);
    });
    let read = |bytes: &[u8]| {
        let mut d = Decoder::new(bytes);
        assert_eq!(d.u8("a"), Ok(7));
        assert_eq!((d.boolean("b"), d.boolean("c")), (Ok(true), Ok(false)));
        assert_eq!((d.bytes("d", 0), d.bytes("e", 3)), (Ok(&b""[..]), Ok(&b"abc"[..])));
        assert_eq!(d.text("f", 7), Ok("häuser"));
        assert_eq!(d.array("g"), Ok([1, 2, 3]));
        d.finish()
    };
    assert_eq!(read(&bytes), Ok(()));
    bytes.push(0);
    assert_eq!(read(&bytes).unwrap_err().problem, WireProblem::Trailing(1));
}
