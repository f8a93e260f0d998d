//! Answers: what happened, and what the sender can do about it; never why a signature failed.

use bytes::Bytes;
use domain::signature::Refusal;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::admission::{Policy, UsedUp};

/// How a request ended. Each is a label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable.
    Accepted,
    /// A provider asked whether the secret is known, and got its answer.
    Challenged,
    /// The body or a header cannot be read.
    Malformed,
    /// The signature is missing or wrong.
    Unauthorized,
    /// No such source.
    UnknownSource,
    /// Not POST.
    WrongMethod,
    /// The body did not come in time.
    BodyTimeout,
    /// The body is larger than allowed.
    TooLarge,
    /// Not the provider's media type, or compressed.
    UnsupportedMedia,
    /// More requests than the source or client may send.
    RateLimited,
    /// More requests under way than the gateway takes.
    Overloaded,
    /// RabbitMQ did not take it.
    Unavailable,
}

impl Outcome {
    /// Every outcome, for counters that exist before the first one.
    pub const ALL: [Self; 12] = [
        Self::Accepted,
        Self::Challenged,
        Self::Malformed,
        Self::Unauthorized,
        Self::UnknownSource,
        Self::WrongMethod,
        Self::BodyTimeout,
        Self::TooLarge,
        Self::UnsupportedMedia,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
    ];

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Challenged => "challenged",
            Self::Malformed => "malformed",
            Self::Unauthorized => "unauthorized",
            Self::UnknownSource => "unknown_source",
            Self::WrongMethod => "wrong_method",
            Self::BodyTimeout => "body_timeout",
            Self::TooLarge => "too_large",
            Self::UnsupportedMedia => "unsupported_media",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }

    /// How a request ends whose signature is refused.
    pub fn of_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unreadable => Self::Malformed,
            Refusal::Missing | Refusal::Malformed | Refusal::Wrong | Refusal::Tolerance => Self::Unauthorized,
        }
    }

    /// The status of its answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Accepted | Self::Challenged => StatusCode::OK,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the same request may be accepted later: its answer has `Retry-After`.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::Unavailable | Self::BodyTimeout)
    }

    /// What a sender can do about it.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Accepted | Self::Challenged => "",
            Self::Malformed => "The request cannot be read. Send the provider's body with its headers, each once.",
            Self::Unauthorized => {
                "The signature was not accepted. Check the secret configured for this source, and the sender's clock."
            }
            Self::UnknownSource => "There is no such source. Check the last part of the URL.",
            Self::WrongMethod => "The method is none of those in Allow. Webhooks are sent with POST.",
            Self::BodyTimeout => "The body did not arrive in time. Send it again.",
            Self::TooLarge => "The body is larger than this gateway takes.",
            Self::UnsupportedMedia => "Send the provider's media type without a content encoding.",
            Self::RateLimited => "Too many requests. Send it again after the time in Retry-After.",
            Self::Overloaded => "Too many requests under way. Send it again after the time in Retry-After.",
            Self::Unavailable => "The event could not be stored durably. Send it again after the time in Retry-After.",
        }
    }
}

/// The 200 of a provider: its own body.
pub fn accepted(body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media(body)));
    response
}

/// The media type of a provider's body of a 200.
pub fn media(body: &str) -> &'static str {
    if body.starts_with('{') { "application/json" } else { "text/plain" }
}

/// The OpenAPI document.
pub fn document(text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The 200 to a challenge.
pub fn challenged(body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The 429: which budget is used up and when to come again, in `Retry-After` and in the fields `RateLimit-Policy` and
/// `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11 (sections 3 and 4). Its window is the time in which an empty
/// budget is full again.
pub fn used_up(used_up: UsedUp) -> Response<Full<Bytes>> {
    let UsedUp { policy: Policy { name, burst, rate_per_second }, retry_after_seconds } = used_up;
    let mut response = problem(Outcome::RateLimited, retry_after_seconds);
    let window_seconds = burst.div_ceil(rate_per_second.max(1)).max(1);
    let fields = [
        (RATE_LIMIT_POLICY, format!("\"{name}\";q={burst};w={window_seconds}")),
        (RATE_LIMIT, format!("\"{name}\";r=0;t={retry_after_seconds}")),
    ];
    for (field, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(field, value);
        }
    }
    response
}

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Any other answer: a small problem document (RFC 9457), with `Retry-After` where trying again helps.
pub fn problem(outcome: Outcome, retry_after_seconds: u64) -> Response<Full<Bytes>> {
    let status = outcome.status();
    let title = status.canonical_reason().unwrap_or_default();
    let body =
        format!("{{\"title\":\"{title}\",\"status\":{},\"detail\":\"{}\"}}\n", status.as_u16(), outcome.detail());
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    let extra: Option<(HeaderName, HeaderValue)> = match outcome {
        passing if passing.is_passing() => Some((RETRY_AFTER, HeaderValue::from(retry_after_seconds.max(1)))),
        Outcome::Unauthorized => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Webhook-Signature"))),
        _ => None,
    };
    if let Some((name, value)) = extra {
        headers.insert(name, value);
    }
    response
}

/// The answer to a method that is not among those allowed.
pub fn wrong_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = problem(Outcome::WrongMethod, 1);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_used_up_is_told_with_its_size_and_when_to_come_again() {
        let policy = Policy { name: "client", burst: 50, rate_per_second: 20 };
        let response = used_up(UsedUp { policy, retry_after_seconds: 2 });
        let field = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(field("ratelimit-policy"), "\"client\";q=50;w=3");
        assert_eq!(field("ratelimit"), "\"client\";r=0;t=2");
        assert_eq!(field("retry-after"), "2");
    }
}
