//! Fetch to confirm: webhooks that only name a payment are durable as claims; here their provider is asked what happened, and what
//! it says goes the way of every event. A claim is settled when that is durable, or the provider knows nothing of it; else
//! it goes back into its queue for a later try.

mod api;
mod breaker;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use domain::claim::Claim;
use domain::event::shard_of;
use domain::frame::{Frame, Record};
use domain::ids;
use domain::providers::Item;
use domain::quarantine::Quarantined;
use futures_util::TryStreamExt;
use futures_util::stream::FuturesUnordered;
use platform::amqp::{Batch, Collect, Handler, Stage, Subscription, consume};
use platform::clock::{now_ms, seconds_between};
use platform::config::Config;
use platform::retry::{Backoff, Stopped, give_up_after};
use platform::telemetry::Readiness;
use tokio_util::sync::CancellationToken;

use self::api::Answer;
pub use self::api::Api;
pub use self::source::Asked;
use self::source::Ended;
use crate::endpoint::{Endpoint, Sources};
use crate::publisher::Publisher;

/// Claims handled together; each is small, and one frame may have more.
const CLAIMS_MAX: usize = 256;
const FRAMES_MAX: u16 = 64;
/// No claim of a batch is begun later: a slow API holds up the others' claims no longer.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
/// The pause after the first try; doubled with each.
const PAUSE_FIRST_MS: i64 = 1000;
const PAUSE_MAX_MS: i64 = 600_000;
/// How long a token may be refused before what the others say of a payment is enough.
const REFUSED_MAX_MS: i64 = 86_400_000;
/// How long to wait when no claim of a batch is due.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Asks providers.
#[derive(Clone)]
pub struct Confirmer {
    pub sources: Arc<ArcSwap<Sources>>,
    pub api: Arc<Api>,
    /// To the write queues.
    pub events: Arc<Publisher>,
    /// Back to the claims' own queues.
    pub claims: Arc<Publisher>,
    pub shards: u16,
    /// Of records that cannot be read.
    pub region: Arc<str>,
    pub give_up: CancellationToken,
}

/// Consumes claims until `stop`.
pub async fn serve(config: &Config, confirmer: Confirmer, stop: &CancellationToken) {
    let collect = Collect { prefetch: FRAMES_MAX, flush: Duration::from_millis(20), records_max: CLAIMS_MAX };
    let name = "tollgate ingest: fetch";
    let subscription = Subscription { name, stage: Stage::Fetch, dead: false, collect };
    // Of its own: a gateway that cannot ask right now takes webhooks all the same.
    let readiness = Readiness::of(&["rabbitmq_consumer"]);
    let confirmer = Confirmer { give_up: give_up_after(stop), ..confirmer };
    let give_up = confirmer.give_up.clone();
    consume(&config.rabbitmq, subscription, confirmer, &readiness, stop).await;
    give_up.cancel();
}

/// The queue shard of a claim: a provider's repeated webhooks about one payment meet, and are asked about once.
pub fn shard_of_claim(claim: &Claim<'_>, shards: u16) -> u16 {
    shard_of(ids::record_id(&claim.source, claim.id.as_bytes()), shards)
}

impl Handler for Confirmer {
    async fn settle(&self, batch: Batch) -> Result<(), Stopped> {
        let mut claims: BTreeMap<_, Claim<'_>> = BTreeMap::new();
        let mut unreadable = Vec::new();
        for frame in &batch.frames {
            let records = Frame::parse(frame).map(|frame| frame.records().collect::<Vec<_>>());
            for raw in records.unwrap_or_else(|_| vec![frame.as_slice()]) {
                match Record::decode(raw) {
                    Ok(Record::Claim(claim)) => {
                        let same =
                            claims.entry((claim.source.clone(), claim.id.clone())).or_insert_with(|| claim.clone());
                        // A newer webhook about it is a reason to ask now.
                        let newest = if claim.received_at_ms > same.received_at_ms { &claim } else { &*same };
                        let (tries, due_at_ms) = (newest.tries, newest.due_at_ms.min(same.due_at_ms));
                        let received_at_ms = same.received_at_ms.min(claim.received_at_ms);
                        *same = Claim { received_at_ms, tries, due_at_ms, ..claim };
                    }
                    _ => unreadable.push(self.quarantined(raw)),
                }
            }
        }
        self.publish(&self.events, unreadable).await?;
        let mut claims: Vec<Claim<'_>> = claims.into_values().collect();
        let mut backoff = Backoff::for_services();
        while !claims.is_empty() {
            let (total, begun) = (claims.len(), Instant::now());
            let asked: FuturesUnordered<_> = claims.into_iter().map(|claim| self.confirm(claim, begun)).collect();
            let deferred: Vec<Claim<'_>> = asked.try_filter_map(async |deferred| Ok(deferred)).try_collect().await?;
            let soonest_ms = deferred.iter().map(|claim| claim.due_at_ms).min().unwrap_or(0);
            let again = deferred.iter().map(|claim| (shard_of_claim(claim, self.shards), Record::claim(claim)));
            if self.claims.publish_all(again.collect()).await.is_ok() {
                if deferred.len() == total {
                    let wait = Duration::from_millis(u64::try_from(soonest_ms - now_ms()).unwrap_or(0)).min(IDLE_MAX);
                    let _stopped = self.give_up.run_until_cancelled(tokio::time::sleep(wait)).await;
                }
                break;
            }
            // A full queue does not take them back until it has been emptied, which is to be done here.
            claims = deferred;
            backoff.pause(&self.give_up).await?;
        }
        Ok(())
    }
}

