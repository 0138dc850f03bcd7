//! The decoder with valid and invalid streams, also in pieces.

use proptest::prelude::*;

use super::{
    messages::{
        CallRequest, CallResponse, CallResult, FromWorker, ReportView, ToWorker, WireFailure,
        WireReport,
    },
    *,
};
use crate::DeclaredValue;

type Said = FromWorker<String>;
type Heard<'a> = FromWorker<&'a str>;

fn stream(messages: &[Said]) -> Vec<u8> {
    let (mut encoder, mut stream) = (FrameEncoder::new(FROM_WORKER), Vec::new());
    for message in messages {
        encoder.frame(message, &mut stream).unwrap();
    }
    stream
}

/// Feeds `bytes` piece by piece and returns the messages in order, up to the first fault.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Said>, Option<ProtocolViolation>, bool) {
    let (mut decoder, mut read) = (FrameDecoder::new(FROM_WORKER), Vec::new());
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.message::<Said>() {
                Ok(Some(message)) => read.push(message),
                Ok(None) => break,
                Err(fault) => return (read, Some(fault), false),
            }
        }
    }
    let whole = decoder.is_between_frames();
    (read, None, whole)
}

fn log(text: &str) -> Said {
    FromWorker::Log {
        level: 3,
        platform: Some("discord".to_owned()),
        text: text.to_owned(),
    }
}

fn some_messages() -> Vec<Said> {
    let found = WireReport {
        status: 1,
        message: "slow, 3 µs".to_owned(),
        measurements: vec![("seconds".to_owned(), f64::INFINITY), (String::new(), -0.0)],
        declared: vec![(1, vec!["/home".to_owned()], 0.5), (0, Vec::new(), -0.0)],
        dropped: 7,
    };
    let failed = WireFailure {
        kind: 2,
        message: "no".to_owned(),
        violations: Vec::new(),
    };
    let answer = |call, result| {
        FromWorker::Answer(CallResponse {
            call,
            ended: u64::MAX,
            took: 0,
            result,
        })
    };
    vec![
        FromWorker::Loaded {
            schema: "{}".to_owned(),
            metrics: "[]".to_owned(),
            asynchronous: true,
            unconfined: Vec::new(),
        },
        answer(0, CallResult::Report(found)),
        answer(3, CallResult::Same),
        answer(u64::MAX, CallResult::Failure(failed)),
        log(""),
        FromWorker::Dropped {
            lines: u64::MAX,
            errors: 1,
        },
        FromWorker::State {
            platform: "discord".to_owned(),
            state: vec![0, 255],
        },
    ]
}

#[test]
fn a_stream_cut_at_any_byte_is_read_the_same() {
    let messages = some_messages();
    let stream = stream(&messages);
    for cut in 0..=stream.len() {
        let (before, after) = stream.split_at(cut);
        assert_eq!(read([before, after]), (messages.clone(), None, true));
    }
    assert_eq!(read(stream.chunks(1)), (messages, None, true));
}

#[test]
fn a_stream_that_ends_within_a_frame_is_seen_to() {
    let stream = stream(&some_messages());
    let (_, fault, whole) = read([&stream[..stream.len() - 1]]);
    assert_eq!((fault, whole), (None, false));
}

#[test]
fn a_frame_of_4_gb_is_refused_by_its_length_alone() {
    let mut decoder = FrameDecoder::new(FROM_WORKER);
    decoder.feed(&u32::MAX.to_le_bytes());
    let fault = decoder.message::<Said>().unwrap_err();
    assert_eq!(
        fault.to_string(),
        "sent a frame of 4294967295 bytes, at most 1048576 are allowed"
    );
    assert!(decoder.buffer.capacity() < 100, "memory was set aside");
}

#[test]
fn a_frame_that_is_lost_or_comes_twice_is_noticed() {
    let bytes = stream(&[log("a"), log("b"), log("c")]);
    let frame = bytes.len() / 3;
    let (read_lost, lost, _) = read([&bytes[..frame], &bytes[2 * frame..]]);
    assert_eq!(read_lost, [log("a")]);
    assert_eq!(
        lost.unwrap().to_string(),
        "sent frame 2 where frame 1 was due"
    );
    let (_, twice, _) = read([&bytes[..frame], &bytes[..frame]]);
    assert_eq!(
        twice.unwrap().to_string(),
        "sent frame 0 where frame 1 was due"
    );
}

#[test]
fn what_is_no_message_is_named() {
    let body = |body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        let (_, fault, _) = read([&length[..], body]);
        fault.unwrap()
    };
    // Number 0, then a log line of level 3 without a platform, whose text is one byte.
    assert_eq!(body(&[0, 3, 3, 0, 1, 0xff]), ProtocolViolation::Text);
    for unreadable in [
        &[][..],
        // Behind a message.
        &[0, 3, 3, 0, 1, b'x', 7],
        &[0],
        &[0, 200],
        &[0, 3, 3, 0, 9, b'x'],
        &[0x80; 20],
    ] {
        let fault = body(unreadable);
        assert!(matches!(fault, ProtocolViolation::Unreadable(_)), "{fault}");
    }
    // An answer that claims 2^60 measurements.
    let many = [
        0, 2, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10,
    ];
    assert!(matches!(body(&many), ProtocolViolation::Unreadable(_)));
}

