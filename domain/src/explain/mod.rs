//! Why a webhook is refused, in words that help: found by asking the provider's own check again, with one thing changed.
//!
//! `authenticate` alone decides. What is said beyond its word is proven by it: only a change that makes it accept the
//! signature is named. So nothing here knows any provider, and none can be contradicted. Secrets and signatures are never told.

mod bodies;
mod finding;
mod readings;

use std::borrow::Cow;

pub use finding::Finding;
use http::{HeaderMap, HeaderValue};

use crate::providers::{Delivery, Item, Provider, Source};
use crate::signature::{Refusal, Secret};

/// A source, as it is configured.
#[derive(Debug)]
pub struct Configured<'a> {
    /// Its provider.
    pub provider: &'a Provider,
    /// Its settings.
    pub source: &'a Source,
    /// Its secrets.
    pub secrets: &'a [Secret],
    /// The secrets' texts in the same order, for other ways of reading them.
    pub texts: &'a [String],
}

/// A request as it was received.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Its headers and body.
    pub delivery: Delivery<'a>,
    /// The addresses under which the sender may know the gateway: `https://host/path`.
    pub urls: &'a [String],
    /// When, Unix seconds.
    pub now_unix: i64,
}

/// What the provider's check says of a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is accepted, by the secret of this index; none where several were needed.
    Verified(Option<usize>),
    /// It is refused; the findings say why, and there is at least one.
    Refused(Refusal, Vec<Finding>),
}

/// Explains what a source makes of a request; `others` are the configuration's other sources.
#[must_use]
pub fn explain(configured: &Configured<'_>, others: &[Configured<'_>], received: &Received<'_>) -> Verdict {
    let probe = Probe {
        provider: configured.provider,
        source: Cow::Borrowed(configured.source),
        headers: Cow::Borrowed(received.delivery.headers),
        body: Cow::Borrowed(received.delivery.body),
        now_unix: received.now_unix,
    };
    let Err(refusal) = probe.ask(configured.secrets) else {
        let by = configured.secrets.iter().position(|secret| probe.ask(std::slice::from_ref(secret)).is_ok());
        return Verdict::Verified(by);
    };
    let mut findings = match refusal {
        Refusal::Missing | Refusal::Malformed | Refusal::Unreadable => probe.form(refusal),
        Refusal::Tolerance => probe.time(configured.secrets).into_iter().collect(),
        Refusal::Wrong => Vec::new(),
    };
    if refusal != Refusal::Tolerance {
        findings.extend(probe.signature(configured, others, received.urls));
    }
    if findings.is_empty() {
        findings.push(Finding::Unexplained { signed: configured.provider.signed });
    }
    Verdict::Refused(refusal, findings)
}

/// A question to a provider's check.
#[derive(Clone)]
struct Probe<'a> {
    provider: &'a Provider,
    source: Cow<'a, Source>,
    headers: Cow<'a, HeaderMap>,
    body: Cow<'a, [u8]>,
    now_unix: i64,
}

