//! The wall clock, read at the edges and passed inwards.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, Unix microseconds.
#[must_use]
pub fn now_us() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

/// Now, Unix milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    now_us() / 1000
}

/// Seconds from `then_ms` to `now_ms`, for histograms; never negative.
#[must_use]
pub fn seconds_between(then_ms: i64, now_ms: i64) -> f64 {
    let millis = u32::try_from(now_ms.saturating_sub(then_ms).max(0)).unwrap_or(u32::MAX);
    f64::from(millis) / 1000.0
}
