//! Opening a connection to RabbitMQ: the address with its password, plain or over TLS.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use crate::config::RabbitMq;
use crate::tls::client_config;

/// Connects to one node. lapin keeps 64 AMQP frames of `frame_bytes` (else of RabbitMQ's 128 KiB) a connection. The password is
/// read now, so that a new one is in force with the next connection.
///
/// # Errors
/// What RabbitMQ says, or why the connection cannot be made; never with the password.
pub(super) async fn connect_to(
    config: &RabbitMq,
    url: &str,
    name: &str,
    frame_bytes: Option<u32>,
) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let mut uri = config.uri_of(url).map_err(io::Error::other)?;
    // The heartbeat finds a half-open connection within 2 × its seconds.
    uri.query.heartbeat.get_or_insert(5);
    uri.query.connection_timeout.get_or_insert(5000);
    uri.query.frame_max = uri.query.frame_max.or(frame_bytes);
    if uri.scheme == AMQPScheme::AMQP {
        return Connection::connect_uri(uri, properties).await;
    }
    let tls = TlsConnector::from(client_config(&config.ca_file).map_err(io::Error::other)?);
    let connect = async move |uri: AMQPUri, _| Ok(AsyncTcpStream::Plain(encrypted(&tls, &uri).await?));
    Connection::connector(uri, Runtime::new(TlsKit(Tokio::current())), connect, properties).await
}

async fn encrypted(tls: &TlsConnector, uri: &AMQPUri) -> io::Result<Compat<TlsStream<TcpStream>>> {
    let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    // What speaks plain AMQP waits for more.
    let handshake = tokio::time::timeout(Duration::from_secs(4), tls.connect(name, stream)).await;
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer a TLS handshake");
    Ok(handshake.map_err(silent)??.compat())
}

/// Tokio for lapin, with streams that are encrypted: lapin's own TLS would bring a second set of certificate parsers.
#[derive(Debug, Clone)]
struct TlsKit(Tokio);

impl RuntimeKit for TlsKit {}

impl Executor for TlsKit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for TlsKit {
    type TcpStream = Compat<TlsStream<TcpStream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    /// Never asked for: [`encrypted`] connects.
    fn tcp_connect_addr(
        &self,
        _address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
