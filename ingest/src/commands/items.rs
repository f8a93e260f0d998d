//! What an accepted request means, for people and machines.

use domain::providers::{Delivery, Item};
use platform::config::ConfiguredSource;
use serde_json::{Value, json};

/// What the source's provider reads in it, arrived at a time (Unix milliseconds).
pub fn read(configured: &ConfiguredSource, delivery: &Delivery<'_>, now_ms: i64) -> Vec<Value> {
    let items = (configured.provider.normalise)(delivery, &configured.source, now_ms);
    items.iter().map(item).collect()
}

fn item(item: &Item<'_>) -> Value {
    let event = match item {
        Item::NoChange => return json!({ "meaning": "no_change" }),
        Item::Claim(id) => return json!({ "meaning": "claim", "payment": id }),
        Item::Quarantine { reason, .. } => return json!({ "meaning": "quarantine", "reason": reason }),
        Item::Event(event) => event,
    };
    json!({
        "meaning": event.kind.as_str(),
        "amount": event.amount.map(|amount| amount.to_decimal()),
        "currency": event.amount.map(|amount| amount.currency.as_str().to_owned()),
        "order": event.order_ref,
        "user": event.user_ref,
        "payment": event.provider_payment_id,
        "transaction": event.transaction_id,
        "event": event.provider_event_id,
        "type": event.provider_event_type,
        "account": event.account,
        "region": event.region,
        "time": jiff::Timestamp::from_millisecond(event.event_time_ms).ok().map(|time| time.to_string()),
        "payment_id": event.payment_id.to_string(),
        "event_id": event.event_id.to_string(),
    })
}

/// Whether an item changes a payment.
pub fn is_change(item: &Value) -> bool {
    !matches!(item["meaning"].as_str(), Some("no_change" | "quarantine" | "claim"))
}

/// One line about an item.
pub fn line(item: &Value) -> String {
    let text = |name: &str| item[name].as_str().unwrap_or_default();
    match text("meaning") {
        "no_change" => "no change: a type that changes no payment; it is acknowledged and counted".to_owned(),
        "claim" => format!("something happened to {}: the provider's API is asked what", text("payment")),
        "quarantine" => format!("quarantine: {}; the gateway keeps it there and answers 200", text("reason")),
        meaning => {
            let with = |what: &str, name: &str| match text(name) {
                "" => String::new(),
                value => format!(", {what} {value}"),
            };
            let amount = format!("{} {}", text("amount"), text("currency"));
            let order =
                if text("order").is_empty() { ", the payment's order".to_owned() } else { with("order", "order") };
            format!(
                "{meaning} {}{order}{}{}{}, event {} ({}) of {}",
                amount.trim(),
                with("user", "user"),
                with("payment", "payment"),
                with("transaction", "transaction"),
                text("event"),
                text("type"),
                text("time"),
            )
        }
    }
}
