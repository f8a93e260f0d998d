//! Whole HTTP requests: head, signature and body in one buffer that is used again and again.

use std::collections::BTreeMap;
use std::path::Path;

use domain::providers::{Unsigned, sign_adyen_item};
use domain::signature::Secret;
use platform::config::{ConfigError, ConfiguredSource, SourceConfig};

use super::template::{Template, put_number};
use super::templates::{body, has_original};
use crate::facts::{ADYEN_ACCOUNT, Facts, Run, adyen_code, adyen_psp};
use crate::plan::{Plan, Provider, Step};

/// What is needed to send as one provider.
#[derive(Debug)]
pub struct Kit {
    pub source: ConfiguredSource,
    secret: Secret,
    templates: Vec<Template>,
    head: Vec<u8>,
}

/// The kits of all providers that have a source.
#[derive(Debug)]
pub struct Kits {
    kits: [Option<Kit>; 3],
    /// What a forger would sign with.
    wrong_secret: Option<Secret>,
}

impl Kits {
    /// Prepares the first source of each provider; `folder` is where relative paths of secrets start from.
    pub fn prepare(
        sources: &BTreeMap<String, SourceConfig>,
        folder: &Path,
        host: &str,
        now_unix: i64,
    ) -> Result<Self, ConfigError> {
        let mut kits = [None, None, None];
        for provider in Provider::ALL {
            let found = sources.iter().find(|(_, source)| source.provider == provider.as_str());
            if let Some((name, source)) = found {
                let source = source.prepare(name, folder)?;
                kits[provider as usize] = Some(Kit::new(provider, source, host, now_unix)?);
            }
        }
        Ok(Self { kits, wrong_secret: Secret::new(b"not the secret", None, None) })
    }

    pub fn get(&self, provider: Provider) -> Option<&Kit> {
        self.kits[provider as usize].as_ref()
    }
}

impl Kit {
    fn new(provider: Provider, source: ConfiguredSource, host: &str, now_unix: i64) -> Result<Self, ConfigError> {
        let name = &source.source.name;
        let invalid = |message: &str| ConfigError::Invalid(format!("sources.{name}: {message}"));
        let signs = |secret: &&Secret| secret.is_valid_at(now_unix) && !secret.sign(&[]).is_empty();
        let secret = source.secrets.iter().find(signs).cloned();
        let secret = secret.ok_or_else(|| invalid("no secret that signs is valid now"))?;
        let templates = Step::ALL.iter().map(|step| {
            let text = body(provider, *step, &source.source.order_key, &source.source.user_key);
            Template::parse(&text).ok_or_else(|| invalid("order_key and user_key may not contain $"))
        });
        let templates = templates.collect::<Result<_, _>>()?;
        let agent = match provider {
            Provider::Stripe => "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            Provider::Adyen => "Adyen HttpClient 1.0",
            Provider::Tollgate => "Tollgate-Webhooks/1.0",
        };
        let head = format!(
            "POST /webhooks/{name} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\
             Content-Type: application/json; charset=utf-8\r\n"
        );
        Ok(Self { source, secret, templates, head: head.into_bytes() })
    }
}

/// A request, built into buffers that stay.
#[derive(Debug, Default)]
pub struct Request {
    bytes: Vec<u8>,
    body: Vec<u8>,
    signed: Vec<u8>,
    key: String,
}

impl Request {
    /// The request as it goes onto the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Builds the request of an event, signed now; false if its provider has no source.
    pub fn build(&mut self, kits: &Kits, run: &Run, event: u32, now_unix: i64) -> bool {
        let is_forged = run.facts(event).plan == Plan::Forged;
        self.build_as(kits, run, event, now_unix, is_forged)
    }

    /// Builds a request of an event that a forger would send, with a signature that is well-formed and wrong.
    pub fn forge(&mut self, kits: &Kits, run: &Run, event: u32, now_unix: i64) -> bool {
        self.build_as(kits, run, event, now_unix, true)
    }

    fn build_as(&mut self, kits: &Kits, run: &Run, event: u32, now_unix: i64, is_forged: bool) -> bool {
        let facts = run.facts(event);
        let Some(kit) = kits.get(facts.provider) else { return false };
        let secret = match &kits.wrong_secret {
            Some(wrong) if is_forged => wrong,
            _ => &kit.secret,
        };
        self.bytes.clear();
        self.body.clear();
        self.bytes.extend_from_slice(&kit.head);
        let template = &kit.templates[facts.step as usize];
        match facts.provider {
            Provider::Stripe | Provider::Tollgate => {
                template.fill(run, &facts, "", &mut self.body);
                self.key.clear();
                self.key.push_str("msg_LT");
                self.key.push_str(&String::from_utf8_lossy(&run.token(event)));
                self.sign(kit, secret, now_unix);
            }
            Provider::Adyen => {
                let signature = self.sign_adyen(secret, run, &facts);
                template.fill(run, &facts, &signature, &mut self.body);
            }
        }
        self.bytes.extend_from_slice(b"Content-Length: ");
        put_number(&mut self.bytes, i64::try_from(self.body.len()).unwrap_or(0), 1);
        self.bytes.extend_from_slice(b"\r\n\r\n");
        self.bytes.extend_from_slice(&self.body);
        true
    }

    /// As the provider signs: headers behind the head.
    fn sign(&mut self, kit: &Kit, secret: &Secret, now_unix: i64) {
        let unsigned = Unsigned { event_key: &self.key, body: std::mem::take(&mut self.body) };
        let sign = kit.source.provider.sign;
        let Some(signed) = sign.and_then(|sign| sign(unsigned, &kit.source.source, secret, now_unix)) else { return };
        self.body = signed.body;
        for (name, value) in &signed.headers {
            for part in [name, ": ", value, "\r\n"] {
                self.bytes.extend_from_slice(part.as_bytes());
            }
        }
    }

    /// The signature lies in the body, over eight fields: it is made before the body is.
    fn sign_adyen(&mut self, secret: &Secret, run: &Run, facts: &Facts) -> String {
        let (code, success) = adyen_code(facts.step);
        let payment = run.token(facts.payment);
        let original = if has_original(facts.step) { &payment[..] } else { &[] };
        let numbers = &mut self.signed;
        numbers.clear();
        numbers.extend_from_slice(run.order_prefix.as_bytes());
        put_number(numbers, i64::from(facts.order), 8);
        let order_length = numbers.len();
        put_number(numbers, facts.amount, 1);
        let (order, amount) = numbers.split_at(order_length);
        let (account, currency) = (ADYEN_ACCOUNT.as_bytes(), facts.terms.currency.code.as_bytes());
        let psp = run.token(adyen_psp(facts));
        let fields = [&psp[..], original, account, order, amount, currency, code.as_bytes(), success.as_bytes()];
        sign_adyen_item(fields, secret)
    }
}

#[cfg(test)]
mod tests;
