//! Samples and signers of every provider: accepted by its own check, refused when anything differs, and meaning what was asked for.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use domain::providers::{self, Delivery, Gaps, Item, Provider, Source, samples};
use domain::signature::{Refusal, Secret};
use domain::{Currency, Kind, Money};

const NOW_MS: i64 = 1_795_514_400_123;

/// Those whose requests prove something.
fn signing() -> impl Iterator<Item = &'static &'static Provider> {
    providers::ALL.iter().filter(|provider| provider.fetch.is_none())
}

fn source(provider: &Provider) -> Source {
    let generic = serde_json::json!({"header": "X-Sig", "prefix": "sha256=", "kinds": {},
        "fields": {"id": "header:x-event", "type": "/t", "time": "/at", "payment": "/p"}});
    Source {
        name: "s".into(),
        region: "eu".into(),
        order_key: "order_id".into(),
        user_key: "user_id".into(),
        tolerance_seconds: 300,
        notification_url: "https://pay.example.com/webhooks/s".into(),
        generic: (provider.name == "generic").then(|| serde_json::from_value(generic).unwrap()),
        ..Source::default()
    }
}

fn secret(provider: &Provider, source: &Source) -> Option<Secret> {
    let text = match provider.name {
        "paypal" => return None,
        "tollgate" => "whsec_dGVzdHMtb25seS1zZWNyZXQ=",
        "braintree" => "public/key:private",
        _ => "00112233445566778899",
    };
    Some(Secret::of((provider.prepare_secret)(text, source).unwrap(), None, None))
}

fn gaps(amount: &str, currency: &str) -> Gaps<'static> {
    let amount = Money::parse(amount, Currency::parse(currency).unwrap()).unwrap();
    Gaps { id: "id1", payment: "p1", order: "A-1001 ä", amount, now_ms: NOW_MS }
}

#[test]
fn every_sample_is_accepted_and_means_what_was_asked_for() {
    for provider in signing() {
        let source = source(provider);
        let Some(secret) = secret(provider, &source) else { continue };
        for amount in [gaps("19.99", "EUR"), gaps("1999", "JPY"), gaps("1500", "ISK"), gaps("1.250", "KWD")] {
            for sample in samples(provider) {
                let what = format!("{} {} {}", provider.name, sample.event_type, amount.amount.to_decimal());
                let signed = sample.request(provider, &source, &secret, &amount).expect(&what);
                let headers = signed.header_map();
                let delivery = Delivery { headers: &headers, body: &signed.body };
                let secrets = [secret.clone()];
                let outcome = (provider.authenticate)(&delivery, &source, &secrets, NOW_MS / 1000);
                assert_eq!(outcome, Ok(0), "{what}");
                let other = [Secret::new(b"other", None, None).unwrap()];
                let outcome = (provider.authenticate)(&delivery, &source, &other, NOW_MS / 1000);
                assert_eq!(outcome, Err(Refusal::Wrong), "{what}");
                for item in (provider.normalise)(&delivery, &source, NOW_MS) {
                    let Item::Event(event) = item else { continue };
                    assert_eq!(event.amount, Some(amount.amount), "{what}");
                    assert_eq!(event.provider_event_type, sample.event_type, "{what}");
                    assert_eq!(event.event_time_ms / 1000, NOW_MS / 1000, "{what}");
                    assert!(event.order_ref.as_deref().is_none_or(|order| order == amount.order), "{what}");
                }
            }
        }
    }
}

#[test]
fn the_first_sample_is_money_taken_for_the_order() {
    for provider in signing().filter(|provider| provider.sign.is_some()) {
        let source = source(provider);
        let (Some(secret), Some(first)) = (secret(provider, &source), samples(provider).next()) else { continue };
        let signed = first.request(provider, &source, &secret, &gaps("19.99", "EUR")).unwrap();
        let headers = signed.header_map();
        let items = (provider.normalise)(&Delivery { headers: &headers, body: &signed.body }, &source, NOW_MS);
        match &items[..] {
            [Item::Event(event)] => {
                assert!(matches!(event.kind, Kind::Captured | Kind::CapturedTotal), "{}", provider.name);
                assert_eq!(event.order_ref.as_deref(), Some("A-1001 ä"), "{}", provider.name);
            }
            other => assert_eq!((provider.name, other), ("adyen-platform", &[Item::NoChange][..])),
        }
    }
}

