//! Any source that signs its raw body by HMAC and sends JSON: where things stand in it is configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::draft::{Draft, decimal, money};
use super::json::{Scalar, time_ms};
use super::pointers;
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, hex_bytes, to_hex, verify};
use crate::{Kind, Money, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "generic",
    media: JSON,
    body: ANY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "{\"received\":true}",
    challenge: None,
    fetch: None,
    event_headers: &[],
    refunds_name_captures: false,
    headers,
    signed: "HMAC over the raw body, as the source's [generic] settings say; the secret is used as it stands",
    sign: Some(sign),
    samples: include_str!("samples/generic.txt"),
};

/// What a path into the headers begins with.
const HEADER: &str = "header:";

/// What is configured of a generic source.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Generic {
    /// The header that the signature is in.
    pub header: String,
    /// The hash function.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// What may stand before it: `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// Where the parts of an event are.
    pub fields: Fields,
    /// What each event type means, by the names of [`Kind`].
    pub kinds: BTreeMap<String, KindName>,
    /// The event types that carry no payment change; a type in neither list is quarantined.
    #[serde(default)]
    pub no_change: Vec<String>,
}

impl Generic {
    /// The names of the headers that its fields are read from.
    pub(crate) fn read_headers(&self) -> impl Iterator<Item = &str> {
        let Fields { id, kind, time, payment, transaction, amount: _, currency, order, user, account } = &self.fields;
        let optional = [transaction, currency, order, user, account].into_iter().flatten();
        [id, kind, time, payment].into_iter().chain(optional).filter_map(|path| path.strip_prefix(HEADER))
    }
}

/// The hash function of an HMAC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// HMAC-SHA256.
    #[default]
    Sha256,
    /// HMAC-SHA512.
    Sha512,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal, in any case.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

/// Where the parts of an event are: JSON pointers (RFC 6901) such as `/data/id`, or `header:x-event-id`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Fields {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub time: String,
    pub payment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// A [`Kind`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct KindName(pub Kind);

impl TryFrom<String> for KindName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
        kind.map(Self).ok_or_else(|| format!("{name:?} is none of {}", Kind::ALL.map(Kind::as_str).join(", ")))
    }
}

impl From<KindName> for String {
    fn from(name: KindName) -> Self {
        name.0.as_str().to_owned()
    }
}

/// The secret is used whole.
fn prepare_secret(secret: &str, source: &Source) -> Result<Key, &'static str> {
    let settings = source.generic.as_ref().ok_or("needs the source's [generic] settings")?;
    if settings.header.parse::<HeaderName>().is_err() {
        return Err("needs a header's name in the source's [generic] settings");
    }
    match settings.algorithm {
        Algorithm::Sha256 => Key::hmac_sha256(secret.as_bytes()),
        Algorithm::Sha512 => Key::hmac_sha512(secret.as_bytes()),
    }
    .ok_or("is empty")
}

/// HMAC over the raw body, in the configured header.
fn authenticate(delivery: &Delivery<'_>, source: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let settings = source.generic.as_ref().ok_or(Refusal::Missing)?;
    let value = delivery.header(&settings.header)?;
    let text = value.strip_prefix(settings.prefix.as_str()).unwrap_or(value);
    let signature = match settings.encoding {
        Encoding::Hex => hex_bytes(text),
        Encoding::Base64 => STANDARD.decode(text).ok(),
    };
    verify(secrets, now_unix, &[delivery.body], &[signature.ok_or(Refusal::Malformed)?])
}

fn headers(source: &Source) -> Vec<Header> {
    let signature = |settings: &Generic| {
        let (form, example) = match settings.encoding {
            Encoding::Hex => ("hexadecimal digits", "0".repeat(64)),
            Encoding::Base64 => ("base64", STANDARD.encode([0; 32])),
        };
        let prefix = &settings.prefix;
        Header::new(&settings.header.to_ascii_lowercase(), &format!("{prefix}<{form}>"), &format!("{prefix}{example}"))
    };
    source.generic.iter().map(|settings| signature(settings)).collect()
}

fn sign(request: Unsigned<'_>, source: &Source, secret: &Secret, _: i64) -> Option<Signed> {
    let settings = source.generic.as_ref()?;
    let signature = request.signature(secret, &[])?;
    let digits = match settings.encoding {
        Encoding::Hex => to_hex(&signature),
        Encoding::Base64 => STANDARD.encode(signature),
    };
    let key = request.event_key.to_owned();
    let signed = request.signed(&settings.header, format!("{}{digits}", settings.prefix));
    Some(match settings.fields.id.strip_prefix("header:") {
        Some(name) => signed.with(name, key),
        None => signed,
    })
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery, source, now_ms), delivery.body)]
}

