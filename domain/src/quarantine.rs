//! A quarantined body: verified, not understood, kept raw so that it can be put through again after a fix.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use crate::wire::{Reader, put_blob, put_text};
use crate::{DecodeError, ids};

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
}

impl Quarantined<'_> {
    /// A function of source and body: a provider's retry is the same row.
    #[must_use]
    pub fn id(&self) -> Uuid {
        ids::record_id(&self.source, &self.body)
    }

    /// Appends the body of a frame's record.
    pub fn encode(&self, out: &mut BytesMut) {
        for text in [&self.source, &self.region, &self.provider, &self.reason] {
            put_text(out, text);
        }
        out.put_i64_le(self.received_at_ms);
        put_blob(out, &self.body);
    }

    /// Reads it back; borrows from `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Quarantined::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Quarantined<'_>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let quarantined = Quarantined {
            source: r.text()?.into(),
            region: r.text()?.into(),
            provider: r.text()?.into(),
            reason: r.text()?.into(),
            received_at_ms: r.i64()?,
            body: r.blob()?.into(),
        };
        reader.finish()?;
        Ok(quarantined)
    }
}
