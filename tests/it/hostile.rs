//! Hostile clients on raw sockets: each is bounded and counted, and a provider beside them notices nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{Running, event_body, eventually, own_config, post, services_up, signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::connect_from;
use crate::support::{World, ready};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const PING: u8 = 6;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

struct Gateway {
    world: World,
    running: Running,
}

impl Gateway {
    async fn start(name: &str, limits: &str) -> Result<Self> {
        let config = own_config(name, &format!("[ingest]\n{limits}\n"))?;
        let running = Running::ingest(config.clone());
        ready(config.ingest.internal_listen).await?;
        Ok(Self { world: World::new(config).await?, running })
    }

    fn address(&self) -> SocketAddr {
        self.world.config.ingest.listen
    }

    /// A provider's webhook is taken right now.
    async fn serves(&self, id: &str) -> Result<()> {
        let body = event_body("payment.captured", "pay", Some("A"), 1, "c");
        let answer = tokio::time::timeout(Duration::from_secs(5), post(self.address(), id, &body)).await;
        let answer = answer.with_context(|| format!("{id}: not served beside hostile clients"))??;
        ensure!(answer.status == 200, "{id}: {answer:?}");
        Ok(())
    }

    /// Connections of this process's public listeners that ended so; those of tests beside this one add to it.
    async fn ends(&self, end: &str) -> Result<f64> {
        let series = format!("tollgate_http_connections_total{{listener=\"public\",end=\"{end}\"}}");
        it::metric(self.world.config.ingest.internal_listen, &series).await
    }

    async fn clean(self) -> Result<()> {
        self.running.stop().await?;
        self.world.clean().await
    }
}

