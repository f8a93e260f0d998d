//! The public listener over TLS: both versions of HTTP, a certificate that is rotated under load, one that cannot be used,
//! and clients that do not finish what they began.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use it::https::{Https, Version, handshake};
use it::{event_body, eventually, free_ports, own_setup, run_program, services_up, signed_with};
use stack::certificates::{Authority, Issued};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rotating::Gateway;

const SECRET: &str = "whsec_aHR0cHMtdGVzdHMtb25seQ==";

fn configuration(more: &str) -> String {
    format!(
        "[ingest]\ntls_certificate = \"shown.pem\"\ntls_key = \"shown.key\"\n{more}\n\
         [sources.https]\nprovider = \"tollgate\"\nregion = \"eu\"\nsecrets = [{{ directory = \"secrets\" }}]"
    )
}

/// Puts a certificate where the configuration says.
fn show(folder: &Path, issued: &Issued) -> Result<()> {
    fs::copy(&issued.certificate, folder.join("shown.pem"))?;
    fs::copy(&issued.key, folder.join("shown.key"))?;
    Ok(())
}

async fn start(name: &str, more: &str) -> Result<(Gateway, Authority)> {
    let mut made = None;
    let prepare = |folder: &Path| {
        let authority = Authority::open(&folder.join("tls"))?;
        show(folder, &authority.issue("first", 30)?)?;
        made = Some(authority);
        Ok(())
    };
    let gateway = Gateway::start_with(name, &configuration(more), &[("only", SECRET)], prepare).await?;
    Ok((gateway, made.context("not prepared")?))
}

async fn post(client: &mut Https, id: &str) -> Result<u16> {
    let body = event_body("payment.captured", id, Some("A"), 1, "c");
    client.post("/webhooks/https", &signed_with(SECRET, id, &body), body).await
}

/// Webhooks on a connection each, of both versions, and on one of HTTP/2 that stays.
struct Provider {
    ca: PathBuf,
    ends: AtomicBool,
    sent: AtomicU64,
}

