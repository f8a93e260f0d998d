//! One connection to the gateway: a request, its answer, the next request. One that breaks is opened again.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::outcome::Outcome;
use super::response::parse;

/// A connection, open or to be opened with the next request.
pub struct Connection {
    /// Where it comes from; any address if there is none.
    from: Option<IpAddr>,
    address: SocketAddr,
    stream: Option<TcpStream>,
    read: Vec<u8>,
    timeout: Duration,
}

impl Connection {
    pub fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self { from: None, address, stream: None, read: Vec::with_capacity(1024), timeout }
    }

    /// One that comes from an address of this machine.
    pub fn from(from: IpAddr, address: SocketAddr, timeout: Duration) -> Self {
        Self { from: Some(from), ..Self::new(address, timeout) }
    }

    /// Sends a request and waits for the answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Outcome {
        let outcome = tokio::time::timeout(self.timeout, self.exchange_unbounded(request)).await;
        match outcome {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => {
                self.stream = None;
                Outcome::Broken
            }
            Err(_) => {
                self.stream = None;
                Outcome::TimedOut
            }
        }
    }

    async fn exchange_unbounded(&mut self, request: &[u8]) -> std::io::Result<Outcome> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            closed => {
                let stream = match self.from {
                    Some(from) => {
                        let socket = TcpSocket::new_v4()?;
                        socket.bind(SocketAddr::new(from, 0))?;
                        socket.connect(self.address).await?
                    }
                    None => TcpStream::connect(self.address).await?,
                };
                stream.set_nodelay(true)?;
                closed.insert(stream)
            }
        };
        stream.write_all(request).await?;
        self.read.clear();
        loop {
            if stream.read_buf(&mut self.read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let answer = parse(&self.read).map_err(|_| std::io::ErrorKind::InvalidData)?;
            if let Some(answer) = answer {
                // Bytes behind the answer belong to nothing that was asked.
                if !answer.keep_alive || answer.len != self.read.len() {
                    self.stream = None;
                }
                let retry_after_seconds = answer.retry_after_seconds;
                return Ok(Outcome::Answered { status: answer.status, retry_after_seconds });
            }
        }
    }
}
