//! One question to an internal listener: a small GET, bounded in time and bytes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A program's metrics have some ten kilobytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// What a listener says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// As text, whatever it is.
    pub body: String,
}

/// Asks `address`, like `127.0.0.1:8081`, for `path`.
///
/// # Errors
/// When it cannot be reached, does not answer within that time, answers with more than 1 MiB or does not speak HTTP.
pub async fn get(address: &str, path: &str, within: Duration) -> io::Result<Answer> {
    tokio::time::timeout(within, exchange(address, path))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time")))
}

async fn exchange(address: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the answer ends with the connection and has no chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    if stream.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut answer).await? as u64 > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it answers with more than 1 MiB"));
    }
    let text = String::from_utf8_lossy(&answer);
    let answer = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, body: body.to_owned() })
    });
    answer.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    async fn said(answer: Vec<u8>) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
        });
        let asked = get(&address, "/readyz", Duration::from_secs(10)).await;
        serving.abort();
        asked
    }

    #[tokio::test]
    async fn answers_are_read_and_what_is_none_is_an_error() {
        let answer = said(b"HTTP/1.1 503 no\r\na: b\r\n\r\nnot yet".to_vec()).await.unwrap();
        assert_eq!(answer, Answer { status: 503, body: "not yet".to_owned() });
        for nothing in ["", "SSH-2.0\r\n\r\n", "HTTP/1.1 200"] {
            assert_eq!(said(nothing.into()).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{nothing:?}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 2 << 20]].concat();
        assert_eq!(said(endless).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn one_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = get(&address, "/readyz", Duration::from_millis(50)).await;
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
