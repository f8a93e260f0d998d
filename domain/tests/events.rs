//! What each provider's documented events mean: a snapshot for each provider in `tests/events`, event in, meaning out.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::providers::{self, Delivery, Item, Provider, Source};
use domain::quarantine;
use http::{HeaderMap, HeaderName};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value, json};

/// All events of a file that say no other time come in at this one.
const NOW: &str = "2026-11-24T10:00:00Z";

fn files() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_json = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let read = |path: std::path::PathBuf| {
        let provider = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (provider, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    };
    paths.filter(is_json).map(read).collect()
}

fn source(settings: &Value) -> Source {
    let text = |name: &str, default: &str| settings[name].as_str().unwrap_or(default).to_owned();
    Source {
        name: "s".into(),
        region: "eu".into(),
        order_key: text("order_key", "order_id"),
        user_key: text("user_key", "user_id"),
        notification_url: text("notification_url", ""),
        webhook_id: text("webhook_id", ""),
        tolerance_seconds: 300,
        generic: serde_json::from_value(settings["generic"].clone()).unwrap(),
        ..Source::default()
    }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

fn meaning(item: &Item<'_>) -> Value {
    let event = match item {
        Item::NoChange => return json!("no change"),
        Item::Claim(id) => return json!({ "claim": id }),
        Item::Quarantine { reason, .. } => return json!({ "quarantine": reason }),
        Item::Event(event) => event,
    };
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        value.into_iter().for_each(|value| drop(out.insert(name.into(), Value::String(value))));
    };
    put("kind", Some(event.kind.as_str().into()));
    put("id", Some(event.provider_event_id.to_string()));
    put("type", Some(event.provider_event_type.to_string()));
    put("account", Some(event.account.to_string()).filter(|account| !account.is_empty()));
    put("payment", Some(event.provider_payment_id.to_string()));
    put("transaction", event.transaction_id.as_deref().map(str::to_owned));
    put("amount", event.amount.map(|money| format!("{} {}", money.to_decimal(), money.currency.as_str())));
    put("order", event.order_ref.as_deref().map(str::to_owned));
    put("user", event.user_ref.as_deref().map(str::to_owned));
    put("time", Some(time(event.event_time_ms)));
    put("version", (event.version_ms != event.event_time_ms).then(|| time(event.version_ms)));
    Value::Object(out)
}

fn headers(of: &Value) -> HeaderMap {
    let pairs = of["headers"].as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.as_str().unwrap().parse().unwrap())).collect()
}

/// The body as the provider sends it: JSON, or Braintree's form around XML.
fn body(of: &Value) -> Vec<u8> {
    match &of["xml"] {
        Value::String(xml) => {
            let payload = STANDARD.encode(xml).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            format!("bt_signature=not+checked+here&bt_payload={payload}%0A").into_bytes()
        }
        _ => serde_json::to_vec(&of["body"]).unwrap(),
    }
}