impl Probe<'_> {
    fn ask(&self, secrets: &[Secret]) -> Result<(), Refusal> {
        let delivery = Delivery { headers: &self.headers, body: &self.body };
        (self.provider.authenticate)(&delivery, &self.source, secrets, self.now_unix).map(drop)
    }

    /// Which header, if any, is to blame for a request that cannot be read: with examples for all others it is still refused so.
    fn form(&self, refusal: Refusal) -> Vec<Finding> {
        let described = (self.provider.headers)(&self.source);
        let mut examples = self.headers.clone().into_owned();
        for header in &described {
            if let (Ok(name), Ok(value)) = (header.name.parse::<http::HeaderName>(), header.example.parse()) {
                examples.insert(name, value);
            }
        }
        let mut findings = Vec::new();
        for header in described {
            let Ok(name) = header.name.parse::<http::HeaderName>() else { continue };
            let values: Vec<&HeaderValue> = self.headers.get_all(&name).iter().collect();
            let mut headers = examples.clone();
            headers.remove(&name);
            headers.extend(values.iter().map(|value| (name.clone(), (*value).clone())));
            if self.with_headers(headers).ask(&[]) != Err(refusal) {
                continue;
            }
            let text = values.first().and_then(|value| value.to_str().ok());
            findings.push(match (&values[..], text) {
                ([], _) => Finding::HeaderMissing { name: header.name, form: header.form },
                ([_, _, ..], _) => Finding::HeaderRepeated { name: header.name, times: values.len() },
                ([_], None) => Finding::HeaderNotText { name: header.name },
                ([_], Some(text)) => {
                    Finding::HeaderMalformed { name: header.name, form: header.form, shape: readings::shape(text) }
                }
            });
        }
        if findings.is_empty() {
            findings.push(self.body_form(refusal));
        }
        findings
    }

    /// The signature is in the body, or the body is where it is looked for.
    fn body_form(&self, refusal: Refusal) -> Finding {
        let delivery = Delivery { headers: &self.headers, body: &self.body };
        let items = (self.provider.normalise)(&delivery, &self.source, self.now_unix.saturating_mul(1000));
        let reason = items.into_iter().find_map(|item| match item {
            Item::Quarantine { reason, .. } => Some(reason.into_owned()),
            _ => None,
        });
        match (refusal, reason) {
            (Refusal::Missing, _) => Finding::NotInBody { signed: self.provider.signed },
            (Refusal::Unreadable, Some(reason)) => Finding::BodyUnreadable { reason },
            _ => Finding::BodyMalformed { signed: self.provider.signed },
        }
    }

    /// When the request was signed: the one number in its headers at which not a second is tolerated.
    fn time(&self, secrets: &[Secret]) -> Option<Finding> {
        let always = always(secrets);
        let exact = Source { tolerance_seconds: 0, ..self.source.clone().into_owned() };
        let texts = self.headers.values().filter_map(|value| value.to_str().ok());
        let numbers =
            texts.flat_map(|text| text.split(|char: char| !char.is_ascii_digit())).filter(|run| run.len() <= 12);
        let mut times = numbers.filter_map(|digits| digits.parse::<i64>().ok());
        let signed_unix = times.find(|time| {
            let probe = Probe { now_unix: *time, source: Cow::Borrowed(&exact), ..self.clone() };
            probe.ask(&always).is_ok()
        })?;
        let allowed_seconds = self.source.tolerance_seconds;
        Some(Finding::Time { signed_unix, now_unix: self.now_unix, allowed_seconds })
    }

    /// Which change makes the signature one that is accepted: the first single one, else two together.
    fn signature(&self, own: &Configured<'_>, others: &[Configured<'_>], urls: &[String]) -> Vec<Finding> {
        let secrets = self.secrets(own, others);
        let settings = settings(&self.source, urls);
        let mut single = self.changes(own, others, &secrets, &settings).into_iter().map(Change::findings);
        if let Some(findings) = single.find(|findings| !findings.is_empty()) {
            return findings;
        }
        let bodies = bodies::variations(&self.body).into_iter();
        let mut both = bodies.flat_map(|(what, body)| {
            let probe = Probe { body: Cow::Owned(body), ..self.clone() };
            let changes = probe.by_secret(&secrets).into_iter().chain(probe.by_setting(own, &settings));
            let found = changes.map(Change::findings).find(|findings| !findings.is_empty());
            found
                .into_iter()
                .map(|found| [found, vec![Finding::Body { signed: what.clone() }]].concat())
                .collect::<Vec<_>>()
        });
        both.next().unwrap_or_default()
    }

    /// Every single change that is tried.
    fn changes<'p>(
        &'p self,
        own: &Configured<'p>,
        others: &[Configured<'p>],
        secrets: &[(Finding, Secret)],
        settings: &[(Finding, Source)],
    ) -> Vec<Change<'p>> {
        let with = |finding, probe: Probe<'p>| Change { finding, probe, secrets: own.secrets.to_vec() };
        let mut changes = Vec::new();
        for (index, secret) in own.secrets.iter().enumerate().filter(|(_, secret)| !secret.is_valid_at(self.now_unix)) {
            let (not_before_unix, not_after_unix) = secret.window();
            let finding = Finding::SecretNotValid { index, not_before_unix, not_after_unix, now_unix: self.now_unix };
            changes.push(Change { finding, probe: self.clone(), secrets: vec![secret.clone()] });
        }
        changes.extend(self.by_secret(secrets));
        for other in others.iter().filter(|other| other.provider.name != self.provider.name) {
            let finding = Finding::OtherSource { source: other.source.name.clone(), provider: other.provider.name };
            let probe = Probe { provider: other.provider, source: Cow::Borrowed(other.source), ..self.clone() };
            changes.push(Change { finding, probe, secrets: other.secrets.to_vec() });
        }
        changes.extend(self.by_setting(own, settings));
        changes.extend(self.changed_headers().into_iter().map(|(finding, probe)| with(finding, probe)));
        for (signed, body) in bodies::variations(&self.body) {
            changes.push(with(Finding::Body { signed }, Probe { body: Cow::Owned(body), ..self.clone() }));
        }
        changes
    }

    fn by_secret(&self, secrets: &[(Finding, Secret)]) -> Vec<Change<'_>> {
        let change = |(finding, secret): &(Finding, Secret)| Change {
            finding: finding.clone(),
            probe: self.clone(),
            secrets: vec![secret.clone()],
        };
        secrets.iter().map(change).collect()
    }

    fn by_setting(&self, own: &Configured<'_>, settings: &[(Finding, Source)]) -> Vec<Change<'_>> {
        let change = |(finding, source): &(Finding, Source)| Change {
            finding: finding.clone(),
            probe: Probe { source: Cow::Owned(source.clone()), ..self.clone() },
            secrets: own.secrets.to_vec(),
        };
        settings.iter().map(change).collect()
    }

    /// Secrets that are not the source's own, or its own read in other ways.
    fn secrets(&self, own: &Configured<'_>, others: &[Configured<'_>]) -> Vec<(Finding, Secret)> {
        let of_others =
            others.iter().flat_map(|other| {
                let source = &other.source.name;
                other.secrets.iter().enumerate().map(move |(index, secret)| {
                    (Finding::OtherSecret { source: source.clone(), index }, secret.clone())
                })
            });
        let read_otherwise = own.texts.iter().enumerate().flat_map(|(index, text)| {
            let keys = readings::keys(text).into_iter();
            keys.map(move |(how, key)| (Finding::SecretRead { index, how }, Secret::of(key, None, None)))
        });
        of_others.chain(read_otherwise).collect()
    }

    /// The request with the value of one described header rewritten.
    fn changed_headers(&self) -> Vec<(Finding, Self)> {
        let described = (self.provider.headers)(&self.source).into_iter();
        let changed = described.flat_map(|header| {
            let text = self.headers.get(&header.name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let values = readings::values(text).into_iter();
            values.filter_map(move |(how, value)| {
                let mut headers = self.headers.clone().into_owned();
                headers.insert(header.name.parse::<http::HeaderName>().ok()?, value.parse().ok()?);
                Some((Finding::HeaderChanged { name: header.name.clone(), signed: how }, self.with_headers(headers)))
            })
        });
        changed.collect()
    }

    fn with_headers(&self, headers: HeaderMap) -> Self {
        Self { headers: Cow::Owned(headers), ..self.clone() }
    }
}

