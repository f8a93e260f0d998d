#![allow(clippy::unwrap_used)]
use hyper::header::HeaderValue;
use proptest::prelude::*;

use super::*;

const PROXY: &str = "10.1.2.3";

fn clients(header: ProxyHeader) -> Clients {
    Clients::new(["10.0.0.0/8", "fd00::/8"].into_iter().map(|network| network.parse().unwrap()).collect(), header)
}

fn headers(header: ProxyHeader, lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    lines.iter().for_each(|line| _ = headers.append(name_of(header), HeaderValue::from_bytes(line).unwrap()));
    headers
}

/// The client of a request that the proxy handed on with these lines.
fn client(header: ProxyHeader, lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    clients(header).of(PROXY.parse().unwrap(), &headers(header, &lines)).to_string()
}

#[test]
fn the_client_is_the_last_address_that_is_no_proxys() {
    for (lines, expected) in [
        (vec!["203.0.113.7"], "203.0.113.7"),
        (vec!["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        (vec!["1.1.1.1, 203.0.113.7 , 10.9.9.9,fd00::1"], "203.0.113.7"),
        (vec!["1.1.1.1", "203.0.113.7", "10.9.9.9"], "203.0.113.7"),
        (vec!["203.0.113.7:4711"], "203.0.113.7"),
        (vec!["[2001:db8::7]:4711"], "2001:db8::7"),
        (vec!["2001:db8::7"], "2001:db8::7"),
        (vec!["::ffff:203.0.113.7"], "203.0.113.7"),
        (vec!["garbage\", 203.0.113.7"], "203.0.113.7"),
        // Somebody inside, by way of proxies only.
        (vec!["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        // No client is named: the proxy stands for it.
        (vec![], PROXY),
        (vec![""], PROXY),
        (vec!["1.1.1.1, unknown"], PROXY),
        (vec!["1.1.1.1, unknown, 10.0.0.2"], PROXY),
        (vec!["203.0.113.7,"], PROXY),
    ] {
        assert_eq!(client(ProxyHeader::XForwardedFor, &lines), expected, "{lines:?}");
    }
}

#[test]
fn forwarded_is_read_as_rfc_7239_says() {
    for (line, expected) in [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
        ("proto=https; for=\"203.0.113.7:80\"", "203.0.113.7"),
        ("for=1.1.1.1, for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
        ("for=203.0.113.7, for=10.0.0.2;host=\"a,b\"", "203.0.113.7"),
        ("for=203.0.113.7;host=\"evil\\\", for=1.1.1.1, \\\"x\"", "203.0.113.7"),
        ("for=\", for=203.0.113.7", "203.0.113.7"),
        ("for=1.1.1.1;host=\", for=203.0.113.7;host=\"x\"", "203.0.113.7"),
        ("for=unknown", PROXY),
        ("for=_hidden, for=10.0.0.2", PROXY),
        ("for=1.1.1.1;for=2.2.2.2", PROXY),
        ("by=203.0.113.7", PROXY),
    ] {
        assert_eq!(client(ProxyHeader::Forwarded, &[line]), expected, "{line}");
    }
}

#[test]
fn only_the_configured_header_counts_and_a_chain_has_an_end() {
    let other = headers(ProxyHeader::Forwarded, &[b"for=1.1.1.1"]);
    assert_eq!(clients(ProxyHeader::XForwardedFor).of(PROXY.parse().unwrap(), &other).to_string(), PROXY);
    let chain = vec!["10.0.0.1"; PROXIES_MAX].join(",");
    assert_eq!(client(ProxyHeader::XForwardedFor, &[&format!("203.0.113.7,{chain}")]), PROXY);
    assert_eq!(client(ProxyHeader::XForwardedFor, &["203.0.113.7", "10.0.0.1"]), "203.0.113.7");
}

/// What may stand in a header, commas, quotes and backslashes more often than not.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b','), Just(b'"'), Just(b'\\'), Just(b';'), Just(b'='), 0x20..0x7f_u8, 0x80..=0xff_u8];
    proptest::collection::vec(byte, 0..200)
}

fn header() -> impl Strategy<Value = ProxyHeader> {
    prop_oneof![Just(ProxyHeader::XForwardedFor), Just(ProxyHeader::Forwarded)]
}

/// What a proxy appends for its client.
fn entry(header: ProxyHeader, client: IpAddr, port: Option<u16>, more: bool) -> String {
    let node = match (client, port) {
        (IpAddr::V6(client), Some(port)) => format!("[{client}]:{port}"),
        (IpAddr::V6(client), None) if header == ProxyHeader::Forwarded => format!("[{client}]"),
        (client, Some(port)) => format!("{client}:{port}"),
        (client, None) => client.to_string(),
    };
    match header {
        ProxyHeader::XForwardedFor => node,
        ProxyHeader::Forwarded if more => format!("for=\"{node}\";host=\"a,b;for=1.1.1.1\\\"\";proto=https"),
        ProxyHeader::Forwarded => format!("for=\"{node}\""),
    }
}

proptest! {
    #[test]
    fn whatever_a_client_sends_the_proxy_has_the_last_word(
        header in header(),
        sent in proptest::collection::vec(anything(), 0..3),
        client: IpAddr,
        port: Option<u16>,
        more: bool,
        same_line: bool,
    ) {
        prop_assume!(!clients(header).trusted.contains(client));
        let entry = entry(header, client, port, more).into_bytes();
        let mut lines = sent;
        match lines.last_mut().filter(|_| same_line) {
            Some(last) => *last = [last, &b", "[..], &entry].concat(),
            None => lines.push(entry),
        }
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let found = clients(header).of(PROXY.parse().unwrap(), &headers(header, &lines));
        prop_assert_eq!(found, client.to_canonical());
    }

    #[test]
    fn whoever_is_no_proxy_is_believed_nothing(header in header(), sent in anything(), named: IpAddr, peer: IpAddr) {
        prop_assume!(!clients(header).trusted.contains(peer));
        let named = entry(header, named, None, false);
        let found = clients(header).of(peer, &headers(header, &[&sent, named.as_bytes()]));
        prop_assert_eq!(found, peer);
    }
}
