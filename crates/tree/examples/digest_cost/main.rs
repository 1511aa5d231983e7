//! How long the tree digest takes for one entry; run it in a release build. Its figure is quoted in
//! `docs/decisions/tree-digest.md`. The content of files is not part of it: that is plain BLAKE3.

use std::time::Instant;

use files::{Digest, NameError, RelPath, Timestamp};
use tree::{Body, Record, TreeDigest};

const ENTRIES: u32 = 1000;
const ROUNDS: u32 = 100;

fn main() -> Result<(), NameError> {
    let paths: Vec<RelPath> = (0..ENTRIES)
        .map(|i| RelPath::parse(format!("projects/2026/results/run-{i:06}.csv").as_bytes()))
        .collect::<Result<_, _>>()?;
    let content = Digest::of(b"content");
    let mut digest = TreeDigest::new();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for path in &paths {
            digest.add(&Record {
                path,
                body: Body::File { size: 1 << 20, content },
                mode: Some(0o644),
                mtime: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
            });
        }
    }
    let taken = start.elapsed();
    // Printing the digest keeps the work from being optimised away.
    println!("{}", digest.finish().attributes);
    println!("{} ns for each entry", taken.as_nanos() / u128::from(ENTRIES * ROUNDS));
    Ok(())
}
