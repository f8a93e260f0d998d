//! The public listener's side: a certificate that can be changed while connections come, and handshakes bounded in time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::der::Decode;

use super::{TlsError, certificates, provider, read};
use crate::clock::now_ms;
use crate::counters::Counters;

/// A certificate with its key, checked and ready to be shown.
#[derive(Debug, Clone)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    /// When the first of its chain ends, Unix seconds.
    pub not_after: i64,
}

impl Certificate {
    /// Reads a chain, the listener's own certificate first, and its key, both PEM.
    ///
    /// # Errors
    /// When a file cannot be read, holds something else, has ended, or the two do not belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let not_after = valid_until(&chain, now_ms() / 1000).map_err(|why| TlsError::unusable(certificate, why))?;
        let wrong_key = "no private key in it; it must be PEM (-----BEGIN PRIVATE KEY-----), without a password";
        let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| TlsError::unusable(key, wrong_key))?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = builder.and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
        let mut config = config.map_err(|error| match error {
            Error::InconsistentKeys(_) => {
                TlsError::unusable(key, format!("it is not the key of the certificate in {}", certificate.display()))
            }
            error => TlsError::unusable(certificate, error.to_string()),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: config.into(), not_after })
    }
}

/// When the first of a chain ends; that all are valid now.
fn valid_until(chain: &[CertificateDer<'_>], now: i64) -> Result<i64, String> {
    let mut first_end = i64::MAX;
    for certificate in chain {
        let parsed = x509_cert::Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let validity = parsed.tbs_certificate().validity();
        let unix = |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        if unix(&validity.not_after) <= now {
            return Err(format!("it has ended: it was valid until {}", validity.not_after));
        }
        if unix(&validity.not_before) > now {
            return Err(format!("it begins later: it is valid from {}", validity.not_before));
        }
        first_end = first_end.min(unix(&validity.not_after));
    }
    Ok(first_end)
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// The connection is encrypted.
    Done,
    /// It took too long.
    Timeout,
    /// The client went away.
    Closed,
    /// What it said is not TLS: plain HTTP, mostly.
    NotTls,
    /// Only versions or ciphers that are no longer safe.
    Incompatible,
    /// The client does not believe the certificate, or said no for another reason.
    Refused,
    /// Anything else.
    Other,
}

impl Handshake {
    /// Every end, for counters that exist before the first one.
    pub const ALL: [Self; 7] =
        [Self::Done, Self::Timeout, Self::Closed, Self::NotTls, Self::Incompatible, Self::Refused, Self::Other];

    /// The label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }

    fn failed(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            Some(Error::PeerIncompatible(_)) => Self::Incompatible,
            Some(Error::AlertReceived(_)) => Self::Refused,
            Some(_) => Self::Other,
            None if is_end(error.kind()) => Self::Closed,
            None => Self::Other,
        }
    }
}

fn is_end(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// What a listener shows to new connections. Those that are open keep what they began with.
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
    handshakes: Counters<Handshake>,
}

impl ServerTls {
    /// Shows `certificate`, and counts handshakes.
    #[must_use]
    pub fn new(certificate: Certificate, handshakes: Counters<Handshake>) -> Self {
        Self { config: ArcSwap::new(certificate.config), handshakes }
    }

    /// Shows another one from now on.
    pub fn replace(&self, certificate: Certificate) {
        self.config.store(certificate.config);
    }

    /// The handshake; nothing if it fails or takes longer than `timeout`.
    pub(crate) async fn accept(&self, stream: TcpStream, timeout: Duration) -> Option<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let (ended, stream) = match tokio::time::timeout(timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => (Handshake::Done, Some(stream)),
            Ok(Err(error)) => (Handshake::failed(&error), None),
            Err(_) => (Handshake::Timeout, None),
        };
        self.handshakes.count(ended);
        stream
    }
}
