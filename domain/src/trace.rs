//! Trace contexts (W3C Trace Context, level 1): which trace an event belongs to, and the span that it came from.

use std::fmt;

use crate::signature::hex_bytes;

/// The trace and the span that others continue. Only sampled ones travel: what is not traced carries nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The whole trace.
    pub trace_id: [u8; 16],
    /// The span that what follows is a child of.
    pub span_id: [u8; 8],
}

impl TraceContext {
    /// Bytes of an encoded context.
    pub const BYTES: usize = 24;

    /// Reads a `traceparent` header; none if it is not one, or says that the trace is not sampled.
    ///
    /// `version "-" trace-id "-" parent-id "-" flags`, all lower-case hex; later versions may append more
    /// (<https://www.w3.org/TR/trace-context/#traceparent-header>).
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let version = hex::<1>(parts.next()?)?;
        let context = Self { trace_id: hex(parts.next()?)?, span_id: hex(parts.next()?)? };
        let flags = hex::<1>(parts.next()?)?;
        let is_known = version != [0xFF] && (version != [0] || parts.next().is_none());
        let is_named = context.trace_id != [0; 16] && context.span_id != [0; 8];
        (is_known && is_named && flags[0] & 1 == 1).then_some(context)
    }

    /// The bytes that travel with a record.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..].copy_from_slice(&self.span_id);
        bytes
    }

    /// Reads [`TraceContext::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut context = Self { trace_id: [0; 16], span_id: [0; 8] };
        context.trace_id.copy_from_slice(&bytes[..16]);
        context.span_id.copy_from_slice(&bytes[16..]);
        context
    }
}

/// The trace id in hex, as logs and trace stores show it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.trace_id))
    }
}

/// So many bytes as lower-case digits; upper-case ones are not allowed here.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 || text.bytes().any(|digit| digit.is_ascii_uppercase()) {
        return None;
    }
    hex_bytes(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_sampled_context_is_read() {
        let context = TraceContext::parse(SAMPLED).unwrap();
        assert_eq!(context.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(TraceContext::from_bytes(context.to_bytes()), context);
        let later = format!("cc{}-what-comes-later", &SAMPLED[2..]);
        assert_eq!(TraceContext::parse(&later), Some(context));
    }

    #[test]
    fn what_is_not_sampled_or_not_a_context_is_none() {
        let refused = [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ];
        for text in refused {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(text in ".{0,80}") {
            let _ = TraceContext::parse(&text);
        }
    }
}
