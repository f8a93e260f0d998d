//! Bodies that the providers' official libraries signed: accepted, understood, and refused once any byte differs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use domain::PaymentEvent;
use domain::providers::{self, Delivery, Item, Provider, Source};
use domain::quarantine;
use domain::signature::{Refusal, Secret};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;

struct Vector {
    name: String,
    provider: &'static Provider,
    secrets: Vec<String>,
    now_unix: i64,
    headers: HeaderMap,
    body: String,
    source: Source,
    /// Headers that the signature is in or covers.
    signed_headers: Vec<HeaderName>,
    expect: Value,
}

fn load(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let values: Vec<Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    values
        .iter()
        .map(|value| Vector {
            name: text(&value["name"]),
            provider: providers::find(match text(&value["provider"]).as_str() {
                "standard_webhooks" => "tollgate",
                name => name,
            })
            .unwrap(),
            secrets: match value.get("secrets") {
                Some(several) => several.as_array().unwrap().iter().map(text).collect(),
                None => vec![text(&value["secret"])],
            },
            now_unix: value["now_unix"].as_i64().unwrap(),
            headers: value["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| {
                    (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.as_str().unwrap()).unwrap())
                })
                .collect(),
            body: text(&value["body"]),
            source: source(&value["source"]),
            signed_headers: value["signed_headers"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|name| text(name).parse().unwrap())
                .collect(),
            expect: value["expect"].clone(),
        })
        .collect()
}

fn source(settings: &Value) -> Source {
    let text = |name: &str| settings[name].as_str().unwrap_or_default().to_owned();
    Source {
        name: "s".into(),
        region: "eu".into(),
        order_key: "order_id".into(),
        user_key: "user_id".into(),
        tolerance_seconds: 300,
        notification_url: text("notification_url"),
        webhook_id: text("webhook_id"),
        generic: serde_json::from_value(settings["generic"].clone()).unwrap(),
        ..Source::default()
    }
}

impl Vector {
    fn authenticate(&self, secret: &str, body: &[u8], headers: &HeaderMap, now_unix: i64) -> Result<usize, Refusal> {
        let key = (self.provider.prepare_secret)(secret, &self.source).unwrap();
        let secrets = [Secret::new(b"another", None, None).unwrap(), Secret::of(key, None, None)];
        (self.provider.authenticate)(&Delivery { headers, body }, &self.source, &secrets, now_unix)
    }

    fn check(&self, secret: &str) -> Result<usize, Refusal> {
        self.authenticate(secret, self.body.as_bytes(), &self.headers, self.now_unix)
    }
}

const ACCEPTED: [&str; 3] = ["stripe.json", "adyen.json", "standard_webhooks.json"];

/// Those of `make_provider_vectors.py`: the events of `tests/events`, whose meaning another test checks.
fn signed() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let signs = |file: &String| providers::find(file.trim_end_matches(".json")).unwrap().fetch.is_none();
    files.filter(signs).collect()
}

fn accepted() -> Vec<String> {
    ACCEPTED.map(str::to_owned).into_iter().chain(signed()).collect()
}

#[test]
fn what_the_official_libraries_sign_is_accepted() {
    for vector in accepted().iter().flat_map(|file| load(file)) {
        for secret in &vector.secrets {
            assert_eq!(vector.check(secret), Ok(1), "{}", vector.name);
        }
    }
}

#[test]
fn what_the_official_libraries_refuse_is_refused() {
    for vector in load("refused.json") {
        assert!(vector.check(&vector.secrets[0]).is_err(), "{}", vector.name);
    }
}

#[test]
fn explanations_agree_with_the_verdict_and_tell_no_secret() {
    use domain::explain::{Configured, Received, Verdict, explain};
    for vector in load("refused.json").into_iter().chain(accepted().iter().flat_map(|file| load(file))) {
        let key = (vector.provider.prepare_secret)(&vector.secrets[0], &vector.source).unwrap();
        let (secrets, texts) = ([Secret::of(key, None, None)], [vector.secrets[0].clone()]);
        let configured =
            Configured { provider: vector.provider, source: &vector.source, secrets: &secrets, texts: &texts };
        let delivery = Delivery { headers: &vector.headers, body: vector.body.as_bytes() };
        let verdict = explain(&configured, &[], &Received { delivery, urls: &[], now_unix: vector.now_unix });
        match (vector.check(&vector.secrets[0]), verdict) {
            (Ok(_), Verdict::Verified(Some(0))) => {}
            (Err(refusal), Verdict::Refused(said, findings)) => {
                assert_eq!(refusal, said, "{}", vector.name);
                assert!(!findings.is_empty(), "{}", vector.name);
                let text = format!("{findings:?}{}", findings.iter().map(ToString::to_string).collect::<String>());
                assert!(!text.contains(&texts[0]), "{}: {text}", vector.name);
            }
            (word, said) => panic!("{}: {word:?} {said:?}", vector.name),
        }
    }
}

