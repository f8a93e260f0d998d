//! A secret is rotated while webhooks flow: SIGHUP takes what is in the files, and no sender notices.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{Setup, event_body, eventually, own_setup, program_binary, send, services_up, signed_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::{World, ready};

const OLD: &str = "whsec_b2xkLXRlc3RzLW9ubHk=";
const NEW: &str = "whsec_bmV3LXRlc3RzLW9ubHk=";
const SOURCE: &str = "[ingest]\nrequest_timeout_ms = 60000\n\
                      [sources.rotating]\nprovider = \"tollgate\"\nregion = \"eu\"\nsecrets = [{ directory = \"secrets\" }]";

/// A gateway in a process of its own, with its configuration and secrets in a folder.
pub struct Gateway {
    pub setup: Setup,
    pub folder: PathBuf,
    process: Child,
    versions: u32,
}

impl Gateway {
    async fn start(name: &str, secrets: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(name, SOURCE, secrets, |_| Ok(())).await
    }

    /// With another configuration, and what `prepare` puts into the folder beside it.
    pub async fn start_with(
        name: &str,
        configuration: &str,
        secrets: &[(&str, &str)],
        prepare: impl FnOnce(&std::path::Path) -> Result<()>,
    ) -> Result<Self> {
        let setup = own_setup(name, configuration)?;
        let folder = std::env::temp_dir().join(&setup.config.rabbitmq.queue_prefix);
        fs::create_dir_all(folder.join("secrets"))?;
        fs::write(folder.join("tollgate.toml"), &setup.text)?;
        let mut command = Command::new(program_binary("ingest")?);
        command.arg("--config").arg(folder.join("tollgate.toml")).envs(&setup.variables).kill_on_drop(true);
        lay_out(&folder, 0, secrets)?;
        prepare(&folder)?;
        let process = command.stderr(File::create(folder.join("log"))?).spawn()?;
        ready(setup.config.ingest.internal_listen).await?;
        Ok(Self { setup, folder, process, versions: 0 })
    }

    pub fn address(&self) -> SocketAddr {
        self.setup.config.ingest.listen
    }

    /// Swaps all secrets at once, as Kubernetes does.
    fn swap(&mut self, secrets: &[(&str, &str)]) -> Result<()> {
        self.versions += 1;
        lay_out(&self.folder, self.versions, secrets)
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.process.id().context("ended by itself")?;
        let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().await?;
        ensure!(status.success(), "no signal: {status}");
        Ok(())
    }

    /// SIGHUP; returns once the configuration was read again with this outcome.
    pub async fn reload(&self, outcome: &str) -> Result<()> {
        let series = format!("tollgate_ingest_reloads_total{{outcome=\"{outcome}\"}}");
        let before = self.metric(&series).await?;
        self.signal("HUP").await?;
        eventually(&series, async || {
            ensure!(self.metric(&series).await? > before, "not read again");
            Ok(())
        })
        .await
    }

    pub async fn metric(&self, series: &str) -> Result<f64> {
        it::metric(self.setup.config.ingest.internal_listen, series).await
    }

    /// A metric of one of the source's secrets.
    async fn secret(&self, metric: &str, secret: &str) -> Result<f64> {
        self.metric(&format!("tollgate_ingest_secret_{metric}{{source=\"rotating\",secret=\"{secret}\"}}")).await
    }

    /// Waits until a secret has verified this many webhooks more.
    async fn verifies(&self, secret: &str, more: f64) -> Result<()> {
        let before = self.secret("verified_total", secret).await?;
        eventually(secret, async || {
            let now = self.secret("verified_total", secret).await?;
            ensure!(now >= before + more, "verified {now}, before {before}");
            Ok(())
        })
        .await
    }

    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("log"))?)
    }

    pub async fn stop(mut self) -> Result<()> {
        self.signal("TERM").await?;
        let status = tokio::time::timeout(Duration::from_secs(20), self.process.wait()).await??;
        ensure!(status.success(), "{status}");
        fs::remove_dir_all(&self.folder)?;
        World::new(self.setup.config).await?.clean().await
    }
}

fn lay_out(folder: &std::path::Path, version: u32, secrets: &[(&str, &str)]) -> Result<()> {
    let directory = folder.join("secrets");
    let name = format!("..version_{version}");
    fs::create_dir(directory.join(&name))?;
    for (label, secret) in secrets {
        fs::write(directory.join(&name).join(label), secret)?;
    }
    symlink(&name, directory.join("..data_tmp"))?;
    Ok(fs::rename(directory.join("..data_tmp"), directory.join("..data"))?)
}

async fn post(address: SocketAddr, source: &str, secret: &str, number: u64) -> Result<u16> {
    let (id, body) = (format!("msg_{number}"), event_body("payment.captured", "pay", Some("A"), 1, "c"));
    let headers = signed_with(secret, &id, &body);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Ok(send(address, "POST", &format!("/webhooks/{source}"), &headers, &body).await?.status)
}

/// Webhooks one after another, signed with the provider's secret of that moment.
struct Provider {
    knows_new: AtomicBool,
    ends: AtomicBool,
    sent: AtomicU64,
}