#[test]
fn headers_of_a_signed_request_are_those_that_are_described_and_examples_are_well_formed() {
    for provider in signing() {
        let source = source(provider);
        let described = (provider.headers)(&source);
        let examples = described.iter().map(|header| (header.name.parse().unwrap(), header.example.parse().unwrap()));
        let headers = examples.collect();
        // Well-formed and wrong; of those that have their signature in the body, there is none.
        let outcome =
            (provider.authenticate)(&Delivery { headers: &headers, body: b"{}" }, &source, &[], 1_795_514_400);
        let in_body = described.is_empty();
        assert!(matches!(outcome, Err(Refusal::Wrong)) || in_body, "{}: {outcome:?}", provider.name);
        let Some(sign) = provider.sign else { continue };
        let unsigned = providers::Unsigned { event_key: "id1", body: b"{\"notificationItems\":[]}".to_vec() };
        let signed = sign(unsigned, &source, &secret(provider, &source).unwrap(), 1_795_514_400).unwrap();
        for (name, _) in &signed.headers {
            let is_described = described.iter().any(|header| header.name.eq_ignore_ascii_case(name));
            assert!(is_described || name == "x-event", "{}: {name}", provider.name);
        }
    }
}

/// JSON Schema calls 1999.0 an integer, and so a tester sends it; Adyen signs 1999.
#[test]
fn an_amount_of_adyens_may_be_written_with_a_point() {
    let adyen = providers::find("adyen").unwrap();
    let source = source(adyen);
    let secrets = [secret(adyen, &source).unwrap()];
    let sample = samples(adyen).next().unwrap();
    let signed = sample.request(adyen, &source, &secrets[0], &gaps("19.99", "EUR")).unwrap();
    let text = String::from_utf8(signed.body).unwrap();
    let headers = http::HeaderMap::new();
    for (written, accepted) in [("1999.0", true), ("1999.5", false), ("1e300", false), ("\"1999\"", false)] {
        let body = text.replace("\"value\":1999", &format!("\"value\":{written}"));
        assert_ne!(body, text);
        let delivery = Delivery { headers: &headers, body: body.as_bytes() };
        let outcome = (adyen.authenticate)(&delivery, &source, &secrets, NOW_MS / 1000);
        assert_eq!(outcome, if accepted { Ok(0) } else { Err(Refusal::Unreadable) }, "{written}");
    }
}

#[test]
fn what_cannot_be_made_says_why() {
    let stripe = providers::find("stripe").unwrap();
    let (source, sample) = (source(stripe), samples(stripe).next().unwrap());
    let secret = secret(stripe, &source).unwrap();
    let order = Gaps { order: "a\"b", ..gaps("1", "EUR") };
    assert!(sample.request(stripe, &source, &secret, &order).unwrap_err().contains("order reference"));
    let paypal = providers::find("paypal").unwrap();
    assert!(sample.request(paypal, &source, &secret, &gaps("1", "EUR")).unwrap_err().contains("only the provider"));
}

/// Anybody may send it: it is let in for its form, and means nothing but a question.
#[test]
fn a_sample_of_a_provider_that_is_asked_is_a_claim() {
    for provider in providers::ALL.iter().filter(|provider| provider.fetch.is_some()) {
        let source = source(provider);
        let secret = secret(provider, &source).unwrap();
        let sample = samples(provider).next().unwrap();
        let signed = sample.request(provider, &source, &secret, &gaps("19.99", "EUR")).unwrap();
        let headers = signed.header_map();
        let delivery = Delivery { headers: &headers, body: &signed.body };
        assert_eq!((provider.authenticate)(&delivery, &source, &[], NOW_MS / 1000), Ok(0));
        assert_eq!((provider.normalise)(&delivery, &source, NOW_MS), [Item::Claim("tr_p1")]);
        let nothing = Delivery { headers: &headers, body: b"id=" };
        assert_eq!((provider.authenticate)(&nothing, &source, &[], NOW_MS / 1000), Err(Refusal::Unreadable));
    }
}
