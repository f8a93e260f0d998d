//! A quarantined body: verified, not understood, kept raw so that it can be put through again after a fix.

mod headers;

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

pub use headers::{HEADERS_BYTES_MAX, keep, restore};

use crate::wire::{Reader, put_blob, put_text};
use crate::{DecodeError, ids};

/// Headers with their values, ordered by name, each name once.
pub type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// A verified request, or one item of it, that could not be turned into a payment event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined<'a> {
    /// The configured source it came through.
    pub source: Cow<'a, str>,
    /// Its region.
    pub region: Cow<'a, str>,
    /// `stripe`, `adyen`, …
    pub provider: Cow<'a, str>,
    /// What was not understood; says no secret and no card data.
    pub reason: Cow<'a, str>,
    /// When the gateway took it, Unix milliseconds.
    pub received_at_ms: i64,
    /// The raw bytes that were verified.
    pub body: Cow<'a, [u8]>,
    /// The request's headers that its meaning may depend on, see [`keep`].
    pub headers: Headers<'a>,
}

impl Quarantined<'_> {
    /// A function of source and body: a provider's retry is the same row.
    #[must_use]
    pub fn id(&self) -> Uuid {
        ids::record_id(&self.source, &self.body)
    }

    /// Appends the body of a frame's record. Headers are a section at its end that is only there if there are any, as
    /// versions before it wrote none.
    pub fn encode(&self, out: &mut BytesMut) {
        for text in [&self.source, &self.region, &self.provider, &self.reason] {
            put_text(out, text);
        }
        out.put_i64_le(self.received_at_ms);
        put_blob(out, &self.body);
        if let (false, Ok(count)) = (self.headers.is_empty(), u8::try_from(self.headers.len())) {
            out.put_u8(count);
            for (name, value) in &self.headers {
                put_text(out, name);
                put_text(out, value);
            }
        }
    }

    /// Reads it back; borrows from `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Quarantined::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Quarantined<'_>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let mut quarantined = Quarantined {
            source: r.text()?.into(),
            region: r.text()?.into(),
            provider: r.text()?.into(),
            reason: r.text()?.into(),
            received_at_ms: r.i64()?,
            body: r.blob()?.into(),
            headers: Vec::new(),
        };
        if !r.is_empty() {
            let count = r.u8()?;
            if count == 0 {
                return Err(DecodeError::Invalid("number of headers"));
            }
            for _ in 0..count {
                quarantined.headers.push((r.text()?.into(), r.text()?.into()));
            }
        }
        reader.finish()?;
        Ok(quarantined)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What versions without headers wrote.
    const OLD: &[u8] = b"\x04shop\x02eu\x08tollgate\x03why\x07\0\0\0\0\0\0\0\x02\0\0\0{}";
    const NEW: &[u8] = b"\x04shop\x02eu\x08tollgate\x03why\x07\0\0\0\0\0\0\0\x02\0\0\0{}\x02\x02id\x011\x04type\x01t";

    fn quarantined(headers: Headers<'_>) -> Quarantined<'_> {
        Quarantined {
            source: "shop".into(),
            region: "eu".into(),
            provider: "tollgate".into(),
            reason: "why".into(),
            received_at_ms: 7,
            body: b"{}".into(),
            headers,
        }
    }

    fn encoded(quarantined: &Quarantined<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        quarantined.encode(&mut out);
        out
    }

    /// Golden bytes: what waits in queues while programs are replaced must be read by both versions, or by the newer.
    #[test]
    fn the_encoding_never_moves() {
        let without = quarantined(Vec::new());
        let with = quarantined(vec![("id".into(), "1".into()), ("type".into(), "t".into())]);
        assert_eq!(&encoded(&without)[..], OLD);
        assert_eq!(&encoded(&with)[..], NEW);
        assert_eq!(Quarantined::decode(OLD), Ok(without.clone()));
        assert_eq!(Quarantined::decode(NEW), Ok(with.clone()));
        assert_eq!(with.id(), without.id(), "a provider's retry has other headers");
    }

    #[test]
    fn a_broken_section_of_headers_is_refused() {
        for len in OLD.len() + 1..NEW.len() {
            assert_eq!(Quarantined::decode(&NEW[..len]), Err(DecodeError::Truncated), "{len}");
        }
        assert_eq!(Quarantined::decode(&[NEW, b"x"].concat()), Err(DecodeError::Trailing));
        let none = [OLD, b"\0"].concat();
        assert_eq!(Quarantined::decode(&none), Err(DecodeError::Invalid("number of headers")));
    }
}
