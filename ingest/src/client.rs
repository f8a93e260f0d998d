//! Whose request it is: the peer's, or what a trusted proxy says of its client. All limits of a client go by it.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};
use metrics::Counter;
use platform::config::ProxyHeader;
use platform::proxies::TrustedProxies;

use crate::metrics::unnamed_clients;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies in a row at most; a longer chain names no client.
const PROXIES_MAX: usize = 16;

/// How clients are told apart.
pub struct Clients {
    trusted: TrustedProxies,
    header: ProxyHeader,
    unnamed: Counter,
}

impl Clients {
    pub fn new(trusted: TrustedProxies, header: ProxyHeader) -> Self {
        Self { trusted, header, unnamed: unnamed_clients() }
    }

    /// The client of a request. Nothing that a peer says counts, unless it is a trusted proxy.
    pub fn of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusted.contains(peer) {
            return peer;
        }
        named(&self.trusted, self.header, headers).unwrap_or_else(|| {
            self.unnamed.increment(1);
            peer
        })
    }
}

fn name_of(header: ProxyHeader) -> HeaderName {
    match header {
        ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
        ProxyHeader::Forwarded => FORWARDED,
    }
}

/// The last address in the header that is no trusted proxy's; where all are, the first. It is read from its end, where the
/// nearest proxy wrote: what stands before the client's own address is never looked at, since anybody may have sent it.
fn named(trusted: &TrustedProxies, header: ProxyHeader, headers: &HeaderMap) -> Option<IpAddr> {
    let lines: Vec<_> = headers.get_all(name_of(header)).iter().collect();
    let mut entries = lines.into_iter().rev().flat_map(|line| from_the_end(line.as_bytes(), b','));
    let mut nearest = None;
    for _ in 0..PROXIES_MAX {
        match entries.next() {
            Some(entry) => {
                let address = match header {
                    ProxyHeader::XForwardedFor => address(entry),
                    ProxyHeader::Forwarded => forwarded_for(entry),
                }?;
                if !trusted.contains(address) {
                    return Some(address);
                }
                nearest = Some(address);
            }
            None => return nearest,
        }
    }
    None
}

/// The address of `for=…` in one element of `Forwarded` (RFC 7239, section 4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in from_the_end(element, b';') {
        let Some(at) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        if name.trim_ascii().eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?.trim_ascii();
    address(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// An address, with or without brackets and port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// The parts between separators that are not quoted, the last first.
fn from_the_end(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = last_unquoted(text, separator);
        rest = at.and_then(|at| text.get(..at));
        at.map_or(Some(text), |at| text.get(at + 1..))
    })
}

fn last_unquoted(text: &[u8], separator: u8) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            b'"' if !is_escaped(text, at) => quoted = !quoted,
            byte if *byte == separator && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Whether an odd number of backslashes stands before.
fn is_escaped(text: &[u8], at: usize) -> bool {
    text.iter().take(at).rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