impl Confirmer {
    /// Settles a claim, or gives it back with the time of its next try.
    async fn confirm<'a>(&self, claim: Claim<'a>, begun: Instant) -> Result<Option<Claim<'a>>, Stopped> {
        let endpoint = self.sources.load().endpoints.get(&*claim.source).cloned();
        let Some((endpoint, asked)) =
            endpoint.as_deref().and_then(|endpoint| Some((endpoint, endpoint.asked.as_deref()?)))
        else {
            tracing::warn!(
                source = &*claim.source,
                id = &*claim.id,
                "a claim waits: its source is not configured any more"
            );
            return Ok(Some(later(claim)));
        };
        if claim.due_at_ms > now_ms() {
            return Ok(Some(claim));
        }
        let Ok(_place) = asked.places.acquire().await else { return Err(Stopped) };
        let admitted = match begun.elapsed() < BEGIN_WITHIN {
            true => asked.admit(),
            false => Err(Duration::ZERO),
        };
        if let Err(wait) = admitted {
            let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(PAUSE_MAX_MS);
            asked.deferred.increment(1);
            return Ok(Some(Claim { due_at_ms: now_ms() + wait_ms, ..claim }));
        }
        let answer = self.ask(endpoint, asked, &claim).await;
        asked.learn(&answer);
        match answer {
            Answer::Found(body) => self.take(endpoint, &claim, &body).await?,
            // Once is not enough: the one that answers may lag behind the one that told.
            Answer::Unknown if claim.tries > 0 => {
                tracing::info!(source = &*claim.source, id = &*claim.id, "the provider knows no such payment")
            }
            other => {
                let (outcome, id) = (Ended::of(&other).as_str(), &*claim.id);
                tracing::warn!(
                    source = &*claim.source,
                    id,
                    outcome,
                    tries = claim.tries,
                    "not confirmed; asked again later"
                );
                asked.deferred.increment(1);
                return Ok(Some(later(claim)));
            }
        }
        asked.settled_seconds.record(seconds_between(claim.received_at_ms, now_ms()));
        Ok(None)
    }

    /// Asks with each token that may be used now until one knows the payment.
    async fn ask(&self, endpoint: &Endpoint, asked: &Asked, claim: &Claim<'_>) -> Answer {
        let Some(fetch) = &endpoint.source.provider.fetch else { return Answer::Unknown };
        let url = format!("{}{}", endpoint.source.api_url, (fetch.path)(&claim.id));
        let now_unix = now_ms().div_euclid(1000);
        let (mut unknown, mut refused) = (false, false);
        for (secret, metrics) in endpoint.source.secrets.iter().zip(&endpoint.secrets) {
            let Some(token) = secret.key().as_token().filter(|_| secret.is_valid_at(now_unix)) else { continue };
            let started = Instant::now();
            let answer = self.api.get(&url, token).await;
            asked.seconds.record(started.elapsed());
            asked.fetches.count(Ended::of(&answer));
            match answer {
                Answer::Unauthorized => refused = true,
                Answer::Unknown => {
                    metrics.verified(now_unix);
                    unknown = true;
                }
                Answer::Found(_) => {
                    metrics.verified(now_unix);
                    return answer;
                }
                other => return other,
            }
        }
        // Unknown is only what every token says: each may see the payments of another profile, and one that is refused is perhaps
        // just being replaced. Not for ever: anybody can name payments that do not exist.
        let is_old = now_ms() - claim.received_at_ms > REFUSED_MAX_MS;
        if unknown && (!refused || is_old) { Answer::Unknown } else { Answer::Unauthorized }
    }

    /// Makes durable what the provider says.
    async fn take(&self, endpoint: &Endpoint, claim: &Claim<'_>, body: &[u8]) -> Result<(), Stopped> {
        let Some(fetch) = &endpoint.source.provider.fetch else { return Ok(()) };
        let (source, metrics) = (&endpoint.source.source, &endpoint.metrics);
        let mut records = Vec::new();
        for item in (fetch.read)(body, source, now_ms()) {
            match item {
                Item::NoChange | Item::Claim(_) => metrics.no_change.increment(1),
                Item::Event(mut event) => {
                    event.received_at_ms = claim.received_at_ms;
                    metrics.accepted.increment(1);
                    records.push((event.shard(self.shards), Record::event(&event)));
                }
                Item::Quarantine { reason, body } => {
                    tracing::warn!(source = source.name, %reason, "quarantined");
                    metrics.quarantined.increment(1);
                    records.push(endpoint.quarantine((reason, body), claim.received_at_ms, Vec::new(), self.shards));
                }
            }
        }
        self.publish(&self.events, records).await
    }

    fn quarantined(&self, raw: &[u8]) -> (u16, Bytes) {
        let quarantined = Quarantined {
            source: "unknown".into(),
            region: self.region.as_ref().into(),
            provider: "unknown".into(),
            reason: "a claim that cannot be read".into(),
            received_at_ms: now_ms(),
            body: raw.into(),
            headers: Vec::new(),
        };
        (shard_of(quarantined.id(), self.shards), Record::quarantined(&quarantined))
    }

    /// Publishes all, again and again until RabbitMQ has all: what it has twice is the same row.
    async fn publish(&self, publisher: &Publisher, records: Vec<(u16, Bytes)>) -> Result<(), Stopped> {
        let mut backoff = Backoff::for_services();
        loop {
            match publisher.publish_all(records.clone()).await {
                Ok(()) => return Ok(()),
                Err(_) => backoff.pause(&self.give_up).await?,
            }
        }
    }
}

/// The claim with the time of its next try.
fn later(claim: Claim<'_>) -> Claim<'_> {
    let pause_ms = PAUSE_FIRST_MS.saturating_mul(1 << claim.tries.min(20)).min(PAUSE_MAX_MS);
    Claim { due_at_ms: now_ms() + pause_ms, tries: claim.tries.saturating_add(1), ..claim }
}
