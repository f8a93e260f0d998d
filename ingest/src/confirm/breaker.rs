//! A circuit breaker: a provider's API that fails again and again is left alone for a while, then asked once.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// How long it stays open first; doubled each time that the one question fails.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Whether an API may be asked.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    /// The one question is under way, and has until then.
    asking: bool,
}

impl Breaker {
    /// Whether one may ask now; else how long to wait. Whoever may must say how it went.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match &mut self.open {
            None => Ok(()),
            Some(open) if now < open.until && open.asking => Err(PAUSE_FIRST),
            Some(open) if now < open.until => Err(open.until - now),
            Some(open) => {
                // Who asks may be gone before there is an answer: then another one may.
                (open.asking, open.until) = (true, now + PAUSE_MAX);
                Ok(())
            }
        }
    }

    /// The API answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It did not, or said that it wants to be left alone so long.
    pub fn failed(&mut self, now: Instant, asked_for: Option<Duration>) {
        self.failures += 1;
        let pause = match &self.open {
            // Asked before it was opened.
            Some(open) if !open.asking => return,
            Some(open) => (open.pause * 2).min(PAUSE_MAX),
            None if self.failures < FAILURES_MAX && asked_for.is_none() => return,
            None => PAUSE_FIRST,
        };
        let wait = asked_for.map_or(pause, |asked_for| asked_for.clamp(pause, PAUSE_MAX));
        self.open = Some(Open { until: now + wait, pause, asking: false });
    }

    /// Whether the API is left alone.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_asks_once_after_each_pause() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES_MAX {
            breaker.failed(now, None);
        }
        breaker.succeeded();
        for _ in 1..FAILURES_MAX {
            breaker.failed(now, None);
            assert_eq!(breaker.admit(now), Ok(()));
        }
        breaker.failed(now, None);
        // Those that were under way do not make it longer.
        breaker.failed(now, None);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(breaker.admit(now), Err(Duration::from_secs(pause)));
            now += Duration::from_secs(pause);
            assert_eq!(breaker.admit(now), Ok(()));
            assert!(breaker.admit(now).is_err(), "a second question at once");
            breaker.failed(now, None);
        }
        now += PAUSE_MAX;
        assert_eq!(breaker.admit(now), Ok(()));
        breaker.succeeded();
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_question_that_never_ends_is_asked_again() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        breaker.failed(now, Some(PAUSE_FIRST));
        now += PAUSE_FIRST;
        assert_eq!(breaker.admit(now), Ok(()));
        assert!(breaker.admit(now + PAUSE_MAX - PAUSE_FIRST).is_err());
        assert_eq!(breaker.admit(now + PAUSE_MAX), Ok(()));
    }

    #[test]
    fn an_api_that_asks_for_time_gets_it_at_once_and_within_bounds() {
        for (asked_for, waits) in [(0, 1), (7, 7), (86_400, 60)] {
            let (mut breaker, now) = (Breaker::default(), Instant::now());
            breaker.failed(now, Some(Duration::from_secs(asked_for)));
            assert_eq!(breaker.admit(now), Err(Duration::from_secs(waits)));
        }
    }
}