/// The secrets, whenever they may be used.
fn always(secrets: &[Secret]) -> Vec<Secret> {
    secrets.iter().map(|secret| Secret::of(secret.key().clone(), None, None)).collect()
}

/// A change of a request or of the configuration that may make the signature fit.
struct Change<'a> {
    finding: Finding,
    probe: Probe<'a>,
    secrets: Vec<Secret>,
}

impl Change<'_> {
    /// The change, if the signature fits with it, whenever the secrets are valid; and the time, if it is too far off.
    fn findings(self) -> Vec<Finding> {
        let secrets = always(&self.secrets);
        // A certificate has a validity of its own.
        let times = secrets.iter().map(|secret| {
            let (from, to) = secret.window();
            self.probe.now_unix.max(from.unwrap_or(i64::MIN)).min(to.unwrap_or(i64::MAX))
        });
        let mut probes = times.map(|now_unix| Probe { now_unix, ..self.probe.clone() });
        let found = probes.find_map(|probe| match probe.ask(&secrets) {
            Ok(()) => Some(None),
            Err(Refusal::Tolerance) => Some(self.probe.time(&secrets)),
            Err(_) => None,
        });
        match found {
            Some(time) => [self.finding].into_iter().chain(time).collect(),
            None => Vec::new(),
        }
    }
}

/// The settings that are signed, otherwise.
fn settings(source: &Source, urls: &[String]) -> Vec<(Finding, Source)> {
    let configured = &source.notification_url;
    let mut signed: Vec<String> = urls.to_vec();
    if !configured.is_empty() {
        signed.push(configured.trim_end_matches('/').to_owned());
        signed.push(format!("{configured}/"));
        signed.push(configured.replacen("https://", "http://", 1));
        signed.push(configured.replacen("http://", "https://", 1));
        signed.push(configured.to_ascii_lowercase());
    }
    signed.retain(|url| url != configured && !configured.is_empty());
    let by_url = signed.into_iter().map(|url| {
        let changed = Source { notification_url: url.clone(), ..source.clone() };
        (Finding::NotificationUrl { signed: url, configured: configured.clone() }, changed)
    });
    by_url.collect()
}

#[cfg(test)]
mod tests;
