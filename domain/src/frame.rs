//! Frames: one AMQP message that carries one or more records, each behind its length, so that a record that can
//! not be read never takes its neighbours with it.
//!
//! ```text
//! frame  := "TGF" version:u8 staged_at_ms:i64 record*
//! record := length:u32 tag:u8 context? body   (little-endian; length counts what follows it)
//! ```
//!
//! A tag with its highest bit set has a trace context of 24 bytes behind it: the event is traced.

use bytes::{BufMut, Bytes, BytesMut};

use crate::claim::Claim;
use crate::quarantine::Quarantined;
use crate::wire::Reader;
use crate::{DecodeError, PaymentEvent, TraceContext};

const MAGIC: [u8; 3] = *b"TGF";
const VERSION: u8 = 1;
const TAG_EVENT: u8 = 1;
const TAG_QUARANTINED: u8 = 2;
const TAG_CLAIM: u8 = 3;
/// The bit of a tag that says that a trace context follows.
const TRACED: u8 = 0x80;

/// Bytes of a frame before its first record.
pub const HEADER_BYTES: usize = 12;
/// Bytes that a record adds to its body.
pub const RECORD_OVERHEAD_BYTES: usize = 5;

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
// Nearly all are events; a box for each would be an allocation an event on the hot path.
#[allow(clippy::large_enum_variant)]
pub enum Record<'a> {
    /// A payment event.
    Event(PaymentEvent<'a>),
    /// A verified body that was not understood.
    Quarantined(Quarantined<'a>),
    /// What a provider is to be asked about.
    Claim(Claim<'a>),
}

impl<'a> Record<'a> {
    /// Encodes an event as a whole record, length included.
    #[must_use]
    pub fn event(event: &PaymentEvent<'_>) -> Bytes {
        record(TAG_EVENT, 384, |out| event.encode(out))
    }

    /// Encodes a quarantined body as a whole record, length included.
    #[must_use]
    pub fn quarantined(body: &Quarantined<'_>) -> Bytes {
        record(TAG_QUARANTINED, body.body.len() + 512, |out| body.encode(out))
    }

    /// Encodes a claim as a whole record, length included.
    #[must_use]
    pub fn claim(claim: &Claim<'_>) -> Bytes {
        record(TAG_CLAIM, 192, |out| claim.encode(out))
    }

    /// Reads a whole record as [`Frame::records`] yields it.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a record that this version understands.
    pub fn decode(raw: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(raw);
        let body = reader.blob()?;
        reader.finish()?;
        let (tag, mut body) = body.split_first().ok_or(DecodeError::Truncated)?;
        if tag & TRACED != 0 {
            body = body.get(TraceContext::BYTES..).ok_or(DecodeError::Truncated)?;
        }
        match tag & !TRACED {
            TAG_EVENT => PaymentEvent::decode(body).map(Record::Event),
            TAG_QUARANTINED => Quarantined::decode(body).map(Record::Quarantined),
            TAG_CLAIM => Claim::decode(body).map(Record::Claim),
            _ => Err(DecodeError::Invalid("tag")),
        }
    }
}

/// A copy of a whole record that carries a trace context.
#[must_use]
pub fn traced(raw: &[u8], context: TraceContext) -> Bytes {
    let (tag, body) = raw.get(4..).and_then(<[u8]>::split_first).unwrap_or((&0, &[]));
    record(tag | TRACED, raw.len() + TraceContext::BYTES, |out| {
        out.put_slice(&context.to_bytes());
        out.put_slice(body);
    })
}

/// The trace context of a raw record, if it carries one. One comparison where it does not.
#[must_use]
pub fn context(raw: &[u8]) -> Option<TraceContext> {
    let (tag, rest) = raw.get(4..)?.split_first()?;
    (tag & TRACED != 0).then(|| rest.first_chunk().copied().map(TraceContext::from_bytes))?
}

fn record(tag: u8, capacity: usize, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(capacity);
    out.put_u32_le(0);
    out.put_u8(tag);
    body(&mut out);
    let len = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&len.to_le_bytes());
    out.freeze()
}

/// Starts a frame; whole records are appended behind it as they are.
#[must_use]
pub fn begin(staged_at_ms: i64, capacity: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(capacity.max(HEADER_BYTES));
    frame.extend_from_slice(&MAGIC);
    frame.push(VERSION);
    frame.extend_from_slice(&staged_at_ms.to_le_bytes());
    frame
}

/// A frame as it was received.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// When the program in front put it into the queue, Unix milliseconds.
    pub staged_at_ms: i64,
    records: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`DecodeError`] if these bytes are not a frame of a known version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array::<3>()? != MAGIC {
            return Err(DecodeError::Invalid("magic"));
        }
        match reader.u8()? {
            VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        Ok(Self { staged_at_ms: reader.i64()?, records: &bytes[HEADER_BYTES..] })
    }

    /// The raw records, length included, in order. If a length is broken the rest comes as one record, which will
    /// not decode: nothing is skipped.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records(self.records)
    }
}