fn read<'a>(
    delivery: &Delivery<'a>,
    source: &'a Source,
    now_ms: i64,
) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let settings = source.generic.as_ref().ok_or("no [generic] settings")?;
    let fields = &settings.fields;
    let mut document = Document { delivery, fields, found: pointers::find(delivery.body, fields.pointers())? };
    let event_type = document.text(Part::Type).ok_or("missing event type")?;
    let kind = match settings.kinds.get(&*event_type) {
        Some(kind) => kind.0,
        None if settings.no_change.iter().any(|known| *known == event_type) => return Ok(None),
        None => return Err("unknown payment type".into()),
    };
    let draft = Draft {
        kind,
        event_key: document.text(Part::Id).ok_or("malformed event id")?,
        event_type,
        account: document.text(Part::Account).unwrap_or_default(),
        payment: document.text(Part::Payment).ok_or("malformed payment id")?,
        transaction: document.text(Part::Transaction),
        amount: document.amount()?,
        time_ms: document.time_ms()?,
        version_ms: None,
        order: document.text(Part::Order),
        user: document.text(Part::User),
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}

/// What an event has, in the order of [`Fields::all`].
#[derive(Clone, Copy)]
enum Part {
    Id,
    Type,
    Time,
    Payment,
    Transaction,
    Amount,
    Currency,
    Order,
    User,
    Account,
}

impl Fields {
    fn all(&self) -> [Option<&str>; 10] {
        let optional = [&self.transaction, &self.amount, &self.currency, &self.order, &self.user, &self.account]
            .map(Option::as_deref);
        let [transaction, amount, currency, order, user, account] = optional;
        let needed = [&self.id, &self.kind, &self.time, &self.payment].map(|path| Some(path.as_str()));
        let [id, kind, time, payment] = needed;
        [id, kind, time, payment, transaction, amount, currency, order, user, account]
    }

    /// Those that stand in the body.
    fn pointers(&self) -> [Option<&str>; 10] {
        self.all().map(|path| path.filter(|path| !path.starts_with(HEADER)))
    }
}

/// A request whose parts are found by path; each is taken out once.
struct Document<'d, 'a> {
    delivery: &'d Delivery<'a>,
    fields: &'d Fields,
    found: [Option<Scalar<'a>>; 10],
}

impl<'a> Document<'_, 'a> {
    /// A text that is not empty, or an integer as text.
    fn text(&mut self, part: Part) -> Option<Cow<'a, str>> {
        match self.fields.all()[part as usize]?.strip_prefix(HEADER) {
            Some(name) => Some(self.delivery.header(name).ok()?.into()).filter(|text: &Cow<'a, str>| !text.is_empty()),
            None => self.found[part as usize].take()?.text(),
        }
    }

    /// An integer in minor units, or a decimal text.
    fn amount(&mut self) -> Result<Option<Money>, Misunderstood> {
        let amount = match self.found[Part::Amount as usize].take() {
            None | Some(Scalar::Null) => return Ok(None),
            Some(amount) => amount,
        };
        let currency = self.text(Part::Currency).ok_or("missing currency")?;
        match amount {
            Scalar::Text(text) => decimal(&text, &currency).map(Some),
            Scalar::Integer(minor) => {
                money(i64::try_from(minor).map_err(|_| "malformed amount")?, &currency, &[]).map(Some)
            }
            Scalar::Null | Scalar::Other => Err("malformed amount".into()),
        }
    }

    /// RFC 3339, or Unix seconds or milliseconds as an integer.
    fn time_ms(&mut self) -> Result<i64, Misunderstood> {
        /// In seconds the year 5138, in milliseconds 1973.
        const SECONDS_MAX: u64 = 100_000_000_000;
        let text = self.text(Part::Time).ok_or("missing time")?;
        match text.parse::<i64>() {
            Ok(seconds) if seconds.unsigned_abs() < SECONDS_MAX => Ok(seconds * 1000),
            Ok(milliseconds) => Ok(milliseconds),
            Err(_) => time_ms(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// GitHub, "Validating webhook deliveries": "Testing the webhook payload validation".
    #[test]
    fn githubs_published_example_is_accepted() {
        let generic = serde_json::json!({"header": "X-Hub-Signature-256", "prefix": "sha256=", "kinds": {},
            "fields": {"id": "header:x-github-delivery", "type": "", "time": "", "payment": ""}});
        let source = Source { generic: serde_json::from_value(generic).unwrap(), ..Source::default() };
        let secrets = [Secret::of(prepare_secret("It's a Secret to Everybody", &source).unwrap(), None, None)];
        let digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        for value in [format!("sha256={digest}"), digest.to_owned(), digest.to_uppercase()] {
            let headers = [("x-hub-signature-256".parse().unwrap(), value.parse().unwrap())].into_iter().collect();
            let check = |body: &[u8]| authenticate(&Delivery { headers: &headers, body }, &source, &secrets, 0);
            assert_eq!(check(b"Hello, World!"), Ok(0), "{value}");
            assert_eq!(check(b"Hello, World."), Err(Refusal::Wrong), "{value}");
        }
    }

    #[test]
    fn a_kind_that_there_is_not_cannot_be_configured() {
        assert_eq!(KindName::try_from("refunded".to_owned()), Ok(KindName(Kind::Refunded)));
        assert!(KindName::try_from("Refunded".to_owned()).is_err());
    }

    #[test]
    fn without_settings_nothing_is_let_in() {
        let source = Source::default();
        assert!(prepare_secret("FAKE", &source).is_err());
        let headers = http::HeaderMap::new();
        let delivery = Delivery { headers: &headers, body: b"{}" };
        assert_eq!(authenticate(&delivery, &source, &[], 0), Err(Refusal::Missing));
    }
}
