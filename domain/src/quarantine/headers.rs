//! Which headers of a quarantined request are kept: those that can say which event it is, and none that can prove who
//! sent it.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Headers;
use crate::ids::TEXT_BYTES_MAX;
use crate::providers::{ALL, Source};

/// The most headers that are kept of a request.
const COUNT_MAX: usize = 24;
/// The most bytes that kept headers take in a record.
pub const HEADERS_BYTES_MAX: usize = 1024;

/// Endings of the words of names that say which event it is, of what kind, of whom and when. An allow-list, since nobody
/// knows all names that secrets travel under.
const TELLING: [&str; 19] = [
    "account",
    "action",
    "attempt",
    "date",
    "delivery",
    "environment",
    "event",
    "id",
    "kind",
    "merchant",
    "mode",
    "resource",
    "shop",
    "store",
    "time",
    "timestamp",
    "topic",
    "type",
    "version",
];

/// Parts of names that are never kept, whatever else they say.
const SECRET: [&str; 15] = [
    "auth",
    "bearer",
    "card",
    "cert",
    "cookie",
    "credential",
    "digest",
    "hash",
    "hmac",
    "key",
    "pass",
    "secret",
    "session",
    "sig",
    "token",
];

/// The headers to keep of a verified request, ordered by name; those that some provider's module reads before all others.
///
/// One that is there twice is left out, as is one whose value is longer than an id can be or is no visible ASCII: to
/// providers' modules all of these are as good as missing. What the source's configuration names is kept too, unless a
/// signature or secret is in it.
#[must_use]
pub fn keep(headers: &HeaderMap, source: &Source) -> Headers<'static> {
    let settings = source.generic.as_deref();
    let is_read = |name: &HeaderName| {
        let is_named = |path: &str| name.as_str().eq_ignore_ascii_case(path);
        ALL.iter().any(|provider| provider.event_headers.contains(&name.as_str()))
            || settings.is_some_and(|settings| settings.read_headers().any(is_named))
    };
    let is_signature = |name: &HeaderName| {
        let by_name = SECRET.iter().any(|part| name.as_str().contains(part));
        by_name || settings.is_some_and(|settings| name.as_str().eq_ignore_ascii_case(&settings.header))
    };
    let mut found: Vec<(bool, &HeaderName, &str)> = headers
        .keys()
        .filter(|name| !is_signature(name))
        .filter_map(|name| {
            let value = single(headers, name)?;
            let is_read = is_read(name);
            (is_read || is_telling(name.as_str())).then_some((!is_read, name, value))
        })
        .collect();
    found.sort_unstable_by_key(|(is_other, name, _)| (*is_other, name.as_str()));
    let mut bytes = 1;
    let fits = |(_, name, value): &(bool, &HeaderName, &str)| {
        bytes += name.as_str().len() + value.len() + 2;
        bytes <= HEADERS_BYTES_MAX
    };
    let kept = found.into_iter().take(COUNT_MAX).take_while(fits);
    let mut kept: Headers<'static> =
        kept.map(|(_, name, value)| (name.as_str().to_owned().into(), value.to_owned().into())).collect();
    kept.sort_unstable();
    kept
}

/// Kept headers as a request's; what is no header is left out.
#[must_use]
pub fn restore(headers: &Headers<'_>) -> HeaderMap {
    let pairs = headers
        .iter()
        .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?)));
    pairs.collect()
}

/// The value of a header that is there once, if it can be kept.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    let fits = !value.is_empty() && value.len().max(name.as_str().len()) <= TEXT_BYTES_MAX;
    (fits && values.next().is_none()).then_some(value)
}

fn is_telling(name: &str) -> bool {
    name.split(['-', '_']).any(|word| TELLING.iter().any(|ending| word.ends_with(ending)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn names(headers: &[(&str, &str)], source: &Source) -> Vec<String> {
        keep(&map(headers), source).into_iter().map(|(name, _)| name.into_owned()).collect()
    }

    #[test]
    fn what_proves_the_sender_is_never_kept() {
        let secrets = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "webhook-signature",
            "stripe-signature",
            "x-square-hmacsha256-signature",
            "paypal-transmission-sig",
            "paypal-cert-url",
            "cko-signature",
            "hmacsignature",
            "x-razorpay-signature",
            "x-mollie-signature",
            "x-hub-signature-256",
            "x-gitlab-token",
            "x-account-token",
            "x-api-key",
            "x-shop-password",
            "verif-hash",
            "x-session-id",
        ];
        let sent: Vec<(&str, &str)> = secrets.iter().map(|name| (*name, "s3cret")).collect();
        assert_eq!(names(&sent, &Source::default()), [""; 0]);
    }

    #[test]
    fn what_says_which_event_it_is_is_kept() {
        let telling =
            ["paypal-transmission-id", "webhook-id", "webhook-timestamp", "x-acme-event", "x-shop-api-version"];
        let sent: Vec<(&str, &str)> = telling.iter().map(|name| (*name, "1")).collect();
        assert_eq!(names(&sent, &Source::default()), telling);
        let noise = [("host", "h"), ("accept", "a"), ("x-forwarded-for", "192.0.2.1"), ("user-agent", "u")];
        assert_eq!(names(&noise, &Source::default()), [""; 0]);
    }

    #[test]
    fn what_the_configuration_names_is_kept_but_not_its_signature() {
        let generic = serde_json::json!({"header": "X-Proof-Id", "kinds": {},
            "fields": {"id": "header:X-Number", "type": "/type", "time": "header:x-secret-time", "payment": "/p"}});
        let source = Source { generic: serde_json::from_value(generic).unwrap(), ..Source::default() };
        let sent = [("x-number", "7"), ("x-proof-id", "s3cret"), ("x-secret-time", "s3cret"), ("x-other", "1")];
        assert_eq!(names(&sent, &source), ["x-number"]);
    }

    #[test]
    fn a_header_that_is_there_twice_or_is_too_long_is_left_out() {
        let long = "1".repeat(256);
        let sent = [("x-event-id", "1"), ("x-event-id", "2"), ("x-other-id", &long), ("x-third-id", "3")];
        assert_eq!(names(&sent, &Source::default()), ["x-third-id"]);
    }

    #[test]
    fn others_never_crowd_out_what_is_read() {
        let value = "1".repeat(200);
        let many: Vec<String> = (0..40).map(|n| format!("a-{n:02}-id")).collect();
        let mut sent: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
        sent.push(("webhook-id", &value));
        let kept = keep(&map(&sent), &Source::default());
        assert_eq!(kept.len(), COUNT_MAX);
        assert!(kept.iter().any(|(name, _)| name == "webhook-id"));

        let sent: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), value.as_str())).collect();
        let kept = keep(&map(&sent), &Source::default());
        let bytes: usize = kept.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        assert!(!kept.is_empty() && bytes < HEADERS_BYTES_MAX);
        assert_eq!(keep(&restore(&kept), &Source::default()), kept);
    }
}
