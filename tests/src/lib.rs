//! What tests against real services share: a configuration of their own, signed requests, waiting for conditions.

pub mod https;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use platform::config::{self, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Secret of the Standard Webhooks source `shop`; made up.
pub const SHOP_SECRET: &str = "whsec_dGVzdHMtb25seS1zZWNyZXQ=";

static SERVICES: RwLock<()> = RwLock::const_new(());

/// Held by tests that need the services up.
pub async fn services_up() -> RwLockReadGuard<'static, ()> {
    SERVICES.read().await
}

/// Held by tests that kill services.
pub async fn services_mine() -> RwLockWriteGuard<'static, ()> {
    SERVICES.write().await
}

/// A configuration, and how a program of its own is given it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The effective configuration.
    pub config: Config,
    /// The configuration file's text.
    pub text: String,
    /// The environment that overrides it.
    pub variables: BTreeMap<String, String>,
}

/// A configuration with a queue prefix, keyspace, schema and ports of its own; services from the environment.
///
/// # Errors
/// When the configuration is refused or no port is free.
pub fn own_config(name: &str, extra: &str) -> Result<Config> {
    Ok(own_setup(name, extra)?.config)
}

/// [`own_config`] for programs in processes of their own.
///
/// # Errors
/// When the configuration is refused or no port is free.
pub fn own_setup(name: &str, extra: &str) -> Result<Setup> {
    let unique = format!("{name}_{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let ports = free_ports::<4>()?;
    let text = format!(
        "regions = [\"eu\", \"us\"]\n{extra}\n\
         [sources.shop]\nprovider = \"tollgate\"\nregion = \"eu\"\nsecrets = [{{ value = \"{SHOP_SECRET}\" }}]\n\
         [sources.stripe]\nprovider = \"stripe\"\nregion = \"eu\"\nsecrets = [{{ value = \"whsec_tests_only\" }}]\n\
         [sources.adyen]\nprovider = \"adyen\"\nregion = \"us\"\nsecrets = [{{ value = \"00112233445566778899\" }}]\n"
    );
    let mut variables = config::environment()?;
    let own = [
        ("RABBITMQ_QUEUE_PREFIX", unique.clone()),
        ("RABBITMQ_GROUP_SIZE", "1".into()),
        ("CASSANDRA_KEYSPACE", unique.clone()),
        ("CASSANDRA_REPLICATION", "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}".into()),
        ("POSTGRES_SCHEMA", unique),
        ("INGEST_LISTEN", ports[0].to_string()),
        ("INGEST_INTERNAL_LISTEN", ports[1].to_string()),
        ("WRITER_INTERNAL_LISTEN", ports[2].to_string()),
        ("RECONCILER_INTERNAL_LISTEN", ports[3].to_string()),
    ];
    variables.extend(own.map(|(key, value)| (format!("TOLLGATE_{key}"), value)));
    let config = config::parse("test", &text, &variables)?;
    Ok(Setup { config, text, variables })
}

/// Where free ports are looked for: below those that outgoing connections take, of which the load tests have many.
const PORTS: std::ops::Range<u32> = 20_000..30_000;

/// Addresses on loopback that are free right now; nobody in this process is given one of them again soon.
///
/// # Errors
/// When there are none.
pub fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test processes that run beside each other begin elsewhere.
    let start = std::process::id() * 64;
    let candidates = PORTS.map(|_| {
        let port = PORTS.start + (start + NEXT.fetch_add(1, Relaxed)) % (PORTS.end - PORTS.start);
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap_or_default()))
    });
    let free = candidates.filter(|address| std::net::TcpListener::bind(address).is_ok());
    free.take(N).collect::<Vec<_>>().try_into().map_err(|_| anyhow::anyhow!("no free ports"))
}

/// A program's binary, beside this test's own and of the same build.
///
/// # Errors
/// When it was not built.
pub fn program_binary(program: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let binary = test.parent().and_then(|deps| deps.parent()).context("no folder")?.join(program);
    ensure!(binary.exists(), "build the programs first: cargo build --release --workspace");
    Ok(binary)
}

/// Runs a program with a test's configuration to its end; its exit status, and what it printed.
///
/// # Errors
/// When it cannot be run.
pub fn run_program(program: &str, setup: &Setup, arguments: &[&str]) -> Result<(i32, String)> {
    let file = std::env::temp_dir().join(format!("{}.toml", setup.config.postgres.schema));
    std::fs::write(&file, &setup.text)?;
    let output = std::process::Command::new(program_binary(program)?)
        .args(arguments)
        .arg("--config")
        .arg(&file)
        .envs(&setup.variables)
        .output()?;
    std::fs::remove_file(&file)?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{program} {}: {}\n{text}", arguments.join(" "), output.status);
    Ok((output.status.code().unwrap_or(-1), text))
}

