//! What may go wrong, and how often: each schedule has its own mixture, so that rare combinations meet often somewhere.

use crate::seeded::Seeded;

/// A fault of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives; who sent it waits until its time is over.
    RequestLost,
    /// It is done, but the answer never arrives.
    AnswerLost,
    /// It takes long, perhaps longer than it is waited for.
    Slow,
    /// The broker refuses a frame.
    Nacked,
    /// No queue takes a frame: it comes back.
    Returned,
    /// The consumer's connection ends before an acknowledgement arrives.
    AckLost,
    /// Cassandra says at once that it cannot.
    Unavailable,
    /// A transaction ends in a deadlock or a serialization failure.
    Conflict,
    /// Postgres goes away before the commit.
    Aborted,
    /// A provider sends a request again although it was answered.
    SentAgain,
}

const FAULTS: usize = 10;

/// How often each fault happens, and each kind of [`crate::chaos`].
#[derive(Debug, Clone)]
pub struct Faults {
    per_mille: [u32; FAULTS],
    /// Crashes and outages, one after another.
    pub chaos: u32,
}

impl Faults {
    /// A mixture: each fault is off, rare or frequent.
    pub fn of(seeded: &mut Seeded) -> Self {
        let shares = [0, 0, 5, 20, 60, 150];
        let per_mille = [(); FAULTS].map(|()| shares[seeded.index(shares.len())]);
        Self { per_mille, chaos: seeded.within(0, 12) }
    }

    pub fn per_mille(&self, fault: Fault) -> u32 {
        self.per_mille[fault as usize]
    }
}