/// Iterator over the raw records of a frame.
#[derive(Debug, Clone)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.first_chunk::<4>().and_then(|len| {
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            len.checked_add(4).filter(|end| *end <= self.0.len())
        });
        let (raw, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        Some(raw)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Kind;
    use crate::event::samples::event;
    use proptest::prelude::*;

    fn frame(records: &[Bytes]) -> Vec<u8> {
        let mut frame = begin(7, 64);
        records.iter().for_each(|r| frame.extend_from_slice(r));
        frame
    }

    #[test]
    fn records_come_back_in_order() {
        let first = event(Kind::Authorized, "evt_1", 1000, 500);
        let body = Quarantined {
            source: "s".into(),
            region: "eu".into(),
            provider: "stripe".into(),
            reason: "unknown payment type".into(),
            received_at_ms: 3,
            body: vec![0xFF; 70_000].into(),
            headers: vec![("webhook-id".into(), "msg_1".into())],
        };
        let bytes = frame(&[Record::event(&first), Record::quarantined(&body)]);
        let parsed = Frame::parse(&bytes).unwrap();
        assert_eq!(parsed.staged_at_ms, 7);
        let records: Vec<_> = parsed.records().map(|raw| Record::decode(raw).unwrap()).collect();
        assert_eq!(records, [Record::Event(first), Record::Quarantined(body)]);
    }

    #[test]
    fn a_traced_record_is_the_same_event_with_its_context() {
        let event = event(Kind::Authorized, "evt_1", 1000, 500);
        let plain = Record::event(&event);
        let context_in = TraceContext { trace_id: [7; 16], span_id: [9; 8] };
        let carried = traced(&plain, context_in);
        let bytes = frame(&[plain.clone(), carried, plain]);
        let frame = Frame::parse(&bytes).unwrap();
        let contexts: Vec<_> = frame.records().map(context).collect();
        assert_eq!(contexts, [None, Some(context_in), None]);
        assert!(frame.records().all(|raw| Record::decode(raw).unwrap() == Record::Event(event.clone())));
        let cut = &bytes[HEADER_BYTES..HEADER_BYTES + 20];
        assert_eq!(context(&[&[16, 0, 0, 0, TAG_EVENT | TRACED], &cut[..11]].concat()), None);
    }

    #[test]
    fn a_poisoned_record_stays_alone() {
        let good = Record::event(&event(Kind::Authorized, "evt_1", 1000, 500));
        let mut poison = good.to_vec();
        poison[5 + 48] = 99; // a kind that no version writes
        let bytes = frame(&[good.clone(), poison.into(), good]);
        let results: Vec<_> = Frame::parse(&bytes).unwrap().records().map(|r| Record::decode(r).is_ok()).collect();
        assert_eq!(results, [true, false, true]);
    }

    #[test]
    fn a_broken_length_yields_the_rest_as_one_record() {
        let good = Record::event(&event(Kind::Authorized, "evt_1", 1000, 500));
        let bytes = frame(&[good, Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0xFF, 1, 2])]);
        let results: Vec<_> = Frame::parse(&bytes).unwrap().records().map(|r| Record::decode(r).is_ok()).collect();
        assert_eq!(results, [true, false]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_are_lost(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = frame(&[tail.clone().into()]);
            let parsed = Frame::parse(&bytes).unwrap();
            parsed.records().for_each(|raw| { let _ = (Record::decode(raw), context(raw)); });
            prop_assert_eq!(parsed.records().map(<[u8]>::len).sum::<usize>(), tail.len());
            let _ = Frame::parse(&tail);
        }
    }
}
