//! The performance counter, which all processes of a machine share and which continues during a suspend.
#![expect(
    unsafe_code,
    reason = "the standard library reads the counter, but does not return its value"
)]

use std::{sync::OnceLock, time::Duration};

use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

pub(super) type Point = Duration;

pub(super) fn read() -> Point {
    static FREQUENCY: OnceLock<u64> = OnceLock::new();
    // SAFETY: each call writes one number, and never fails since Windows XP.
    let query = |counter: unsafe extern "system" fn(*mut i64) -> i32| unsafe {
        let mut number = 0;
        counter(&raw mut number);
        u64::try_from(number).unwrap_or_default()
    };
    let frequency = *FREQUENCY.get_or_init(|| query(QueryPerformanceFrequency).max(1));
    time_of(query(QueryPerformanceCounter), frequency)
}

pub(super) fn since(origin: Point) -> Duration {
    read().saturating_sub(origin)
}

pub(super) fn anchor(origin: Point) -> Duration {
    origin
}

pub(super) fn join(anchor: Duration) -> Point {
    anchor
}

/// Converts a count to a time: whole seconds first, because the product of both numbers overflows.
fn time_of(count: u64, frequency: u64) -> Duration {
    let (seconds, rest) = (count / frequency, count % frequency);
    let nanoseconds = u128::from(rest) * 1_000_000_000 / u128::from(frequency);
    Duration::new(seconds, u32::try_from(nanoseconds).expect("below a second"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_years_are_converted_without_overflow() {
        let year = 366 * 86_400;
        let time = time_of(year * 10_000_000 + 1, 10_000_000);
        assert_eq!(time, Duration::new(year, 100));
    }
}
