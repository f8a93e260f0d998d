//! Serving HTTP/1.1 and HTTP/2 with bounds: connections, header size and time, and a drain at the end.

mod activity;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use metrics::{Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::activity::{Activity, noted};
use crate::counters::{Counters, UnderWay};
use crate::proxies::TrustedProxies;
use crate::shares::Shares;
use crate::tls::ServerTls;

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
#[derive(Debug, Clone)]
pub struct Limits {
    /// The listener's name in metrics.
    pub listener: &'static str,
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections of one client address at once; more are closed unread.
    pub client_connections_max: usize,
    /// Their connections are those of many clients: only all together are bounded.
    pub trusted_proxies: TrustedProxies,
    /// A request's header must be complete within this time. A connection on which nothing is asked for twice as long, whatever its
    /// client reads, is asked to end, and given up as long after that.
    pub header_timeout: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// Requests under way may take this long once `stop` is cancelled.
    pub drain_timeout: Duration,
}

impl Limits {
    /// For `/metrics`, `/healthz` and `/readyz`.
    pub const INTERNAL: Self = Self {
        listener: "internal",
        connections_max: 128,
        client_connections_max: 64,
        trusted_proxies: TrustedProxies::NONE,
        header_timeout: Duration::from_secs(20),
        streams_max: 8,
        drain_timeout: Duration::from_secs(1),
    };
}

/// Header bytes and buffer of a connection; a webhook's header has some hundred bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Waits until the first bytes tell HTTP/1 from HTTP/2.
async fn names_version(stream: &TcpStream) -> std::io::Result<()> {
    let mut first = [0; HTTP2_PREFACE.len()];
    let mut pause = Duration::from_millis(10);
    loop {
        let length = stream.peek(&mut first).await?;
        match first.get(..length) {
            Some([]) | None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Some(read) if read.len() < first.len() && HTTP2_PREFACE.starts_with(read) => {}
            Some(_) => return Ok(()),
        }
        // What was read stays to be read, so that nothing wakes this for the rest.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(320));
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In good order.
    Done,
    /// The client had all of its connections.
    Refused,
    /// It asked for nothing in time, or its handshake failed.
    Silent,
    /// It broke, or what came in is not HTTP, or too slow.
    Broken,
}

impl End {
    const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Silent, Self::Broken];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Broken => "broken",
        }
    }

    fn of<E: std::fmt::Debug>(ended: Result<(), E>) -> Self {
        match ended {
            Ok(()) => Self::Done,
            Err(error) => {
                tracing::debug!(?error, "connection ended early");
                Self::Broken
            }
        }
    }
}

/// A listener's metrics.
#[derive(Clone)]
struct Metrics {
    open: Gauge,
    ends: Counters<End>,
}

impl Metrics {
    fn new(listener: &'static str) -> Self {
        describe_gauge!("tollgate_http_connections", "Connections that are open.");
        describe_counter!(
            "tollgate_http_connections_total",
            "Connections by how they ended; refused: more than the client may have, silent: nothing asked in time, broken: \
             cut off, too slow or no HTTP."
        );
        let end = |end: End| counter!("tollgate_http_connections_total", "listener" => listener, "end" => end.as_str());
        Self { open: gauge!("tollgate_http_connections", "listener" => listener), ends: Counters::of(&End::ALL, end) }
    }
}

/// Lives until it ends by itself; at `stop`, or when it is quiet, it is asked to end, and then given up.
async fn live<C>(connection: C, activity: &Activity, header_timeout: Duration, ends: &Ends) -> End
where
    C: GracefulConnection,
    C::Error: std::fmt::Debug,
{
    let mut connection = pin!(connection);
    let stopping = tokio::select! {
        ended = connection.as_mut() => return End::of(ended),
        () = ends.stop.cancelled() => true,
        () = activity.quiet() => false,
    };
    connection.as_mut().graceful_shutdown();
    let given_up = async {
        let late = async {
            tokio::time::sleep(header_timeout).await;
            // A request that came before its client knew.
            activity.quiet().await;
        };
        if stopping || ends.stop.run_until_cancelled(late).await.is_none() {
            ends.cut.cancelled().await;
        }
    };
    tokio::select! {
        ended = connection => if stopping { End::of(ended) } else { End::Silent },
        () = given_up => End::Broken,
    }
}

/// What ends connections.
#[derive(Clone)]
struct Ends {
    /// No more requests are taken.
    stop: CancellationToken,
    /// Nor are those under way waited for.
    cut: CancellationToken,
}

/// Binds an address.
///
/// # Errors
/// [`ServeError::Bind`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}

/// Serves until `stop`, then lets requests under way end. `make` gives each connection its service; with `tls` all of them
/// are encrypted, and a handshake has its time within the bounds of connections.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    limits: Limits,
    make: impl Fn(SocketAddr) -> S,
    stop: CancellationToken,
) where
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
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(limits.header_timeout))
        .keep_alive_timeout(limits.header_timeout);
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let clients = Shares::of(limits.client_connections_max);
    let (ends, tasks) = (Ends { stop: stop.clone(), cut: CancellationToken::new() }, TaskTracker::new());
    let metrics = Metrics::new(limits.listener);
    loop {
        let Some(Ok(place)) = stop.run_until_cancelled(Arc::clone(&places).acquire_owned()).await else { break };
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
        let share = clients.take(peer.ip());
        if share.is_none() && !limits.trusted_proxies.contains(peer.ip()) {
            metrics.ends.count(End::Refused);
            continue;
        }
        let _unsupported = stream.set_nodelay(true);
        let (builder, service, tls, ends) = (builder.clone(), make(peer), tls.clone(), ends.clone());
        let (metrics, header_timeout) = (metrics.clone(), limits.header_timeout);
        tasks.spawn(async move {
            let _open = UnderWay::of(&metrics.open);
            let mut end = End::Silent;
            // A client that connects and says nothing must not hold its place: hyper's timers start with a version.
            if let Some(tls) = tls {
                let accepted = ends.stop.run_until_cancelled(tls.accept(stream, header_timeout)).await;
                if let Some(Some(stream)) = accepted {
                    // What comes out of an encrypted connection cannot be looked at in advance.
                    let activity = Activity::new(header_timeout, header_timeout * 2);
                    let service = noted(service, Arc::clone(&activity));
                    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                    end = live(connection, &activity, header_timeout, &ends).await;
                }
            } else {
                let spoke = tokio::time::timeout(header_timeout, names_version(&stream));
                if matches!(ends.stop.run_until_cancelled(spoke).await, Some(Ok(Ok(())))) {
                    let activity = Activity::new(header_timeout * 2, header_timeout * 2);
                    let service = noted(service, Arc::clone(&activity));
                    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                    end = live(connection, &activity, header_timeout, &ends).await;
                }
            }
            metrics.ends.count(end);
            drop((place, share));
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits.drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!("requests were cut off at the end of the drain");
        ends.cut.cancel();
    }
}
