#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use crate::providers::{self, Unsigned};

const NOW: i64 = 1_795_514_400;

/// A source with its secrets' texts.
struct Own {
    provider: &'static Provider,
    source: Source,
    secrets: Vec<Secret>,
    texts: Vec<String>,
}

impl Own {
    fn new(name: &str, provider: &str, texts: &[&str]) -> Self {
        let provider = providers::find(provider).unwrap();
        let source = Source {
            name: name.into(),
            region: "eu".into(),
            tolerance_seconds: 300,
            notification_url: "https://pay.example.com/webhooks/square".into(),
            ..Source::default()
        };
        let key = |text: &&str| Secret::of((provider.prepare_secret)(text, &source).unwrap(), None, None);
        let secrets = texts.iter().map(key).collect();
        Self { provider, source, secrets, texts: texts.iter().map(|text| (*text).to_owned()).collect() }
    }

    fn configured(&self) -> Configured<'_> {
        Configured { provider: self.provider, source: &self.source, secrets: &self.secrets, texts: &self.texts }
    }

    fn sign(&self, body: &[u8], at: i64) -> (HeaderMap, Vec<u8>) {
        let unsigned = Unsigned { event_key: "msg_1", body: body.to_vec() };
        let signed = (self.provider.sign.unwrap())(unsigned, &self.source, &self.secrets[0], at).unwrap();
        (signed.header_map(), signed.body)
    }

    /// The codes of what is said, checked against the provider's own word, and the whole text.
    fn explain(&self, others: &[&Own], headers: &HeaderMap, body: &[u8], urls: &[&str]) -> (Vec<&'static str>, String) {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        let delivery = Delivery { headers, body };
        let others: Vec<_> = others.iter().map(|other| other.configured()).collect();
        let verdict = explain(&self.configured(), &others, &Received { delivery, urls: &urls, now_unix: NOW });
        let word = (self.provider.authenticate)(&delivery, &self.source, &self.secrets, NOW).map(drop);
        match verdict {
            Verdict::Verified(_) => {
                assert_eq!(word, Ok(()));
                (vec!["verified"], String::new())
            }
            Verdict::Refused(refusal, findings) => {
                assert_eq!(word, Err(refusal));
                let text: String = findings.iter().map(|finding| format!("{finding} {}\n", finding.advice())).collect();
                for value in headers.values().filter_map(|value| value.to_str().ok()) {
                    assert!(value.len() < 20 || !text.contains(value), "{text}");
                }
                for secret in &self.texts {
                    assert!(secret.is_empty() || !text.contains(secret.as_str()), "{text}");
                }
                (findings.iter().map(Finding::code).collect(), text)
            }
        }
    }
}

fn without(headers: &HeaderMap, name: &str) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(name);
    headers
}

fn with(headers: &HeaderMap, name: &'static str, value: &str) -> HeaderMap {
    let mut headers = headers.clone();
    headers.insert(name, value.parse().unwrap());
    headers
}

const BODY: &[u8] = b"{\"a\": \"x\", \"b\": [1, 2]}\n";

#[test]
fn what_is_wrong_with_a_header_is_said() {
    let shop = Own::new("shop", "tollgate", &["whsec_dGVzdHMtb25seS1zZWNyZXQ="]);
    let (headers, body) = shop.sign(BODY, NOW);
    let said = |headers: &HeaderMap| shop.explain(&[], headers, &body, &[]);
    assert_eq!(said(&headers).0, ["verified"]);
    let (codes, text) = said(&without(&headers, "webhook-timestamp"));
    assert_eq!(codes, ["header_missing"]);
    assert!(text.contains("webhook-timestamp") && !text.contains("webhook-id"), "{text}");
    assert_eq!(said(&HeaderMap::new()).0, ["header_missing"; 3]);
    let (codes, text) = said(&with(&headers, "webhook-timestamp", "today"));
    assert_eq!(codes, ["header_malformed"]);
    assert!(text.contains("Unix seconds") && text.contains("has 5"), "{text}");
    let mut twice = headers.clone();
    twice.append("webhook-id", "msg_2".parse().unwrap());
    assert_eq!(said(&twice).0, ["header_repeated"]);
    let signature = headers["webhook-signature"].to_str().unwrap();
    assert_eq!(
        said(&with(&headers, "webhook-signature", &format!("\"{signature}\""))).0,
        ["header_malformed", "header_changed"]
    );
}

#[test]
fn a_time_is_told_with_its_age() {
    for provider in ["tollgate", "stripe"] {
        let shop = Own::new("shop", provider, &["whsec_dGVzdHMtb25seS1zZWNyZXQ="]);
        let (headers, body) = shop.sign(BODY, NOW - 912);
        let (codes, text) = shop.explain(&[], &headers, &body, &[]);
        assert_eq!(codes, ["time"]);
        assert!(text.contains("912 s old (allowed 300)"), "{text}");
        let (headers, body) = shop.sign(BODY, NOW + 301);
        assert!(shop.explain(&[], &headers, &body, &[]).1.contains("301 s ahead"));
        // Changed on the way, and old.
        assert_eq!(shop.explain(&[], &headers, body.trim_ascii_end(), &[]).0, ["body_changed", "time"]);
    }
}

