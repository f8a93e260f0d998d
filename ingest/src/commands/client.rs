//! One request to a gateway, over a connection of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use platform::tls::client_config;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The gateway answers within 4 s, or not at all.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Its answers have some hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub retry_after_seconds: Option<u64>,
    pub elapsed: Duration,
}

/// Posts a body; the port is that of the scheme unless the address has one. Of https, an authority in `ca_file` (a public one,
/// if that is empty) must have signed the certificate.
///
/// # Errors
/// What went wrong, and what to do.
pub async fn post(uri: &Uri, ca_file: &Path, headers: &HeaderMap, media: &str, body: &[u8]) -> Result<Answer, String> {
    let started = Instant::now();
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let is_https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let host = uri.host().unwrap_or_default();
    let address = format!("{host}:{port}");
    let tls = is_https.then(|| client_config(ca_file).map_err(|error| format!("--ca: {error}"))).transpose()?;
    let request = request(uri, &authority, headers, media, body)?;
    let answer = tokio::time::timeout(TIMEOUT, async {
        let unreachable = |error| {
            format!("cannot reach the gateway at {address}: {error}. Is it running? Give its address with --url")
        };
        let stream = TcpStream::connect(&address).await.map_err(unreachable)?;
        let broken = |error: &dyn std::fmt::Display| format!("no answer from {address}: {error}");
        let answer = match tls {
            Some(tls) => exchange(encrypted(tls, host, stream).await?, request).await,
            None => exchange(stream, request).await,
        };
        answer.map_err(|error| broken(&error))
    });
    let answer = answer.await.map_err(|_| format!("no answer from {address} within {} s", TIMEOUT.as_secs()))??;
    Ok(Answer { elapsed: started.elapsed(), ..answer })
}

async fn encrypted(tls: Arc<ClientConfig>, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let name = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(|_| format!("{host} is no name that a certificate can have"))?;
    let refused = |error: std::io::Error| {
        if error.to_string().contains("CaUsedAsEndEntity") {
            return "the gateway's certificate is an authority's (CA:TRUE), which no client accepts as a server's: make one with \
                    basicConstraints=CA:FALSE, and give the authority that signed it with --ca"
                .to_owned();
        }
        format!(
            "no TLS with the gateway: {error}. Give the name that its certificate has with --url, and the authority that \
             signed it with --ca"
        )
    };
    TlsConnector::from(tls).connect(name, stream).await.map_err(refused)
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Broken> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    read(sender.send_request(request).await?).await
}

fn request(
    uri: &Uri,
    authority: &str,
    headers: &HeaderMap,
    media: &str,
    body: &[u8],
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.path().parse().map_err(|_| format!("{} is no path", uri.path()))?;
    *request.headers_mut() = headers.clone();
    let own = request.headers_mut();
    // Of a captured request, what was about its own connection.
    [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].iter().for_each(|name| drop(own.remove(name)));
    own.insert(HOST, HeaderValue::from_str(authority).map_err(|_| "the address has no host".to_owned())?);
    if !own.contains_key(CONTENT_TYPE) {
        own.insert(CONTENT_TYPE, HeaderValue::from_str(media).map_err(|_| "no media type".to_owned())?);
    }
    Ok(request)
}

async fn read(response: Response<Incoming>) -> Result<Answer, Broken> {
    let (head, body) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    Ok(Answer {
        status: head.status.as_u16(),
        body: String::from_utf8_lossy(&body).into_owned(),
        retry_after_seconds: retry_after,
        elapsed: Duration::ZERO,
    })
}
