//! Entrances for the fuzz targets to readers that nobody else reaches; no part of the crate otherwise.

/// The frames of a control connection over TCP, and what connections and parcels begin with. The first
/// byte says how the rest is cut. Each frame has one form only, and cuts change nothing.
pub fn tcp_frames(data: &[u8]) {
    crate::lane::tcp::frame::fuzzing::read(data);
}

/// Records of TLS from a peer that has the keys and does what it likes with them. Steps of a kind, a length
/// (two bytes, the most significant first) and bytes: 0 seals them as data, 1 as the inside of a record,
/// and others show them as they are.
pub fn tcp_records(data: &[u8]) {
    crate::lane::tcp::fuzz_records(data);
}

/// The frames behind the greetings of a pipe, as the listener's end reads them.
pub fn pipe_frames(data: &[u8]) {
    crate::pipe::frame::fuzzing::read(data);
}

/// The greetings of both ends of a pipe.
pub fn pipe_greetings(data: &[u8]) {
    crate::pipe::fuzz_greetings(data);
}

/// A parcel over QUIC with repair symbols, of which pieces come in any order and not all. The input begins
/// with eight bytes that are mixed into its lengths, and two for its size; then each piece is three bytes:
/// where in the parcel, and how long.
pub fn repair_symbols(data: &[u8]) {
    crate::lane::fuzz_parcel(data);
}
