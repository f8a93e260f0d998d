//! Ids: each a function of what an event itself says, so that the same event is always the same row.

use uuid::Uuid;

// Random once, then fixed: a change would give every payment another id.
const EVENTS: Uuid = Uuid::from_u128(0x9d2c_51a4_7b0e_4f7f_8a53_6e1f_0c94_b7d1);
const PAYMENTS: Uuid = Uuid::from_u128(0x3c8f_0b6e_d1a9_4b52_9f60_47e2_85ac_1d38);
const RECORDS: Uuid = Uuid::from_u128(0x6f1e_a2b7_94c3_4d0a_b8e5_30d7_5f29_c6e4);

/// The namespace of `order_id` and `user_id`: a shop computes the same ids with `uuid5(REFERENCES, reference)`.
pub const REFERENCES: Uuid = Uuid::from_u128(0xe0b5_7a3d_2c61_4e98_a7d4_1b8f_6093_52cf);

/// The longest id or reference that Tollgate takes, in bytes.
pub const TEXT_BYTES_MAX: usize = 255;

/// Whether a text can be an id: short, not empty, and free of control characters, which separate the parts of
/// hashed names and which Postgres refuses (NUL).
#[must_use]
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

/// The id of an event: provider, account and the provider's semantic event key.
#[must_use]
pub fn event_id(provider: &str, account: &str, event_key: &str) -> Uuid {
    named(EVENTS, provider, account, event_key)
}

/// The id of a payment: provider, account and the payment id that the event itself names.
#[must_use]
pub fn payment_id(provider: &str, account: &str, provider_payment_id: &str) -> Uuid {
    named(PAYMENTS, provider, account, provider_payment_id)
}

/// The id of a raw record (quarantined body, dead letter): the same bytes are the same row, however often they come.
#[must_use]
pub fn record_id(origin: &str, bytes: &[u8]) -> Uuid {
    let mut name = Vec::with_capacity(origin.len() + 1 + bytes.len());
    name.extend_from_slice(origin.as_bytes());
    name.push(0);
    name.extend_from_slice(bytes);
    Uuid::new_v5(&RECORDS, &name)
}

/// The id of a shop's reference (order, user): the reference itself where it is a UUID, else UUIDv5 of it.
#[must_use]
pub fn reference_id(reference: &str) -> Uuid {
    Uuid::try_parse(reference).unwrap_or_else(|_| Uuid::new_v5(&REFERENCES, reference.as_bytes()))
}

fn named(namespace: Uuid, provider: &str, account: &str, key: &str) -> Uuid {
    let mut name = Vec::with_capacity(provider.len() + account.len() + key.len() + 2);
    for (i, part) in [provider, account, key].into_iter().enumerate() {
        if i > 0 {
            name.push(0);
        }
        name.extend_from_slice(part.as_bytes());
    }
    Uuid::new_v5(&namespace, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden values (made with Python's `uuid.uuid5`): an id that moves would store every payment a second time.
    #[test]
    fn ids_never_move() {
        assert_eq!(event_id("stripe", "acct_1", "evt_1").to_string(), "d8fd5c97-d9b2-5c4d-8f32-bd346ac30160");
        assert_eq!(payment_id("stripe", "", "pi_1").to_string(), "64e356ee-9fa9-567f-ae27-f78576ddc9ab");
        assert_eq!(reference_id("A-1001").to_string(), "a57a8807-20f4-5a79-ae73-ab67e7c2ef33");
    }

    #[test]
    fn a_reference_that_is_a_uuid_is_itself() {
        let text = "c0ffee00-0000-4000-8000-000000000001";
        assert_eq!(reference_id(text).to_string(), text);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(event_id("a", "bc", "d"), event_id("ab", "c", "d"));
    }

    #[test]
    fn ids_are_short_and_printable() {
        assert!(is_id("evt_1"));
        assert!(!is_id(""));
        assert!(!is_id("a\0b"));
        assert!(!is_id(&"x".repeat(TEXT_BYTES_MAX + 1)));
    }
}
