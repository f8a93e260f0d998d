//! A page for people: live figures of all stages, and the way of one payment or order, at `/` of the internal listener.

mod board;
mod exposition;
mod lookup;
mod scrape;
mod trail;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock, OnceLock};

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use platform::config::Config;
use serde::Serialize;
use sha2::{Digest, Sha256};

use board::Board;
pub use lookup::Lookup;
use lookup::{Found, LookupError};

static PAGE: &str = include_str!("page.html");

/// Nothing but what is in the page itself, by its hash; nothing from elsewhere, and in nobody's frame.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let inside = PAGE.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        STANDARD.encode(Sha256::digest(inside.map_or("", |(inside, _)| inside)))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
});

/// Look-ups can be made once the reconciler has reached its databases.
pub type Slot = Arc<OnceLock<Lookup>>;

/// The page and what it asks for.
pub fn pages(config: &Config, lookup: Slot) -> Router {
    let board = Arc::new(Board::new(config));
    let hosts: Arc<[String]> = config.status.hosts.clone().into();
    let (payments, orders) = (Arc::clone(&lookup), lookup);
    Router::new()
        .route("/", get(async || ([(CONTENT_TYPE, "text/html; charset=utf-8")], PAGE)))
        .route("/api/status", get(async move || figures(&board).await))
        .route(
            "/api/payments/{id}",
            get(async move |Path(id): Path<String>| {
                answer(match payments.get() {
                    Some(lookup) => lookup.payment(&id).await,
                    None => Err(LookupError::Starting),
                })
            }),
        )
        .route(
            "/api/orders/{reference}",
            get(async move |Path(reference): Path<String>| {
                answer(match orders.get() {
                    Some(lookup) => lookup.order(&reference).await,
                    None => Err(LookupError::Starting),
                })
            }),
        )
        .layer(from_fn(move |request, next| guarded(Arc::clone(&hosts), request, next)))
}

async fn figures(board: &Board) -> Response {
    match board.json().await {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text.to_string()).into_response(),
        Err(error) => {
            tracing::error!(%error, "the status cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn answer(found: Result<Found, LookupError>) -> Response {
    match found {
        Ok(found) => json(StatusCode::OK, &found),
        Err(error) => {
            let status = match error {
                LookupError::Invalid => StatusCode::BAD_REQUEST,
                LookupError::NotFound => StatusCode::NOT_FOUND,
                LookupError::Busy | LookupError::Starting | LookupError::Postgres => StatusCode::SERVICE_UNAVAILABLE,
            };
            json(status, &serde_json::json!({ "error": error.to_string() }))
        }
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Refuses names that are not ours, and says to browsers what they may do with what they get.
async fn guarded(hosts: Arc<[String]>, request: Request, next: Next) -> Response {
    let mut response = match is_ours(request.headers(), &hosts) {
        true => next.run(request).await,
        false => {
            let error = "Open this page by address, or name this host in status.hosts.";
            json(StatusCode::MISDIRECTED_REQUEST, &serde_json::json!({ "error": error }))
        }
    };
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(CONTENT_SECURITY_POLICY, &POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(CACHE_CONTROL, "no-store");
    // Browsers keep connections; the listener has few, and health checks and Prometheus need some.
    set(CONNECTION, "close");
    response
}

/// A web page elsewhere can give its own name our address, and then its scripts could read this as their own (DNS
/// rebinding). It cannot do so with an address, with `localhost`, or with a name without a dot.
fn is_ours(headers: &HeaderMap, hosts: &[String]) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_have_are_ours() {
        let ours = |host: &'static str| {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            is_ours(&headers, &["status.example.com".to_owned()])
        };
        for host in ["127.0.0.1:8083", "[::1]:8083", "localhost:8083", "reconciler", "STATUS.example.com:80"] {
            assert!(ours(host), "{host}");
        }
        for host in ["evil.example.com:8083", "127.0.0.1.evil.example", "localhost."] {
            assert!(!ours(host), "{host}");
        }
        assert!(is_ours(&HeaderMap::new(), &[]));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_its_parts_are_hashed() {
        for (part, times) in [("<script>", 1), ("<style>", 1), (" style=", 0), (" onclick=", 0), ("innerHTML", 0)] {
            assert_eq!(PAGE.matches(part).count(), times, "{part}");
        }
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "no asset of others");
        assert_eq!(POLICY.matches("'sha256-").count(), 2);
    }
}
