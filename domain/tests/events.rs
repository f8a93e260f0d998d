//! What each provider's documented events mean: a snapshot for each provider in `tests/events`, event in, meaning out.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::providers::{self, Delivery, Item, Source};
use http::{HeaderMap, HeaderName};
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
        ..Source::default()
    }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

fn meaning(item: &Item<'_>) -> Value {
    let event = match item {
        Item::NoChange => return json!("no change"),
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
            let items = (found.normalise)(&Delivery { headers: &headers, body: &body }, &source, now_ms);
            let [item] = &items[..] else { panic!("{provider}: {name}: {} items", items.len()) };
            let meaning = meaning(item);
            if meaning != of["expect"] {
                wrong.push(json!([provider, name, meaning]).to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "these mean something else:\n{}\n", wrong.join("\n"));
}
