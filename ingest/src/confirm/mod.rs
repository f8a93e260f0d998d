//! Fetch to confirm: webhooks that only name a payment are durable as claims; here their provider is asked what happened, and what
//! it says goes the way of every event. A claim is settled when that is durable, or the provider knows nothing of it; else
//! it goes back into its queue for a later try.

mod api;
mod asking;
mod breaker;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use domain::claim::Claim;
use domain::frame::{Frame, Record};
use domain::providers::Item;
use futures_util::TryStreamExt;
use futures_util::stream::FuturesUnordered;
use platform::amqp::{Batch, Handler};
use platform::clock::{now_ms, seconds_between};
use platform::retry::{Backoff, Stopped};
use tokio_util::sync::CancellationToken;

use self::api::{Answer, Api};
pub use self::asking::Asking;
pub use self::source::Asked;
use self::source::Ended;
use crate::endpoint::{Endpoint, Sources};
use crate::metrics::Counts;
use crate::publisher::Publisher;

/// Claims handled together: most of a long queue passes in a few turns.
const CLAIMS_MAX: usize = 4096;
const FRAMES_MAX: u16 = 128;
/// No claim of a batch is begun later: those behind it wait no longer for a slow API.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
/// The pause after the first try; doubled with each.
const PAUSE_FIRST_MS: i64 = 1000;
const PAUSE_MAX_MS: i64 = 600_000;
/// How long a token may be refused before what the others say of a payment is enough.
const REFUSED_MAX_MS: i64 = 86_400_000;
/// How long to wait when no claim is due.
const IDLE_MAX: Duration = Duration::from_millis(250);
/// And when none of a full batch is, behind which others may be.
const NEXT_BATCH: Duration = Duration::from_millis(50);

/// Asks one source's provider.
#[derive(Clone)]
struct Confirmer {
    sources: Arc<ArcSwap<Sources>>,
    source: Arc<str>,
    api: Arc<Api>,
    /// To the write queues.
    events: Arc<Publisher>,
    shards: u16,
    /// No question is begun any more.
    stop: CancellationToken,
    /// Nor waited for.
    give_up: CancellationToken,
}

impl Handler for Confirmer {
    async fn settle(&self, batch: Batch) -> Result<(), Stopped> {
        let mut claims: BTreeMap<_, Claim<'_>> = BTreeMap::new();
        let (mut unreadable, mut total) = (Vec::new(), 0);
        for frame in &batch.frames {
            let records = Frame::parse(frame).map(|frame| frame.records().collect::<Vec<_>>());
            for raw in records.unwrap_or_else(|_| vec![frame.as_slice()]) {
                total += 1;
                match Record::decode(raw) {
                    Ok(Record::Claim(claim)) => {
                        let same = claims.entry(claim.id.clone()).or_insert_with(|| claim.clone());
                        // A newer webhook about it is a reason to ask now.
                        let newest = if claim.received_at_ms > same.received_at_ms { &claim } else { &*same };
                        let (tries, due_at_ms) = (newest.tries, newest.due_at_ms.min(same.due_at_ms));
                        let received_at_ms = same.received_at_ms.min(claim.received_at_ms);
                        *same = Claim { received_at_ms, tries, due_at_ms, ..claim };
                    }
                    _ => unreadable.push(raw),
                }
            }
        }
        let endpoint = self.endpoint()?;
        let quarantined = |raw| {
            let reason = "a claim that cannot be read".into();
            endpoint.quarantine((reason, raw), now_ms(), Vec::new(), self.shards)
        };
        self.publish(unreadable.into_iter().map(quarantined).collect()).await?;
        // Fewer than fit are all that there are.
        let is_full = total >= CLAIMS_MAX || batch.frames.len() >= usize::from(FRAMES_MAX);
        let settling = self.settle_all(claims.into_values().collect(), is_full);
        // A question without an answer does not hold up a stop.
        self.give_up.run_until_cancelled(settling).await.unwrap_or(Err(Stopped))
    }
}

impl Confirmer {
    /// The source as it is now. One that is taken away leaves its claims in their queue.
    fn endpoint(&self) -> Result<Arc<Endpoint>, Stopped> {
        self.sources.load().endpoints.get(&self.source).cloned().ok_or(Stopped)
    }

