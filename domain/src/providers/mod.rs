//! Payment providers: how each signs its webhooks and what its events mean.
//!
//! A provider is one module with the same parts, and one line in [`ALL`]: `prepare_secret` and `authenticate` say who sent
//! it, `normalise` says what it means, `answer` is the body of a 200; `headers` and `signed` describe its signature to
//! people, `sign` and `samples` make requests of its kind to try things out.

mod adyen;
mod adyen_platform;
mod braintree;
mod checkout;
mod draft;
mod form;
mod generic;
mod json;
mod mollie;
mod mollie_classic;
mod paypal;
mod pointers;
mod razorpay;
mod sample;
mod signing;
mod square;
mod stripe;
mod tollgate;
mod xml;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use adyen::sign_item as sign_adyen_item;
pub use generic::{Algorithm, Encoding, Fields, Generic, KindName};
use http::HeaderMap;
pub use sample::{Gaps, Sample, samples};
pub use signing::{Header, Sign, Signed, Unsigned};

use crate::PaymentEvent;
use crate::signature::{Key, Refusal, Secret};

/// The providers that a source can be configured for.
pub const ALL: &[&Provider] = &[
    &tollgate::PROVIDER,
    &stripe::PROVIDER,
    &adyen::PROVIDER,
    &square::PROVIDER,
    &checkout::PROVIDER,
    &razorpay::PROVIDER,
    &mollie::PROVIDER,
    &mollie_classic::PROVIDER,
    &paypal::PROVIDER,
    &braintree::PROVIDER,
    &generic::PROVIDER,
    &adyen_platform::PROVIDER,
];

/// Finds a provider by the name used in the configuration.
#[must_use]
pub fn find(name: &str) -> Option<&'static Provider> {
    ALL.iter().copied().find(|provider| provider.name == name)
}

/// [`Provider::refunds_name_captures`] by the provider's name.
#[must_use]
pub fn refunds_name_captures(provider: &str) -> bool {
    find(provider).is_some_and(|provider| provider.refunds_name_captures)
}

/// How a provider checks an address: a GET with a challenge in its query.
#[derive(Debug)]
pub struct Challenge {
    /// The query's parameter.
    pub parameter: &'static str,
    /// The regular expression of its value.
    pub pattern: &'static str,
    /// From the query, the secrets and the time (Unix seconds) to the body of the 200; none for a query that is no challenge.
    pub answer: fn(&str, &[Secret], i64) -> Option<String>,
}

/// How what happened is asked of a provider whose webhooks only name a payment, unsigned.
#[derive(Debug)]
pub struct Fetch {
    /// The address of its API, without a slash at the end.
    pub api: &'static str,
    /// The path and query of what the webhook names.
    pub path: fn(&str) -> String,
    /// Whether an answer is about what was asked for. Anything else, whatever its status says, is none of the provider's.
    pub is_about: fn(&[u8], &str) -> bool,
    /// Turns the API's answer into what it says, one item for each event in it, never none.
    pub read: for<'a> fn(&'a [u8], &'a Source, i64) -> Vec<Item<'a>>,
}

/// What Tollgate knows of one payment provider.
#[derive(Debug)]
pub struct Provider {
    /// The name in the configuration, in Cassandra and in metrics.
    pub name: &'static str,
    /// The media types of its requests.
    pub media: &'static [&'static str],
    /// What the body must be for its signature to be looked at: a JSON Schema.
    pub body: &'static str,
    /// Turns a configured secret into a key.
    ///
    /// # Errors
    /// What is wrong with it or missing in the source, in words; never the secret.
    pub prepare_secret: fn(&str, &Source) -> Result<Key, &'static str>,
    /// Checks the signature over the raw request at a time (Unix seconds); the index of the secret that verified it.
    pub authenticate: fn(&Delivery<'_>, &Source, &[Secret], i64) -> Result<usize, Refusal>,
    /// Turns an authenticated request into what it says, one item for each event in it, never none.
    pub normalise: for<'a> fn(&Delivery<'a>, &'a Source, i64) -> Vec<Item<'a>>,
    /// The body of the 200 that the provider expects.
    pub answer: &'static str,
    /// Answers the GET by which some providers check an address.
    pub challenge: Option<Challenge>,
    /// For providers that do not sign: `authenticate` looks only at the form, `normalise` gives [`Item::Claim`], and the secrets are
    /// tokens of the provider's API, which is asked.
    pub fetch: Option<Fetch>,
    /// The headers that `normalise` reads.
    pub event_headers: &'static [&'static str],
    /// Whether its refunds and disputes name a capture and not the payment that was captured.
    pub refunds_name_captures: bool,
    /// The headers, beside the media type, that its requests carry; which they are may be configured.
    pub headers: fn(&Source) -> Vec<Header>,
    /// What is signed and how, in words.
    pub signed: &'static str,
    /// Signs as the provider does; `None` where only the provider has the key for it.
    pub sign: Option<Sign>,
    /// Bodies with gaps, one a line: a type and the body. See [`samples`].
    pub samples: &'static str,
}

