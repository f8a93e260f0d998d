//! Who may come in now: rates a source and a client address. Nothing waits here; what is over a limit is told so.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
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

    /// Forgets clients whose budget is full again.
    fn sweep(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }

    fn is_crowded(&self) -> bool {
        self.0.len() > CLIENTS_MAX
    }
}

/// Keeps the memory of client addresses bounded until `stop`.
pub async fn sweep(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut ticks = 0_u32;
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_some() {
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(30) || gateway.clients().is_crowded() {
            gateway.clients().sweep();
        }
    }
}

fn quota(rate_per_second: u32, burst: u32) -> Quota {
    let positive = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(positive(rate_per_second)).allow_burst(positive(burst))
}

/// An IPv6 client owns a whole /64, so that is what is counted.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
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
    fn an_ipv6_client_cannot_hop_within_its_network() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
