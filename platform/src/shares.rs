//! How much of something each client address holds at once: connections, slow bodies.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what each client holds, up to a bound. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shares {
    max: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of a client's share, given back when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Shares,
    client: IpAddr,
}

impl Shares {
    /// Each client may hold `max` at once.
    #[must_use]
    pub fn of(max: usize) -> Self {
        Self { max, held: Arc::default() }
    }

    /// One more for a client, unless it has had its share.
    #[must_use]
    pub fn take(&self, client: IpAddr) -> Option<Share> {
        let client = network(client);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(client).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), client })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = held.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The address by which a client is counted: an IPv6 client owns a whole /64.
#[must_use]
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ipv6_client_cannot_hop_within_its_network() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_client_holds_no_more_than_its_share_and_gives_it_back() {
        let shares = Shares::of(1);
        let (client, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = shares.take(client);
        assert!(first.is_some() && shares.take(client).is_none() && shares.take(other).is_some());
        drop(first);
        assert!(shares.take(client).is_some());
        assert!(shares.held.lock().unwrap().is_empty());
    }
}
