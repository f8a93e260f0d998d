//! What became of each event: one byte an event, written by those who send, read by those who audit.

use std::sync::atomic::{AtomicU8, Ordering};

const SENT: u8 = 1;
const ACKNOWLEDGED: u8 = 2;

/// What is known of an event after the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Never sent: must be nowhere.
    Unsent,
    /// Sent, and never answered with 2xx: may be there once, or not.
    Uncertain,
    /// Answered with 2xx: must be there once.
    Acknowledged,
}

/// The fate of every event.
#[derive(Debug)]
pub struct Journal(Vec<AtomicU8>);

impl Journal {
    pub fn new(events: usize) -> Self {
        Self(std::iter::repeat_with(AtomicU8::default).take(events).collect())
    }

    /// Notes that an event is about to be sent; returns whether it is for the first time.
    pub fn sent(&self, event: u32) -> bool {
        self.mark(event, SENT)
    }

    /// Notes a 2xx; returns whether it is the event's first.
    pub fn acknowledged(&self, event: u32) -> bool {
        self.mark(event, ACKNOWLEDGED)
    }

    fn mark(&self, event: u32, flag: u8) -> bool {
        self.0.get(event as usize).is_some_and(|byte| byte.fetch_or(flag, Ordering::Relaxed) & flag == 0)
    }

    pub fn fate(&self, event: u32) -> Fate {
        match self.0.get(event as usize).map_or(0, |byte| byte.load(Ordering::Relaxed)) {
            flags if flags & ACKNOWLEDGED != 0 => Fate::Acknowledged,
            flags if flags & SENT != 0 => Fate::Uncertain,
            _ => Fate::Unsent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_only_get_better() {
        let journal = Journal::new(2);
        assert_eq!(journal.fate(0), Fate::Unsent);
        assert!(journal.sent(0));
        assert!(!journal.sent(0));
        assert_eq!(journal.fate(0), Fate::Uncertain);
        assert!(journal.acknowledged(0));
        assert!(!journal.acknowledged(0));
        assert_eq!(journal.fate(0), Fate::Acknowledged);
        assert_eq!(journal.fate(1), Fate::Unsent);
        assert!(!journal.sent(7), "an event that does not exist is never sent");
    }
}
