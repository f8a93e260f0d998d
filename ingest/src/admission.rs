//! Who may come in now: rates a source and a client address. Nothing waits here; what is over a limit is told so.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use platform::shares::{Share, Shares, network};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::intake::Gateway;

/// Client addresses that are remembered at most; beyond it those with a full budget are forgotten at once.
const CLIENTS_MAX: usize = 100_000;

/// What one budget allows, as its clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whose budget it is.
    pub name: &'static str,
    /// Requests at once.
    pub burst: u32,
    /// Requests a second.
    pub rate_per_second: u32,
}

/// A budget that is used up, and after how many seconds to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedUp {
    /// The budget.
    pub policy: Policy,
    /// Seconds.
    pub retry_after_seconds: u64,
}

impl Policy {
    fn quota(self) -> Quota {
        let positive = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Quota::per_second(positive(self.rate_per_second)).allow_burst(positive(self.burst))
    }

    fn used_up(self, wait: Duration) -> UsedUp {
        UsedUp { policy: self, retry_after_seconds: wait.as_secs() + 1 }
    }
}

/// The budget of one source.
pub struct SourceLimit {
    policy: Policy,
    budget: DefaultDirectRateLimiter,
}

impl SourceLimit {
    pub fn new(rate_per_second: u32, burst: u32) -> Self {
        let policy = Policy { name: "source", burst, rate_per_second };
        Self { policy, budget: RateLimiter::direct(policy.quota()) }
    }

    /// Whether it allows just this.
    pub fn is(&self, rate_per_second: u32, burst: u32) -> bool {
        (self.policy.rate_per_second, self.policy.burst) == (rate_per_second, burst)
    }

    /// Takes one request.
    pub fn admit(&self) -> Result<(), UsedUp> {
        let wait = |until: NotUntil<_>| until.wait_time_from(DefaultClock::default().now());
        self.budget.check().map_err(|until| self.policy.used_up(wait(until)))
    }
}

/// A budget of each key.
struct Budgets<K: Clone + Eq + Hash> {
    policy: Policy,
    budgets: DefaultKeyedRateLimiter<K>,
}

impl<K: Clone + Eq + Hash> Budgets<K> {
    fn new(policy: Policy) -> Self {
        Self { policy, budgets: RateLimiter::keyed(policy.quota()) }
    }

    fn take(&self, key: &K) -> Result<(), UsedUp> {
        let wait = |until: NotUntil<_>| until.wait_time_from(DefaultClock::default().now());
        self.budgets.check_key(key).map_err(|until| self.policy.used_up(wait(until)))
    }

    /// Forgets those that are full again: when it is time to, or when there are too many.
    fn sweep(&self, thoroughly: bool) {
        if thoroughly || self.budgets.len() > CLIENTS_MAX {
            self.budgets.retain_recent();
            self.budgets.shrink_to_fit();
        }
    }
}

/// The budget of each client address.
pub struct ClientLimits(Budgets<IpAddr>);

impl ClientLimits {
    pub fn new(rate_per_second: u32, burst: u32) -> Self {
        Self(Budgets::new(Policy { name: "client", burst, rate_per_second }))
    }

    /// Takes one request.
    pub fn admit(&self, client: IpAddr) -> Result<(), UsedUp> {
        self.0.take(&network(client))
    }

    /// Forgets clients whose budget is full again.
    pub fn sweep(&self, thoroughly: bool) {
        self.0.sweep(thoroughly);
    }
}

/// A client address at a source.
type Suspect = (Arc<str>, IpAddr);

/// Clients whose signatures a source does not accept. Each has a small budget of its own for trying, so that a forged flood
/// costs little; a client that has used it up is refused unread for a second. Other sources are not concerned: a provider
/// whose secret is wrong for one of them may be right for the others.
pub struct Forgers {
    failures: Budgets<Suspect>,
    shut_out: Mutex<HashMap<Suspect, Instant>>,
    /// How many are shut out. Mostly nobody is, and then no request waits for another.
    count: AtomicUsize,
}

/// How long a client is refused unread.
const SHUT_OUT: Duration = Duration::from_secs(1);

