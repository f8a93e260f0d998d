//! What a secret holds: the prepared key of one of the signature schemes that providers use.

use ed25519_dalek::{Signature, VerifyingKey};
use hmac::digest::Output;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use super::Certificate;

/// A key ready for use: its HMAC state is prepared once, so that a request costs no key schedule.
#[derive(Clone)]
pub enum Key {
    /// HMAC-SHA256.
    HmacSha256(Hmac<Sha256>),
    /// HMAC-SHA512.
    HmacSha512(Box<Hmac<Sha512>>),
    /// HMAC-SHA1, of an owner whose name stands beside each signature (Braintree's public key).
    HmacSha1 {
        /// The owner's name.
        owner: String,
        /// The prepared key.
        mac: Hmac<Sha1>,
    },
    /// Ed25519; a public key only verifies.
    Ed25519(Box<VerifyingKey>),
    /// SHA256withRSA; the key of a certificate only verifies.
    Rsa(Box<Certificate>),
    /// What the provider's API is asked with. It signs and verifies nothing.
    Token(String),
}

impl Key {
    /// An HMAC-SHA256 key of raw bytes; `None` if there are none.
    #[must_use]
    pub fn hmac_sha256(key: &[u8]) -> Option<Self> {
        let mac = || Hmac::new_from_slice(key).ok();
        (!key.is_empty()).then(mac)?.map(Self::HmacSha256)
    }

    /// An HMAC-SHA512 key of raw bytes; `None` if there are none.
    #[must_use]
    pub fn hmac_sha512(key: &[u8]) -> Option<Self> {
        let mac = || Hmac::new_from_slice(key).ok();
        (!key.is_empty()).then(mac)?.map(|mac| Self::HmacSha512(Box::new(mac)))
    }

    /// An owner's HMAC-SHA1 key of raw bytes; `None` if there are none.
    #[must_use]
    pub fn hmac_sha1(owner: &str, key: &[u8]) -> Option<Self> {
        let mac = || Hmac::new_from_slice(key).ok();
        (!key.is_empty()).then(mac)?.map(|mac| Self::HmacSha1 { owner: owner.to_owned(), mac })
    }

    /// An Ed25519 public key of 32 raw bytes; `None` if it is no point of the curve, or one that signs anything.
    #[must_use]
    pub fn ed25519(key: &[u8]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
        (!key.is_weak()).then(|| Self::Ed25519(Box::new(key)))
    }

    /// A token of an HTTP header; `None` if it is empty or cannot stand in one.
    #[must_use]
    pub fn token(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self::Token(text.to_owned()))
    }

    /// The token, if it is one.
    #[must_use]
    pub fn as_token(&self) -> Option<&str> {
        match self {
            Self::Token(token) => Some(token),
            _ => None,
        }
    }

    /// Signs the parts in order; empty for a key that can only verify.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::HmacSha256(mac) => digest(mac, parts).to_vec(),
            Self::HmacSha512(mac) => digest(&**mac, parts).to_vec(),
            Self::HmacSha1 { mac, .. } => digest(mac, parts).to_vec(),
            Self::Ed25519(_) | Self::Rsa(_) | Self::Token(_) => Vec::new(),
        }
    }

    /// Whether any of the candidates is this key's signature of the parts. HMACs are compared in constant time.
    #[must_use]
    pub fn accepts(&self, parts: &[&[u8]], candidates: &[impl AsRef<[u8]>]) -> bool {
        match self {
            Self::HmacSha256(mac) => equals_any(&digest(mac, parts), candidates),
            Self::HmacSha512(mac) => equals_any(&digest(&**mac, parts), candidates),
            Self::HmacSha1 { mac, .. } => equals_any(&digest(mac, parts), candidates),
            Self::Ed25519(key) => accepts_ed25519(key, &parts.concat(), candidates),
            Self::Rsa(certificate) => certificate.accepts(parts, candidates),
            Self::Token(_) => false,
        }
    }

    /// From when to when the key itself says that it may be used, Unix seconds, inclusive.
    pub(super) fn validity(&self) -> (i64, i64) {
        match self {
            Self::Rsa(certificate) => (certificate.not_before_unix, certificate.not_after_unix),
            _ => (i64::MIN, i64::MAX),
        }
    }
}

fn digest<M: Mac + Clone>(mac: &M, parts: &[&[u8]]) -> Output<M> {
    let mut mac = mac.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes()
}

/// Lengths are no secret; of equal ones every byte is compared, and every candidate is.
fn equals_any(expected: &[u8], candidates: &[impl AsRef<[u8]>]) -> bool {
    let matched =
        candidates.iter().fold(Choice::from(0), |matched, candidate| matched | expected.ct_eq(candidate.as_ref()));
    bool::from(matched)
}

/// Strictly: no key and no signature of small order, so that a signature holds for one message only.
fn accepts_ed25519(key: &VerifyingKey, message: &[u8], candidates: &[impl AsRef<[u8]>]) -> bool {
    let signatures = candidates.iter().filter_map(|candidate| Signature::from_slice(candidate.as_ref()).ok());
    signatures.into_iter().any(|signature| key.verify_strict(message, &signature).is_ok())
}
