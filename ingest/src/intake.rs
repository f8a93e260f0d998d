//! One request: admit, read, verify, normalise, publish, answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::event::shard_of;
use domain::frame::Record;
use domain::providers::{Challenge, Delivery, Item};
use domain::quarantine::Quarantined;
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, Response};
use metrics::Gauge;
use platform::amqp::{Link, PublishError};
use platform::clock::now_ms;
use platform::config::{Config, ConfiguredSource};
use tokio::sync::Semaphore;

use crate::admission::{ClientLimits, Forgers, SlowBodies, SourceLimit};
use crate::answer::{Outcome, accepted, challenged, document, problem, wrong_method};
use crate::metrics::{SourceMetrics, in_flight};
use crate::openapi::{self, Described};
use crate::publisher::Publisher;

/// Everything that requests share.
pub struct Gateway {
    sources: BTreeMap<String, Endpoint>,
    unknown: SourceMetrics,
    clients: ClientLimits,
    forgers: Forgers,
    slow_bodies: SlowBodies,
    places: Semaphore,
    in_flight: Gauge,
    publisher: Publisher,
    shards: u16,
    body_bytes_max: usize,
    request_timeout: Duration,
    openapi: Bytes,
}

struct Endpoint {
    source: ConfiguredSource,
    limit: SourceLimit,
    metrics: SourceMetrics,
}

/// A request that is not accepted, and after how many seconds it may come again.
struct Rejection(Outcome, u64);

impl From<Outcome> for Rejection {
    fn from(outcome: Outcome) -> Self {
        Self(outcome, 1)
    }
}

impl Gateway {
    pub fn new(config: &Config, sources: Vec<ConfiguredSource>, link: Link) -> Self {
        let endpoint = |source: ConfiguredSource| {
            let name = source.source.name.clone();
            let limit = SourceLimit::new(source.rate_per_second, source.burst);
            (name.clone(), Endpoint { source, limit, metrics: SourceMetrics::new(&name) })
        };
        let described = sources.iter().map(|source| Described::of(&source.source, source.provider));
        let openapi = Bytes::from(openapi::text(described));
        Self {
            sources: sources.into_iter().map(endpoint).collect(),
            unknown: SourceMetrics::new("unknown"),
            clients: ClientLimits::new(config.ingest.client_rate_per_second, config.ingest.client_burst),
            forgers: Forgers::new(config.ingest.unverified_rate_per_second, config.ingest.unverified_burst),
            slow_bodies: SlowBodies::new(config.ingest.in_flight_max),
            places: Semaphore::new(config.ingest.in_flight_max),
            in_flight: in_flight(),
            publisher: Publisher::new(&config.rabbitmq, &link),
            shards: config.rabbitmq.shards,
            body_bytes_max: config.ingest.body_bytes_max,
            request_timeout: Duration::from_millis(config.ingest.request_timeout_ms),
            openapi,
        }
    }

    /// Forgets clients whose budgets are full again; at once if there are too many to remember.
    pub fn forget_clients(&self, thoroughly: bool) {
        self.clients.sweep(thoroughly);
        self.forgers.sweep(thoroughly);
    }

    /// Answers one request, within the configured time.
    pub async fn handle(&self, client: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let endpoint = request.uri().path().strip_prefix("/webhooks/").and_then(|name| self.sources.get(name));
        let Some(endpoint) = endpoint else {
            if request.uri().path() == openapi::PATH {
                return self.describe(client, request.method());
            }
            self.unknown.count(Outcome::UnknownSource);
            return problem(Outcome::UnknownSource, 1);
        };
        if let (&Method::GET, Some(challenge)) = (request.method(), &endpoint.source.provider.challenge) {
            return self.answer(endpoint, client, challenge, request.uri().query().unwrap_or_default());
        }
        match self.take(endpoint, client, request).await {
            Ok(()) => {
                endpoint.metrics.count(Outcome::Accepted);
                endpoint.metrics.ack_seconds.record(started.elapsed());
                accepted(endpoint.source.provider.answer)
            }
            Err(Rejection(outcome, retry_after_seconds)) => {
                endpoint.metrics.count(outcome);
                match (outcome, &endpoint.source.provider.challenge) {
                    (Outcome::WrongMethod, Some(_)) => wrong_method("GET, POST"),
                    (Outcome::WrongMethod, None) => wrong_method("POST"),
                    _ => problem(outcome, retry_after_seconds),
                }
            }
        }
    }

    /// The OpenAPI document; it is no webhook and not counted as one.
    fn describe(&self, client: IpAddr, method: &Method) -> Response<Full<Bytes>> {
        match (self.clients.admit(client), method) {
            (Err(seconds), _) => problem(Outcome::RateLimited, seconds),
            (Ok(()), &Method::GET | &Method::HEAD) => document(self.openapi.clone()),
            (Ok(()), _) => wrong_method("GET, HEAD"),
        }
    }

    /// Answers a provider that asks whether the secret is known.
    fn answer(&self, endpoint: &Endpoint, client: IpAddr, challenge: &Challenge, query: &str) -> Response<Full<Bytes>> {
        let outcome = match self.clients.admit(client) {
            Ok(()) => match (challenge.answer)(query, &endpoint.source.secrets, now_ms().div_euclid(1000)) {
                Some(body) => {
                    endpoint.metrics.count(Outcome::Challenged);
                    return challenged(body);
                }
                None => Rejection::from(Outcome::Malformed),
            },
            Err(seconds) => Rejection(Outcome::RateLimited, seconds),
        };
        endpoint.metrics.count(outcome.0);
        problem(outcome.0, outcome.1)
    }

