//! The cost of a frame between host and worker, each way: `cargo bench -p conductor-runtime`.
//!
//! Each frame is encoded and decoded, with one call or 64 in it; the throughput is per call. An answer has a report, or
//! says that the report is the same as before.
#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use std::hint::black_box;

use conductor_runtime::protocol::{
    FROM_HOST, FROM_WORKER, FrameDecoder, FrameEncoder, add_to_batch,
    messages::{CallRequest, CallResponse, CallResult, FromWorker, ReportView, ToWorker},
};
use criterion::{BenchmarkId, Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("frame");
    for calls in [1, 64] {
        group.throughput(Throughput::Elements(calls));
        let mut stream = FrameStream::new(FROM_HOST);
        group.bench_function(BenchmarkId::new("of calls", calls), |bencher| {
            bencher.iter(|| {
                stream.send((0..calls).map(|nth| ToWorker::Call(request(nth))));
                while let Some(received) = stream.decoder.message::<ToWorker>().unwrap() {
                    black_box(received);
                }
            });
        });
        for (name, result) in [("of reports", report()), ("of the same", CallResult::Same)] {
            let mut stream = FrameStream::new(FROM_WORKER);
            group.bench_function(BenchmarkId::new(name, calls), |bencher| {
                bencher.iter(|| {
                    let answers = (0..calls).map(|nth| response(nth, result.clone()));
                    stream.send(answers.map(FromWorker::Answer));
                    while let Some(received) = stream.decoder.message().unwrap() {
                        black_box::<FromWorker<&str>>(received);
                    }
                });
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

/// One direction of a connection, without the socket.
struct FrameStream {
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    batch: Vec<u8>,
    bytes: Vec<u8>,
}

impl FrameStream {
    fn new(limit: usize) -> Self {
        Self {
            encoder: FrameEncoder::new(limit),
            decoder: FrameDecoder::new(limit),
            batch: Vec::new(),
            bytes: Vec::new(),
        }
    }

    fn send(&mut self, messages: impl Iterator<Item = impl serde::Serialize>) {
        self.batch.clear();
        for message in messages {
            add_to_batch(black_box(&message), &mut self.batch).unwrap();
        }
        self.bytes.clear();
        let framed = self.encoder.frame_batch(&self.batch, &mut self.bytes);
        framed.unwrap();
        self.decoder.feed(&self.bytes);
    }
}

fn request(nth: u64) -> CallRequest {
    CallRequest {
        call: LATER + nth,
        probe: nth,
        deadline: LATER * LATER + nth,
        known: true,
    }
}

fn response(
    nth: u64,
    result: CallResult<&'static str, ReportView<'static>>,
) -> CallResponse<&'static str, ReportView<'static>> {
    CallResponse {
        call: LATER + nth,
        ended: LATER * LATER + nth,
        took: 31_700 + nth,
        result,
    }
}

fn report() -> CallResult<&'static str, ReportView<'static>> {
    CallResult::Report(ReportView {
        status: 0,
        message: "HTTP 200 in 31 ms",
        measurements: &[],
        declared: &[],
        dropped: 0,
    })
}

/// Numbers of a host that has run for a while take more bytes than small ones.
const LATER: u64 = 1_000_000;