impl Forgers {
    pub fn new(rate_per_second: u32, burst: u32) -> Self {
        let failures = Budgets::new(Policy { name: "unverified", burst, rate_per_second });
        Self { failures, shut_out: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// Lets a client in that has not failed too often at the source.
    pub fn admit(&self, source: &Arc<str>, client: IpAddr) -> Result<(), UsedUp> {
        // A request that misses the newest entry is checked like any other: nothing hangs on the order.
        if self.count.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let until = lock(&self.shut_out).get(&(Arc::clone(source), network(client))).copied();
        match until.and_then(|until| until.checked_duration_since(Instant::now())) {
            Some(wait) => Err(self.failures.policy.used_up(wait)),
            None => Ok(()),
        }
    }

    /// Notes that a source did not accept a client's signature.
    pub fn failed(&self, source: &Arc<str>, client: IpAddr) {
        let suspect = (Arc::clone(source), network(client));
        if self.failures.take(&suspect).is_err() {
            let mut shut_out = lock(&self.shut_out);
            if shut_out.len() < CLIENTS_MAX {
                shut_out.insert(suspect, Instant::now() + SHUT_OUT);
                self.count.store(shut_out.len(), Ordering::Relaxed);
            }
        }
    }

    /// Forgets those who may try again.
    pub fn sweep(&self, thoroughly: bool) {
        self.failures.sweep(thoroughly);
        let now = Instant::now();
        let mut shut_out = lock(&self.shut_out);
        shut_out.retain(|_, until| *until > now);
        self.count.store(shut_out.len(), Ordering::Relaxed);
    }
}

/// Requests whose body is still on its way: bounded in all, and each client to a share, so that nobody who sends slowly
/// keeps others out.
pub struct SlowBodies {
    places: Semaphore,
    shares: Shares,
}

impl SlowBodies {
    pub fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), shares: Shares::of((places / 8).max(1)) }
    }

    /// A place until dropped, if there is one and the client has not had its share.
    pub fn enter(&self, client: IpAddr) -> Option<(SemaphorePermit<'_>, Share)> {
        Some((self.places.try_acquire().ok()?, self.shares.take(client)?))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the memory of client addresses bounded until `stop`.
pub async fn sweep(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut ticks = 0_u32;
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_some() {
        ticks = ticks.wrapping_add(1);
        gateway.forget_clients(ticks.is_multiple_of(30));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_client_is_told_when_its_burst_is_used_up_and_others_are_not() {
        let limits = ClientLimits::new(1, 2);
        let client = "192.0.2.1".parse().unwrap();
        assert_eq!((limits.admit(client), limits.admit(client)), (Ok(()), Ok(())));
        assert!(limits.admit(client).is_err_and(|used_up| (1..=2).contains(&used_up.retry_after_seconds)));
        assert_eq!(limits.admit("192.0.2.2".parse().unwrap()), Ok(()));
    }

    #[test]
    fn a_forger_is_shut_out_of_the_source_and_others_are_not() {
        let forgers = Forgers::new(1, 2);
        let (source, other): (Arc<str>, Arc<str>) = ("stripe".into(), "adyen".into());
        let (forger, honest) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        forgers.failed(&source, forger);
        forgers.failed(&source, forger);
        assert_eq!(forgers.admit(&source, forger), Ok(()));
        forgers.failed(&source, forger);
        let policy = Policy { name: "unverified", burst: 2, rate_per_second: 1 };
        assert_eq!(forgers.admit(&source, forger), Err(UsedUp { policy, retry_after_seconds: 1 }));
        assert_eq!(forgers.admit(&source, honest), Ok(()));
        assert_eq!(forgers.admit(&other, forger), Ok(()), "its secret for that source may be right");
    }

    #[test]
    fn a_forger_may_try_again_and_is_forgotten() {
        let forgers = Forgers::new(1, 1);
        let (source, forger): (Arc<str>, _) = ("stripe".into(), "192.0.2.1".parse().unwrap());
        forgers.failed(&source, forger);
        forgers.failed(&source, forger);
        let started = Instant::now();
        while forgers.admit(&source, forger).is_err() {
            assert!(started.elapsed() < SHUT_OUT * 10, "still shut out");
            std::thread::yield_now();
        }
        assert!(started.elapsed() >= SHUT_OUT / 2, "shut out for {:?} only", started.elapsed());
        forgers.sweep(true);
        assert_eq!((forgers.count.load(Ordering::Relaxed), lock(&forgers.shut_out).len()), (0, 0));
    }

    #[test]
    fn a_client_that_sends_slowly_has_its_share_and_gives_it_back() {
        let slow = SlowBodies::new(16);
        let (client, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let held: Vec<_> = (0..2).map(|_| slow.enter(client).unwrap()).collect();
        assert!(slow.enter(client).is_none());
        assert!(slow.enter(other).is_some());
        drop(held);
        assert!(slow.enter(client).is_some());
    }
}