fn tollgate_type(event: &PaymentEvent<'_>) -> &'static str {
    use domain::Kind;
    match event.kind {
        Kind::Pending => "payment.pending",
        Kind::Authorized => "payment.authorized",
        Kind::Captured | Kind::CapturedTotal => "payment.captured",
        Kind::CaptureFailed => "payment.capture_failed",
        Kind::Failed => "payment.failed",
        Kind::Cancelled => "payment.cancelled",
        Kind::Expired => "payment.expired",
        Kind::RefundPending => "refund.pending",
        Kind::Refunded | Kind::RefundedTotal => "refund.succeeded",
        Kind::RefundFailed => "refund.failed",
        Kind::Disputed => "dispute.opened",
        Kind::DisputeWon => "dispute.won",
        Kind::DisputeLost => "dispute.lost",
    }
}

#[test]
fn every_vector_means_what_its_library_sent() {
    for vector in ACCEPTED.into_iter().flat_map(load) {
        let delivery = Delivery { headers: &vector.headers, body: vector.body.as_bytes() };
        let items = (vector.provider.normalise)(&delivery, &vector.source, vector.now_unix * 1000);
        let expected: Vec<&Value> = match vector.expect.get("items") {
            Some(items) => items.as_array().unwrap().iter().collect(),
            None => vec![&vector.expect],
        };
        assert_eq!(items.len(), expected.len(), "{}", vector.name);
        for (item, expected) in items.iter().zip(expected) {
            match (item, expected["tollgate_type"].as_str()) {
                (Item::NoChange, None) => {}
                (Item::Event(event), Some(kind)) => {
                    let name = &vector.name;
                    assert_eq!(tollgate_type(event), kind, "{name}");
                    assert_eq!(event.provider_event_id, expected["provider_event_id"].as_str().unwrap(), "{name}");
                    let amount = event.amount.unwrap();
                    assert_eq!(amount.currency.as_str(), expected["currency"].as_str().unwrap(), "{name}");
                    let exponent = u32::try_from(expected["exponent"].as_u64().unwrap()).unwrap();
                    let sent = i128::from(expected["amount_minor"].as_i64().unwrap());
                    let ours = i128::from(amount.minor) * 10_i128.pow(exponent);
                    assert_eq!(ours, sent * 10_i128.pow(u32::from(amount.currency.exponent())), "{name}");
                    assert_eq!(
                        event.event_time_ms.div_euclid(1000),
                        expected["occurred_unix"].as_i64().unwrap(),
                        "{name}"
                    );
                }
                (other, kind) => panic!("{}: {other:?} instead of {kind:?}", vector.name),
            }
        }
    }
}

#[test]
fn the_headers_that_quarantine_keeps_prove_nothing() {
    for vector in accepted().iter().flat_map(|file| load(file)) {
        // These two sign in the body.
        if ["adyen", "braintree"].contains(&vector.provider.name) {
            continue;
        }
        let headers = quarantine::restore(&quarantine::keep(&vector.headers, &vector.source));
        let refused = vector.authenticate(&vector.secrets[0], vector.body.as_bytes(), &headers, vector.now_unix);
        assert_eq!(refused, Err(Refusal::Missing), "{}", vector.name);
    }
}

/// Quarantine keeps what was not understood of a request, item by item.
#[test]
fn an_adyen_item_by_itself_means_what_it_means_in_its_request() {
    let mut items = 0;
    for vector in load("adyen.json") {
        let now_ms = vector.now_unix * 1000;
        let normalise = |body: &[u8]| {
            let delivery = Delivery { headers: &HeaderMap::new(), body };
            let items = (vector.provider.normalise)(&delivery, &vector.source, now_ms);
            items.into_iter().map(|item| format!("{item:?}")).collect::<Vec<_>>()
        };
        let request: Value = serde_json::from_str(&vector.body).unwrap();
        let alone = request["notificationItems"].as_array().unwrap().iter().flat_map(|wrapper| {
            items += 1;
            normalise(wrapper["NotificationRequestItem"].to_string().as_bytes())
        });
        assert_eq!(alone.collect::<Vec<_>>(), normalise(vector.body.as_bytes()), "{}", vector.name);
    }
    assert!(items > 10);
}

/// The bytes that an Adyen signature does not cover (everything but eight fields) are not in this test.
#[test]
fn any_changed_byte_of_a_signed_body_is_refused() {
    let official = ["stripe.json", "standard_webhooks.json"].into_iter().flat_map(load);
    for vector in official.chain(signed().iter().flat_map(|file| load(file).into_iter().take(8))) {
        let mut body = vector.body.clone().into_bytes();
        for index in 0..body.len() {
            body[index] ^= 1;
            let changed = vector.authenticate(&vector.secrets[0], &body, &vector.headers, vector.now_unix);
            // A form may also become one without its fields.
            let expected = if vector.provider.name == "braintree" { changed } else { Err(Refusal::Wrong) };
            assert!(changed.is_err() && changed == expected, "{} byte {index}: {changed:?}", vector.name);
            body[index] ^= 1;
        }
    }
}

#[test]
fn any_changed_signed_field_of_an_adyen_item_is_refused() {
    let fields =
        ["pspReference", "merchantAccountCode", "merchantReference", "eventCode", "success", "currency", "value"];
    for vector in load("adyen.json") {
        for field in fields {
            let mut request: Value = serde_json::from_str(&vector.body).unwrap();
            let item = &mut request["notificationItems"][0]["NotificationRequestItem"];
            let slot = match field {
                "currency" | "value" => &mut item["amount"][field],
                _ => &mut item[field],
            };
            *slot = match slot.as_i64() {
                Some(number) => Value::from(number + 1),
                None => Value::from(format!("{}x", slot.as_str().unwrap_or_default())),
            };
            let body = serde_json::to_vec(&request).unwrap();
            let changed = vector.authenticate(&vector.secrets[0], &body, &vector.headers, vector.now_unix);
            assert_eq!(changed, Err(Refusal::Wrong), "{} {field}", vector.name);
        }
    }
}

/// The headers that a vector's signature is in or covers. Where it has several signatures, one that is changed leaves another.
fn signed_headers(vector: &Vector) -> Vec<HeaderName> {
    let several = |name: &str, between: u8, most: usize| {
        vector.headers[name].as_bytes().iter().filter(|byte| **byte == between).count() > most
    };
    let names: &[&str] = match vector.provider.name {
        "stripe" if several("stripe-signature", b',', 1) => &[],
        "stripe" => &["stripe-signature"],
        "tollgate" if several("webhook-signature", b' ', 0) => &["webhook-id", "webhook-timestamp"],
        "tollgate" => &["webhook-id", "webhook-timestamp", "webhook-signature"],
        _ => return vector.signed_headers.clone(),
    };
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn any_changed_byte_of_a_signed_header_is_refused() {
    let mut changed_headers = 0;
    let own = ["stripe.json", "standard_webhooks.json"].into_iter().flat_map(load);
    for vector in own.chain(signed().iter().flat_map(|file| load(file).into_iter().take(2))) {
        let names = signed_headers(&vector);
        assert!(!names.is_empty() || ["braintree", "stripe"].contains(&vector.provider.name), "{}", vector.name);
        for name in &names {
            changed_headers += 1;
            let value = vector.headers[name].as_bytes().to_vec();
            for index in 0..value.len() {
                let mut changed = value.clone();
                changed[index] ^= 1;
                let mut headers = vector.headers.clone();
                headers.insert(name, HeaderValue::from_bytes(&changed).unwrap());
                let body = vector.body.as_bytes();
                let refused = vector.authenticate(&vector.secrets[0], body, &headers, vector.now_unix);
                assert!(refused.is_err(), "{} {name} byte {index}", vector.name);
            }
        }
    }
    assert!(changed_headers > 100, "{changed_headers}");
}

/// Secrets of the provider's own kind, of which one character differs. Of a certificate most characters are not its key's: another
/// key's is in a test of its own.
#[test]
fn any_changed_character_of_a_secret_is_refused() {
    for vector in
        accepted().iter().filter(|file| *file != "paypal.json").flat_map(|file| load(file).into_iter().take(2))
    {
        let (text, mut changed_secrets) = (&vector.secrets[0], 0);
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            let Ok(key) = (vector.provider.prepare_secret)(&changed, &vector.source) else { continue };
            changed_secrets += 1;
            let delivery = Delivery { headers: &vector.headers, body: vector.body.as_bytes() };
            let secrets = [Secret::of(key, None, None)];
            let refused = (vector.provider.authenticate)(&delivery, &vector.source, &secrets, vector.now_unix);
            assert!(refused.is_err(), "{} with {changed}", vector.name);
        }
        assert!(changed_secrets > 4, "{}: {changed_secrets}", vector.name);
    }
}

#[test]
fn another_secret_or_another_address_is_refused() {
    for vector in signed().iter().flat_map(|file| load(file)) {
        let address = "https://attacker.example.com/".to_owned();
        let other = Source { notification_url: address.clone(), webhook_id: address, ..vector.source.clone() };
        if !vector.source.notification_url.is_empty() || !vector.source.webhook_id.is_empty() {
            let key = (vector.provider.prepare_secret)(&vector.secrets[0], &other).unwrap();
            let delivery = Delivery { headers: &vector.headers, body: vector.body.as_bytes() };
            let secrets = [Secret::of(key, None, None)];
            let refused = (vector.provider.authenticate)(&delivery, &other, &secrets, vector.now_unix);
            assert_eq!(refused, Err(Refusal::Wrong), "{}", vector.name);
        }
        let key = Secret::new(b"another", None, None).unwrap();
        let delivery = Delivery { headers: &vector.headers, body: vector.body.as_bytes() };
        let refused = (vector.provider.authenticate)(&delivery, &vector.source, &[key], vector.now_unix);
        assert_eq!(refused, Err(Refusal::Wrong), "{}", vector.name);
    }
}

#[test]
fn a_certificate_counts_only_for_its_host_and_while_it_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/paypal_certificates.json");
    let certificates: Vec<Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let vector = &load("paypal.json")[0];
    let refusals: Vec<_> = certificates
        .iter()
        .map(|certificate| {
            let pem = certificate["pem"].as_str().unwrap();
            let prepared = (vector.provider.prepare_secret)(pem, &vector.source);
            let why = prepared.err().unwrap_or_else(|| vector.check(pem).unwrap_err().as_str());
            (certificate["name"].as_str().unwrap(), why)
        })
        .collect();
    assert_eq!(
        refusals,
        [
            ("another host", "is a certificate of another host"),
            ("a short key", "is a certificate whose RSA key is too short"),
            ("no certificate", "is not a certificate in PEM"),
            ("expired", "wrong_signature"),
            ("not yet valid", "wrong_signature"),
            ("another key", "wrong_signature"),
        ]
    );
}

