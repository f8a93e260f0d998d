//! One question to a provider's API.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
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
    /// An error of the provider, or none of its answers.
    Failed,
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
        let Ok(request) = request(url, token) else { return Answer::Failed };
        let asked = async {
            let response = self.client.request(request).await.ok()?;
            let (head, body) = response.into_parts();
            // Read in any case, so that the connection can be used again.
            let body = Limited::new(body, self.answer_bytes_max).collect().await.ok()?.to_bytes();
            let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Some(answer(head.status, body, seconds))
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.unwrap_or(Answer::Failed),
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

fn answer(status: StatusCode, body: Bytes, retry_after_seconds: Option<u64>) -> Answer {
    match status {
        StatusCode::OK => Answer::Found(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::Unauthorized,
        StatusCode::TOO_MANY_REQUESTS => Answer::Limited(Duration::from_secs(retry_after_seconds.unwrap_or(0))),
        StatusCode::REQUEST_TIMEOUT => Answer::TimedOut,
        StatusCode::NOT_FOUND | StatusCode::GONE => Answer::Unknown,
        // Whatever else somebody between here and there answers: the claim waits until the provider does.
        _ => Answer::Failed,
    }
}
