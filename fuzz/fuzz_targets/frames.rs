//! A worker may send any bytes, in any pieces: each frame is read or refused, and the split makes no difference.
#![no_main]

use conductor_runtime::protocol::{
    FROM_HOST, FROM_WORKER, FrameDecoder, FrameEncoder,
    messages::{FromWorker, ToWorker},
};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, stream)) = bytes.split_first() else {
        return;
    };
    // The size of the pieces, and the sender of the stream.
    let size = usize::from(piece >> 1).max(1);
    if piece & 1 == 0 {
        let read = |size| conversation::<FromWorker<String>>(stream, size, FROM_WORKER);
        assert_eq!(read(size), read(usize::MAX));
    } else {
        let read = |size| conversation::<ToWorker>(stream, size, FROM_HOST);
        assert_eq!(read(size), read(usize::MAX));
    }
});

/// Returns the stream's messages, and how it ends.
fn conversation<M>(stream: &[u8], size: usize, limit: usize) -> (Vec<String>, String)
where
    M: for<'a> Deserialize<'a> + Serialize + std::fmt::Debug,
{
    let mut decoder = FrameDecoder::new(limit);
    let mut said = Vec::new();
    for piece in stream.chunks(size) {
        decoder.feed(piece);
        loop {
            match decoder.message::<M>() {
                Ok(Some(message)) => {
                    said.push(format!("{message:?}"));
                    assert_eq!(sent_again(&message, limit).as_ref(), said.last());
                }
                Ok(None) => break,
                Err(fault) => return (said, fault.to_string()),
            }
        }
    }
    let end = format!("between frames: {}", decoder.is_between_frames());
    (said, end)
}

/// Returns the message after sending it on; as text, since NaN equals nothing.
fn sent_again<M>(message: &M, limit: usize) -> Option<String>
where
    M: for<'a> Deserialize<'a> + Serialize + std::fmt::Debug,
{
    let mut stream = Vec::new();
    FrameEncoder::new(limit).frame(message, &mut stream).ok()?;
    let mut decoder = FrameDecoder::new(limit);
    decoder.feed(&stream);
    let message: M = decoder.message().ok()??;
    Some(format!("{message:?}"))
}