#[test]
fn a_signature_counts_only_under_the_name_of_its_scheme() {
    let vector = &load("tollgate.json")[0];
    let signature = vector.headers["webhook-signature"].to_str().unwrap();
    for other in ["v1,", "v2,", "V1A,", ""] {
        let mut headers = vector.headers.clone();
        headers.insert("webhook-signature", signature.replacen("v1a,", other, 1).parse().unwrap());
        let refused = vector.authenticate(&vector.secrets[0], vector.body.as_bytes(), &headers, vector.now_unix);
        assert!(refused.is_err(), "{other}");
    }
}

/// Under a key of small order some signatures hold for any message.
#[test]
fn a_weak_or_malformed_public_key_cannot_be_configured() {
    let provider = providers::find("tollgate").unwrap();
    for key in [
        "whpk_AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "whpk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "whpk_AAAA",
        "whpk_",
        "whsec_",
        "whpk_not base64",
    ] {
        assert!((provider.prepare_secret)(key, &source(&Value::Null)).is_err(), "{key}");
    }
}

/// Every header that some provider's signature is in or covers.
static SIGNATURE_HEADERS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let own = ["stripe-signature", "webhook-id", "webhook-timestamp", "webhook-signature"].map(str::to_owned);
    let of = |file: String| load(&file).into_iter().flat_map(|vector| vector.signed_headers);
    signed().into_iter().flat_map(of).map(|name| name.to_string()).chain(own).collect()
});