    /// Settles claims, or puts them back.
    async fn settle_all(&self, mut claims: Vec<Claim<'_>>, is_full: bool) -> Result<(), Stopped> {
        let mut backoff = Backoff::for_services();
        while !claims.is_empty() {
            let endpoint = self.endpoint()?;
            let asked = endpoint.asked.as_deref().ok_or(Stopped)?;
            // In the order in which they came, whatever their ids. A provider that may be asked one question only is asked what it was not
            // asked before: what it has failed at may be why.
            let of_tries = if asked.is_left_alone() { u8::MAX } else { 0 };
            claims.sort_by_key(|claim| (claim.tries & of_tries, claim.received_at_ms));
            let (total, begun) = (claims.len(), Instant::now());
            let (mut rest, mut asking, mut deferred) = (claims.into_iter(), FuturesUnordered::new(), Vec::new());
            loop {
                let begin = asked.in_flight_max - asking.len();
                rest.by_ref().take(begin).for_each(|claim| asking.push(self.confirm(&endpoint, asked, claim, begun)));
                match asking.try_next().await? {
                    Some(again) => deferred.extend(again),
                    None => break,
                }
            }
            let again = deferred.iter().map(|claim| (0, Record::claim(claim))).collect();
            if asked.lane.claims.publish_all(again).await.is_ok() {
                if deferred.len() == total {
                    let soonest_ms = deferred.iter().map(|claim| claim.due_at_ms).min().unwrap_or(0);
                    let due_in = Duration::from_millis(u64::try_from(soonest_ms - now_ms()).unwrap_or(0));
                    let wait = due_in.min(if is_full { NEXT_BATCH } else { IDLE_MAX });
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

    /// Settles a claim, or gives it back with the time of its next try.
    async fn confirm<'a>(
        &self,
        endpoint: &Endpoint,
        asked: &Asked,
        claim: Claim<'a>,
        begun: Instant,
    ) -> Result<Option<Claim<'a>>, Stopped> {
        if claim.due_at_ms > now_ms() {
            return Ok(Some(claim));
        }
        if self.stop.is_cancelled() {
            return Err(Stopped);
        }
        let admitted = match begun.elapsed() < BEGIN_WITHIN {
            true => asked.admit(),
            false => Err(Duration::ZERO),
        };
        if let Err(wait) = admitted {
            let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(PAUSE_MAX_MS);
            asked.deferred.increment(1);
            return Ok(Some(Claim { due_at_ms: now_ms() + wait_ms, ..claim }));
        }
        match self.ask(endpoint, asked, &claim).await {
            Answer::Found(body) => self.take(endpoint, &claim, &body).await?,
            // Once is not enough: the one that answers may lag behind the one that told.
            Answer::Unknown if claim.tries > 0 => {
                tracing::info!(source = &*self.source, id = &*claim.id, "the provider knows no such payment")
            }
            other => {
                let (outcome, id) = (Ended::of(&other).as_str(), &*claim.id);
                let why = if let Answer::Failed(why) | Answer::Unusable(why) = &other { why } else { "" };
                tracing::warn!(
                    source = &*self.source,
                    id,
                    outcome,
                    why,
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
            let answer = match self.api.get(&url, token).await {
                // A page of somebody between, or another payment: the provider has said nothing.
                Answer::Found(body) if !(fetch.is_about)(&body, &claim.id) => {
                    Answer::Failed("200 with something else than the payment".to_owned())
                }
                answer => answer,
            };
            asked.seconds.record(started.elapsed());
            asked.fetches.count(Ended::of(&answer));
            match answer {
                Answer::Unauthorized => refused = true,
                Answer::Unknown => {
                    metrics.verified(now_unix);
                    unknown = true;
                }
                answer => {
                    if let Answer::Found(_) = answer {
                        metrics.verified(now_unix);
                    }
                    asked.learn(&answer);
                    return answer;
                }
            }
        }
        // An API that knows one token and no such payment is well, whatever it says of the others.
        asked.learn(if unknown { &Answer::Unknown } else { &Answer::Unauthorized });
        // Unknown is only what every token says: each may see the payments of another profile, and one that is refused is perhaps
        // just being replaced. Not for ever: anybody can name payments that do not exist.
        let is_old = now_ms() - claim.received_at_ms > REFUSED_MAX_MS;
        if unknown && (!refused || is_old) { Answer::Unknown } else { Answer::Unauthorized }
    }

    /// Makes durable what the provider says.
    async fn take(&self, endpoint: &Endpoint, claim: &Claim<'_>, body: &[u8]) -> Result<(), Stopped> {
        let Some(fetch) = &endpoint.source.provider.fetch else { return Ok(()) };
        let source = &endpoint.source.source;
        let (mut counts, mut records) = (Counts::default(), Vec::new());
        for item in (fetch.read)(body, source, now_ms()) {
            match item {
                Item::NoChange | Item::Claim(_) => counts.no_change += 1,
                Item::Event(mut event) => {
                    event.received_at_ms = claim.received_at_ms;
                    counts.accepted += 1;
                    records.push((event.shard(self.shards), Record::event(&event)));
                }
                Item::Quarantine { reason, body } => {
                    tracing::warn!(source = source.name, id = &*claim.id, %reason, "quarantined");
                    counts.quarantined += 1;
                    records.push(endpoint.quarantine((reason, body), claim.received_at_ms, Vec::new(), self.shards));
                }
            }
        }
        self.publish(records).await?;
        endpoint.metrics.count(&counts);
        Ok(())
    }

    /// Publishes all, again and again until RabbitMQ has all: what it has twice is the same row.
    async fn publish(&self, records: Vec<(u16, Bytes)>) -> Result<(), Stopped> {
        let mut backoff = Backoff::for_services();
        loop {
            match self.events.publish_all(records.clone()).await {
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
