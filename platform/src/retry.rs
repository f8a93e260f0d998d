//! Waiting between tries: doubled each time up to a bound, spread so that programs do not knock all at once.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The program is to stop; what was under way is left for the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped before it was done")]
pub struct Stopped;

/// How long work under way may take once a program is told to stop; queues keep what is not done by then.
const DRAIN: Duration = Duration::from_secs(10);

/// A token that is cancelled a while after `stop`, or earlier by its owner when all is done.
#[must_use]
pub fn give_up_after(stop: &CancellationToken) -> CancellationToken {
    let (stop, give_up) = (stop.clone(), CancellationToken::new());
    let given = give_up.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        if give_up.run_until_cancelled(tokio::time::sleep(DRAIN)).await.is_some() {
            tracing::warn!("not done in time: what is left stays in its queue");
            give_up.cancel();
        }
    });
    given
}

/// The pauses of one series of tries.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Pauses from `first`, doubled up to `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// The pauses between tries to reach a service that is away.
    #[must_use]
    pub fn for_services() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(2))
    }

    /// Waits for the next pause.
    ///
    /// # Errors
    /// [`Stopped`] as soon as `stop` is cancelled.
    pub async fn pause(&mut self, stop: &CancellationToken) -> Result<(), Stopped> {
        let pause = self.next / 2 + self.next.mul_f64(spread() / 2.0);
        self.next = (self.next * 2).min(self.max);
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Stopped),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}

thread_local! {
    /// Where [`spread`] is: random, unless [`replay`] has set it.
    static SPREAD: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8));
}

/// Makes the pauses of this thread a function of `seed`, so that a simulation replays exactly.
pub fn replay(seed: u64) {
    SPREAD.set(seed);
}

/// A number from 0 to 1 that differs between programs and calls.
fn spread() -> f64 {
    // A linear congruential step; its high bits are the good ones.
    let next = SPREAD.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    SPREAD.set(next);
    f64::from(u16::try_from(next >> 48).unwrap_or(0)) / 65536.0
}
