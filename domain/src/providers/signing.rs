//! The other side of `authenticate`: what a request's headers look like, and how one is signed.

use http::HeaderMap;

use super::Source;
use crate::signature::Secret;

/// A header of a provider's requests, as people need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name, lower-case.
    pub name: String,
    /// What stands in it, in words.
    pub form: String,
    /// A value of that form; as a signature it fits nothing.
    pub example: String,
}

impl Header {
    pub(super) fn new(name: &str, form: &str, example: &str) -> Self {
        Self { name: name.to_owned(), form: form.to_owned(), example: example.to_owned() }
    }
}

/// Signs a request with a secret at a time (Unix seconds), as the provider does; `None` if the secret can only verify, or
/// the body is not of the provider's form.
pub type Sign = fn(Unsigned<'_>, &Source, &Secret, i64) -> Option<Signed>;

/// A request before it is signed.
#[derive(Debug)]
pub struct Unsigned<'a> {
    /// The key of the event, for providers that have it in a header.
    pub event_key: &'a str,
    /// The body; of Braintree the XML that becomes a form.
    pub body: Vec<u8>,
}

/// What makes a request of its provider: headers beside the media type, and the body.
#[derive(Debug)]
pub struct Signed {
    /// Names, lower-case, and values.
    pub headers: Vec<(String, String)>,
    /// The body as it is sent.
    pub body: Vec<u8>,
}

impl Unsigned<'_> {
    /// The signature of `before` and the body.
    pub(super) fn signature(&self, secret: &Secret, before: &[&[u8]]) -> Option<Vec<u8>> {
        let signature = secret.sign(&[before, &[&self.body]].concat());
        (!signature.is_empty()).then_some(signature)
    }

    /// With its signature in a header.
    pub(super) fn signed(self, header: &str, signature: String) -> Signed {
        Signed { headers: vec![(header.to_owned(), signature)], body: self.body }
    }
}

impl Signed {
    /// Its headers as a request has them; those that are none are left out.
    #[must_use]
    pub fn header_map(&self) -> HeaderMap {
        let parsed = self.headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
        parsed.collect()
    }

    /// With a further header.
    pub(super) fn with(mut self, header: &str, value: String) -> Self {
        self.headers.push((header.to_owned(), value));
        self
    }
}
