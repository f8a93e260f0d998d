//! The primitives of Tollgate's binary records: little-endian integers and length-prefixed text, read with bounds.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

/// Why bytes are not a record that this version understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end in the middle of a field.
    #[error("record is cut short")]
    Truncated,
    /// A field has a value that no version of Tollgate writes.
    #[error("record has an invalid {0}")]
    Invalid(&'static str),
    /// Bytes are left over behind the last field.
    #[error("record has trailing bytes")]
    Trailing,
    /// Written by a version that this one does not know.
    #[error("unknown version {0}")]
    Version(u8),
}

/// Reads fields off the front of a slice; never copies, never reads past the end.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[b]| b)
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.array().map(Uuid::from_bytes)
    }

    /// A byte string behind a `u32` length.
    pub fn blob(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u32()?;
        self.bytes(usize::try_from(len).map_err(|_| DecodeError::Truncated)?)
    }

    /// Text behind a one-byte length ([`crate::ids::TEXT_BYTES_MAX`]).
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.u8()?;
        std::str::from_utf8(self.bytes(usize::from(len))?).map_err(|_| DecodeError::Invalid("text"))
    }

    /// Empty text stands for none.
    pub fn optional_text(&mut self) -> Result<Option<&'a str>, DecodeError> {
        self.text().map(|text| (!text.is_empty()).then_some(text))
    }

    pub fn finish(self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Appends text behind a one-byte length. What is longer than 255 bytes is cut at a character boundary; ids are
/// checked by [`crate::ids::is_id`] long before, so that only free text (a reason) can ever be cut.
pub fn put_text(out: &mut BytesMut, text: &str) {
    let text = &text[..text.floor_char_boundary(crate::ids::TEXT_BYTES_MAX)];
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text.as_bytes());
}

/// Appends a byte string behind a `u32` length.
pub fn put_blob(out: &mut BytesMut, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.put_u32_le(len);
    out.put_slice(&bytes[..bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX))]);
}
