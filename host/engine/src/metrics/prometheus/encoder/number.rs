//! Numbers, as Rust prints an `f64`, which is what the `prometheus` crate writes.

use std::io::Write as _;

/// Appends a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a digit fits, and above 2^53 the formats round too"
)]
pub(super) fn push_count(text: &mut Vec<u8>, n: u64) {
    if n < 10 {
        // Most counters and gauges.
        text.push(b'0' + n as u8);
    } else if n <= EXACT {
        text.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    } else {
        push_any(text, n as f64);
    }
}

/// Appends a number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "only what is the same after the way there and back is written as an integer"
)]
pub(super) fn push_float(text: &mut Vec<u8>, value: f64) {
    let whole = value as i64;
    let is_negative_zero = whole == 0 && value.is_sign_negative();
    if whole as f64 == value && whole.unsigned_abs() <= EXACT && !is_negative_zero {
        text.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else {
        push_any(text, value);
    }
}

fn push_any(text: &mut Vec<u8>, value: f64) {
    // Writing to a vector cannot fail.
    let _ = write!(text, "{value}");
}

/// The largest number up to which a float can be every whole number.
const EXACT: u64 = 1 << 53;
