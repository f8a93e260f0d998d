//! Signed requests to try things out with: a provider's sample bodies, their gaps filled in.

use super::{Delivery, Item, Provider, Signed, Source, Unsigned};
use crate::Money;
use crate::ids::is_id;
use crate::money::parse_decimal;
use crate::signature::Secret;

/// A body with gaps (`$order$`), of one event type.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The provider's name of the type.
    pub event_type: &'static str,
    text: &'static str,
}

/// What the gaps are filled with.
#[derive(Debug, Clone, Copy)]
pub struct Gaps<'a> {
    /// Makes the event and its capture, refund or dispute their own: letters and digits.
    pub id: &'a str,
    /// Makes the payment its own: letters and digits.
    pub payment: &'a str,
    /// The shop's reference.
    pub order: &'a str,
    /// The amount.
    pub amount: Money,
    /// When it happened, Unix milliseconds.
    pub now_ms: i64,
}

/// The samples of a provider; the first is money that was taken.
pub fn samples(provider: &Provider) -> impl Iterator<Item = Sample> {
    let lines = provider.samples.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(event_type, text)| Sample { event_type, text })
}

impl Sample {
    /// The request of it, signed now.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn request(
        &self,
        provider: &Provider,
        source: &Source,
        secret: &Secret,
        gaps: &Gaps<'_>,
    ) -> Result<Signed, &'static str> {
        let sign = provider.sign.ok_or("only the provider itself can sign")?;
        if !is_id(gaps.order) || gaps.order.contains(['"', '\\', '<', '>', '&', '$']) {
            return Err(
                "the order reference does not fit into a sample: it is empty, too long, or has one of \" \\ < > & $",
            );
        }
        let iso = gaps.amount.currency.exponent();
        // Providers count some currencies in other units than ISO 4217: what is read again is what was meant.
        let mut exponents = [iso].into_iter().chain((0..=4).filter(|exponent| *exponent != iso));
        let request = exponents.find_map(|exponent| {
            let body = self.fill(source, gaps, exponent)?;
            let signed = sign(Unsigned { event_key: gaps.id, body }, source, secret, gaps.now_ms.div_euclid(1000))?;
            let headers = signed.header_map();
            let delivery = Delivery { headers: &headers, body: &signed.body };
            let items = (provider.normalise)(&delivery, source, gaps.now_ms);
            let is_meant = |item: &Item<'_>| match item {
                Item::Event(event) => event.amount == Some(gaps.amount),
                Item::NoChange | Item::Claim(_) => true,
                Item::Quarantine { .. } => false,
            };
            let is_meant = items.iter().all(is_meant);
            is_meant.then_some(signed)
        });
        request.ok_or("the secret can only verify, or the provider cannot write this amount")
    }

    /// The body, amounts in units of 10^-exponent of the currency.
    fn fill(&self, source: &Source, gaps: &Gaps<'_>, exponent: u8) -> Option<Vec<u8>> {
        let decimal = gaps.amount.to_decimal();
        let minor = parse_decimal(&decimal, exponent).ok()?.to_string();
        let time = jiff::Timestamp::from_millisecond(gaps.now_ms).ok()?;
        let (unix, time) = (time.as_second().to_string(), time.to_string());
        let currency = gaps.amount.currency.as_str();
        let values = [
            ("$id$", gaps.id),
            ("$payment$", gaps.payment),
            ("$order_key$", &source.order_key),
            ("$order$", gaps.order),
            ("$minor$", &minor),
            ("$decimal$", &decimal),
            ("$currency$", currency),
            ("$lower$", &currency.to_ascii_lowercase()),
            ("$unix$", &unix),
            ("$time$", &time),
        ];
        let filled = values.iter().fold(self.text.to_owned(), |text, (gap, value)| text.replace(gap, value));
        Some(filled.into_bytes())
    }
}