impl Provider {
    async fn send(&self, address: SocketAddr) -> Result<()> {
        while !self.ends.load(Ordering::Relaxed) {
            let secret = if self.knows_new.load(Ordering::Relaxed) { NEW } else { OLD };
            let number = self.sent.fetch_add(1, Ordering::Relaxed);
            let status = post(address, "rotating", secret, number).await.context("dropped")?;
            ensure!(status == 200, "webhook {number}: {status}");
            // 200 a second of the two at most.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_while_webhooks_flow_and_none_is_refused() -> Result<()> {
    let _services = services_up().await;
    let mut gateway = Gateway::start("rotating", &[("old", OLD)]).await?;
    let address = gateway.address();
    let provider =
        Arc::new(Provider { knows_new: AtomicBool::new(false), ends: AtomicBool::new(false), sent: AtomicU64::new(0) });
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { provider.send(address).await })
        })
        .collect();
    gateway.verifies("old", 20.0).await?;
    assert_eq!(post(address, "rotating", NEW, 0).await?, 401);

    gateway.swap(&[("old", OLD), ("new", NEW)])?;
    gateway.reload("applied").await?;
    gateway.verifies("old", 20.0).await?;
    assert_eq!(gateway.secret("verified_total", "new").await?, 0.0);
    assert_eq!(gateway.secret("not_after_timestamp_seconds", "new").await?, f64::INFINITY);

    // The provider takes the new one; the metric tells when the old one has nothing to do any more.
    provider.knows_new.store(true, Ordering::Relaxed);
    gateway.verifies("new", 20.0).await?;
    let idle = gateway.secret("verified_total", "old").await?;
    gateway.verifies("new", 20.0).await?;
    assert_eq!(gateway.secret("verified_total", "old").await?, idle);
    let last = |secret| gateway.secret("last_verified_timestamp_seconds", secret);
    assert!(last("new").await? >= last("old").await? && last("old").await? > 0.0);

    // Half of a webhook is here when its secret goes: it began in time.
    let body = event_body("payment.captured", "pay", Some("A"), 1, "c");
    let mut head = format!("POST /webhooks/rotating HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
    signed_with(OLD, "m", &body).iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let mut begun = TcpStream::connect(address).await?;
    begun.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await?;
    begun.write_all(&body[..10]).await?;
    eventually("the half is there", async || {
        ensure!(gateway.metric("tollgate_ingest_in_flight").await? >= 1.0);
        Ok(())
    })
    .await?;
    gateway.swap(&[("new", NEW)])?;
    gateway.reload("applied").await?;
    assert_eq!(post(address, "rotating", OLD, 0).await?, 401);
    assert_eq!(gateway.secret("configured", "old").await?, 0.0);
    assert_eq!(gateway.secret("configured", "new").await?, 1.0);
    begun.write_all(&body[10..]).await?;
    let mut answer = String::new();
    begun.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    // What cannot be used changes nothing.
    gateway.swap(&[])?;
    gateway.reload("refused").await?;
    gateway.verifies("new", 20.0).await?;
    provider.ends.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await??;
    }
    let log = gateway.log()?;
    println!("{log}{} webhooks", provider.sent.load(Ordering::Relaxed));
    assert!(log.contains("sources.rotating: secrets[0]: directory secrets has no files"), "{log}");
    for secret in [OLD, NEW] {
        assert!(!log.contains(secret.trim_start_matches("whsec_")), "a secret in the log");
    }
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_come_and_go_by_a_reload_and_the_log_says_what_does_not() -> Result<()> {
    let _services = services_up().await;
    let gateway = Gateway::start("reload", &[("only", OLD)]).await?;
    let (address, file) = (gateway.address(), gateway.folder.join("tollgate.toml"));
    let more = "[sources.more]\nprovider = \"tollgate\"\nregion = \"eu\"\nsecrets = [{ directory = \"secrets\" }]\n\
                rate_per_second = 1\nburst = 30\n[writer]\nflush_ms = 77\n";
    assert_eq!(post(address, "more", OLD, 0).await?, 404);
    fs::write(&file, format!("{}{more}", gateway.setup.text))?;
    gateway.reload("applied").await?;
    // Fewer than the whole budget, more than what comes back meanwhile.
    let is_limited = async |posts: u64| {
        for number in 0..posts {
            if post(address, "more", OLD, number).await? == 429 {
                return anyhow::Ok(true);
            }
        }
        Ok(false)
    };
    assert!(is_limited(100).await?);
    assert!(gateway.log()?.contains("writer.flush_ms"), "{}", gateway.log()?);
    gateway.reload("applied").await?;
    assert!(is_limited(25).await?, "what is used up stays so");
    fs::write(&file, format!("{}{}", gateway.setup.text, more.replace("burst = 30", "burst = 31")))?;
    gateway.reload("applied").await?;
    assert!(!is_limited(25).await?, "another budget is a new one");

    let lines = gateway.setup.text.lines().count();
    fs::write(&file, format!("{}colour = 1\n", gateway.setup.text))?;
    gateway.reload("refused").await?;
    assert_ne!(post(address, "more", OLD, 0).await?, 404, "the configuration before stays");
    let place = format!("tollgate.toml:{}", lines + 1);
    assert!(gateway.log()?.contains(&place) && gateway.log()?.contains("colour"), "{place}: {}", gateway.log()?);
    // As one that is just being written may look.
    fs::write(&file, "")?;
    gateway.reload("refused").await?;
    assert_ne!(post(address, "more", OLD, 0).await?, 404, "an empty file takes no source away");
    fs::write(&file, &gateway.setup.text)?;
    gateway.reload("applied").await?;
    assert_eq!(post(address, "more", OLD, 0).await?, 404);
    println!("{}", gateway.log()?);
    gateway.stop().await
}