/// Writes until the other side has had enough or `bytes` are sent, and reads what it says until it closes.
async fn told(stream: TcpStream, chunk: &[u8], bytes: usize) -> Result<(usize, Vec<u8>)> {
    let mut sent = 0;
    let (mut reader, mut writer) = stream.into_split();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    let talking = async {
        while sent < bytes {
            tokio::select! {
                biased;
                read = reader.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(len) => answer.extend_from_slice(&buffer[..len]),
                },
                written = writer.write(chunk) => match written {
                    Ok(len) => sent += len,
                    Err(_) => return,
                },
            }
        }
        while let Ok(len @ 1..) = reader.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..len]);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), talking).await.context("it goes on for ever")?;
    Ok((sent, answer))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_are_cut_off() -> Result<()> {
    let _services = services_up().await;
    let gateway = Gateway::start("endless", "header_timeout_ms = 2000").await?;
    let broken = gateway.ends("broken").await?;
    for (opening, chunk) in [
        ("POST /webhooks/shop HTTP/1.1\r\nhost: x\r\n", "x-filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"),
        ("POST /webhooks/shop HTTP/1.1\r\nx-long: ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("POST /webhooks/", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ] {
        let mut stream = TcpStream::connect(gateway.address()).await?;
        stream.write_all(opening.as_bytes()).await?;
        let (sent, answer) = told(stream, chunk.as_bytes(), 64 * 1024 * 1024).await?;
        // What is in the kernels' buffers counts as sent.
        ensure!(sent < 16 * 1024 * 1024, "{sent} bytes of {opening:?} were read");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        gateway.serves(opening).await.or(gateway.serves("after").await)?;
    }
    ensure!(gateway.ends("broken").await? >= broken + 3.0, "not counted");
    gateway.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_leave_others_alone_and_end() -> Result<()> {
    let _services = services_up().await;
    let gateway = Gateway::start("idle", "client_connections_max = 600\nheader_timeout_ms = 4000").await?;
    let (silent, refused) = (gateway.ends("silent").await?, gateway.ends("refused").await?);
    let mut idle = Vec::new();
    // One client more than it may have, and others as many as they may.
    for (host, connections) in [("127.0.0.9", 800), ("127.0.0.10", 600), ("127.0.0.11", 600), ("127.0.0.12", 600)] {
        for _ in 0..connections {
            idle.push(connect_from(host, gateway.address()).await?);
        }
        gateway.serves(host).await?;
    }
    eventually("those beyond a client's share are closed", async || {
        ensure!(gateway.ends("refused").await? >= refused + 200.0);
        Ok(())
    })
    .await?;
    eventually("the others are, too, as nothing comes", async || {
        let ended = gateway.ends("silent").await?;
        ensure!(ended >= silent + 2400.0, "{} of 2400", ended - silent);
        Ok(())
    })
    .await?;
    gateway.serves("afterwards").await?;
    gateway.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order_and_one_that_is_broken_ends_them() -> Result<()> {
    let _services = services_up().await;
    let gateway = Gateway::start("pipelined", "").await?;
    let mut requests = Vec::new();
    for number in 0..50 {
        // Every third is forged.
        let body = event_body("payment.captured", &format!("pay{number}"), Some("A"), 1, "c");
        let id = if number % 3 == 0 { "another".to_owned() } else { format!("m{number}") };
        requests
            .extend(format!("POST /webhooks/shop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len()).bytes());
        for (name, value) in signed(&format!("m{number}"), &body) {
            let value = if name == "webhook-id" { &id } else { &value };
            requests.extend(format!("{name}: {value}\r\n").bytes());
        }
        requests.extend(b"\r\n");
        requests.extend(body);
    }
    requests.extend(b"\x16\x03\x01 this is not a request\r\n\r\nPOST /webhooks/shop HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut stream = TcpStream::connect(gateway.address()).await?;
    stream.write_all(&requests).await?;
    let mut answers = String::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answers)).await.context("no end")??;
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    let expected = (0..50).map(|number| if number % 3 == 0 { "401" } else { "200" });
    ensure!(statuses.iter().copied().eq(expected.chain(["400"])), "{statuses:?}");
    gateway.serves("afterwards").await?;
    gateway.clean().await
}

/// Each of these ends the connection (RFC 9113, 5.4.1), or is more than anybody needs.
fn malformed() -> Vec<(&'static str, Vec<u8>, usize)> {
    let settings = frame(SETTINGS, 0, 0, b"");
    let begun = |rest: Vec<u8>| [PREFACE, &settings, &rest].concat();
    // :method POST, :path /, :scheme http, as indexed fields (RFC 7541, appendix A).
    let request = [0x83, 0x84, 0x86];
    let resets = (0..20_000_u32).flat_map(|n| {
        let stream = 2 * n + 1;
        [frame(HEADERS, 4, stream, &request), frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    vec![
        ("a frame of 16 MB", begun([&[0xFF, 0xFF, 0xFF, HEADERS, 4, 0, 0, 0, 1][..], &[0; 4096]].concat()), 0),
        ("settings of a wrong length", begun(frame(SETTINGS, 0, 0, b"abc")), 0),
        ("a request on stream 0", begun(frame(HEADERS, 4, 0, &request)), 0),
        ("a continuation of nothing", begun(frame(CONTINUATION, 4, 1, &request)), 0),
        ("a window of zero", begun(frame(WINDOW, 0, 0, &[0; 4])), 0),
        ("headers that cannot be unpacked", begun(frame(HEADERS, 4, 1, &[0xFF; 64])), 0),
        ("HTTP/1 behind the preface", [PREFACE, b"POST / HTTP/1.1\r\nhost: x\r\n\r\n"].concat(), 0),
        ("requests reset at once, again and again", begun(resets.collect()), 0),
        ("continuations without end", begun(frame(HEADERS, 0, 1, &request)), CONTINUATION.into()),
        ("pings without end", begun(Vec::new()), PING.into()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http2_ends_its_own_connection_only() -> Result<()> {
    let _services = services_up().await;
    let gateway = Gateway::start("malformed", "header_timeout_ms = 1000").await?;
    for (what, opening, then) in malformed() {
        let mut stream = TcpStream::connect(gateway.address()).await?;
        // It may be closed before all of it is written.
        let _cut_off = stream.write_all(&opening).await;
        let chunk = match u8::try_from(then)? {
            CONTINUATION => frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b'].repeat(200)),
            PING => frame(PING, 0, 0, &[7; 8]).repeat(100),
            _ => Vec::new(),
        };
        let bytes = if chunk.is_empty() { 0 } else { 32 * 1024 * 1024 };
        let (sent, _) = told(stream, &chunk, bytes).await.context(what)?;
        println!("{what}: ended after {sent} bytes more");
        // Pings are answered as long as they come; the bound is that nobody else notices.
        ensure!(what.starts_with("pings") || sent < 16 * 1024 * 1024, "{what}: {sent} bytes were read");
        gateway.serves(what).await.context(what)?;
    }
    gateway.clean().await
}

/// Answers pings, and does nothing else, until the connection ends.
async fn only_pings(mut stream: TcpStream, opening: &[u8]) -> Result<()> {
    stream.write_all(opening).await?;
    let answering = async {
        let mut header = [0; 9];
        while stream.read_exact(&mut header).await.is_ok() {
            let [a, b, c, kind, flags, ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            stream.read_exact(&mut payload).await?;
            if kind == PING && flags == 0 {
                stream.write_all(&frame(PING, 1, 0, &payload)).await?;
            }
        }
        anyhow::Ok(())
    };
    // How it ends does not matter.
    let _ended = tokio::time::timeout(Duration::from_secs(30), answering).await.context("it is kept for ever")?;
    Ok(())
}

/// A literal header field with an indexed name (RFC 7541, 6.2.2).
fn field(name: u8, value: &str) -> Vec<u8> {
    [&[name, u8::try_from(value.len()).unwrap_or(0)], value.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_or_asks_for_nothing_is_let_go() -> Result<()> {
    const PATH: u8 = 4;
    const GET: u8 = 0x82;
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    let _services = services_up().await;
    let gateway = Gateway::start("held", "header_timeout_ms = 500").await?;
    let request = |method, path, flags| frame(HEADERS, flags, 1, &[&[method, HTTP][..], &field(PATH, path)].concat());
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let settings = frame(SETTINGS, 0, 0, b"");
    for (what, opening) in [
        ("HTTP/2 and no request", [PREFACE, &settings].concat()),
        ("HTTP/2 without a window", [PREFACE, &no_window, &request(GET, "/openapi.json", 5)].concat()),
        ("HTTP/2 with a body that never comes", [PREFACE, &settings, &request(POST, "/webhooks/shop", 4)].concat()),
    ] {
        only_pings(TcpStream::connect(gateway.address()).await?, &opening).await.context(what)?;
    }

    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect(gateway.address()).await?;
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    // It is no longer read from once its answers are not taken.
    let written = tokio::time::timeout(Duration::from_secs(1), async {
        loop {
            stream.write_all(requests.as_bytes()).await?;
        }
    });
    if let Ok(ended) = written.await {
        return ended;
    }
    eventually("a client that reads nothing is let go", async || {
        let kept = stream.try_write(b"x").map_or_else(|error| error.kind() == std::io::ErrorKind::WouldBlock, |_| true);
        ensure!(!kept, "kept");
        Ok(())
    })
    .await?;
    gateway.serves("afterwards").await?;
    gateway.clean().await
}
