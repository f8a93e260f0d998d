//! Asking one program for its metrics: one small GET, bounded in time and bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::exposition::Reading;

/// Who takes longer to answer is not well.
const WITHIN: Duration = Duration::from_secs(1);
/// A program's metrics have some ten kilobytes.
const BYTES_MAX: u64 = 1024 * 1024;

/// Reads the metrics at an internal listener.
///
/// # Errors
/// Why not, for people.
pub async fn scrape(address: &str) -> Result<Reading, &'static str> {
    let answer = tokio::time::timeout(WITHIN, get(address)).await.map_err(|_| "does not answer within a second")?;
    let answer = answer.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "refuses connections: it does not run, or listens elsewhere",
        _ => "cannot be reached",
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("does not speak HTTP")?;
    match head.split(' ').nth(1) {
        Some("200") if answer.len() < usize::try_from(BYTES_MAX).unwrap_or(usize::MAX) => Ok(Reading::of(body)),
        Some("200") => Err("has more metrics than any program of Tollgate"),
        _ => Err("has no /metrics"),
    }
}

async fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the answer ends with the connection and has no chunks.
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
