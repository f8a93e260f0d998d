//! Progress lines on standard error.

use std::time::Instant;

/// Prints lines with the seconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    started: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Progress {
    /// Prints what `who` does.
    pub fn say(&self, who: &str, what: &str) {
        eprintln!("{:7.1}s  {who:<10} {what}", self.started.elapsed().as_secs_f64());
    }
}
