//! Rows, records and bodies for people and for machines.

use domain::PaymentEvent;
use domain::frame::{Frame, Record};
use domain::quarantine::Quarantined;
use domain::signature::to_hex;
use serde_json::{Value, json};

/// RFC 3339 of Unix milliseconds.
pub fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}

/// Bytes as the text that they are, or in hexadecimal.
pub fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": to_hex(bytes) }),
    }
}

/// A dead-lettered frame or record: its fields where it can be read, else its bytes and why not.
pub fn record(bytes: &[u8]) -> Value {
    match (Frame::parse(bytes), Record::decode(bytes)) {
        (Ok(frame), _) => json!({
            "frame": {"staged_at": time(frame.staged_at_ms), "records": frame.records().map(record).collect::<Vec<_>>()}
        }),
        (_, Ok(Record::Event(event))) => json!({ "event": of_event(&event) }),
        (_, Ok(Record::Quarantined(body))) => json!({ "quarantined": of_quarantined(&body) }),
        (_, Ok(Record::Claim(claim))) => json!({ "claim": {
            "source": claim.source, "id": claim.id, "received_at": time(claim.received_at_ms), "tries": claim.tries,
        } }),
        (_, Err(error)) => json!({ "unreadable": error.to_string(), "hex": to_hex(bytes) }),
    }
}

fn of_event(event: &PaymentEvent<'_>) -> Value {
    let money = event.amount.map(|money| money.to_decimal());
    json!({
        "event_id": event.event_id,
        "content_hash": to_hex(&event.content_hash.0),
        "payment_id": event.payment_id,
        "kind": event.kind.as_str(),
        "amount": money,
        "currency": event.amount.as_ref().map(|money| money.currency.as_str()),
        "event_time": time(event.event_time_ms),
        "version": time(event.version_ms),
        "received_at": time(event.received_at_ms),
        "provider": event.provider,
        "source": event.source,
        "account": event.account,
        "region": event.region,
        "provider_event_id": event.provider_event_id,
        "provider_event_type": event.provider_event_type,
        "provider_payment_id": event.provider_payment_id,
        "transaction_id": event.transaction_id,
        "order_ref": event.order_ref,
        "user_ref": event.user_ref,
    })
}

fn of_quarantined(quarantined: &Quarantined<'_>) -> Value {
    let headers: serde_json::Map<String, Value> =
        quarantined.headers.iter().map(|(name, value)| (name.to_string(), value.to_string().into())).collect();
    json!({
        "source": quarantined.source,
        "region": quarantined.region,
        "provider": quarantined.provider,
        "reason": quarantined.reason,
        "received_at": time(quarantined.received_at_ms),
        "headers": headers,
        "body": text(&quarantined.body),
    })
}

/// What an event says, in one line.
pub fn summary(event: &PaymentEvent<'_>) -> String {
    let amount = event.amount.map(|money| format!(" {} {}", money.to_decimal(), money.currency.as_str()));
    let order = event.order_ref.as_ref().map(|order| format!(" of order {order}"));
    format!(
        "{}{} {}{}",
        event.kind.as_str(),
        amount.unwrap_or_default(),
        event.provider_payment_id,
        order.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_shown_in_hexadecimal() {
        assert_eq!(record(b"\x01\xff"), json!({"unreadable": "record is cut short", "hex": "01ff"}));
        assert_eq!(text(b"\xff\x00"), json!({"hex": "ff00"}));
        assert_eq!(text(b"{\"a\":1}"), json!("{\"a\":1}"));
    }

    #[test]
    fn what_can_be_read_is_shown_field_by_field() {
        let body = Quarantined {
            source: "shop".into(),
            region: "eu".into(),
            provider: "tollgate".into(),
            reason: "unknown payment type".into(),
            received_at_ms: 0,
            body: b"{}".into(),
            headers: vec![("webhook-id".into(), "m1".into())],
        };
        let raw = Record::quarantined(&body);
        let expected = json!({"quarantined": {"source": "shop", "region": "eu", "provider": "tollgate",
            "reason": "unknown payment type", "received_at": "1970-01-01T00:00:00Z", "headers": {"webhook-id": "m1"},
            "body": "{}"}});
        assert_eq!(record(&raw), expected);
        let mut frame = domain::frame::begin(0, 64);
        frame.extend_from_slice(&raw);
        let expected = json!({"frame": {"staged_at": "1970-01-01T00:00:00Z", "records": [expected]}});
        assert_eq!(record(&frame), expected);
    }
}
