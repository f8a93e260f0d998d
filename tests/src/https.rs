//! A client that believes one authority: HTTP/1.1 or HTTP/2 over TLS.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Which HTTP, chosen in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1
    Http1,
    /// HTTP/2
    Http2,
}

/// A connection on which requests are sent one after another.
pub struct Https {
    sender: Sender,
    /// What the other side showed, DER.
    pub certificate: Vec<u8>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// The handshake alone.
///
/// # Errors
/// When it fails, or the other side chooses another version.
pub async fn handshake(address: SocketAddr, ca_file: &Path, version: Version) -> Result<TlsStream<TcpStream>> {
    let mut config = (*platform::tls::client_config(ca_file)?).clone();
    let alpn: &[u8] = if version == Version::Http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    let stream = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await?;
    ensure!(stream.get_ref().1.alpn_protocol() == Some(alpn), "another protocol");
    Ok(stream)
}

impl Https {
    /// Connects.
    ///
    /// # Errors
    /// As [`handshake`].
    pub async fn connect(address: SocketAddr, ca_file: &Path, version: Version) -> Result<Self> {
        let stream = handshake(address, ca_file, version).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.context("no certificate")?.to_vec();
        let sender = match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Self { sender, certificate })
    }

    /// Posts a body; the answer's status.
    ///
    /// # Errors
    /// When the connection breaks before an answer.
    pub async fn post(&mut self, path: &str, headers: &[(String, String)], body: Vec<u8>) -> Result<u16> {
        let uri = format!("https://localhost{path}");
        let mut request = Request::builder().method(Method::POST).uri(uri);
        if matches!(self.sender, Sender::Http1(_)) {
            request = request.uri(path).header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let answer = match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await?,
            Sender::Http2(sender) => sender.send_request(request).await?,
        };
        let status = answer.status().as_u16();
        answer.into_body().collect().await?;
        Ok(status)
    }
}