impl Provider {
    async fn send(&self, address: std::net::SocketAddr, version: Version, stays: bool) -> Result<()> {
        let mut kept = if stays { Some(Https::connect(address, &self.ca, version).await?) } else { None };
        while !self.ends.load(Ordering::Relaxed) {
            let id = format!("pay_{}", self.sent.fetch_add(1, Ordering::Relaxed));
            let status = match &mut kept {
                Some(client) => post(client, &id).await,
                None => post(&mut Https::connect(address, &self.ca, version).await?, &id).await,
            };
            let status = status.with_context(|| format!("{version:?} dropped"))?;
            ensure!(status == 200, "webhook {id}: {status}");
            // 300 a second of the three at most.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn sends(&self, more: u64) -> Result<()> {
        let before = self.sent.load(Ordering::Relaxed);
        eventually("webhooks flow", async || {
            ensure!(self.sent.load(Ordering::Relaxed) >= before + more);
            Ok(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_rotated_while_webhooks_flow_over_both_versions_of_http() -> Result<()> {
    let _services = services_up().await;
    let (gateway, authority) = start("https", "request_timeout_ms = 60000").await?;
    let (address, ca) = (gateway.address(), authority.certificate());
    let not_after = "tollgate_ingest_certificate_not_after_timestamp_seconds";
    let first = Https::connect(address, &ca, Version::Http1).await?.certificate;
    let first_ends = gateway.metric(not_after).await?;

    let provider = Arc::new(Provider { ca: ca.clone(), ends: AtomicBool::new(false), sent: AtomicU64::new(0) });
    let senders: Vec<_> = [(Version::Http1, false), (Version::Http2, false), (Version::Http2, true)]
        .into_iter()
        .map(|(version, stays)| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { provider.send(address, version, stays).await })
        })
        .collect();
    provider.sends(30).await?;

    let second = authority.issue("second", 60)?;
    show(&gateway.folder, &second)?;
    gateway.reload("applied").await?;
    let shown = Https::connect(address, &ca, Version::Http2).await?.certificate;
    ensure!(shown != first, "the old one is still shown");
    let longer = gateway.metric(not_after).await? - first_ends;
    ensure!((29.0..31.0).contains(&(longer / 86_400.0)), "ends {longer} s later");
    provider.sends(30).await?;

    // A key of another certificate: nothing changes, and the log says why.
    fs::copy(authority.issue("third", 30)?.key, gateway.folder.join("shown.key"))?;
    gateway.reload("refused").await?;
    ensure!(Https::connect(address, &ca, Version::Http1).await?.certificate == shown, "another one is shown");
    provider.sends(30).await?;
    provider.ends.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await??;
    }
    let log = gateway.log()?;
    println!("{log}{} webhooks", provider.sent.load(Ordering::Relaxed));
    ensure!(log.contains("it is not the key of the certificate in"), "{log}");
    ensure!(!log.contains("only a restart"), "{log}");

    // Plain HTTP gets no answer, and neither does a client that does not believe the certificate get one.
    let mut plain = TcpStream::connect(address).await?;
    plain.write_all(b"POST /webhooks/https HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let mut answer = Vec::new();
    let _reset = plain.read_to_end(&mut answer).await;
    ensure!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    let other = Authority::open(&gateway.folder.join("other"))?;
    let refused = handshake(address, &other.certificate(), Version::Http1).await.map(drop).unwrap_err();
    ensure!(format!("{refused:#}").contains("invalid peer certificate"), "{refused:#}");
    let count = |outcome: &str| format!("tollgate_ingest_tls_handshakes_total{{outcome=\"{outcome}\"}}");
    eventually("both are counted", async || {
        let seen = [gateway.metric(&count("not_tls")).await?, gateway.metric(&count("refused")).await?];
        ensure!(seen == [1.0, 1.0], "{seen:?}");
        Ok(())
    })
    .await?;
    ensure!(gateway.metric(&count("done")).await? > 60.0, "handshakes are not counted");
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_finish_holds_its_place_for_a_bounded_time() -> Result<()> {
    let _services = services_up().await;
    let more = "header_timeout_ms = 1000\nclient_connections_max = 4";
    let (gateway, authority) = start("https_slow", more).await?;
    let (address, ca) = (gateway.address(), authority.certificate());
    let begun = Instant::now();
    // Says nothing; begins a handshake; finishes it and says nothing; begins HTTP/2 and asks nothing.
    let silent = TcpStream::connect(address).await?;
    let mut half = TcpStream::connect(address).await?;
    half.write_all(&[0x16, 0x03, 0x01, 0x02]).await?;
    let shaken = handshake(address, &ca, Version::Http1).await?;
    let mut preface = handshake(address, &ca, Version::Http2).await?;
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    // All four places are taken, so a fifth connection is closed unread.
    ensure!(handshake(address, &ca, Version::Http1).await.is_err(), "a fifth place");

    for (what, stream) in [("silent", silent), ("half", half)] {
        ended(what, stream, begun).await?;
    }
    ended("shaken", shaken, begun).await?;
    ended("preface", preface, begun).await?;
    let timeout = gateway.metric("tollgate_ingest_tls_handshakes_total{outcome=\"timeout\"}").await?;
    ensure!(timeout == 2.0, "{timeout}");
    let mut client = Https::connect(address, &ca, Version::Http1).await?;
    ensure!(post(&mut client, "pay").await? == 200);
    drop(client);
    gateway.stop().await
}

/// Closed by the other side, neither at once nor late.
async fn ended(what: &str, mut stream: impl tokio::io::AsyncRead + Unpin, begun: Instant) -> Result<()> {
    let mut rest = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
    let _reset = reading.await.with_context(|| format!("{what} keeps its place"))?;
    println!("{what} was closed after {:.1} s", begun.elapsed().as_secs_f64());
    ensure!(begun.elapsed() > Duration::from_millis(900), "{what} had no time");
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_refused_before_anything_starts() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("tollgate-https-{}", free_ports::<1>()?[0].port()));
    let authority = Authority::open(&folder)?;
    let (one, other) = (authority.issue("one", 1)?, authority.issue("other", 1)?);
    let (one_file, key_file) = (one.certificate.display().to_string(), one.key.display().to_string());
    let other_key = other.key.display().to_string();
    let cases = [
        (&one_file, &key_file, 0, "tls_certificate = "),
        (&one_file, &other_key, 2, "it is not the key of the certificate in"),
        (&key_file, &key_file, 2, "no certificate in it; it must be PEM"),
        (&one_file, &one_file, 2, "no private key in it; it must be PEM"),
        (&"/nowhere.pem".to_owned(), &key_file, 2, "cannot read /nowhere.pem"),
        (&one_file, &String::new(), 2, "must be set together"),
    ];
    let private = fs::read_to_string(&one.key)?;
    let secret = private.lines().nth(1).context("no key")?;
    for (certificate, key, status, says) in cases {
        let listener = format!("[ingest]\ntls_certificate = {certificate:?}\ntls_key = {key:?}");
        let setup = match own_setup("https_check", &listener) {
            Ok(setup) => setup,
            Err(error) => {
                ensure!(status == 2 && error.to_string().contains(says), "{error}");
                continue;
            }
        };
        let (code, said) = run_program("ingest", &setup, &["--check-config"])?;
        ensure!(code == status && said.contains(says), "{says:?}: {code}, {said}");
        ensure!(!said.contains(secret), "the key is told");
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}
