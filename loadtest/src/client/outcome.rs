//! What an answer means for the one who sent: done, send again, or never as it should be.

use std::time::Duration;

use crate::plan::Plan;

/// The longest that `Retry-After` is honoured: providers wait for hours, tests do not.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(4);

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status.
    Answered { status: u16, retry_after_seconds: Option<u32> },
    /// No connection, or it broke before the answer.
    Broken,
    /// No answer in time.
    TimedOut,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Taken: the event must be stored from here on.
    Accepted,
    /// A forged event was turned away, as it must be.
    Refused,
    /// Not taken; to be sent again after this time.
    Again(Duration),
    /// An answer that this request must never get.
    Wrong(u16),
}

impl Outcome {
    /// Judges the answer to the `attempt`th attempt (from zero) for an event of this plan.
    pub fn judge(self, plan: Plan, attempt: u8) -> Verdict {
        let backoff = BACKOFF_MAX.min(BACKOFF_FIRST * (1 << attempt.min(6)));
        match (self, plan) {
            (Self::Answered { status: 401, .. }, Plan::Forged) => Verdict::Refused,
            (Self::Answered { status, .. }, Plan::Forged) if status < 300 => Verdict::Wrong(status),
            (Self::Answered { status: 200..300, .. }, _) => Verdict::Accepted,
            // What is not taken now may be taken later. Any other status blames the request, which is a good one.
            (Self::Answered { status: 408 | 429 | 500.., retry_after_seconds }, _) => {
                let asked = Duration::from_secs(u64::from(retry_after_seconds.unwrap_or(0))).min(RETRY_AFTER_MAX);
                Verdict::Again(backoff.max(asked))
            }
            (Self::Answered { status, .. }, _) => Verdict::Wrong(status),
            (Self::Broken | Self::TimedOut, _) => Verdict::Again(backoff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after_seconds: Option<u32>) -> Outcome {
        Outcome::Answered { status, retry_after_seconds }
    }

    #[test]
    fn only_2xx_is_accepted_and_never_for_a_forgery() {
        assert_eq!(answered(200, None).judge(Plan::Paid, 0), Verdict::Accepted);
        assert_eq!(answered(401, None).judge(Plan::Paid, 0), Verdict::Wrong(401));
        assert_eq!(answered(401, None).judge(Plan::Forged, 0), Verdict::Refused);
        assert_eq!(answered(200, None).judge(Plan::Forged, 0), Verdict::Wrong(200));
        assert_eq!(answered(400, None).judge(Plan::Forged, 0), Verdict::Wrong(400));
    }

    #[test]
    fn refusals_are_tried_again_with_patience_that_ends() {
        let wait = |outcome: Outcome, attempt| match outcome.judge(Plan::Paid, attempt) {
            Verdict::Again(wait) => wait.as_millis(),
            _ => 0,
        };
        assert_eq!(wait(answered(503, None), 0), 250);
        assert_eq!(wait(answered(503, Some(1)), 0), 1000);
        assert_eq!(wait(answered(429, Some(3600)), 0), 1000);
        assert_eq!(wait(Outcome::Broken, 1), 500);
        assert_eq!(wait(Outcome::TimedOut, 200), 4000);
    }
}