/// Every provider with a source and a secret of its own kind.
static CONFIGURED: LazyLock<Vec<(&'static Provider, Source, Secret)>> = LazyLock::new(|| {
    let of = |file: &str| {
        let Vector { provider, source, secrets, .. } = load(file).remove(0);
        let key = (provider.prepare_secret)(&secrets[0], &source).unwrap();
        (provider, source, Secret::of(key, None, None))
    };
    let configured: Vec<_> = accepted().iter().map(|file| of(file)).collect();
    let mut signing = providers::ALL.iter().filter(|provider| provider.fetch.is_none());
    assert!(signing.all(|provider| configured.iter().any(|(known, ..)| known.name == provider.name)));
    configured
});

/// Every vector whose attempts each sign their own time, with that time.
static TIMED: LazyLock<Vec<(Vector, i64)>> = LazyLock::new(|| {
    let timed = |vector: Vector| {
        let header = |name: &str| vector.headers.get(name).and_then(|value| value.to_str().ok());
        let of_stripe =
            header("stripe-signature").and_then(|value| value.split(',').find_map(|part| part.strip_prefix("t=")));
        let signed_unix = header("webhook-timestamp").or(of_stripe)?.parse().ok()?;
        Some((vector, signed_unix))
    };
    let timed: Vec<_> = accepted().iter().flat_map(|file| load(file)).filter_map(timed).collect();
    assert!(timed.len() > 100, "{}", timed.len());
    timed
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the clock says: accepted within the tolerance of the signed time, and never beyond.
    #[test]
    fn a_signature_counts_only_near_its_time(
        which in any::<prop::sample::Index>(),
        offset in prop_oneof![-302..=302_i64, -100_000_000..=100_000_000_i64],
    ) {
        let (vector, signed_unix) = which.get(&TIMED);
        let now_unix = signed_unix + offset;
        let checked = vector.authenticate(&vector.secrets[0], vector.body.as_bytes(), &vector.headers, now_unix);
        prop_assert_eq!(checked.is_ok(), offset.abs() <= 300, "{} at {}: {:?}", vector.name, offset, checked);
    }

    #[test]
    fn no_body_or_header_panics(body in prop::collection::vec(any::<u8>(), 0..300), header in "[ -~]{0,80}") {
        let value = HeaderValue::from_str(&header).unwrap();
        let headers: HeaderMap = SIGNATURE_HEADERS.iter().map(|name| (name.parse().unwrap(), value.clone())).collect();
        for (provider, source, secret) in &*CONFIGURED {
            let delivery = Delivery { headers: &headers, body: &body };
            prop_assert!((provider.authenticate)(&delivery, source, std::slice::from_ref(secret), 0).is_err());
            prop_assert!(!(provider.normalise)(&delivery, source, 0).is_empty());
            let _ = provider.challenge.as_ref().map(|challenge| (challenge.answer)(&header, std::slice::from_ref(secret), 0));
        }
    }

    /// Well-formed JSON with hostile values: an item each, an event only where amount and time are believable.
    #[test]
    fn hostile_values_are_quarantined_or_valid(
        amount in any::<i64>(),
        created in any::<i64>(),
        currency in "[a-zA-Z]{0,4}",
        order in "\\PC{0,300}",
        kind in prop::sample::select(vec!["payment_intent.succeeded", "charge.refunded", "refund.updated", "x.y"]),
    ) {
        let body = serde_json::json!({"id": "evt_1", "type": kind, "created": created, "data": {"object": {
            "id": "pi_1", "amount": amount, "amount_received": amount, "amount_refunded": amount,
            "currency": currency, "status": "succeeded", "payment_intent": "pi_1", "metadata": {"order_id": order}}}});
        let body = serde_json::to_vec(&body).unwrap();
        let (source, headers) = (source(&Value::Null), HeaderMap::new());
        let now_ms = 1_795_514_400_000;
        for item in (providers::find("stripe").unwrap().normalise)(&Delivery { headers: &headers, body: &body }, &source, now_ms) {
            if let Item::Event(event) = item {
                prop_assert!(event.amount.unwrap().minor >= 0);
                prop_assert!((event.event_time_ms - now_ms).abs() <= 400 * 24 * 3600 * 1000);
                let record = domain::frame::Record::event(&event);
                prop_assert_eq!(domain::frame::Record::decode(&record), Ok(domain::frame::Record::Event(*event)));
            }
        }
    }
}
