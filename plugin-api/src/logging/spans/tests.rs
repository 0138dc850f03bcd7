//! Events with the fields of their spans, from the probe's side.

use tracing::{Instrument as _, info_span, warn};

use super::*;
use crate::{Context, Failure, Probe, Report, schemars, testing::TestHost};

/// Runs its function in each check.
struct Runs(fn());

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NoConfig {}

impl Probe for Runs {
    type Config = NoConfig;
    fn create(_: NoConfig, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self(|| {}))
    }
    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        (self.0)();
        Ok(Report::healthy(""))
    }
}

/// Returns the lines that a check logs.
fn logged(run: fn()) -> Vec<String> {
    let host = TestHost::new("p");
    host.check(&mut Runs(run)).unwrap();
    host.log().iter().map(ToString::to_string).collect()
}

#[test]
fn an_event_has_the_fields_of_its_spans_and_the_nearest_of_each_name() {
    let lines = logged(|| {
        let outer = info_span!(
            "upload",
            bucket = "photos",
            part = 1,
            of = tracing::field::Empty
        );
        outer.record("of", 9);
        let _outer = outer.enter();
        warn!("slow");
        {
            let _inner = info_span!("part", part = 2, host = ?"a b").entered();
            warn!(host = "c", "lost");
        }
        warn!("again");
        warn!(parent: None, "alone");
    });
    assert_eq!(
        lines,
        [
            "Warn: slow bucket=photos part=1 of=9",
            "Warn: lost host=c part=2 bucket=photos of=9",
            "Warn: again bucket=photos part=1 of=9",
            "Warn: alone",
        ]
    );
}

#[test]
fn a_span_may_be_named_as_the_parent_and_be_left_in_any_order() {
    let lines = logged(|| {
        let (a, b) = (info_span!("a", a = 1), info_span!(parent: None, "b", b = 2));
        warn!(parent: &b, "of b");
        let (in_a, in_b) = (a.enter(), b.enter());
        drop(in_a);
        warn!("in b");
        drop(in_b);
        warn!("in none");
        let child = info_span!(parent: &a, "child", c = 3);
        drop(a);
        child.in_scope(|| warn!("in child"));
        let current = child.in_scope(tracing::Span::current);
        assert_eq!(current.id(), child.id());
        assert!(tracing::Span::current().id().is_none());
    });
    assert_eq!(
        lines,
        [
            "Warn: of b b=2",
            "Warn: in b b=2",
            "Warn: in none",
            "Warn: in child c=3 a=1"
        ]
    );
}

#[test]
fn a_span_that_is_never_left_ends_with_its_call() {
    let host = TestHost::new("p");
    let forgets = || std::mem::forget(info_span!("a", a = 1).entered());
    host.check(&mut Runs(forgets)).unwrap();
    host.check(&mut Runs(|| warn!("next call"))).unwrap();
    assert_eq!(host.log()[0].to_string(), "Warn: next call");
}

#[test]
fn the_fields_of_a_span_are_bounded() {
    let lines = logged(|| {
        let long = "ä".repeat(10_000);
        let span = info_span!("a", first = 1, long, last = 2);
        span.in_scope(|| warn!("cut"));
        // The place is used again, and has room again.
        drop(span);
        info_span!("b", short = "x").in_scope(|| warn!("whole"));
    });
    assert!(
        lines[0].starts_with("Warn: cut first=1 long=ää"),
        "{lines:?}"
    );
    assert!(lines[0].len() < MAX_TEXT + 60, "{}", lines[0].len());
    assert_eq!(lines[1], "Warn: whole short=x");

    let deep = logged(|| {
        let entered: Vec<_> = (0..40).map(|n| info_span!("d", n).entered()).collect();
        warn!("deep");
        entered.into_iter().rev().for_each(drop);
        warn!("left");
    });
    assert_eq!(deep, ["Warn: deep n=15", "Warn: left"]);
}

#[test]
fn a_span_beyond_the_limit_has_no_fields_and_harms_no_other() {
    logged(|| {
        let mut table = SpanTable {
            slots: Vec::new(),
            free: Vec::new(),
        };
        let metadata = info_span!("x").metadata().unwrap();
        let fields = FieldBuffer::new();
        let all: Vec<u64> = (0..MAX_SPANS)
            .map(|_| table.open(metadata, NONE, &fields))
            .collect();
        assert_eq!(table.open(metadata, all[0], &fields), UNKNOWN);
        assert!(table.slot(UNKNOWN).is_none() && !table.close(UNKNOWN));
        assert!(table.close(all[7]) && table.slot(all[7]).is_none());
        let next = table.open(metadata, all[0], &fields);
        assert!(next != all[7] && table.slot(next).is_some());
        // A parent stays until its children are closed.
        assert!(!table.close(all[0]) && table.slot(all[0]).is_some());
        assert!(table.close(next) && table.slot(all[0]).is_none());
    });
}

#[test]
fn a_debug_that_logs_or_panics_leaves_the_table_usable() {
    struct Busy;
    impl fmt::Debug for Busy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            info_span!("inner", x = 1).in_scope(|| warn!("while formatting"));
            f.write_str("busy")
        }
    }
    struct Bad;
    impl fmt::Debug for Bad {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("no text")
        }
    }
    let lines = logged(|| {
        info_span!("outer", value = ?Busy).in_scope(|| warn!("formatted"));
        let _ = std::panic::catch_unwind(|| info_span!("bad", value = ?Bad));
        info_span!("good", value = 2).in_scope(|| warn!("after"));
    });
    let last = &lines[lines.len() - 2..];
    assert_eq!(last, ["Warn: formatted value=busy", "Warn: after value=2"]);
}

#[cfg(feature = "tokio")]
#[test]
fn a_span_follows_its_future_across_awaits_and_no_other() {
    use std::{future::poll_fn, pin::pin, task::Poll};

    use tracing::instrument::WithSubscriber as _;

    use crate::AsyncProbe;

    struct Waits;
    impl AsyncProbe for Waits {
        type Config = NoConfig;
        fn create(_: NoConfig, _: &Context<'_>) -> Result<Self, Failure> {
            Ok(Self)
        }
        async fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
            let part = |n: u32| {
                async move {
                    tokio::task::yield_now().await;
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    warn!("part {n}");
                }
                .instrument(info_span!("part", n))
            };
            async {
                // Both are polled on this thread, in turns.
                let (mut first, mut second) = (pin!(part(1)), pin!(part(2)));
                let mut ended = [false; 2];
                poll_fn(|task| {
                    ended[0] = ended[0] || first.as_mut().poll(task).is_ready();
                    ended[1] = ended[1] || second.as_mut().poll(task).is_ready();
                    match ended {
                        [true, true] => Poll::Ready(()),
                        _ => Poll::Pending,
                    }
                })
                .await;
                // A task of its own, on another thread, in the span that it was started in.
                let task = async { warn!("task") }.in_current_span();
                tokio::spawn(task.with_current_subscriber()).await.unwrap();
            }
            .instrument(info_span!("upload", bucket = "photos"))
            .await;
            warn!("outside");
            Ok(Report::healthy(""))
        }
    }
    let host = TestHost::new("p");
    let mut probe = host.create_async::<Waits>("{}").unwrap();
    host.check_async(&mut probe).unwrap();
    let mut lines: Vec<_> = host.log().iter().map(ToString::to_string).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "Warn: outside",
            "Warn: part 1 n=1 bucket=photos",
            "Warn: part 2 n=2 bucket=photos",
            "Warn: task bucket=photos",
        ]
    );
}
