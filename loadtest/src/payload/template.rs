//! Bodies with gaps: parsed once, filled in for each event with a few copies.

use std::io::Write;

use crate::facts::{Facts, Run, adyen_psp};

/// What a gap is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Event,
    Payment,
    Transaction,
    Psp,
    OrderRef,
    Order,
    Amount,
    Total,
    CurrencyLower,
    CurrencyUpper,
    /// Whole seconds since 1970.
    Created,
    /// RFC 3339 with milliseconds, UTC.
    Time,
    /// RFC 3339 with an offset, as Adyen writes it.
    LocalTime,
    Signature,
}

impl Field {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "event" => Self::Event,
            "payment" => Self::Payment,
            "transaction" => Self::Transaction,
            "psp" => Self::Psp,
            "order_ref" => Self::OrderRef,
            "order" => Self::Order,
            "amount" => Self::Amount,
            "total" => Self::Total,
            "currency" => Self::CurrencyLower,
            "CURRENCY" => Self::CurrencyUpper,
            "created" => Self::Created,
            "time" => Self::Time,
            "local_time" => Self::LocalTime,
            "signature" => Self::Signature,
            _ => return None,
        })
    }
}

/// A body with gaps, written `$name$`.
#[derive(Debug, Default)]
pub struct Template {
    /// Each fixed text with the gap behind it.
    parts: Vec<(Vec<u8>, Option<Field>)>,
}

impl Template {
    /// Parses a body; `None` if a gap has no known name.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((fixed, behind)) = rest.split_once('$') {
            let (name, behind) = behind.split_once('$')?;
            parts.push((fixed.as_bytes().to_vec(), Some(Field::parse(name)?)));
            rest = behind;
        }
        parts.push((rest.as_bytes().to_vec(), None));
        Some(Self { parts })
    }

    /// Appends the body of an event.
    pub fn fill(&self, run: &Run, facts: &Facts, signature: &str, out: &mut Vec<u8>) {
        for (fixed, field) in &self.parts {
            out.extend_from_slice(fixed);
            match field {
                None => {}
                Some(Field::Event) => out.extend_from_slice(&run.token(facts.event)),
                Some(Field::Payment) => out.extend_from_slice(&run.token(facts.payment)),
                Some(Field::Transaction) => out.extend_from_slice(&run.token(facts.transaction)),
                Some(Field::Psp) => out.extend_from_slice(&run.token(adyen_psp(facts))),
                Some(Field::OrderRef) => {
                    out.extend_from_slice(run.order_prefix.as_bytes());
                    put_number(out, i64::from(facts.order), 8);
                }
                Some(Field::Order) => put_number(out, i64::from(facts.order), 1),
                Some(Field::Amount) => put_number(out, facts.amount, 1),
                Some(Field::Total) => put_number(out, facts.terms.total, 1),
                Some(Field::CurrencyLower) => out.extend_from_slice(facts.terms.currency.lower.as_bytes()),
                Some(Field::CurrencyUpper) => out.extend_from_slice(facts.terms.currency.code.as_bytes()),
                Some(Field::Created) => put_number(out, facts.time_ms.div_euclid(1000), 1),
                Some(Field::Time) => {
                    put_civil(out, facts.time_ms);
                    out.push(b'.');
                    put_number(out, facts.time_ms.rem_euclid(1000), 3);
                    out.push(b'Z');
                }
                Some(Field::LocalTime) => {
                    put_civil(out, facts.time_ms + 3_600_000);
                    out.extend_from_slice(b"+01:00");
                }
                Some(Field::Signature) => out.extend_from_slice(signature.as_bytes()),
            }
        }
    }
}

/// Appends a number that is not negative, with leading zeros up to `width`.
pub fn put_number(out: &mut Vec<u8>, number: i64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut rest = number.unsigned_abs();
    let mut start = digits.len();
    while rest > 0 || digits.len() - start < width.max(1) {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends `2026-11-24T10:00:00`.
fn put_civil(out: &mut Vec<u8>, time_ms: i64) {
    let time = jiff::Timestamp::from_second(time_ms.div_euclid(1000)).unwrap_or_default();
    let start = out.len();
    // Writing into a vector cannot fail.
    let _infallible = write!(out, "{time}");
    out.truncate(start + "2026-11-24T10:00:00".len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_in_full() {
        let written = |number, width| {
            let mut out = Vec::new();
            put_number(&mut out, number, width);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(written(0, 1), "0");
        assert_eq!(written(42, 8), "00000042");
        assert_eq!(written(1_795_514_400, 1), "1795514400");
        let mut out = Vec::new();
        put_civil(&mut out, 1_795_514_400_123);
        assert_eq!(out, b"2026-11-24T10:00:00");
    }

    #[test]
    fn unknown_gaps_are_noticed() {
        assert!(Template::parse("{\"a\":$amount$}").is_some());
        assert!(Template::parse("{\"a\":$amuont$}").is_none());
        assert!(Template::parse("{\"a\":$amount}").is_none());
    }
}
