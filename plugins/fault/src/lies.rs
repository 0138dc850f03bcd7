//! Reports that the host must not show unchanged.
#![expect(
    unsafe_code,
    reason = "text that is no text cannot be made in safe code"
)]

use conductor_plugin_api::Report;

/// A message of 10 MB.
pub(crate) fn long_message() -> Report {
    Report::healthy("all is well and there is much to say of it; ".repeat(250_000))
}

pub(crate) fn many_measurements() -> Report {
    (0..1_000_000).fold(Report::healthy("a million measurements"), |report, nth| {
        report.measure(format!("measured_{nth}"), f64::from(nth))
    })
}

pub(crate) fn nan() -> Report {
    Report::healthy("not a number")
        .measure("not_a_number", f64::NAN)
        .measure("a_number", 1.0)
}

pub(crate) fn infinity() -> Report {
    Report::healthy("without end")
        .measure("infinite", f64::INFINITY)
        .measure("infinite_below", f64::NEG_INFINITY)
        .measure("finite", 1.0)
}

pub(crate) fn invalid_utf8() -> Report {
    let not_text = |bytes: &[u8]| {
        // SAFETY: unsound on purpose; nothing reads it as text before it crosses to the host, which must not trust it.
        unsafe { String::from_utf8_unchecked(bytes.to_vec()) }
    };
    Report::healthy(not_text(b"no \xff\xfe text \xed\xa0\x80 at all \xf0\x9f"))
        .measure(not_text(b"no_\xff_text"), 1.0)
        .measure("text", 1.0)
}

/// Returns characters that can break a log line, a metric's label, a JSON string or a terminal, if they are let
/// through.
pub(crate) fn control_characters() -> Report {
    Report::healthy(
        "one\ntwo\r\u{1b}[31mred\u{0}\u{7f}\u{85}\u{202e} \"quoted\" 'quoted' \\n {\"a\":1} # HELP",
    )
    .measure("new\nline", 1.0)
    .measure("quo\"te", 2.0)
    .measure("back\\slash", 3.0)
    .measure("", 4.0)
}
