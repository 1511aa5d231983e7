//! Doors for fuzz targets to what is nobody else's business.

use crate::buffers::Buffers;
use crate::compress::unpacked;

/// A body that is said to be packed, with the length that it is said to have in its first four bytes: nothing comes out,
/// or exactly so much.
pub fn packed(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk() else { return };
    let raw = u64::from(u32::from_be_bytes(*length));
    let whole = unpacked(body.to_vec(), raw, &Buffers::default());
    assert!(whole.is_empty() || whole.len() as u64 == raw);
}
