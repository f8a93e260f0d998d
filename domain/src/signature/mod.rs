//! Webhook signatures: secrets with windows of validity, over raw bytes, compared in constant time.

mod certificate;
mod key;

use std::fmt;

pub use certificate::{Certificate, is_under};
pub use key::Key;

/// Why a request was not let in. Counted by name; the answer never says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The signature header is missing.
    #[error("missing_signature")]
    Missing,
    /// The signature header (or the body that holds the signature) cannot be read.
    #[error("malformed_signature")]
    Malformed,
    /// No secret of the source gives this signature.
    #[error("wrong_signature")]
    Wrong,
    /// The signed time is too far from now.
    #[error("outside_tolerance")]
    Tolerance,
    /// The body, which holds the signature, cannot be read: a malformed request rather than a wrong signature.
    #[error("unreadable_body")]
    Unreadable,
}

impl Refusal {
    /// Every refusal, for counters that exist before the first one.
    pub const ALL: [Self; 5] = [Self::Missing, Self::Malformed, Self::Wrong, Self::Tolerance, Self::Unreadable];

    /// The label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing_signature",
            Self::Malformed => "malformed_signature",
            Self::Wrong => "wrong_signature",
            Self::Tolerance => "outside_tolerance",
            Self::Unreadable => "unreadable_body",
        }
    }
}

/// A secret ready for use: a key and when it may be used.
#[derive(Clone)]
pub struct Secret {
    key: Key,
    not_before_unix: i64,
    not_after_unix: i64,
}

impl Secret {
    /// An HMAC-SHA256 secret of raw key bytes, valid from `not_before` to `not_after` (Unix seconds, inclusive).
    #[must_use]
    pub fn new(key: &[u8], not_before_unix: Option<i64>, not_after_unix: Option<i64>) -> Option<Self> {
        Some(Self::of(Key::hmac_sha256(key)?, not_before_unix, not_after_unix))
    }

    /// A secret of a prepared key; a certificate's own validity narrows the secret's.
    #[must_use]
    pub fn of(key: Key, not_before_unix: Option<i64>, not_after_unix: Option<i64>) -> Self {
        let (from, to) = key.validity();
        Self {
            key,
            not_before_unix: not_before_unix.unwrap_or(i64::MIN).max(from),
            not_after_unix: not_after_unix.unwrap_or(i64::MAX).min(to),
        }
    }

    /// Whether the secret may be used at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now_unix: i64) -> bool {
        (self.not_before_unix..=self.not_after_unix).contains(&now_unix)
    }

    /// From when to when it may be used, Unix seconds, inclusive; `None` where there is no such limit.
    #[must_use]
    pub fn window(&self) -> (Option<i64>, Option<i64>) {
        let (from, to) = (self.not_before_unix, self.not_after_unix);
        (Some(from).filter(|from| *from != i64::MIN), Some(to).filter(|to| *to != i64::MAX))
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Signs the parts in order; empty for a secret that can only verify.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> Vec<u8> {
        self.key.sign(parts)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Tries every valid secret against every candidate signature; the index of the first that fits.
///
/// # Errors
/// [`Refusal::Wrong`] if none fits.
pub fn verify(
    secrets: &[Secret],
    now_unix: i64,
    parts: &[&[u8]],
    candidates: &[impl AsRef<[u8]>],
) -> Result<usize, Refusal> {
    verify_with(secrets, now_unix, |key| key.accepts(parts, candidates))
}

/// Tries every valid secret's key with a provider's own test; the index of the first that fits.
///
/// # Errors
/// [`Refusal::Wrong`] if none fits.
pub fn verify_with(secrets: &[Secret], now_unix: i64, accepts: impl Fn(&Key) -> bool) -> Result<usize, Refusal> {
    let fits = |secret: &Secret| secret.is_valid_at(now_unix) && accepts(&secret.key);
    secrets.iter().position(fits).ok_or(Refusal::Wrong)
}

/// Reads 64 hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(out)
}

/// Reads any even number of hexadecimal digits.
#[must_use]
pub fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?)).collect()
}

/// Writes bytes as lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The value of a hexadecimal digit, in any case.
pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// Refuses a signed time that is more than `tolerance` seconds away from now, either way.
///
/// # Errors
/// [`Refusal::Tolerance`].
pub fn check_time(signed_unix: i64, now_unix: i64, tolerance_seconds: i64) -> Result<(), Refusal> {
    if signed_unix.abs_diff(now_unix) <= tolerance_seconds.unsigned_abs() { Ok(()) } else { Err(Refusal::Tolerance) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_matches_the_rfc() {
        let secret = Secret::new(b"Jefe", None, None).unwrap();
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(secret.sign(&[b"what do ya want ", b"for nothing?"]), hex_bytes(expected).unwrap());
    }

    #[test]
    fn any_of_several_secrets_and_signatures_may_match_within_its_window() {
        let old = Secret::new(b"old", None, Some(100)).unwrap();
        let new = Secret::new(b"new", Some(90), None).unwrap();
        let secrets = [old.clone(), new.clone()];
        let of_old = old.sign(&[b"body"]);
        let of_new = new.sign(&[b"body"]);
        assert_eq!(verify(&secrets, 95, &[b"body"], &[vec![0; 32], of_old.clone()]), Ok(0));
        assert_eq!(verify(&secrets, 95, &[b"body"], std::slice::from_ref(&of_new)), Ok(1));
        assert_eq!(verify(&secrets, 101, &[b"body"], &[of_old]), Err(Refusal::Wrong));
        assert_eq!(verify(&secrets, 89, &[b"body"], std::slice::from_ref(&of_new)), Err(Refusal::Wrong));
        assert_eq!(verify(&secrets, 95, &[b"body"], &[[0; 0]; 0]), Err(Refusal::Wrong));
        assert_eq!(verify(&[], 95, &[b"body"], &[of_new]), Err(Refusal::Wrong));
    }

    #[test]
    fn a_secret_never_prints() {
        assert_eq!(format!("{:?}", Secret::new(b"whsec", None, None).unwrap()), "Secret(…)");
    }

    #[test]
    fn hex_is_strict() {
        assert!(from_hex(&"g".repeat(64)).is_none());
        assert!(from_hex(&"a".repeat(63)).is_none());
        assert_eq!(hex_bytes("0aFF"), Some(vec![10, 255]));
        assert_eq!(to_hex(&[10, 255]), "0aff");
        assert_eq!(hex_bytes("+1"), None);
    }

    #[test]
    fn tolerance_is_symmetric_and_does_not_overflow() {
        assert_eq!(check_time(1000, 1300, 300), Ok(()));
        assert_eq!(check_time(1301, 1000, 300), Err(Refusal::Tolerance));
        assert_eq!(check_time(i64::MIN, i64::MAX, 300), Err(Refusal::Tolerance));
    }
}
