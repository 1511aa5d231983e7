//! Targets for the readers of `link`.

use link::wire::{Decoder, Encoder, WireError};

/// The longest field that the target lets a message claim.
const FIELD_CAP: usize = 4096;

/// The codec under every message. The input is a count, that many instructions, and the message they
/// read. Each value has one form only, so writing what was read must give the bytes that were read.
pub fn wire(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let (program, message) = rest.split_at(usize::from(count).min(rest.len()));
    let mut decoder = Decoder::new(message);
    let mut encoder = Encoder::new();
    for instruction in program {
        if copy_field(*instruction, &mut decoder, &mut encoder).is_err() {
            assert!(decoder.remaining() <= message.len(), "a decoder never gains bytes");
            return;
        }
        let read = message.len() - decoder.remaining();
        assert_eq!(encoder.len(), read, "a value was read that is not in its only form");
    }
    let read = message.len() - decoder.remaining();
    assert_eq!(encoder.finish(), message[..read], "what was read and what it is written as differ");
    assert_eq!(decoder.finish().is_ok(), read == message.len(), "the end is where the bytes end");
}

/// Reads one field of the kind that the instruction names, and writes it again.
fn copy_field(
    instruction: u8,
    decoder: &mut Decoder<'_>,
    encoder: &mut Encoder,
) -> Result<(), WireError> {
    match instruction % 8 {
        0 => encoder.u8(decoder.u8("u8")?),
        1 => encoder.boolean(decoder.boolean("boolean")?),
        2 => encoder.varint(decoder.varint("varint")?),
        3 => {
            let cap = 1 << (instruction / 8);
            let value = decoder.varint_at_most("capped", cap)?;
            assert!(value <= cap, "{value} passed a cap of {cap}");
            encoder.varint(value)
        }
        4 => encoder.signed(decoder.signed("signed")?),
        5 => encoder.bytes(decoder.bytes("bytes", FIELD_CAP)?),
        6 => encoder.text(decoder.text("text", FIELD_CAP)?),
        _ => encoder.array(&decoder.array::<16>("array")?),
    };
    Ok(())
}
