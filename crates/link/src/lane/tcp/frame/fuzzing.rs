//! Frames of a hostile peer.

use super::*;

/// What a connection keeps at most: the longest frame, but for one byte.
const MOST_KEPT: usize = HEADER_BYTES + 4 + MAX_FRAME;

pub(crate) fn read(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = frames_of(bytes, bytes.len().max(1));
    let cut = frames_of(bytes, usize::from(*cut).max(1));
    assert_eq!(whole, cut, "frames depend on how they are cut");
    if let Some(hello) = bytes.first_chunk::<HELLO_BYTES>()
        && let Some(read) = Hello::decode(hello)
    {
        assert_eq!(read.encode(), *hello);
    }
    if let Some(start) = bytes.first_chunk::<PARCEL_START_BYTES>() {
        let read = ParcelStart::decode(start);
        assert_eq!(read.encode(), *start);
        assert!(read.content() <= 2 * u64::from(u32::MAX), "lengths add up");
    }
}

fn frames_of(bytes: &[u8], cut: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut frames, mut read, mut written) = (Frames::default(), Vec::new(), Vec::new());
    for some in bytes.chunks(cut) {
        let fed = frames.feed::<FrameError>(some, |frame| {
            frame.encode(&mut written);
            read.push(frame);
            Ok(())
        });
        assert!(bytes.starts_with(&written), "a frame has another form than it came in");
        if let Err(error) = fed {
            return (read, Some(error));
        }
        assert!(frames.arrived.len() <= MOST_KEPT, "more is kept than a frame");
    }
    assert_eq!(written.len() + frames.arrived.len(), bytes.len(), "bytes are lost");
    (read, None)
}
