//! A provider's X.509 certificate as a key that only verifies: SHA256withRSA.

use rsa::PublicKey;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use sha2::Sha256;
use x509_cert::certificate::{Certificate as X509, TbsCertificate};
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::referenced::OwnedToRef;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const RSA_BITS_MIN: u32 = 2048;

/// A certificate that the configuration vouches for: its issuer is not looked at.
#[derive(Clone)]
pub struct Certificate {
    key: VerifyingKey<Sha256>,
    pub(super) not_before_unix: i64,
    pub(super) not_after_unix: i64,
}

impl Certificate {
    /// Reads the first certificate of a PEM text; it must be of `domain` or a host under it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(pem: &str, domain: &str) -> Result<Self, &'static str> {
        let chain = X509::load_pem_chain(pem.as_bytes()).map_err(|_| "is not a certificate in PEM")?;
        let certificate = chain.first().ok_or("is not a certificate in PEM")?.tbs_certificate();
        if !names(certificate).iter().any(|name| is_under(name, domain)) {
            return Err("is a certificate of another host");
        }
        let key = PublicKey::try_from(certificate.subject_public_key_info().owned_to_ref());
        let key = key.map_err(|_| "is a certificate without an RSA key")?;
        if key.n().bit_width() < RSA_BITS_MIN {
            return Err("is a certificate whose RSA key is too short");
        }
        let unix = |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs());
        let validity = certificate.validity();
        Ok(Self {
            key: VerifyingKey::new(key),
            not_before_unix: unix(&validity.not_before).map_err(|_| "is a certificate without a time")?,
            not_after_unix: unix(&validity.not_after).map_err(|_| "is a certificate without a time")?,
        })
    }

    /// Whether any of the candidates is the signature of the parts.
    pub(super) fn accepts(&self, parts: &[&[u8]], candidates: &[impl AsRef<[u8]>]) -> bool {
        let message = parts.concat();
        let signatures = candidates.iter().filter_map(|candidate| Signature::try_from(candidate.as_ref()).ok());
        signatures.into_iter().any(|signature| self.key.verify(&message, &signature).is_ok())
    }
}

/// The hosts a certificate is for: its common name and its alternative DNS names.
fn names(certificate: &TbsCertificate) -> Vec<String> {
    let common = certificate.subject().iter().filter(|attribute| attribute.oid == COMMON_NAME);
    let common = common.filter_map(|attribute| String::from_utf8(attribute.value.value().to_vec()).ok());
    let alternative = certificate.extensions().into_iter().flatten().filter(|e| e.extn_id == SUBJECT_ALT_NAME);
    let alternative = alternative.filter_map(|e| SubjectAltName::from_der(e.extn_value.as_bytes()).ok());
    let dns = alternative.flat_map(|names| names.0).filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        _ => None,
    });
    common.chain(dns).collect()
}

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// Whether a host is a domain or lies under it.
#[must_use]
pub fn is_under(host: &str, domain: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_lies_under_its_domain_only() {
        for host in ["paypal.com", "api.paypal.com", "A.B.PayPal.com"] {
            assert!(is_under(host, "paypal.com"), "{host}");
        }
        for host in ["", "com", "evilpaypal.com", "paypal.com.evil.example", "paypal.co"] {
            assert!(!is_under(host, "paypal.com"), "{host}");
        }
    }
}
