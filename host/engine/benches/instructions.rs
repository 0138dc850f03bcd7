//! The number of instructions of a host's hot paths, which does not depend on how busy the machine is.
//!
//! `cargo bench -p conductor-engine --features callgrind --bench instructions` counts them with callgrind and compares
//! them with those recorded in `instructions.txt`. It fails if one has grown by more than 5 %. With `-- --record` it
//! records the counts instead. It requires `valgrind` and Linux.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends at the first surprise"
)]

use std::{
    env,
    fmt::Write as _,
    fs,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use conductor_core::breaker::{Breaker, BreakerSettings, CallOutcome};
use conductor_engine::metrics::{
    CheckOutcome, FAMILIES, HostMetrics,
    prometheus::{ExpositionFormat, SeriesEncoder, render},
};
use conductor_runtime::protocol::{
    FROM_HOST, FROM_WORKER, FrameDecoder, FrameEncoder,
    messages::{CallRequest, CallResponse, CallResult, FromWorker, ToWorker, WireReport},
};
use work::GuardedPlatforms;

mod work;

/// Prepares some work, passes it to [`under_callgrind`], and returns the number of its units.
type CountedWork = fn() -> usize;

/// The counted units of work, by name.
const COUNTED: [(&str, CountedWork); 7] = [
    ("series-in-text", || encode(ExpositionFormat::Text)),
    ("series-in-openmetrics", || {
        encode(ExpositionFormat::OpenMetrics)
    }),
    ("check-in-guard", check_in_guard),
    ("call-in-breaker", call_in_breaker),
    ("frame-of-a-call", frame_of_a_call),
    ("frame-of-a-report", || {
        frame_of_an_answer(CallResult::Report(WireReport {
            status: 0,
            message: "HTTP 200 in 31 ms".to_owned(),
            measurements: Vec::new(),
            declared: Vec::new(),
            dropped: 0,
        }))
    }),
    ("frame-of-the-same-report", || {
        frame_of_an_answer(CallResult::Same)
    }),
];

fn main() -> ExitCode {
    // `cargo bench` adds a flag of its own.
    let arguments: Vec<_> = env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["units", name] => {
            let (_, work) = COUNTED.iter().find(|(n, _)| *n == name).unwrap();
            println!("{}", work());
            ExitCode::SUCCESS
        }
        ["--record"] => {
            let counts = COUNTED.map(|(name, _)| (name, count(name)));
            fs::write(recorded_path(), record(&counts)).unwrap();
            println!("recorded in {RECORDED}; commit it with the reason of the change");
            ExitCode::SUCCESS
        }
        [] => compare(),
        _ => {
            println!("expected no argument, or `--record`; found {arguments:?}");
            ExitCode::from(2)
        }
    }
}

/// Compares the counts with the recorded ones, and prints a line for each.
fn compare() -> ExitCode {
    let text = fs::read_to_string(recorded_path()).unwrap();
    let mut grown = false;
    println!("instructions            recorded       now    change");
    for (name, _) in COUNTED {
        let now = count(name);
        let Some(before) = recorded(&text, name) else {
            println!("{name:<22} {:>9} {now:>9.1}    not recorded", "-");
            grown = true;
            continue;
        };
        let change = (now / before - 1.0) * 100.0;
        let is_more = change > TOLERANCE;
        let verdict = match is_more {
            true => "  TOO MANY",
            false if change < -TOLERANCE => "  fewer: record it, so that it stays",
            false => "",
        };
        grown |= is_more;
        println!("{name:<22} {before:>9.1} {now:>9.1}  {change:>+6.1} %{verdict}");
    }
    if !grown {
        return ExitCode::SUCCESS;
    }
    println!(
        "\na count is more than {TOLERANCE} % above the one recorded in {RECORDED}\n\
         recorded with: {}\nnow:           {}\n\
         find the cause with `valgrind --tool=callgrind`, or accept the new counts, and say why in the commit:\n  \
         {COMMAND} -- --record",
        text.lines()
            .find_map(|line| line.strip_prefix(COMPILER))
            .unwrap_or("an unknown compiler"),
        compiler()
    );
    ExitCode::FAILURE
}

/// Returns the number of instructions per unit of some work, counted by callgrind in a process of its own.
fn count(name: &str) -> f64 {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        // Nothing outside of this function is counted.
        .arg("--toggle-collect=*under_callgrind*")
        .arg(env::current_exe().unwrap())
        .args(["units", name])
        // Which code of the C library runs must not depend on the user.
        .env_clear()
        .output()
        .expect("cannot run valgrind: install it (Debian: apt-get install valgrind)");
    let log = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{name} failed under valgrind:\n{log}");
    let units = String::from_utf8(run.stdout).unwrap();
    let units: f64 = units.trim().parse().unwrap();
    let collected = log.lines().find_map(|line| line.split_once("Collected : "));
    let (_, collected) = collected.unwrap_or_else(|| panic!("callgrind counted nothing:\n{log}"));
    let collected: f64 = collected.trim().parse().unwrap();
    assert!(
        collected > units,
        "callgrind did not find the function `under_callgrind`"
    );
    collected / units
}

