//! Queues that refuse every frame, and for how long that is borne.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a queue may refuse everything before another connection is tried; doubled each time that this did not help. A
/// channel that was opened between the death of the queue's leader and the election of the next keeps asking the dead
/// node (RabbitMQ 3.10), and is refused until that is back. A full queue refuses for a good reason.
const REFUSED_FOR: Duration = Duration::from_secs(1);
const REFUSED_FOR_MAX: Duration = Duration::from_secs(60);

/// The queues that have taken no frame since they refused one.
#[derive(Debug, Default)]
pub struct Refusals {
    queues: HashMap<String, Refusing>,
}

#[derive(Debug)]
struct Refusing {
    since: Instant,
    patience: Duration,
}

impl Refusals {
    /// Notes that a queue has taken a frame.
    pub fn taken(&mut self, queue: &str) {
        self.queues.remove(queue);
    }

    /// Notes that a queue has refused a frame; whether it has refused all of them for too long.
    pub fn refused(&mut self, queue: &str, now: Instant) -> bool {
        let new = || Refusing { since: now, patience: REFUSED_FOR };
        let refusing = self.queues.entry(queue.to_owned()).or_insert_with(new);
        if now.duration_since(refusing.since) < refusing.patience {
            return false;
        }
        *refusing = Refusing { since: now, patience: (refusing.patience * 2).min(REFUSED_FOR_MAX) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds, of an hour of a refusal each, at which it is too long.
    fn too_long(refusals: &mut Refusals, start: Instant) -> Vec<u64> {
        (0..3600).filter(|second| refusals.refused("q", start + Duration::from_secs(*second))).collect()
    }

    #[test]
    fn each_try_is_given_twice_the_time_up_to_a_minute() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let seconds = too_long(&mut refusals, start);
        assert_eq!(seconds[..8], [1, 3, 7, 15, 31, 63, 123, 183]);
    }

    #[test]
    fn one_frame_that_is_taken_is_a_new_beginning_and_another_queue_does_not_count() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        too_long(&mut refusals, start);
        refusals.taken("another");
        assert!(!refusals.refused("q", start + Duration::from_secs(3601)));
        refusals.taken("q");
        assert!(!refusals.refused("q", start + Duration::from_secs(4000)), "it has only begun to refuse");
        assert!(refusals.refused("q", start + Duration::from_secs(4001)));
        assert!(!refusals.refused("another", start + Duration::from_secs(4001)));
    }
}
