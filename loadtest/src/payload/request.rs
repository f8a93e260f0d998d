//! Whole HTTP requests: head, signature and body in one buffer that is used again and again.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
        let secret = source.secrets.iter().find(|secret| secret.is_valid_at(now_unix)).cloned();
        let secret = secret.ok_or_else(|| invalid("no secret is valid now"))?;
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
    base64: String,
}

impl Request {
    /// The request as it goes onto the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Builds the request of an event, signed now; false if its provider has no source.
    pub fn build(&mut self, kits: &Kits, run: &Run, event: u32, now_unix: i64) -> bool {
        let facts = run.facts(event);
        let Some(kit) = kits.get(facts.provider) else { return false };
        let secret = match (&kits.wrong_secret, facts.plan) {
            (Some(wrong), Plan::Forged) => wrong,
            _ => &kit.secret,
        };
        self.bytes.clear();
        self.body.clear();
        self.base64.clear();
        self.bytes.extend_from_slice(&kit.head);
        let template = &kit.templates[facts.step as usize];
        match facts.provider {
            Provider::Stripe => {
                template.fill(run, &facts, "", &mut self.body);
                self.sign_stripe(secret, now_unix);
            }
            Provider::Tollgate => {
                template.fill(run, &facts, "", &mut self.body);
                self.sign_tollgate(secret, run, event, now_unix);
            }
            Provider::Adyen => {
                self.sign_adyen(secret, run, &facts);
                template.fill(run, &facts, &self.base64, &mut self.body);
            }
        }
        self.bytes.extend_from_slice(b"Content-Length: ");
        put_number(&mut self.bytes, i64::try_from(self.body.len()).unwrap_or(0), 1);
        self.bytes.extend_from_slice(b"\r\n\r\n");
        self.bytes.extend_from_slice(&self.body);
        true
    }

    fn sign_stripe(&mut self, secret: &Secret, now_unix: i64) {
        self.signed.clear();
        put_number(&mut self.signed, now_unix, 1);
        let signature = secret.sign(&[&self.signed, b".", &self.body]);
        self.bytes.extend_from_slice(b"Stripe-Signature: t=");
        self.bytes.extend_from_slice(&self.signed);
        self.bytes.extend_from_slice(b",v1=");
        self.bytes.extend(signature.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]));
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn sign_tollgate(&mut self, secret: &Secret, run: &Run, event: u32, now_unix: i64) {
        self.signed.clear();
        put_number(&mut self.signed, now_unix, 1);
        let token = run.token(event);
        let signature = secret.sign(&[b"msg_LT", &token, b".", &self.signed, b".", &self.body]);
        self.bytes.extend_from_slice(b"webhook-id: msg_LT");
        self.bytes.extend_from_slice(&token);
        self.bytes.extend_from_slice(b"\r\nwebhook-timestamp: ");
        self.bytes.extend_from_slice(&self.signed);
        self.bytes.extend_from_slice(b"\r\nwebhook-signature: v1,");
        STANDARD.encode_string(signature, &mut self.base64);
        self.bytes.extend_from_slice(self.base64.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// The signature lies in the body, over eight fields joined by colons.
    fn sign_adyen(&mut self, secret: &Secret, run: &Run, facts: &Facts) {
        let (code, success) = adyen_code(facts.step);
        let signed = &mut self.signed;
        signed.clear();
        signed.extend_from_slice(&run.token(adyen_psp(facts)));
        signed.push(b':');
        if has_original(facts.step) {
            signed.extend_from_slice(&run.token(facts.payment));
        }
        signed.push(b':');
        signed.extend_from_slice(ADYEN_ACCOUNT.as_bytes());
        signed.push(b':');
        signed.extend_from_slice(run.order_prefix.as_bytes());
        put_number(signed, i64::from(facts.order), 8);
        signed.push(b':');
        put_number(signed, facts.amount, 1);
        for text in [facts.terms.currency.code, code, success] {
            signed.push(b':');
            signed.extend_from_slice(text.as_bytes());
        }
        STANDARD.encode_string(secret.sign(&[signed]), &mut self.base64);
    }
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

#[cfg(test)]
mod tests;