/// Returns the text of the record.
fn record(counts: &[(&str, f64)]) -> String {
    let mut text = format!(
        "# Instructions per unit, counted by callgrind. Written by\n#   {COMMAND} -- --record\n{COMPILER}{}\n",
        compiler()
    );
    for (name, count) in counts {
        writeln!(text, "{name} {count:.1}").unwrap();
    }
    text
}

fn recorded(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(n, _)| *n == name)?.1.parse().ok()
}

fn recorded_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output().unwrap();
    String::from_utf8(version.stdout).unwrap().trim().to_owned()
}

/// Runs the work whose instructions are counted; callgrind finds it by its name.
#[inline(never)]
fn under_callgrind(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

/// Runs the work a few times first, so that no memory is allocated for the first time.
fn count_when_warm(times: usize, mut work: impl FnMut()) {
    (0..times).for_each(|_| work());
    under_callgrind(&mut || (0..times).for_each(|_| work()));
}

fn encode(format: ExpositionFormat) -> usize {
    let metrics = HostMetrics::new();
    for nth in 0..PLATFORMS as u64 {
        let platform = metrics.platform(&format!("platform-{nth}"), "tcp");
        for check in 0..=nth % 5 {
            let took = Duration::from_micros(317 * (nth % 97 + check));
            platform.record(
                CheckOutcome::Healthy,
                took,
                Duration::from_micros(10_001 * nth),
            );
        }
    }
    let mut series = 0;
    render(&metrics, ExpositionFormat::Text, &mut |text| {
        let lines = text.split(|&byte| byte == b'\n');
        series += lines
            .filter(|line| line.starts_with(b"health_check"))
            .count();
        Ok(())
    })
    .unwrap();
    assert!(series > 10 * PLATFORMS);
    let snapshot = metrics.snapshot();
    // A family with few digits and one with many.
    let names = ["health_check_total", "health_check_duration_seconds"];
    count_when_warm(2, || {
        let mut out = |text: &mut Vec<u8>| {
            black_box(&text);
            Ok(())
        };
        let mut encoder = SeriesEncoder::new(format, &mut out);
        for family in FAMILIES
            .iter()
            .filter(|family| names.contains(&family.name))
        {
            encoder.begin_family(family.name, family.help, family.kind);
            family.visit(&snapshot, &mut encoder);
        }
        encoder.finish().unwrap();
    });
    2 * series
}

fn check_in_guard() -> usize {
    let mut platforms = GuardedPlatforms::new(PLATFORMS);
    count_when_warm(ROUNDS, || platforms.check_all());
    ROUNDS * PLATFORMS
}

fn call_in_breaker() -> usize {
    let second = Duration::from_secs(1);
    let settings = BreakerSettings::try_new(3, 30 * second, 600 * second).unwrap();
    let mut breaker = Breaker::new(settings, 1);
    let mut now = second;
    count_when_warm(CALLS, || {
        now += second;
        let ticket = breaker.admit(black_box(now), second).unwrap();
        let outcome = black_box(CallOutcome::Success);
        black_box(breaker.record(ticket, outcome, now)).unwrap();
    });
    CALLS
}

fn frame_of_a_call() -> usize {
    let call = ToWorker::Call(CallRequest {
        call: 1_000_000,
        probe: 70_000,
        deadline: 1_000_000_000_000,
        known: true,
    });
    let mut encoder = FrameEncoder::new(FROM_HOST);
    let mut decoder = FrameDecoder::new(FROM_HOST);
    let mut bytes = Vec::new();
    count_when_warm(CALLS, || {
        bytes.clear();
        encoder.frame(black_box(&call), &mut bytes).unwrap();
        decoder.feed(&bytes);
        black_box(decoder.message::<ToWorker>().unwrap()).unwrap();
    });
    CALLS
}

fn frame_of_an_answer(result: CallResult<String>) -> usize {
    let answer = FromWorker::Answer(CallResponse {
        call: 1_000_000,
        ended: 1_000_000_000_000,
        took: 31_700_000,
        result,
    });
    let mut encoder = FrameEncoder::new(FROM_WORKER);
    let mut decoder = FrameDecoder::new(FROM_WORKER);
    let mut bytes = Vec::new();
    count_when_warm(CALLS, || {
        bytes.clear();
        encoder.frame(black_box(&answer), &mut bytes).unwrap();
        decoder.feed(&bytes);
        black_box(decoder.message::<FromWorker<&str>>().unwrap()).unwrap();
    });
    CALLS
}

const PLATFORMS: usize = 500;
const ROUNDS: usize = 10;
const CALLS: usize = 2_000;
/// The percentage by which a count may grow without being recorded.
const TOLERANCE: f64 = 5.0;
const RECORDED: &str = "host/engine/benches/instructions.txt";
const COMMAND: &str = "cargo bench -p conductor-engine --features callgrind --bench instructions";
const COMPILER: &str = "# With ";
