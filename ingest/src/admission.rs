//! Who may come in now: rates a source and a client address. Nothing waits here; what is over a limit is told so.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use platform::shares::{Share, Shares, network};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::intake::Gateway;

/// Client addresses that are remembered at most; beyond it those with a full budget are forgotten at once.
const CLIENTS_MAX: usize = 100_000;

/// The limit of one source.
pub struct SourceLimit(DefaultDirectRateLimiter);

impl SourceLimit {
    pub fn new(rate_per_second: u32, burst: u32) -> Self {
        Self(RateLimiter::direct(quota(rate_per_second, burst)))
    }

    /// Takes one request; otherwise says after how many seconds to come again.
    pub fn admit(&self) -> Result<(), u64> {
        self.0.check().map_err(|not_until| seconds(not_until.wait_time_from(DefaultClock::default().now())))
    }
}

/// The limit of each client address.
pub struct ClientLimits(DefaultKeyedRateLimiter<IpAddr>);

impl ClientLimits {
    pub fn new(rate_per_second: u32, burst: u32) -> Self {
        Self(RateLimiter::keyed(quota(rate_per_second, burst)))
    }

    /// Takes one request; otherwise says after how many seconds to come again.
    pub fn admit(&self, client: IpAddr) -> Result<(), u64> {
        self.0
            .check_key(&network(client))
            .map_err(|not_until| seconds(not_until.wait_time_from(DefaultClock::default().now())))
    }

    /// Forgets clients whose budget is full again: when it is time to, or when there are too many.
    pub fn sweep(&self, thoroughly: bool) {
        if thoroughly || self.0.len() > CLIENTS_MAX {
            self.0.retain_recent();
            self.0.shrink_to_fit();
        }
    }
}

/// Clients whose signatures are not accepted. Each has a small budget of its own for trying, so that a forged flood costs
/// little; a client that has used it up is refused unread for a second.
pub struct Forgers {
    failures: ClientLimits,
    shut_out: Mutex<HashMap<IpAddr, Instant>>,
}

/// How long a client is refused unread.
const SHUT_OUT: Duration = Duration::from_secs(1);

impl Forgers {
    pub fn new(rate_per_second: u32, burst: u32) -> Self {
        Self { failures: ClientLimits::new(rate_per_second, burst), shut_out: Mutex::default() }
    }

    /// Takes one request of a client that has not failed too often; otherwise says after how many seconds to come again.
    pub fn admit(&self, client: IpAddr) -> Result<(), u64> {
        let shut_out = lock(&self.shut_out);
        let until = if shut_out.is_empty() { None } else { shut_out.get(&network(client)) };
        match until {
            Some(until) if *until > Instant::now() => Err(seconds(SHUT_OUT)),
            _ => Ok(()),
        }
    }

    /// Notes that a client's signature was not accepted.
    pub fn failed(&self, client: IpAddr) {
        if self.failures.admit(client).is_err() {
            let mut shut_out = lock(&self.shut_out);
            if shut_out.len() < CLIENTS_MAX {
                shut_out.insert(network(client), Instant::now() + SHUT_OUT);
            }
        }
    }

    /// Forgets those who may try again.
    pub fn sweep(&self, thoroughly: bool) {
        self.failures.sweep(thoroughly);
        let now = Instant::now();
        lock(&self.shut_out).retain(|_, until| *until > now);
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

fn quota(rate_per_second: u32, burst: u32) -> Quota {
    let positive = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(positive(rate_per_second)).allow_burst(positive(burst))
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
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
        assert!(limits.admit(client).is_err_and(|seconds| (1..=2).contains(&seconds)));
        assert_eq!(limits.admit("192.0.2.2".parse().unwrap()), Ok(()));
    }

    #[test]
    fn a_forger_is_shut_out_and_others_are_not() {
        let forgers = Forgers::new(1, 2);
        let (forger, honest) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        forgers.failed(forger);
        forgers.failed(forger);
        assert_eq!(forgers.admit(forger), Ok(()));
        forgers.failed(forger);
        assert!(forgers.admit(forger).is_err());
        assert_eq!(forgers.admit(honest), Ok(()));
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