    /// Everything that costs nothing is refused first.
    async fn take(&self, endpoint: &Endpoint, client: IpAddr, request: Request<Incoming>) -> Result<(), Rejection> {
        if request.method() != Method::POST {
            return Err(Outcome::WrongMethod.into());
        }
        self.publisher.check().map_err(|_| Outcome::Unavailable)?;
        let limited = |seconds| Rejection(Outcome::RateLimited, seconds);
        self.clients.admit(client).map_err(limited)?;
        self.forgers.admit(client).map_err(limited)?;
        self.in_flight.increment(1);
        let _counted = Counted(&self.in_flight);
        check_media(request.headers(), endpoint.source.provider.media)?;
        let taken = async {
            let (head, body) = request.into_parts();
            let body = self.read(client, body).await?;
            let _place = self.places.try_acquire().map_err(|_| Outcome::Overloaded)?;
            self.accept(endpoint, client, &head.headers, &body).await
        };
        match tokio::time::timeout(self.request_timeout, taken).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Outcome::Unavailable.into()),
        }
    }

    async fn read(&self, client: IpAddr, body: Incoming) -> Result<Bytes, Rejection> {
        if body.size_hint().lower() > self.body_bytes_max as u64 {
            return Err(Outcome::TooLarge.into());
        }
        let mut reading = pin!(Limited::new(body, self.body_bytes_max).collect());
        // Most bodies are there with their header. Others wait in places of their own, where they are in nobody's way.
        let read = match reading.as_mut().now_or_never() {
            Some(read) => Ok(read),
            None => {
                let _place = self.slow_bodies.enter(client).ok_or(Outcome::Overloaded)?;
                // Half of the time at most: the rest is for RabbitMQ.
                tokio::time::timeout(self.request_timeout / 2, reading).await
            }
        };
        match read {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Outcome::TooLarge.into()),
            Ok(Err(_)) => Err(Outcome::Malformed.into()),
            Err(_) => Err(Outcome::BodyTimeout.into()),
        }
    }

    async fn accept(
        &self,
        endpoint: &Endpoint,
        client: IpAddr,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), Rejection> {
        if body.is_empty() {
            return Err(Outcome::Malformed.into());
        }
        let ConfiguredSource { provider, source, secrets, .. } = &endpoint.source;
        let received_at_ms = now_ms();
        let delivery = Delivery { headers, body };
        (provider.authenticate)(&delivery, source, secrets, received_at_ms.div_euclid(1000)).map_err(|refusal| {
            endpoint.metrics.refuse(refusal);
            self.forgers.failed(client);
            Outcome::of_refusal(refusal)
        })?;
        // Behind the signature: what forgers send takes nothing from the source's rate.
        endpoint.limit.admit().map_err(|seconds| Rejection(Outcome::RateLimited, seconds))?;
        let mut counts = Counts::default();
        let mut publishes = Vec::with_capacity(1);
        for item in (provider.normalise)(&delivery, source, received_at_ms) {
            let (shard, record) = match item {
                Item::NoChange => {
                    counts.no_change += 1;
                    continue;
                }
                Item::Event(event) => {
                    counts.accepted += 1;
                    (event.shard(self.shards), Record::event(&event))
                }
                Item::Quarantine { reason, body } => {
                    counts.quarantined += 1;
                    tracing::warn!(source = source.name, %reason, "quarantined");
                    let quarantined = Quarantined {
                        source: source.name.as_str().into(),
                        region: source.region.as_str().into(),
                        provider: provider.name.into(),
                        reason,
                        received_at_ms,
                        body: body.into(),
                    };
                    (shard_of(quarantined.id(), self.shards), Record::quarantined(&quarantined))
                }
            };
            publishes.push(self.publisher.publish(shard, record));
        }
        self.publish_all(publishes).await.map_err(|_| Outcome::Unavailable)?;
        endpoint.metrics.accepted.increment(counts.accepted);
        endpoint.metrics.no_change.increment(counts.no_change);
        endpoint.metrics.quarantined.increment(counts.quarantined);
        Ok(())
    }

    /// All records of a request, or none: what was published of a refused request comes again and is the same row.
    async fn publish_all(
        &self,
        mut publishes: Vec<impl Future<Output = Result<(), PublishError>>>,
    ) -> Result<(), PublishError> {
        match publishes.len() {
            1 => match publishes.pop() {
                Some(publish) => publish.await,
                None => Ok(()),
            },
            _ => try_join_all(publishes).await.map(|_| ()),
        }
    }
}

#[derive(Default)]
struct Counts {
    accepted: u64,
    no_change: u64,
    quarantined: u64,
}

/// Counts a request out, also when its client goes away.
struct Counted<'a>(&'a Gauge);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Only as it is: a compressed body would have to be unpacked before its signature is known.
pub fn check_media(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Outcome> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let essence = text(CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_accepted = accepted.iter().any(|media| essence.eq_ignore_ascii_case(media));
    let is_plain = text(CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    if is_accepted && is_plain { Ok(()) } else { Err(Outcome::UnsupportedMedia) }
}
