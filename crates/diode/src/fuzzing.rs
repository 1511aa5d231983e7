//! Entrances for the fuzz targets to readers that nobody else reaches; no part of the crate otherwise.

/// A row of a receiver's journal. The first byte says of which kind. What was read is written as what it was read from.
pub fn journal_row(data: &[u8]) {
    crate::receive::fuzz_row(data);
}

/// A file that a receiver keeps beside its journal: what it remembers of sessions if the first byte is even, or a block
/// of which too little has come.
pub fn kept_file(data: &[u8]) {
    crate::receive::fuzz_kept(data);
}

/// A row of a sender's ledger. The first byte says of which kind.
pub fn ledger_row(data: &[u8]) {
    crate::send::fuzz_row(data);
}