#[test]
fn a_changed_body_is_recognised() {
    for provider in ["stripe", "checkout", "razorpay", "mollie", "square"] {
        let own = Own::new("own", provider, &["FAKE_secret"]);
        let (headers, body) = own.sign(BODY, NOW);
        for (received, told) in [
            (body.trim_ascii_end().to_vec(), "with a line end behind it"),
            (serde_json::to_vec(&serde_json::from_slice::<serde_json::Value>(&body).unwrap()).unwrap(), "unknown"),
        ] {
            let (codes, text) = own.explain(&[], &headers, &received, &[]);
            match told {
                // Spaces and the line end are both gone: no single change.
                "unknown" => assert_eq!(codes, ["unexplained"], "{provider}: {text}"),
                told => assert!(codes == ["body_changed"] && text.contains(told), "{provider}: {text}"),
            }
        }
    }
}

#[test]
fn another_secret_is_named() {
    let stripe = Own::new("stripe", "stripe", &["whsec_one"]);
    let shop = Own::new("shop", "tollgate", &["whsec_dGVzdHMtb25seS1zZWNyZXQ="]);
    let square = Own::new("square", "square", &["FAKE_key"]);
    let other = Own::new("second", "stripe", &["whsec_zero", "whsec_two"]);
    let sender = Own::new("x", "stripe", &["whsec_two"]);
    let (headers, body) = sender.sign(BODY, NOW);
    let (codes, text) = stripe.explain(&[&shop, &other], &headers, &body, &[]);
    assert!(codes == ["secret_of_other_source"] && text.contains("secrets[1] of the source second"), "{text}");
    // A request of another provider, sent to the wrong address.
    let (headers, body) = square.sign(BODY, NOW);
    let (codes, text) =
        Own::new("checkout", "checkout", &["FAKE_other"]).explain(&[&shop, &square], &headers, &body, &[]);
    assert_eq!(codes, ["header_missing", "other_source"]);
    assert!(text.contains("cko-signature is missing") && text.contains("the source square accepts"), "{text}");
    // The same text, read as text.
    let sender = Own::new("x", "stripe", &["whsec_dGVzdHMtb25seS1zZWNyZXQ="]);
    let (headers, body) = shop.sign(BODY, NOW);
    assert_eq!(shop.explain(&[&sender], &headers, &body, &[]).0, ["verified"]);
    let adyen = Own::new("bank", "adyen-platform", &["00112233445566778899"]);
    let text = Secret::new(b"00112233445566778899", None, None).unwrap();
    let as_text = Own { secrets: vec![text], ..Own::new("x", "adyen-platform", &["00"]) };
    let (headers, body) = as_text.sign(BODY, NOW);
    let (codes, text) = adyen.explain(&[], &headers, &body, &[]);
    assert!(codes == ["secret_read_otherwise"] && text.contains("as it stands, as text"), "{text}");
    // Read otherwise, and the body changed too.
    let (codes, _) = adyen.explain(&[], &headers, body.trim_ascii_end(), &[]);
    assert_eq!(codes, ["secret_read_otherwise", "body_changed"]);
}

#[test]
fn a_secret_outside_of_its_window_is_named() {
    let mut stripe = Own::new("stripe", "stripe", &["whsec_old", "whsec_new"]);
    let (headers, body) = stripe.sign(BODY, NOW);
    stripe.secrets[0] = Secret::of(stripe.secrets[0].key().clone(), None, Some(NOW - 1));
    let (codes, text) = stripe.explain(&[], &headers, &body, &[]);
    assert_eq!(codes, ["secret_not_valid"]);
    assert!(text.contains("secrets[0]") && text.contains("valid until 2026-11-24T09:59:59Z"), "{text}");
}

#[test]
fn another_address_is_told() {
    let signed = Own::new("square", "square", &["FAKE_key"]);
    let (headers, body) = signed.sign(BODY, NOW);
    for (configured, urls) in [
        ("https://pay.example.com/webhooks/square/", &[][..]),
        ("http://pay.example.com/webhooks/square", &[]),
        ("https://other.example.com/", &["https://pay.example.com/webhooks/square"]),
    ] {
        let mut own = Own::new("square", "square", &["FAKE_key"]);
        own.source.notification_url = configured.into();
        let (codes, text) = own.explain(&[], &headers, &body, urls);
        assert_eq!(codes, ["notification_url"], "{configured}");
        assert!(text.contains("signed is https://pay.example.com/webhooks/square,"), "{text}");
    }
}

#[test]
fn a_body_that_holds_the_signature_is_explained_too() {
    let adyen = Own::new("adyen", "adyen", &["00112233445566778899"]);
    let item = |more: &str| {
        let item = format!(
            "{{\"eventCode\":\"CAPTURE\",\"success\":\"true\",\"pspReference\":\"p\",\"merchantAccountCode\":\"m\",\
             \"amount\":{{\"value\":1,\"currency\":\"EUR\"}}{more}}}"
        );
        format!("{{\"notificationItems\":[{{\"NotificationRequestItem\":{item}}}]}}").into_bytes()
    };
    let said = |body: &[u8]| adyen.explain(&[], &HeaderMap::new(), body, &[]);
    assert_eq!(said(&adyen.sign(&item(""), NOW).1).0, ["verified"]);
    assert_eq!(said(&item("")).0, ["signature_not_in_body"]);
    assert_eq!(said(&item(",\"additionalData\":{\"hmacSignature\":\"?\"}")).0, ["signature_in_body_malformed"]);
    let (codes, text) = said(b"{\"notificationItems\":[");
    assert!(codes == ["body_unreadable"] && text.contains("broken JSON at line 1"), "{text}");
    assert_eq!(said(&item(",\"additionalData\":{\"hmacSignature\":\"AAAA\"}")).0, ["unexplained"]);
}
