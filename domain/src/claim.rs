//! A claim: somebody says that something happened to a payment, and the provider is to be asked what.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::DecodeError;
use crate::wire::{Reader, put_text};

/// What waits until its provider has been asked. It proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The configured source it came through.
    pub source: Cow<'a, str>,
    /// What the provider is asked for.
    pub id: Cow<'a, str>,
    /// When the gateway took it, Unix milliseconds.
    pub received_at_ms: i64,
    /// How often the provider was asked without an answer that settles it.
    pub tries: u8,
    /// The provider is not asked before, Unix milliseconds.
    pub due_at_ms: i64,
}

impl Claim<'_> {
    /// Appends the body of a frame's record.
    pub fn encode(&self, out: &mut BytesMut) {
        put_text(out, &self.source);
        put_text(out, &self.id);
        out.put_i64_le(self.received_at_ms);
        out.put_u8(self.tries);
        out.put_i64_le(self.due_at_ms);
    }

    /// Reads it back; borrows from `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Claim::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Claim<'_>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let claim = Claim {
            source: reader.text()?.into(),
            id: reader.text()?.into(),
            received_at_ms: reader.i64()?,
            tries: reader.u8()?,
            due_at_ms: reader.i64()?,
        };
        reader.finish()?;
        Ok(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes: what waits in queues while programs are replaced must be read by the newer.
    #[test]
    fn the_encoding_never_moves() {
        let claim = Claim { source: "m".into(), id: "tr_1".into(), received_at_ms: 7, tries: 2, due_at_ms: 258 };
        let mut out = BytesMut::new();
        claim.encode(&mut out);
        let golden = b"\x01m\x04tr_1\x07\0\0\0\0\0\0\0\x02\x02\x01\0\0\0\0\0\0";
        assert_eq!(&out[..], golden);
        assert_eq!(Claim::decode(golden), Ok(claim));
        for len in 0..golden.len() {
            assert_eq!(Claim::decode(&golden[..len]), Err(DecodeError::Truncated), "{len}");
        }
    }
}
