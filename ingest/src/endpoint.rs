//! The sources at work: of each its configuration, its budget and its metrics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use domain::event::shard_of;
use domain::frame::Record;
use domain::quarantine::{Headers, Quarantined};
use platform::amqp::Stage;
use platform::clock::now_ms;
use platform::config::{ConfiguredSource, NO_SECRET};

use crate::admission::SourceLimit;
use crate::confirm::{Asked, Asking};
use crate::metrics::{SecretMetrics, SourceMetrics};
use crate::openapi::{self, Described};

/// All sources at work.
pub struct Sources {
    /// By their names.
    pub endpoints: BTreeMap<Arc<str>, Arc<Endpoint>>,
    /// Their OpenAPI document.
    pub document: Bytes,
}

pub struct Endpoint {
    pub name: Arc<str>,
    pub source: ConfiguredSource,
    pub limit: Arc<SourceLimit>,
    pub metrics: SourceMetrics,
    /// Of each secret, in the order of the source's.
    pub secrets: Vec<SecretMetrics>,
    /// Of a source whose provider is asked.
    pub asked: Option<Arc<Asked>>,
}

impl Endpoint {
    /// `before` is what the source was: a budget that stays the same goes on with what is left of it.
    fn new(source: ConfiguredSource, asking: &Asking, before: Option<&Self>) -> Self {
        let (rate_per_second, burst) = (source.rate_per_second, source.burst);
        let limit = before.map(|before| &before.limit).filter(|limit| limit.is(rate_per_second, burst));
        let named = source.labels.iter().zip(&source.secrets);
        let secrets = named.map(|(label, secret)| SecretMetrics::new(&source.source.name, label, secret)).collect();
        let new = || Arc::new(asking.open(&source.source.name));
        let asked = before.and_then(|before| before.asked.clone());
        Self {
            asked: source.provider.fetch.as_ref().map(|_| asked.unwrap_or_else(new)),
            name: source.source.name.as_str().into(),
            limit: limit.map_or_else(|| SourceLimit::new(rate_per_second, burst).into(), Arc::clone),
            metrics: SourceMetrics::new(&source.source.name),
            secrets,
            source,
        }
    }

    /// The record of a body of this source that was not understood, and its shard.
    pub fn quarantine(
        &self,
        (reason, body): (Cow<'static, str>, &[u8]),
        received_at_ms: i64,
        headers: Headers<'_>,
        shards: u16,
    ) -> (u16, Bytes) {
        let quarantined = Quarantined {
            source: self.source.source.name.as_str().into(),
            region: self.source.source.region.as_str().into(),
            provider: self.source.provider.name.into(),
            reason,
            received_at_ms,
            body: body.into(),
            headers,
        };
        (shard_of(quarantined.id(), shards), Record::quarantined(&quarantined))
    }

    /// The labels of its secrets, for logs.
    fn labels(&self) -> String {
        self.source.labels.join(", ")
    }
}

impl Sources {
    /// No sources yet.
    pub fn none() -> Self {
        Self { endpoints: BTreeMap::new(), document: Bytes::new() }
    }

    /// The stages that the gateway publishes to.
    pub fn stages(&self) -> Vec<Stage> {
        let fetch = self.endpoints.values().filter(|endpoint| endpoint.asked.is_some());
        [Stage::Write].into_iter().chain(fetch.map(|endpoint| Stage::Fetch(Arc::clone(&endpoint.name)))).collect()
    }

    /// Sources ready for work, and what differs from those before said in the log.
    pub fn of(sources: Vec<ConfiguredSource>, asking: &Asking, before: &Self) -> Self {
        let before = &before.endpoints;
        for endpoint in before.values() {
            let now = sources.iter().find(|source| source.source.name == *endpoint.name);
            if now.is_none() {
                let claims =
                    if endpoint.asked.is_some() { "; its claims wait until it is configured again" } else { "" };
                tracing::info!(source = &*endpoint.name, "source taken away{claims}");
            }
            let secrets = endpoint.source.labels.iter().zip(&endpoint.secrets);
            secrets
                .filter(|(label, _)| now.is_none_or(|source| !source.labels.contains(label)))
                .for_each(|(_, metrics)| metrics.taken_away());
        }
        let document = openapi::text(sources.iter().map(|source| Described::of(&source.source, source.provider)));
        let endpoint = |source: ConfiguredSource| {
            let was = before.get(source.source.name.as_str()).map(AsRef::as_ref);
            let endpoint = Endpoint::new(source, asking, was);
            let secrets = endpoint.labels();
            if !endpoint.source.has_secret_at(now_ms().div_euclid(1000)) {
                tracing::warn!(source = &*endpoint.name, NO_SECRET);
            }
            match was.map(Endpoint::labels) {
                None => tracing::info!(source = &*endpoint.name, secrets, "source added"),
                Some(were) if were != secrets => {
                    tracing::info!(source = &*endpoint.name, secrets, were, "secrets changed");
                }
                Some(_) => {}
            }
            (Arc::clone(&endpoint.name), Arc::new(endpoint))
        };
        Self { endpoints: sources.into_iter().map(endpoint).collect(), document: Bytes::from(document) }
    }
}
