//! What a provider, or someone who pretends to be one, gets from the gateway.

use std::time::Duration;

use anyhow::{Result, ensure};
use domain::frame::{Frame, Record};
use futures_util::future::try_join_all;
use it::{Answer, Running, event_body, own_config, post, send, services_up, signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{World, ready};

async fn gateway(name: &str, extra: &str) -> Result<(World, Running)> {
    let config = own_config(name, extra)?;
    let running = Running::ingest(config.clone());
    ready(config.ingest.internal_listen).await?;
    Ok((World::new(config).await?, running))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_request_gets_its_answer() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = gateway("answers", "[ingest]\nbody_bytes_max = 2000").await?;
    let address = world.config.ingest.listen;
    let body = event_body("payment.captured", "pay_1", Some("A-1"), 1999, "c1");
    let headers = signed("msg_1", &body);
    let as_refs = |headers: &[(String, String)]| -> Vec<(String, String)> { headers.to_vec() };
    let request = async |method: &str, path: &str, headers: &[(String, String)], body: &[u8]| -> Result<Answer> {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        send(address, method, path, &headers, body).await
    };
    let with = |name: &str, value: &str| {
        let mut changed = as_refs(&headers);
        changed.retain(|(n, _)| n != name);
        changed.push((name.into(), value.into()));
        changed
    };
    let without = |name: &str| -> Vec<_> { headers.iter().filter(|(n, _)| n != name).cloned().collect() };
    let path = "/webhooks/shop";

    let accepted = request("POST", path, &headers, &body).await?;
    assert_eq!((accepted.status, accepted.body.as_str()), (200, "{\"received\":true}"));
    let mut changed = body.clone();
    changed[20] ^= 1;
    let twice =
        [as_refs(&headers), headers.iter().filter(|(n, _)| n == "webhook-signature").cloned().collect()].concat();
    let large = vec![b' '; 2001];
    let cases = [
        ("a changed byte", request("POST", path, &headers, &changed).await?, 401),
        ("no signature", request("POST", path, &without("webhook-signature"), &body).await?, 401),
        ("an old time", request("POST", path, &with("webhook-timestamp", "1600000000"), &body).await?, 401),
        ("a signature header twice", request("POST", path, &twice, &body).await?, 401),
        ("an empty body", request("POST", path, &headers, b"").await?, 400),
        ("an unknown source", request("POST", "/webhooks/nobody", &headers, &body).await?, 404),
        ("another path", request("POST", "/", &headers, &body).await?, 404),
        ("another method", request("GET", path, &headers, b"").await?, 405),
        ("a large body", request("POST", path, &headers, &large).await?, 413),
        (
            "a form",
            request("POST", path, &with("content-type", "application/x-www-form-urlencoded"), &body).await?,
            415,
        ),
        ("a compressed body", request("POST", path, &with("content-encoding", "gzip"), &body).await?, 415),
    ];
    for (what, answer, status) in cases {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{what}: {answer:?}");
        serde_json::from_str::<serde_json::Value>(&answer.body).expect(what);
    }
    assert_eq!(world.depth("write.0").await?, 1, "only the accepted one is in the queue");
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn braintree_asks_first_and_sends_forms() -> Result<()> {
    let _services = services_up().await;
    let source = "[sources.braintree]\nprovider = \"braintree\"\nregion = \"eu\"\n\
                  secrets = [{ value = \"public_key:private_key\" }]";
    let (world, running) = gateway("braintree", source).await?;
    let address = world.config.ingest.listen;
    let path = "/webhooks/braintree";
    let challenge = format!("{path}?bt_challenge=20f9f8ed05f77439fe955c977e4c8a53");
    let answer = send(address, "GET", &challenge, &[], b"").await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.starts_with("public_key|"), "{answer:?}");
    assert_eq!(send(address, "GET", path, &[], b"").await?.status, 400);
    // A form is what it sends, and this one is forged.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let forged = b"bt_signature=public_key%7C00&bt_payload=PG5vdGlmaWNhdGlvbi8%2B";
    assert_eq!(send(address, "POST", path, &form, forged).await?.status, 401);
    let json = [("content-type", "application/json")];
    assert_eq!(send(address, "POST", path, &json, b"{}").await?.status, 415);
    // Others are never asked.
    assert_eq!(
        send(address, "GET", "/webhooks/shop?bt_challenge=20f9f8ed05f77439fe955c97", &[], b"").await?.status,
        405
    );
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn verified_but_not_understood_is_quarantined_and_no_change_is_not_queued() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = gateway("quarantine", "").await?;
    let address = world.config.ingest.listen;
    let bad: [(&str, Vec<u8>); 6] = [
        ("broken JSON", b"{\"type\":".to_vec()),
        ("invalid UTF-8", b"{\"type\":\"payment.captured\xff\"}".to_vec()),
        ("a negative amount", event_body("payment.captured", "p", Some("A"), -1, "c")),
        ("a huge amount", event_body("payment.captured", "p", Some("A"), i64::MAX, "c")),
        ("an unknown payment type", event_body("payment.teleported", "p", Some("A"), 1, "c")),
        ("a time far in the past", {
            let body = String::from_utf8(event_body("payment.captured", "p", Some("A"), 1, "c"))?;
            let at = body.find("\"timestamp\":\"").unwrap() + 13;
            [&body.as_bytes()[..at], b"1999", &body.as_bytes()[at + 4..]].concat()
        }),
    ];
    for (what, body) in &bad {
        assert_eq!(post(address, "msg", body).await?.status, 200, "{what}");
    }
    assert_eq!(post(address, "msg_none", &event_body("ping", "p", None, 1, "c")).await?.status, 200);

    let frames = world.take("write.0").await?;
    let records: Vec<_> = frames.iter().flat_map(|frame| Frame::parse(frame).unwrap().records()).collect();
    assert_eq!(records.len(), bad.len());
    for (record, (what, body)) in records.into_iter().zip(&bad) {
        let Record::Quarantined(quarantined) = Record::decode(record)? else { panic!("{what}: not quarantined") };
        assert_eq!(&*quarantined.body, body.as_slice(), "{what}");
    }
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_share_frames_and_each_event_is_queued_once() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = gateway("frames", "").await?;
    let address = world.config.ingest.listen;
    let posts = (0..200).map(|i| async move {
        let body = event_body("payment.captured", &format!("pay_{i}"), Some("A"), 1, "c");
        post(address, &format!("msg_{i}"), &body).await
    });
    for answer in try_join_all(posts).await? {
        ensure!(answer.status == 200, "{answer:?}");
    }
    let frames = world.take("write.0").await?;
    let mut ids: Vec<String> = frames
        .iter()
        .flat_map(|frame| Frame::parse(frame).unwrap().records())
        .map(|record| match Record::decode(record).unwrap() {
            Record::Event(event) => event.provider_event_id.into_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
    assert!(frames.len() < 200, "{} frames for 200 events: nothing was coalesced", frames.len());
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_answered_with_503_and_what_was_accepted_is_there() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = gateway("full", "[rabbitmq]\nwrite_queue_bytes_max = 20000").await?;
    let address = world.config.ingest.listen;
    let mut accepted = 0;
    let refused = loop {
        let body = event_body("payment.captured", &format!("pay_{accepted}"), Some("A"), 1, "c");
        let answer = post(address, &format!("msg_{accepted}"), &body).await?;
        match answer.status {
            200 => accepted += 1,
            _ => break answer,
        }
        ensure!(accepted < 1000, "a bounded queue took everything");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: "), "{refused:?}");
    let frames = world.take("write.0").await?;
    let queued: usize = frames.iter().map(|frame| Frame::parse(frame).unwrap().records().count()).sum();
    assert!(queued >= accepted, "{accepted} accepted, {queued} queued");
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_its_rate_is_told_when_to_come_again() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = gateway("rate", "[ingest]\nclient_rate_per_second = 1\nclient_burst = 2").await?;
    let address = world.config.ingest.listen;
    let body = event_body("payment.captured", "pay", Some("A"), 1, "c");
    let answers =
        [post(address, "m1", &body).await?, post(address, "m2", &body).await?, post(address, "m3", &body).await?];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200, 429]);
    for field in ["retry-after: ", "ratelimit-policy: \"client\";q=2;w=2\r\n", "ratelimit: \"client\";r=0;t="] {
        assert!(answers[2].head.contains(field), "{field}: {:?}", answers[2]);
    }
    running.stop().await?;
    world.clean().await
}

/// A signed webhook from one of this machine's loopback addresses with one more header; the status of its answer, empty
/// if the connection is closed without one.
async fn post_from(peer: &str, address: std::net::SocketAddr, header: &str) -> Result<String> {
    let body = event_body("payment.captured", "pay", Some("A"), 1, "c");
    let mut request = format!("POST /webhooks/shop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
    signed("m", &body).iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    let mut stream = connect_from(peer, address).await?;
    let request = [format!("{request}connection: close\r\n{header}\r\n\r\n").as_bytes(), &body].concat();
    let _closed = stream.write_all(&request).await;
    let mut answer = String::new();
    let _closed = stream.read_to_string(&mut answer).await;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_limits_go_by_the_client_and_nobody_else_is_believed() -> Result<()> {
    let _services = services_up().await;
    let limits = "[ingest]\nclient_rate_per_second = 1\nclient_burst = 2\nclient_connections_max = 3\n\
                  trusted_proxies = [\"127.0.0.1/32\"]\nproxy_header = \"forwarded\"";
    let (world, running) = gateway("proxies", limits).await?;
    let address = world.config.ingest.listen;
    let (proxy, stranger) = ("127.0.0.1", "127.0.0.2");
    // Connections of a proxy are not one client's.
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(connect_from(proxy, address).await?);
    }
    // One client by whatever chain, until its budget is used up; meanwhile another one is served.
    let chains = ["", "for=198.51.100.9, ", "for=\"198.51.100.8\", for=unknown, "];
    let limited = |peer: &'static str, headers: Vec<String>| async move {
        for header in &headers {
            if post_from(peer, address, header).await? == "429" {
                return anyhow::Ok(true);
            }
        }
        Ok(false)
    };
    let of_one = (0..20).map(|number| format!("forwarded: {}for=203.0.113.1, for=127.0.0.1", chains[number % 3]));
    assert!(limited(proxy, of_one.collect()).await?, "a client over its rate");
    assert_eq!(post_from(proxy, address, "forwarded: for=203.0.113.2").await?, "200");
    let many = |number| format!("forwarded: for=198.51.100.{number}");
    assert!(!limited(proxy, (0..20).map(many).collect()).await?, "twenty clients of a proxy");
    assert!(limited(stranger, (0..20).map(many).collect()).await?, "a stranger who names twenty clients");
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(connect_from(stranger, address).await?);
    }
    assert_eq!(post_from(stranger, address, "x: y").await?, "", "a fourth connection of one client");
    assert_eq!(post_from(proxy, address, "forwarded: for=203.0.113.6").await?, "200");
    drop((held, strangers));
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_useful_give_their_place_back() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = gateway("slow", "[ingest]\nconnections_max = 4\nheader_timeout_ms = 300").await?;
    let address = world.config.ingest.listen;
    let openings: [&[u8]; 4] =
        [b"", b"PRI * HTTP/2", b"POST /webhooks/shop HTTP/1.1\r\nhost: x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let mut silent = Vec::new();
    for opening in openings {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(opening).await?;
        silent.push(stream);
    }
    // All places are taken; this one waits for its own.
    let body = event_body("payment.captured", "pay", Some("A"), 1, "c");
    assert_eq!(post(address, "m1", &body).await?.status, 200);
    for (mut stream, opening) in silent.into_iter().zip(openings) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open after {:?}", String::from_utf8_lossy(opening));
    }
    running.stop().await?;
    world.clean().await
}

/// A connection from another of this machine's loopback addresses: another client.
pub async fn connect_from(client: &str, address: std::net::SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{client}:0").parse()?)?;
    Ok(socket.connect(address).await?)
}

/// A signed webhook whose body follows its header after a moment; the status of its answer.
async fn post_slowly(client: &str, address: std::net::SocketAddr, id: &str) -> Result<String> {
    let body = event_body("payment.captured", id, Some("A"), 1, "c");
    let mut head = format!("POST /webhooks/shop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
    signed(id, &body).iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let mut stream = connect_from(client, address).await?;
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(&body).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_of_one_client_leave_others_alone() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = gateway("slow_bodies", "[ingest]\nin_flight_max = 16").await?;
    let address = world.config.ingest.listen;
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = connect_from("127.0.0.1", address).await?;
        let head =
            "POST /webhooks/shop HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        held.push(stream);
    }
    for number in 0..10 {
        assert_eq!(post_slowly("127.0.0.2", address, &format!("m{number}")).await?, "200");
    }
    drop(held);
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn forgers_are_shut_out_and_take_nothing_from_the_source() -> Result<()> {
    let _services = services_up().await;
    let limits = "[ingest]\nunverified_rate_per_second = 1\nunverified_burst = 5";
    let (world, running) = gateway("forgers", limits).await?;
    let address = world.config.ingest.listen;
    let body = event_body("payment.captured", "pay", Some("A"), 1, "c");
    let forged = [("content-type", "application/json"), ("webhook-id", "m"), ("webhook-timestamp", "1")];
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(send(address, "POST", "/webhooks/shop", &forged, &body).await?);
    }
    assert!(answers[..6].iter().all(|answer| answer.status == 401), "{answers:?}");
    let shut_out = answers[6..].iter().find(|answer| answer.status == 429).expect("shut out");
    assert!(shut_out.head.contains("ratelimit-policy: \"unverified\";q=5;w=5\r\n"), "{shut_out:?}");
    // Another source may have the right secret for the same sender.
    assert_eq!(send(address, "POST", "/webhooks/stripe", &forged, &body).await?.status, 401);
    assert_eq!(post_slowly("127.0.0.2", address, "honest").await?, "200");
    running.stop().await?;
    world.clean().await
}
