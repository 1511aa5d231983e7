//! Bytes for tests: such as become smaller, and such as do not.

/// Bytes that no program makes smaller, others for each seed (xorshift64, Marsaglia 2003).
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Lines of which none is like another, and all are alike.
pub(crate) fn text(len: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|line| format!("line {line} says {}\n", line * 7).into_bytes())
        .take(len)
        .collect()
}
