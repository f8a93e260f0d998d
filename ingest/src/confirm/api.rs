//! One question to a provider's API.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use platform::config;
use platform::tls::{TlsError, client_config};

const AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

/// What came of a question.
#[derive(Debug)]
pub enum Answer {
    /// What the provider says.
    Found(Bytes),
    /// The provider knows nothing of that id.
    Unknown,
    /// The token is not accepted.
    Unauthorized,
    /// Too many questions; how long it wants to be left alone, if it says so.
    Limited(Duration),
    /// An error of the provider, or none of its answers; which.
    Failed(String),
    /// The provider answers what cannot be taken; why.
    Unusable(String),
    /// No answer in time.
    TimedOut,
}

/// Asks APIs over connections that are kept.
pub struct Api {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    timeout: Duration,
    answer_bytes_max: usize,
}

impl Api {
    /// Believes what is signed by an authority of `ca_file`, or, where that is empty, by a public one. An answer may be as
    /// large as a webhook's body: it travels the same way.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn new(config: &config::Ingest) -> Result<Self, TlsError> {
        let timeout = Duration::from_millis(config.fetch_timeout_ms);
        let tls = client_config(&config.fetch_ca_file)?.as_ref().clone();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, timeout, answer_bytes_max: config.body_bytes_max })
    }

    /// Asks with a token.
    pub async fn get(&self, url: &str, token: &str) -> Answer {
        let request = match request(url, token) {
            Ok(request) => request,
            Err(error) => return Answer::Failed(error.to_string()),
        };
        let asked = async {
            let response = self.client.request(request).await.map_err(|error| root(&error))?;
            let (head, body) = response.into_parts();
            // Read in any case, so that the connection can be used again.
            let body = Limited::new(body, self.answer_bytes_max).collect().await;
            let body = match body {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => {
                    return Ok(Answer::Unusable("its answer is larger than ingest.body_bytes_max".to_owned()));
                }
                Err(error) => return Err(error.to_string()),
            };
            let wait = head.headers.get(RETRY_AFTER).and_then(|value| wait(value.to_str().ok()?, Timestamp::now()));
            Ok(answer(head.status, body, wait.unwrap_or_default()))
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.unwrap_or_else(Answer::Failed),
            Err(_) => Answer::TimedOut,
        }
    }
}

fn request(url: &str, token: &str) -> hyper::http::Result<Request<Empty<Bytes>>> {
    let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))?;
    authorization.set_sensitive(true);
    Request::get(url)
        .header(AUTHORIZATION, authorization)
        .header(ACCEPT, "application/hal+json, application/json")
        .header(USER_AGENT, AGENT)
        .body(Empty::new())
}

/// What is behind an error of the client, like a refused connection.
fn root(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

fn answer(status: StatusCode, body: Bytes, wait: Duration) -> Answer {
    match status {
        StatusCode::OK => Answer::Found(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::Unauthorized,
        StatusCode::TOO_MANY_REQUESTS => Answer::Limited(wait),
        StatusCode::REQUEST_TIMEOUT => Answer::TimedOut,
        StatusCode::NOT_FOUND | StatusCode::GONE => Answer::Unknown,
        // Whatever else somebody between here and there answers: the claim waits until the provider does.
        other => Answer::Failed(format!("status {}", other.as_u16())),
    }
}

/// What `Retry-After` asks for: seconds, or until a time (RFC 9110, 10.2.3); of more seconds than can be counted, the most.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let seconds = |text| wait(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(37));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for unreadable in ["", "-1", "soon", "1.5", "Sun, 06 Nov 1994"] {
            assert_eq!(seconds(unreadable), None, "{unreadable}");
        }
    }
}
