//! Asking one program for its metrics.

use std::io::ErrorKind;
use std::time::Duration;

use platform::inquiry;

use super::exposition::Reading;

/// Who takes longer to answer is not well.
const WITHIN: Duration = Duration::from_secs(1);

/// Reads the metrics at an internal listener.
///
/// # Errors
/// Why not, for people.
pub async fn scrape(address: &str) -> Result<Reading, &'static str> {
    let answer = inquiry::get(address, "/metrics", WITHIN).await.map_err(|error| match error.kind() {
        ErrorKind::TimedOut => "does not answer within a second",
        ErrorKind::ConnectionRefused => "refuses connections: it does not run, or listens elsewhere",
        ErrorKind::InvalidData => "is no program of Tollgate",
        _ => "cannot be reached",
    })?;
    match answer.status {
        200 => Ok(Reading::of(&answer.body)),
        _ => Err("has no /metrics"),
    }
}
