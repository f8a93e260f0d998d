//! JSON values as providers write them, borrowed from the body where no escape forces a copy.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::Misunderstood;

/// Text that borrows inside an `Option` too (`Option<Cow<str>>` always copies).
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The text, unless it is missing or empty.
pub fn filled<'a>(text: Option<Text<'a>>) -> Option<Cow<'a, str>> {
    text.map(|text| text.0).filter(|text| !text.is_empty())
}

/// Text, or a number or boolean written as text: shops put any of them under a metadata key.
#[derive(Debug, Clone)]
pub enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// Null, an object or an array: no reference.
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(v.to_owned())))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(v.to_string())))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(v.to_string())))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// An integer, also where something on the way has written it with a point: JSON knows no difference (`1999.0`).
pub fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct IntegerVisitor;
    impl Visitor<'_> for IntegerVisitor {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer")
        }
        fn visit_i64<E>(self, v: i64) -> Result<i64, E> {
            Ok(v)
        }
        fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<i64, E> {
            i64::try_from(v).map_err(|_| E::custom("too large"))
        }
        fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<i64, E> {
            /// Up to here every integer has a float of its own.
            const MAX: f64 = 9_007_199_254_740_992.0;
            let is_integer = v.fract() == 0.0 && v.abs() < MAX;
            let text = if is_integer { format!("{v:.0}") } else { String::new() };
            text.parse().map_err(|_| E::custom("not an integer"))
        }
    }
    deserializer.deserialize_i64(IntegerVisitor)
}

/// A flat JSON object such as Stripe's `metadata`; anything else (Razorpay's empty `[]`, a text) is an empty one.
#[derive(Debug, Clone, Default)]
pub struct Metadata<'a>(Vec<(Text<'a>, Scalar<'a>)>);

impl<'a> Metadata<'a> {
    /// Takes the text under a key; empty text is none.
    pub fn take(&mut self, key: &str) -> Option<Cow<'a, str>> {
        let (_, value) = self.0.iter_mut().find(|(name, _)| name.0 == key)?;
        match std::mem::replace(value, Scalar::Other) {
            Scalar::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Metadata<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetadataVisitor;
        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = Metadata<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Metadata::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Metadata::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Metadata::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Metadata::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Metadata::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Metadata::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Metadata::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Metadata(pairs))
            }
        }
        deserializer.deserialize_any(MetadataVisitor)
    }
}

/// How the expectations begin that are told as they stand; they are the modules' own words.
pub const EXPECTED: &str = "expected ";

/// Parses JSON; the error says what is missing or expected and where, and nothing of what stood there.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Misunderstood> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let told = text.split(" at line ").next().unwrap_or_default();
        let what = match error.classify() {
            // Both name only what this code expects.
            serde_json::error::Category::Data if told.starts_with("missing field") || told.starts_with(EXPECTED) => {
                told
            }
            serde_json::error::Category::Data => "unexpected JSON value",
            _ => "broken JSON",
        };
        match error.line() {
            // Behind a value that was read to its end first.
            0 => what.to_owned(),
            line => format!("{what} at line {line} column {}", error.column()),
        }
        .into()
    })
}

/// Parses an RFC 3339 time into Unix milliseconds.
pub fn time_ms(text: &str) -> Result<i64, Misunderstood> {
    let time: jiff::Timestamp = text.parse().map_err(|_| Misunderstood::Borrowed("malformed time"))?;
    Ok(time.as_millisecond())
}
