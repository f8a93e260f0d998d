//! Values out of a JSON document by their pointers (RFC 6901), in one pass and without a tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Misunderstood;
use super::json::{Scalar, Text, misunderstood};

/// Pointers that are looked for together; what is not set is nowhere.
pub type Pointers<'p, const N: usize> = [Option<&'p str>; N];

/// What stands at each pointer. Of a key that is repeated in an object the last counts, and an index is written without
/// a leading zero.
pub fn find<'a, const N: usize>(json: &'a [u8], at: Pointers<'_, N>) -> Result<[Option<Scalar<'a>>; N], Misunderstood> {
    let mut found = [const { None }; N];
    let mut reader = serde_json::Deserializer::from_slice(json);
    let walked = Walk { rest: at, found: &mut found }.deserialize(&mut reader);
    walked.and_then(|()| reader.end()).map_err(|error| misunderstood(&error))?;
    Ok(found)
}

/// One value of the document, and what is left of each pointer that leads into it.
struct Walk<'p, 'f, 'de, const N: usize> {
    rest: Pointers<'p, N>,
    found: &'f mut [Option<Scalar<'de>>; N],
}

impl<'p, 'de, const N: usize> Walk<'p, '_, 'de, N> {
    /// The value is what the pointers that end here point at.
    fn keep(&mut self, value: &Scalar<'de>) {
        for (rest, found) in self.rest.iter().zip(&mut *self.found) {
            if *rest == Some("") {
                *found = Some(value.clone());
            }
        }
    }

    /// Of each pointer that leads on its next token and what is left behind it.
    fn steps(&self) -> [Option<(&'p str, &'p str)>; N] {
        self.rest.map(|rest| {
            let rest = rest?.strip_prefix('/')?;
            Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
        })
    }

    /// The way into a child, for the pointers whose next token names it; none if there are no such.
    fn child(
        &mut self,
        steps: &[Option<(&'p str, &'p str)>; N],
        is_child: impl Fn(&str) -> bool,
    ) -> Option<Walk<'p, '_, 'de, N>> {
        let rest = steps.map(|step| step.filter(|(token, _)| is_child(token)).map(|(_, rest)| rest));
        // A key that is repeated replaces what stood under it.
        rest.iter().zip(&mut *self.found).filter(|(rest, _)| rest.is_some()).for_each(|(_, found)| *found = None);
        rest.iter().any(Option::is_some).then_some(Walk { rest, found: self.found })
    }
}

/// Whether a token is a key: `~1` stands for a slash, `~0` for a tilde.
fn is_key(token: &str, key: &str) -> bool {
    match token.contains('~') {
        true => token.replace("~1", "/").replace("~0", "~") == key,
        false => token == key,
    }
}

/// The index that a token is.
fn index(token: &str) -> Option<usize> {
    let is_plain = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    is_plain.then(|| token.parse().ok()).flatten()
}

impl<'de, const N: usize> DeserializeSeed<'de> for Walk<'_, '_, 'de, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Walk<'_, '_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_borrowed_str<E>(mut self, v: &'de str) -> Result<(), E> {
        self.keep(&Scalar::Text(v.into()));
        Ok(())
    }
    fn visit_str<E>(mut self, v: &str) -> Result<(), E> {
        self.keep(&Scalar::Text(v.to_owned().into()));
        Ok(())
    }
    fn visit_i64<E>(mut self, v: i64) -> Result<(), E> {
        self.keep(&Scalar::Integer(v.into()));
        Ok(())
    }
    fn visit_u64<E>(mut self, v: u64) -> Result<(), E> {
        self.keep(&Scalar::Integer(v.into()));
        Ok(())
    }
    fn visit_f64<E>(mut self, _: f64) -> Result<(), E> {
        self.keep(&Scalar::Other);
        Ok(())
    }
    fn visit_bool<E>(mut self, _: bool) -> Result<(), E> {
        self.keep(&Scalar::Other);
        Ok(())
    }
    fn visit_unit<E>(mut self) -> Result<(), E> {
        self.keep(&Scalar::Null);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.keep(&Scalar::Other);
        let steps = self.steps();
        let last = steps.iter().flatten().filter_map(|(token, _)| index(token)).max();
        for at in 0..last.map_or(0, |last| last.saturating_add(1)) {
            let more = match self.child(&steps, |token| index(token) == Some(at)) {
                Some(child) => seq.next_element_seed(child)?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.keep(&Scalar::Other);
        let steps = self.steps();
        if steps.iter().all(Option::is_none) {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        }
        while let Some(Text(key)) = map.next_key()? {
            match self.child(&steps, |token| is_key(token, &key)) {
                Some(child) => map.next_value_seed(child)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn scalar(value: &Value) -> Scalar<'_> {
        match value {
            Value::String(text) => Scalar::Text(text.as_str().into()),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Scalar::Integer(number.into()),
                (_, Some(number)) => Scalar::Integer(number.into()),
                _ => Scalar::Other,
            },
            Value::Null => Scalar::Null,
            _ => Scalar::Other,
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            Just(json!(1.5)),
            "[a\u{e4}\"]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            let map = prop::collection::btree_map("[ab/~0]{0,2}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                map.prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// What serde_json's own tree has at the same pointers.
        #[test]
        fn pointers_lead_where_a_tree_says(
            document in document(),
            at in prop::array::uniform4(prop::option::of("(/([ab]|[0-3]|00|a~1|~0|[ab]{2}){0,1}){0,3}")),
        ) {
            let json = serde_json::to_vec(&document).unwrap();
            let found = find(&json, at.each_ref().map(|at| at.as_deref())).unwrap();
            for (at, found) in at.iter().zip(found) {
                prop_assert_eq!(at.as_ref().and_then(|at| document.pointer(at)).map(scalar), found);
            }
        }
    }

    #[test]
    fn the_last_of_a_repeated_key_counts() {
        let at = [Some("/a/b"), Some("/a/c"), Some("/b")];
        let text = |text: &'static str| Some(Scalar::Text(text.into()));
        assert_eq!(
            find(br#"{"a":{"b":"x","c":"y"},"b":"z","a":{"b":"w"},"b":null}"#, at),
            Ok([text("w"), None, Some(Scalar::Null)])
        );
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for broken in [&b""[..], b"{", b"{}x", b"{\"a\":1,}", b"[1 2]", b"\"\xff\""] {
            assert!(find(broken, [Some("/a")]).is_err(), "{}", broken.escape_ascii());
        }
    }
}