#[test]
fn a_message_too_long_for_a_frame_is_not_sent_and_leaves_no_gap() {
    let (mut encoder, mut bytes) = (FrameEncoder::new(FROM_WORKER), Vec::new());
    let unsent = encoder.frame(&log(&"x".repeat(FROM_WORKER)), &mut bytes);
    assert!(
        matches!(unsent, Err(EncodeError::TooLong { .. })),
        "{unsent:?}"
    );
    assert!(bytes.is_empty());
    encoder.frame(&log("next"), &mut bytes).unwrap();
    assert_eq!(read([&bytes[..]]), (vec![log("next")], None, true));
}

#[test]
fn messages_of_a_batch_share_a_frame_and_arrive_in_order_however_it_is_cut() {
    let mut batch = Vec::new();
    for message in some_messages() {
        add_to_batch(&message, &mut batch).unwrap();
    }
    let (mut encoder, mut bytes) = (FrameEncoder::new(FROM_WORKER), Vec::new());
    encoder.frame_batch(&batch, &mut bytes).unwrap();
    encoder.frame(&log("next"), &mut bytes).unwrap();
    let mut messages = some_messages();
    messages.push(log("next"));
    for cut in 0..=bytes.len() {
        let (before, after) = bytes.split_at(cut);
        assert_eq!(read([before, after]), (messages.clone(), None, true));
    }
    let too_long = encoder.frame_batch(&vec![0; FROM_WORKER], &mut Vec::new());
    assert!(matches!(too_long, Err(EncodeError::TooLong { .. })));
}

#[test]
fn a_report_is_read_the_same_from_its_senders_memory() {
    let measurements = [("seconds".to_owned(), 0.5), (String::new(), -1.0)];
    let view = ReportView {
        status: 2,
        message: "slow, 3 µs",
        measurements: &measurements,
        declared: &[DeclaredValue {
            metric: 3,
            labels: vec!["/".to_owned()],
            value: 0.5,
        }],
        dropped: 7,
    };
    let bytes = postcard::to_allocvec(&view).unwrap();
    let read: WireReport<String> = postcard::from_bytes(&bytes).unwrap();
    let expected = WireReport {
        status: 2,
        message: "slow, 3 µs".to_owned(),
        measurements: measurements.to_vec(),
        declared: vec![(3, vec!["/".to_owned()], 0.5)],
        dropped: 7,
    };
    assert_eq!(read, expected);
}

#[test]
fn received_text_is_borrowed_from_the_frame() {
    let mut decoder = FrameDecoder::new(FROM_WORKER);
    decoder.feed(&stream(&[log("hello")]));
    let heard: Option<Heard<'_>> = decoder.message().unwrap();
    let Some(FromWorker::Log { text, .. }) = heard else {
        panic!("{heard:?}");
    };
    assert_eq!(text, "hello");
}

#[test]
fn the_memory_of_a_long_frame_is_given_back() {
    let mut decoder = FrameDecoder::new(FROM_WORKER);
    decoder.feed(&stream(&[log(&"x".repeat(FROM_WORKER / 2))]));
    assert!(decoder.message::<Said>().unwrap().is_some());
    decoder.feed(&[]);
    assert!(decoder.buffer.capacity() <= KEEP);
}

proptest! {
    #[test]
    fn any_bytes_at_all_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read([&bytes[..]]);
        let mut decoder = FrameDecoder::new(FROM_HOST);
        decoder.feed(&bytes);
        while let Ok(Some(ToWorker::Call(_) | ToWorker::Hello(_) | ToWorker::End)) = decoder.message() {}
    }

    #[test]
    fn a_damaged_stream_is_read_or_refused(at in 0usize..80, byte in any::<u8>()) {
        let mut bytes = stream(&some_messages());
        let at = at % bytes.len();
        bytes[at] = byte;
        let (in_one, fault, _) = read([&bytes[..]]);
        let (in_pieces, same_fault, _) = read(bytes.chunks(3));
        // Compares debug texts, because damage may have produced a NaN.
        prop_assert_eq!(format!("{in_one:?}{fault:?}"), format!("{in_pieces:?}{same_fault:?}"));
    }

    #[test]
    fn requests_come_out_as_they_went_in((call, probe, deadline, known) in any::<(u64, u64, u64, bool)>()) {
        let message = ToWorker::Call(CallRequest { call, probe, deadline, known });
        let (mut encoder, mut bytes) = (FrameEncoder::new(FROM_HOST), Vec::new());
        encoder.frame(&message, &mut bytes).unwrap();
        let mut decoder = FrameDecoder::new(FROM_HOST);
        decoder.feed(&bytes);
        prop_assert_eq!(decoder.message().unwrap(), Some(message));
    }
}
