//! Serving HTTP/1.1 and HTTP/2 with bounds: connections, header size and time, and a drain at the end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Why a listener cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address}: {source}; set another address in the configuration")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The listener failed.
    #[error(transparent)]
    Io(std::io::Error),
    /// Something else could not be set up.
    #[error("{0}")]
    Setup(String),
}

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections of one client address at once; more are closed unread.
    pub client_connections_max: usize,
    /// A request's header must be complete within this time; it also ends idle connections.
    pub header_timeout: Duration,
    /// Requests under way may take this long once `stop` is cancelled.
    pub drain_timeout: Duration,
}

impl Limits {
    /// For `/metrics`, `/healthz` and `/readyz`.
    pub const INTERNAL: Self = Self {
        connections_max: 64,
        client_connections_max: 64,
        header_timeout: Duration::from_secs(30),
        drain_timeout: Duration::from_secs(1),
    };
}

/// Header bytes and buffer of a connection; a webhook's header has some hundred bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// The address by which a client is counted: an IPv6 client owns a whole /64.
#[must_use]
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

/// The connections that each client holds.
struct Clients {
    connections_max: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of a client, until dropped.
struct Held {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    client: IpAddr,
}

impl Clients {
    fn hold(&self, client: IpAddr) -> Option<Held> {
        let client = network(client);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(client).or_default();
        if *count >= self.connections_max {
            return None;
        }
        *count += 1;
        Some(Held { held: Arc::clone(&self.held), client })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = held.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Waits until the first bytes tell HTTP/1 from HTTP/2.
async fn names_version(stream: &TcpStream) -> std::io::Result<()> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        match first.get(..length) {
            Some([]) | None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Some(read) if read.len() < first.len() && HTTP2_PREFACE.starts_with(read) => {}
            Some(_) => return Ok(()),
        }
        // What was read stays to be read, so that nothing wakes this for the rest.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Binds an address.
///
/// # Errors
/// [`ServeError::Bind`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}

/// Serves until `stop`, then lets requests under way end. `make` gives each connection its service.
pub async fn serve<S, B>(listener: TcpListener, limits: Limits, make: impl Fn(SocketAddr) -> S, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Who has sent all may say so and still wait for the answer.
        .half_close(true)
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(64);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(limits.header_timeout))
        .keep_alive_timeout(limits.header_timeout);
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let clients = Clients { connections_max: limits.client_connections_max, held: Arc::default() };
    let graceful = GracefulShutdown::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: waiting lets connections end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(held) = clients.hold(peer.ip()) else { continue };
        let _unsupported = stream.set_nodelay(true);
        let (builder, service, watcher) = (builder.clone(), make(peer), graceful.watcher());
        let stop = stop.clone();
        tokio::spawn(async move {
            // A client that connects and says nothing must not hold its place: hyper's timers start with a version.
            let spoke = tokio::time::timeout(limits.header_timeout, names_version(&stream));
            if matches!(stop.run_until_cancelled(spoke).await, Some(Ok(Ok(())))) {
                let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(error, "connection ended early");
                }
            }
            drop((place, held));
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(limits.drain_timeout) => tracing::warn!("requests were cut off at the end of the drain"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ipv6_client_cannot_hop_within_its_network() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_client_holds_no_more_than_its_share_of_connections() {
        let clients = Clients { connections_max: 1, held: Arc::default() };
        let (client, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = clients.hold(client);
        assert!(first.is_some() && clients.hold(client).is_none() && clients.hold(other).is_some());
        drop(first);
        assert!(clients.hold(client).is_some());
        assert!(clients.held.lock().unwrap().is_empty());
    }
}
