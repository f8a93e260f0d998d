//! Values out of a JSON document by their pointers (RFC 6901), in one pass and without a tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Misunderstood;
use super::json::{Scalar, Text, misunderstood};

/// What stands at each pointer; at those that are not set stands nothing. Of a key that is repeated in an object the last
/// counts, and an index is written without a leading zero.
pub fn find<'a, const N: usize>(
    json: &'a [u8],
    pointers: [Option<&str>; N],
) -> Result<[Option<Scalar<'a>>; N], Misunderstood> {
    let mut found = [const { None }; N];
    let pointers = pointers.map(|pointer| pointer.map_or_else(Vec::new, tokens));
    let mut reader = serde_json::Deserializer::from_slice(json);
    let all = (0..N).fold(Set(0), Set::with);
    let walked = Walk { pointers: &pointers, here: all, depth: 0, found: &mut found }.deserialize(&mut reader);
    walked.and_then(|()| reader.end()).map_err(|error| misunderstood(&error))?;
    Ok(found)
}

/// The steps of a pointer into a document, behind an empty one that is the document itself.
fn tokens(pointer: &str) -> Vec<Token<'_>> {
    let is_pointer = pointer.is_empty() || pointer.starts_with('/');
    pointer.split('/').filter(|_| is_pointer).map(|text| Token { key: unescaped(text), index: index(text) }).collect()
}

/// One step: into an object by the key, into a list by the index.
struct Token<'p> {
    key: Cow<'p, str>,
    index: Option<usize>,
}

/// `~1` stands for a slash, `~0` for a tilde.
fn unescaped(token: &str) -> Cow<'_, str> {
    match token.contains('~') {
        true => token.replace("~1", "/").replace("~0", "~").into(),
        false => token.into(),
    }
}

/// The index that a token is.
fn index(token: &str) -> Option<usize> {
    let is_plain = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    is_plain.then(|| token.parse().ok()).flatten()
}

/// Pointers by their numbers, each a bit.
#[derive(Clone, Copy, PartialEq)]
struct Set(u32);

impl Set {
    fn with(self, number: usize) -> Self {
        Self(self.0 | 1 << number)
    }

    fn numbers(self) -> impl Iterator<Item = usize> {
        (0..u32::BITS as usize)
            .take_while(move |number| self.0 >> number != 0)
            .filter(move |number| self.0 >> number & 1 == 1)
    }
}

/// One value of the document, and the pointers that lead to it or into it.
struct Walk<'p, 'f, 'de, const N: usize> {
    pointers: &'p [Vec<Token<'p>>; N],
    here: Set,
    depth: usize,
    found: &'f mut [Option<Scalar<'de>>; N],
}

impl<'p, 'de, const N: usize> Walk<'p, '_, 'de, N> {
    /// Keeps what the pointers that end here point at; the others lead on.
    fn keep(&mut self, value: &Scalar<'de>) -> Set {
        let mut on = Set(0);
        for number in self.here.numbers() {
            match self.pointers[number].len() {
                len if len > self.depth + 1 => on = on.with(number),
                len if len == self.depth + 1 => self.found[number] = Some(value.clone()),
                _ => {}
            }
        }
        on
    }

    /// Those of the pointers whose next step this is.
    fn that(&self, on: Set, is_next: impl Fn(&Token<'p>) -> bool) -> Set {
        on.numbers().filter(|number| is_next(&self.pointers[*number][self.depth + 1])).fold(Set(0), Set::with)
    }

    /// A step further; what was found there before, under the same key, is replaced.
    fn step(&mut self, here: Set) -> Walk<'p, '_, 'de, N> {
        here.numbers().for_each(|number| self.found[number] = None);
        Walk { pointers: self.pointers, here, depth: self.depth + 1, found: self.found }
    }
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
        let on = self.keep(&Scalar::Other);
        let last = on.numbers().filter_map(|number| self.pointers[number][self.depth + 1].index).max();
        for at in 0..last.map_or(0, |last| last.saturating_add(1)) {
            let more = match self.that(on, |token| token.index == Some(at)) {
                Set(0) => seq.next_element::<IgnoredAny>()?.is_some(),
                next => seq.next_element_seed(self.step(next))?.is_some(),
            };
            if !more {
                return Ok(());
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let on = self.keep(&Scalar::Other);
        if on == Set(0) {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        }
        while let Some(Text(key)) = map.next_key()? {
            match self.that(on, |token| token.key == key) {
                Set(0) => drop(map.next_value::<IgnoredAny>()?),
                next => map.next_value_seed(self.step(next))?,
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