impl Provider {
    /// What a body says that is known to be the provider's: a signed request's, or the answer of its API.
    #[must_use]
    pub fn read<'a>(&self, delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
        match &self.fetch {
            Some(fetch) => (fetch.read)(delivery.body, source, now_ms),
            None => (self.normalise)(delivery, source, now_ms),
        }
    }
}

/// The media type of all providers but those that send a form.
const JSON: &[&str] = &["application/json"];

/// The body of all providers whose signature covers it as it is: whatever it be.
const ANY: &str = "{}";

/// One request as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The raw body.
    pub body: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// A header that must be there exactly once, as visible ASCII.
    fn header(&self, name: &str) -> Result<&'a str, Refusal> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().ok_or(Refusal::Missing)?;
        if values.next().is_some() {
            return Err(Refusal::Malformed);
        }
        value.to_str().map_err(|_| Refusal::Malformed)
    }
}

/// The configuration of a source that the meaning of its events depends on.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Its name: the last part of the webhook's URL.
    pub name: String,
    /// The region of accounts that are not listed.
    pub region: String,
    /// Regions of accounts.
    pub account_regions: BTreeMap<String, String>,
    /// The metadata key under which the shop puts its order reference.
    pub order_key: String,
    /// The metadata key under which the shop puts its user reference.
    pub user_key: String,
    /// How far the signed time may be from now, seconds.
    pub tolerance_seconds: i64,
    /// Authorizations of this time and later are money taken: the provider captures by itself and may not say so. Unix
    /// milliseconds of the event, so that one event always means the same.
    pub authorized_is_paid_from_ms: Option<i64>,
    /// The webhook's URL exactly as it is registered at the provider, where the signature covers it (Square).
    pub notification_url: String,
    /// The webhook's id at the provider, where the signature covers it (PayPal).
    pub webhook_id: String,
    /// Where things stand in the events of a generic source.
    pub generic: Option<Box<Generic>>,
}

impl Source {
    /// The region of an account.
    #[must_use]
    pub fn region_of(&self, account: &str) -> &str {
        self.account_regions.get(account).unwrap_or(&self.region)
    }
}

/// What one item of a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A change of a payment.
    Event(Box<PaymentEvent<'a>>),
    /// A type that is known to carry no payment change.
    NoChange,
    /// Something happened to what has this id at the provider, whoever says so: its API must be asked what.
    Claim(&'a str),
    /// Verified, but not understood.
    Quarantine {
        /// What was not understood; free of payload.
        reason: Cow<'static, str>,
        /// The raw bytes of the item.
        body: &'a [u8],
    },
}

/// Why an authenticated item cannot be a payment event; the text is free of payload.
type Misunderstood = Cow<'static, str>;

/// Turns the outcome of one item's normalisation into an [`Item`].
fn item<'a>(outcome: Result<Option<PaymentEvent<'a>>, Misunderstood>, body: &'a [u8]) -> Item<'a> {
    match outcome {
        Ok(Some(event)) => Item::Event(Box::new(event)),
        Ok(None) => Item::NoChange,
        Err(reason) => Item::Quarantine { reason, body },
    }
}

/// Parses an RFC 3339 time into Unix milliseconds.
#[must_use]
pub fn parse_time_ms(text: &str) -> Option<i64> {
    json::time_ms(text).ok()
}
