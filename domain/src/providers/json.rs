//! JSON values as providers write them, borrowed from the body where no escape forces a copy.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Misunderstood;

/// Text that borrows inside an `Option` too (`Option<Cow<str>>` always copies).
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The text, unless it is missing or empty.
pub fn filled<'a>(text: Option<Text<'a>>) -> Option<Cow<'a, str>> {
    text.map(|text| text.0).filter(|text| !text.is_empty())
}

/// One value; of an object or array nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// As it is written, without a point or an exponent.
    Integer(i128),
    Null,
    /// A boolean, another number, an object or an array.
    Other,
}

impl<'a> Scalar<'a> {
    /// A text that is not empty, or an integer as text: shops put either under a metadata key.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text).filter(|text| !text.is_empty()),
            Self::Integer(number) => Some(Cow::Owned(number.to_string())),
            Self::Null | Self::Other => None,
        }
    }
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
                Ok(Scalar::Integer(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Integer(v.into()))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
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

/// A flat JSON object such as Stripe's `metadata`, read only where its texts are wanted; anything else (Razorpay's empty `[]`,
/// a text) is an empty one.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(transparent)]
pub struct Metadata<'a>(#[serde(borrow)] Option<&'a RawValue>);

impl<'a> Metadata<'a> {
    /// The texts under two keys, of each the first; empty text is none.
    pub fn texts(self, keys: [&str; 2]) -> Result<[Option<Cow<'a, str>>; 2], Misunderstood> {
        let Some(object) = self.0.filter(|raw| raw.get().starts_with('{')) else { return Ok([None, None]) };
        let found = Wanted(keys).deserialize(&mut serde_json::Deserializer::from_str(object.get()));
        Ok(found.map_err(|_| "broken JSON in metadata")?.map(|scalar| scalar.and_then(Scalar::text)))
    }
}

/// Reads an object for the scalars under two keys and keeps nothing else of it.
struct Wanted<'k>([&'k str; 2]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = [Option<Scalar<'de>>; 2];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = [Option<Scalar<'de>>; 2];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None, None];
        while let Some(Text(key)) = map.next_key()? {
            match (0..2).find(|at| found[*at].is_none() && self.0[*at] == key) {
                Some(at) => found[at] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// The first element of a list; the others are read past.
#[derive(Debug)]
pub struct First<T>(pub Option<T>);

impl<T> Default for First<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstVisitor<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let first = seq.next_element()?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(FirstVisitor(PhantomData))
    }
}

/// How the expectations begin that are told as they stand; they are the modules' own words.
pub const EXPECTED: &str = "expected ";

/// Parses JSON; the error says what is missing or expected and where, and nothing of what stood there.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Misunderstood> {
    serde_json::from_slice(bytes).map_err(|error| misunderstood(&error))
}

/// What is wrong with JSON, without any of it.
pub fn misunderstood(error: &serde_json::Error) -> Misunderstood {
    let text = error.to_string();
    let told = text.split(" at line ").next().unwrap_or_default();
    let what = match error.classify() {
        // Both name only what this code expects.
        serde_json::error::Category::Data if told.starts_with("missing field") || told.starts_with(EXPECTED) => told,
        serde_json::error::Category::Data => "unexpected JSON value",
        _ => "broken JSON",
    };
    match error.line() {
        // Behind a value that was read to its end first.
        0 => what.to_owned(),
        line => format!("{what} at line {line} column {}", error.column()),
    }
    .into()
}

/// Parses an RFC 3339 time into Unix milliseconds.
pub fn time_ms(text: &str) -> Result<i64, Misunderstood> {
    let time: jiff::Timestamp = text.parse().map_err(|_| Misunderstood::Borrowed("malformed time"))?;
    Ok(time.as_millisecond())
}
