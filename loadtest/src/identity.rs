//! Names of one run: every id carries the run's name and the index of its event, so that whatever is found anywhere
//! can be told apart from other runs and traced back without a table.

use crate::seeded::Seeded;

const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const NAME_BYTES: usize = 8;
const INDEX_BYTES: usize = 8;

/// Run and index as text: the variable part of every provider id. Sixteen capital letters and digits, as Adyen's
/// `pspReference` has.
pub type Token = [u8; NAME_BYTES + INDEX_BYTES];

/// The name of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunName([u8; NAME_BYTES]);

impl RunName {
    /// A name that no other run has: of its seed and the time of its start.
    pub fn new(seed: u64, now_us: i64) -> Self {
        let mut choices = Seeded::new(seed ^ now_us.unsigned_abs().rotate_left(32));
        let mut name = [0; NAME_BYTES];
        for (position, digit) in name.iter_mut().enumerate() {
            // A letter first: in lower case, as in order references, it is never taken for a token.
            *digit = DIGITS[choices.below(if position == 0 { 26 } else { 32 }) as usize];
        }
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The token of an event.
    pub fn token(&self, index: u32) -> Token {
        let mut token = [DIGITS[0]; NAME_BYTES + INDEX_BYTES];
        token[..NAME_BYTES].copy_from_slice(&self.0);
        let mut rest = index;
        for digit in token[NAME_BYTES..].iter_mut().rev() {
            *digit = DIGITS[(rest % 32) as usize];
            rest /= 32;
        }
        token
    }

    /// The event of the first token of this run in `bytes`; `Some(None)` if the run is named without an event.
    pub fn find(&self, bytes: &[u8]) -> Option<Option<u32>> {
        let start = bytes.windows(NAME_BYTES).position(|window| window == self.0)? + NAME_BYTES;
        let digits = bytes.get(start..start + INDEX_BYTES);
        Some(digits.and_then(|digits| {
            digits.iter().try_fold(0_u32, |index, digit| {
                let value = DIGITS.iter().position(|d| d == digit)?;
                index.checked_mul(32)?.checked_add(u32::try_from(value).ok()?)
            })
        }))
    }

    /// The prefix of every order reference of this run.
    pub fn order_prefix(&self) -> String {
        format!("lt-{}-", self.as_str().to_ascii_lowercase())
    }

    /// The reference of an order. All are of one length, so that they sort as their numbers do.
    pub fn order_ref(&self, order: u32) -> String {
        format!("{}{order:08}", self.order_prefix())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_lead_back_to_their_event() {
        let run = RunName::new(1, 2);
        for index in [0, 1, 31, 32, 719_999, u32::MAX] {
            let text = format!("evt_LT{}", std::str::from_utf8(&run.token(index)).unwrap());
            assert_eq!(run.find(text.as_bytes()), Some(Some(index)));
        }
        assert_eq!(RunName::new(1, 3).find(&run.token(1)), None);
        assert_eq!(run.find(run.as_str().as_bytes()), Some(None));
    }

    #[test]
    fn order_references_are_not_taken_for_tokens() {
        let run = RunName::new(9, 9);
        assert_eq!(run.find(run.order_ref(12).as_bytes()), None);
        assert_eq!(run.order_ref(12).len(), run.order_ref(12_345_678).len());
    }
}