#[test]
fn documented_events_mean_what_the_snapshot_says() {
    let mut wrong = Vec::new();
    for (provider, file) in files() {
        let found = providers::find(&provider).unwrap();
        let source = source(&file["source"]);
        let mut names = BTreeSet::new();
        for of in file["events"].as_array().unwrap() {
            let name = of["name"].as_str().unwrap();
            assert!(names.insert(name), "{provider}: {name} is there twice");
            let now_ms = providers::parse_time_ms(of["now"].as_str().unwrap_or(NOW)).unwrap();
            let (headers, body) = (headers(of), body(of));
            let items = found.read(&Delivery { headers: &headers, body: &body }, &source, now_ms);
            let meaning = match &items[..] {
                [item] => meaning(item),
                items => items.iter().map(meaning).collect(),
            };
            if meaning != of["expect"] {
                wrong.push(json!([provider, name, meaning]).to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "these mean something else:\n{}\n", wrong.join("\n"));
}

/// Every event of every file, with its provider, source and arrival.
struct Sent {
    provider: &'static Provider,
    source: Source,
    headers: HeaderMap,
    body: Vec<u8>,
    now_ms: i64,
}

static SENT: LazyLock<Vec<Sent>> = LazyLock::new(|| {
    let sent = |(provider, file): (String, Value)| {
        let events = file["events"].as_array().unwrap().clone();
        events.into_iter().map(move |of| Sent {
            provider: providers::find(&provider).unwrap(),
            source: source(&file["source"]),
            headers: headers(&of),
            body: body(&of),
            now_ms: providers::parse_time_ms(NOW).unwrap(),
        })
    };
    files().into_iter().flat_map(sent).collect()
});

impl Sent {
    /// Whatever comes in, each item is an event that survives the wire and is believable, or goes to quarantine.
    fn check(&self, body: &[u8]) -> Result<(), TestCaseError> {
        let delivery = Delivery { headers: &self.headers, body };
        let _ = (self.provider.authenticate)(&delivery, &self.source, &[], self.now_ms / 1000);
        let items = self.provider.read(&delivery, &self.source, self.now_ms);
        prop_assert!(!items.is_empty());
        for item in items {
            let Item::Event(event) = item else { continue };
            prop_assert!(event.amount.is_none_or(|amount| amount.minor >= 0));
            prop_assert!((event.event_time_ms - self.now_ms).abs() <= 400 * 24 * 3600 * 1000);
            prop_assert!(event.transaction_id.is_some() || !event.kind.needs_transaction());
            let record = domain::frame::Record::event(&event);
            prop_assert_eq!(domain::frame::Record::decode(&record), Ok(domain::frame::Record::Event(*event)));
        }
        Ok(())
    }
}

/// `quarantine retry` reads the stored item and headers, nothing else.
#[test]
fn what_quarantine_keeps_is_enough_to_read_it_again() {
    for sent in SENT.iter() {
        let delivery = Delivery { headers: &sent.headers, body: &sent.body };
        let items = sent.provider.read(&delivery, &sent.source, sent.now_ms);
        let headers = quarantine::restore(&quarantine::keep(&sent.headers, &sent.source));
        let again = Delivery { headers: &headers, body: &sent.body };
        assert_eq!(sent.provider.read(&again, &sent.source, sent.now_ms), items, "{}", sent.provider.name);
        for item in &items {
            let Item::Quarantine { body, .. } = item else { continue };
            let again = sent.provider.read(&Delivery { headers: &headers, body }, &sent.source, sent.now_ms);
            assert_eq!(&again[..], std::slice::from_ref(item), "{}", sent.provider.name);
        }
    }
}

/// Puts a value in the place of the `at`-th value of a document, in order of its text.
fn replace(value: &mut Value, at: &mut usize, by: &Value) {
    if *at == 0 {
        *value = by.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, at, by)),
        Value::Object(values) => values.values_mut().for_each(|value| replace(value, at, by)),
        _ => {}
    }
}

fn hostile() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        Just(json!(true)),
        Just(json!("")),
        Just(json!("-0.5")),
        Just(json!("1e400")),
        Just(json!(1.5)),
        Just(json!("9".repeat(300))),
        Just(json!("\u{0}\u{7f}")),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        "\\PC{0,40}".prop_map(|text| json!(text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn changed_bytes_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let sent = which.get(&SENT);
        let mut body = sent.body.clone();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body.truncate(cut.map_or(body.len(), |cut| cut.index(sent.body.len())));
        sent.check(&body)?;
    }

    #[test]
    fn hostile_values_are_quarantined_or_believable(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        by in hostile(),
    ) {
        let sent = which.get(&SENT);
        if let Ok(mut document) = serde_json::from_slice::<Value>(&sent.body) {
            replace(&mut document, &mut at.index(80), &by);
            sent.check(&serde_json::to_vec(&document).unwrap())?;
        }
    }
}