/// The value of a series, with its labels, as a program shows it.
///
/// # Errors
/// When the program does not answer, or has no such series.
pub async fn metric(internal: SocketAddr, series: &str) -> Result<f64> {
    let text = send(internal, "GET", "/metrics", &[], b"").await?.body;
    let line = text.lines().find_map(|line| line.strip_prefix(series)).with_context(|| format!("no {series}"))?;
    Ok(line.trim().parse()?)
}

/// The sum of a metric's series with this text among their labels, as a program shows them.
///
/// # Errors
/// When the program does not answer, or shows what is no number.
pub async fn metric_sum(internal: SocketAddr, name: &str, label: &str) -> Result<f64> {
    let text = send(internal, "GET", "/metrics", &[], b"").await?.body;
    let series = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    let series = series.filter(|(labels, _)| labels.starts_with('{') && labels.contains(label));
    series.map(|(_, value)| Ok(value.parse::<f64>()?)).sum()
}

/// Waits until `condition` holds; its last error is the failure's.
///
/// # Errors
/// After a minute.
pub async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    within(Duration::from_secs(60), what, condition).await
}

/// [`eventually`] with another patience.
///
/// # Errors
/// After `patience`.
pub async fn within<T>(patience: Duration, what: &str, mut condition: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error.context(format!("never came true: {what}"))),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A program running in this process, stopped when dropped.
pub struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Running {
    /// Starts one.
    pub fn start<F: Future<Output = Result<()>> + Send + 'static>(run: impl FnOnce(CancellationToken) -> F) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(stop.clone()));
        Self { stop, task }
    }

    /// The gateway.
    #[must_use]
    pub fn ingest(config: Config) -> Self {
        Self::start(|stop| async move { Ok(ingest::run(config, None, stop).await?) })
    }

    /// The writer.
    #[must_use]
    pub fn writer(config: Config) -> Self {
        Self::start(|stop| async move { Ok(writer::run(config, stop).await?) })
    }

    /// The reconciler.
    #[must_use]
    pub fn reconciler(config: Config) -> Self {
        Self::start(|stop| async move { Ok(reconciler::run(config, stop).await?) })
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it ended with an error, or not within a minute.
    pub async fn ended(mut self) -> Result<()> {
        tokio::time::timeout(Duration::from_secs(60), &mut self.task).await.context("it goes on")??
    }

    /// Stops it as SIGTERM would, and waits for its end.
    ///
    /// # Errors
    /// What it ended with.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        (&mut self.task).await?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header lines, lower-case.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// Sends one request as it is on a connection of its own.
///
/// # Errors
/// When the connection breaks before an answer.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in [("host", "test".to_owned()), ("content-length", body.len().to_string())] {
        if !headers.iter().any(|(given, _)| *given == name) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    // A gateway that has seen enough may answer and close before it has read everything.
    let _refused = stream.write_all(body).await;
    let mut answer = Vec::new();
    let reading = async {
        // To its end, as its length says: chromedriver keeps connections whatever it is told.
        while !is_whole(&answer) && stream.read_buf(&mut answer).await? > 0 {}
        std::io::Result::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.context("no answer")??;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("no answer, but {text:?}") };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// Whether an answer has as many bytes as it says; one that says nothing ends with its connection.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

/// The Standard Webhooks headers of a body, signed now with [`SHOP_SECRET`].
#[must_use]
pub fn signed(id: &str, body: &[u8]) -> Vec<(String, String)> {
    signed_with(SHOP_SECRET, id, body)
}

/// The Standard Webhooks headers of a body, signed now with a secret (`whsec_…`).
#[must_use]
pub fn signed_with(secret: &str, id: &str, body: &[u8]) -> Vec<(String, String)> {
    let time = (platform::clock::now_ms() / 1000).to_string();
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap_or_default();
    let signature = Hmac::<sha2::Sha256>::new_from_slice(&key).map(|mut mac| {
        [id.as_bytes(), b".", time.as_bytes(), b".", body].iter().for_each(|part| mac.update(part));
        STANDARD.encode(mac.finalize().into_bytes())
    });
    vec![
        ("content-type".into(), "application/json".into()),
        ("webhook-id".into(), id.into()),
        ("webhook-timestamp".into(), time),
        ("webhook-signature".into(), format!("v1,{}", signature.unwrap_or_default())),
    ]
}

/// Posts a body to the source `shop`, signed.
///
/// # Errors
/// When the connection breaks before an answer.
pub async fn post(address: SocketAddr, id: &str, body: &[u8]) -> Result<Answer> {
    let headers = signed(id, body);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    send(address, "POST", "/webhooks/shop", &headers, body).await
}

/// The body of one of Tollgate's own events, now.
#[must_use]
pub fn event_body(kind: &str, payment: &str, order: Option<&str>, amount: i64, transaction: &str) -> Vec<u8> {
    let now = jiff::Timestamp::from_millisecond(platform::clock::now_ms()).unwrap_or_default();
    let data = serde_json::json!({"payment_id": payment, "order_id": order, "amount": amount, "currency": "EUR",
                                  "transaction_id": transaction});
    serde_json::json!({"type": kind, "timestamp": now.to_string(), "data": data}).to_string().into_bytes()
}
