//! One request to a gateway, over a connection of its own; without TLS, which is not the gateway's.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

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

/// Posts a body; `host:port` of the address must be given or default to 80.
///
/// # Errors
/// What went wrong, and what to do.
pub async fn post(uri: &Uri, headers: &HeaderMap, media: &str, body: &[u8]) -> Result<Answer, String> {
    let started = Instant::now();
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let address = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
    let request = request(uri, &authority, headers, media, body)?;
    let answer = tokio::time::timeout(TIMEOUT, async {
        let unreachable = |error| {
            format!("cannot reach the gateway at {address}: {error}. Is it running? Give its address with --url")
        };
        let stream = TcpStream::connect(&address).await.map_err(unreachable)?;
        let broken = |error: &dyn std::fmt::Display| format!("no answer from {address}: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        read(response).await.map_err(|error| broken(&error))
    });
    let answer = answer.await.map_err(|_| format!("no answer from {address} within {} s", TIMEOUT.as_secs()))??;
    Ok(Answer { elapsed: started.elapsed(), ..answer })
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

async fn read(response: Response<Incoming>) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
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
