//! Whether the system is itself again: every program is ready, webhooks are acknowledged, events are applied.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::faults::Target;
use super::world::World;
use crate::client::Counters;

/// Who takes longer is stuck.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A program answers at once or not at all.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// New acknowledgements that show that they flow.
const ACKNOWLEDGED: u64 = 20;
const APPLIED: &str = "tollgate_reconciler_events_total{outcome=\"applied\"} ";

/// Waits until it has recovered from what ended at `since`; how long that took.
///
/// # Errors
/// What is missing when it takes too long, in words.
pub async fn wait(world: &World, counters: &Arc<Counters>, since: Instant) -> Result<Duration, String> {
    let before = Counters::read(&counters.acknowledged);
    let mut applied = None;
    loop {
        let missing = match look(world).await {
            Err(missing) => missing,
            Ok(now) => {
                // A restarted program counts from zero.
                let first = *applied.get_or_insert(now);
                applied = Some(first.min(now));
                let acknowledged = Counters::read(&counters.acknowledged) - before;
                match (acknowledged >= ACKNOWLEDGED, now > first) {
                    (true, true) => return Ok(since.elapsed()),
                    (false, _) => format!("{acknowledged} webhooks were acknowledged since the end of the fault"),
                    (true, false) => "nothing is applied".to_owned(),
                }
            }
        };
        if since.elapsed() > RECOVERED_WITHIN {
            return Err(format!("not recovered within {} s: {missing}", RECOVERED_WITHIN.as_secs()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The events that the reconciler has applied, if every program is ready; else what is missing.
pub async fn look(world: &World) -> Result<f64, String> {
    for (program, listener) in world.listeners() {
        let name = program.as_str();
        let answer = get(listener, "/readyz").await.map_err(|error| match world.runs(program) {
            true => format!("{name} does not answer: {error}"),
            false => format!("{name} has ended"),
        })?;
        let first = answer.lines().next().unwrap_or_default();
        if first.split(' ').nth(1) != Some("200") {
            let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
            return Err(format!("{name} is not ready: {first} {}", body.trim()));
        }
    }
    let reconciler = world.listeners().into_iter().find(|(program, _)| *program == Target::Reconciler);
    let (_, listener) = reconciler.ok_or("there is no reconciler")?;
    let metrics = get(listener, "/metrics").await.map_err(|error| format!("no metrics: {error}"))?;
    let applied = metrics.lines().find_map(|line| line.strip_prefix(APPLIED)?.trim().parse().ok());
    applied.ok_or_else(|| "the reconciler does not count what it applies".to_owned())
}

/// One small GET; HTTP/1.0: the answer ends with its connection.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(1024 * 1024).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(ANSWERED_WITHIN, exchange).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}
