//! `[sources.NAME]`: who may send webhooks to `/webhooks/NAME`, and how they sign.

use std::collections::BTreeMap;
use std::path::Path;

use domain::providers::{self, Generic, Provider, Source};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::secrets::{SECRETS_MAX, SecretConfig};

/// One configured source.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SourceConfig {
    pub provider: String,
    pub region: String,
    pub secrets: Vec<SecretConfig>,
    #[serde(default)]
    pub account_regions: BTreeMap<String, String>,
    #[serde(default = "order_key")]
    pub order_key: String,
    #[serde(default = "user_key")]
    pub user_key: String,
    #[serde(default = "tolerance_seconds")]
    pub tolerance_seconds: i64,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorized_is_paid_from: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notification_url: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub webhook_id: String,
    /// The provider's usual one if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generic: Option<Box<Generic>>,
    #[serde(default = "rate_per_second")]
    pub rate_per_second: u32,
    #[serde(default = "burst")]
    pub burst: u32,
}

fn order_key() -> String {
    "order_id".into()
}
fn user_key() -> String {
    "user_id".into()
}
fn tolerance_seconds() -> i64 {
    300
}
fn rate_per_second() -> u32 {
    20_000
}
fn burst() -> u32 {
    40_000
}

/// A source ready for use.
#[derive(Debug, Clone)]
pub struct ConfiguredSource {
    /// Its provider.
    pub provider: &'static Provider,
    /// What the meaning of its events depends on.
    pub source: Source,
    /// Its secrets.
    pub secrets: Vec<domain::signature::Secret>,
    /// What each of the secrets is called, in their order.
    pub labels: Vec<String>,
    /// Where the provider's API is, without a slash at the end; empty where it is not asked.
    pub api_url: String,
    /// Requests a second.
    pub rate_per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// What is wrong with a source that accepts nothing.
pub const NO_SECRET: &str = "none of its secrets is valid now (not_before, not_after): its webhooks are refused";

impl ConfiguredSource {
    /// Whether one of its secrets is valid at this time (Unix seconds).
    #[must_use]
    pub fn has_secret_at(&self, now_unix: i64) -> bool {
        self.secrets.iter().any(|secret| secret.is_valid_at(now_unix))
    }
}

impl SourceConfig {
    /// Whether its provider is asked what happened.
    #[must_use]
    pub fn asks(&self) -> bool {
        providers::find(&self.provider).is_some_and(|provider| provider.fetch.is_some())
    }

    pub(super) fn check(&self, name: &str, regions: &[String]) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError::Relation(format!("sources.{name}: {message}")));
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        {
            return fail("a source's name is 1 to 64 of a-z, A-Z, 0-9, - and _: it is part of a URL".into());
        }
        if providers::find(&self.provider).is_none() {
            let known: Vec<_> = providers::ALL.iter().map(|p| p.name).collect();
            return fail(format!("unknown provider {:?}; known are {}", self.provider, known.join(", ")));
        }
        if let Some(region) = self.account_regions.values().chain([&self.region]).find(|r| !regions.contains(r)) {
            return fail(format!("region {region:?} is not in regions"));
        }
        let is_url = ["https://", "http://"].iter().any(|scheme| self.api_url.starts_with(scheme));
        if !(self.api_url.is_empty() || self.asks() && is_url) {
            return fail("api_url is an address like https://api.example.com, of a provider whose API is asked".into());
        }
        if !(0..=86_400).contains(&self.tolerance_seconds) {
            return fail("tolerance_seconds must be from 0 to 86400".into());
        }
        if self.rate_per_second == 0 || self.burst == 0 {
            return fail("rate_per_second and burst must be 1 or more".into());
        }
        if let Err(why) = time_ms(self.authorized_is_paid_from.as_deref()) {
            return fail(format!("authorized_is_paid_from: {why}"));
        }
        if self.secrets.is_empty() {
            return fail("no secrets: nothing could be verified".into());
        }
        Ok(())
    }

    /// What the meaning of the source's events depends on; no secret is read.
    ///
    /// # Errors
    /// A time that cannot be read.
    pub fn source(&self, name: &str) -> Result<Source, ConfigError> {
        let paid_from = time_ms(self.authorized_is_paid_from.as_deref());
        Ok(Source {
            name: name.to_owned(),
            region: self.region.clone(),
            account_regions: self.account_regions.clone(),
            order_key: self.order_key.clone(),
            user_key: self.user_key.clone(),
            tolerance_seconds: self.tolerance_seconds,
            authorized_is_paid_from_ms: paid_from
                .map_err(|why| ConfigError::Invalid(format!("sources.{name}: {why}")))?,
            notification_url: self.notification_url.clone(),
            webhook_id: self.webhook_id.clone(),
            generic: self.generic.clone(),
        })
    }

    /// Reads the secrets and makes the source ready; `folder` is the configuration file's.
    ///
    /// # Errors
    /// A secret that is missing, empty or not of the provider's form; never tells its value.
    pub fn prepare(&self, name: &str, folder: &Path) -> Result<ConfiguredSource, ConfigError> {
        let fail = |message: String| ConfigError::Invalid(format!("sources.{name}: {message}"));
        let provider = providers::find(&self.provider).ok_or_else(|| fail("unknown provider".into()))?;
        let source = self.source(name)?;
        let (mut secrets, mut labels) = (Vec::new(), Vec::new());
        for (index, secret) in self.secrets.iter().enumerate() {
            let fail = |why: String| fail(format!("secrets[{index}]: {why}"));
            let time = |text: &Option<String>| Ok(time_ms(text.as_deref())?.map(|ms| ms.div_euclid(1000)));
            let not_before = time(&secret.not_before).map_err(fail)?;
            let not_after = time(&secret.not_after).map_err(fail)?;
            if not_before.zip(not_after).is_some_and(|(from, to)| from > to) {
                return Err(fail("not_before is after not_after".into()));
            }
            for (label, text) in secret.read(index, folder).map_err(fail)? {
                if labels.contains(&label) {
                    return Err(fail(format!("there are two secrets {label:?}: give one of them another label")));
                }
                let key = (provider.prepare_secret)(text.expose().trim(), &source)
                    .map_err(|why| fail(format!("{label}: {why}")))?;
                secrets.push(domain::signature::Secret::of(key, not_before, not_after));
                labels.push(label);
            }
        }
        if secrets.len() > SECRETS_MAX {
            return Err(fail(format!("{} secrets, more than {SECRETS_MAX}", secrets.len())));
        }
        let (rate_per_second, burst) = (self.rate_per_second, self.burst);
        let usual = provider.fetch.as_ref().map_or("", |fetch| fetch.api);
        let api_url = if self.api_url.is_empty() { usual } else { self.api_url.trim_end_matches('/') }.to_owned();
        Ok(ConfiguredSource { provider, source, secrets, labels, api_url, rate_per_second, burst })
    }
}

/// An optional time of the configuration, Unix milliseconds.
fn time_ms(text: Option<&str>) -> Result<Option<i64>, String> {
    let read = |text: &str| {
        providers::parse_time_ms(text).ok_or_else(|| format!("{text:?} is not a time such as 2026-12-01T00:00:00Z"))
    };
    text.map(read).transpose()
}
