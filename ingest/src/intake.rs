//! One request: admit, read, verify, normalise, publish, answer.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use domain::claim::Claim;
use domain::frame::{Record, traced};
use domain::providers::{Challenge, Delivery, Item};
use domain::quarantine;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, Version};
use metrics::Gauge;
use platform::amqp::PublishError;
use platform::clock::{now_ms, now_us};
use platform::config::{Config, ConfiguredSource};
use platform::counters::UnderWay;
use platform::trace::{Tracer, wall_us};
use tokio::sync::Semaphore;

use crate::admission::{ClientLimits, Forgers, SlowBodies, UsedUp};
use crate::answer::{Outcome, accepted, challenged, document, problem, used_up, wrong_method};
use crate::client::Clients;
use crate::confirm::Asking;
use crate::endpoint::{Endpoint, Sources};
use crate::metrics::{Counts, SourceMetrics, in_flight};
use crate::openapi;
use crate::publisher::Publisher;
use crate::traces::Traces;

/// Everything that requests share.
pub struct Gateway {
    /// Swapped as a whole; a request keeps the endpoint that it began with.
    sources: Arc<ArcSwap<Sources>>,
    unknown: SourceMetrics,
    clients: Clients,
    client_limits: ClientLimits,
    forgers: Forgers,
    slow_bodies: SlowBodies,
    places: Semaphore,
    in_flight: Gauge,
    publisher: Arc<Publisher>,
    asking: Asking,
    traces: Traces,
    shards: u16,
    body_bytes_max: usize,
    request_timeout: Duration,
}

/// Why a request is not accepted.
enum Rejection {
    UsedUp(UsedUp),
    /// Whoever reads the same bytes may see other requests in them: nothing more is read.
    Ambiguous,
    Other(Outcome),
}

impl From<Outcome> for Rejection {
    fn from(outcome: Outcome) -> Self {
        Self::Other(outcome)
    }
}

impl From<UsedUp> for Rejection {
    fn from(used_up: UsedUp) -> Self {
        Self::UsedUp(used_up)
    }
}

impl Rejection {
    fn answer(self, endpoint: &Endpoint) -> Response<Full<Bytes>> {
        let (outcome, answer) = match self {
            Self::UsedUp(budget) => (Outcome::RateLimited, used_up(budget)),
            Self::Ambiguous => {
                let mut answer = problem(Outcome::Malformed, 1);
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                (Outcome::Malformed, answer)
            }
            Self::Other(Outcome::WrongMethod) => {
                let allowed = if endpoint.source.provider.challenge.is_some() { "GET, POST" } else { "POST" };
                (Outcome::WrongMethod, wrong_method(allowed))
            }
            Self::Other(outcome) => (outcome, problem(outcome, 1)),
        };
        endpoint.metrics.requests.count(outcome);
        answer
    }
}

impl Gateway {
    /// Publishes to `publisher`'s queues; `asking` are the same sources.
    pub fn new(
        config: &Config,
        configured: Vec<ConfiguredSource>,
        sources: Arc<ArcSwap<Sources>>,
        publisher: Arc<Publisher>,
        asking: Asking,
        tracer: Tracer,
    ) -> Self {
        let gateway = Self {
            sources,
            unknown: SourceMetrics::new("unknown"),
            clients: Clients::new(config.ingest.trusted_proxies.clone(), config.ingest.proxy_header),
            client_limits: ClientLimits::new(config.ingest.client_rate_per_second, config.ingest.client_burst),
            forgers: Forgers::new(config.ingest.unverified_rate_per_second, config.ingest.unverified_burst),
            slow_bodies: SlowBodies::new(config.ingest.in_flight_max),
            places: Semaphore::new(config.ingest.in_flight_max),
            in_flight: in_flight(),
            publisher,
            asking,
            traces: Traces::new(tracer, config.trace.per_second),
            shards: config.rabbitmq.shards,
            body_bytes_max: config.ingest.body_bytes_max,
            request_timeout: Duration::from_millis(config.ingest.request_timeout_ms),
        };
        gateway.replace_sources(configured);
        gateway
    }

    /// Takes other sources; requests under way end with those they began with.
    pub fn replace_sources(&self, sources: Vec<ConfiguredSource>) {
        let now = Arc::new(Sources::of(sources, &self.asking, &self.sources.load()));
        self.sources.store(Arc::clone(&now));
        self.asking.start(&now);
    }

    /// Returns once all are told to stop and claims are left alone.
    pub async fn asked(&self) {
        self.asking.ended().await;
    }

    /// Forgets clients whose budgets are full again; at once if there are too many to remember.
    pub fn forget_clients(&self, thoroughly: bool) {
        self.client_limits.sweep(thoroughly);
        self.forgers.sweep(thoroughly);
    }

    /// Answers one request, within the configured time.
    pub async fn handle(&self, peer: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let name = request.uri().path().strip_prefix("/webhooks/");
        let Some(endpoint) = name.and_then(|name| self.sources.load().endpoints.get(name).cloned()) else {
            if request.uri().path() == openapi::PATH {
                return self.describe(self.clients.of(peer, request.headers()), request.method());
            }
            self.unknown.requests.count(Outcome::UnknownSource);
            return problem(Outcome::UnknownSource, 1);
        };
        let endpoint = &*endpoint;
        let client = self.clients.of(peer, request.headers());
        if let (&Method::GET, Some(challenge)) = (request.method(), &endpoint.source.provider.challenge) {
            return self.answer(endpoint, client, challenge, request.uri().query().unwrap_or_default());
        }
        match self.take(endpoint, client, request, started).await {
            Ok(()) => {
                endpoint.metrics.requests.count(Outcome::Accepted);
                endpoint.metrics.ack_seconds.record(started.elapsed());
                accepted(endpoint.source.provider.answer)
            }
            Err(rejection) => rejection.answer(endpoint),
        }
    }

    /// The OpenAPI document; it is no webhook and not counted as one.
    fn describe(&self, client: IpAddr, method: &Method) -> Response<Full<Bytes>> {
        match (self.client_limits.admit(client), method) {
            (Err(budget), _) => used_up(budget),
            (Ok(()), &Method::GET | &Method::HEAD) => document(self.sources.load().document.clone()),
            (Ok(()), _) => wrong_method("GET, HEAD"),
        }
    }

    /// Answers a provider that asks whether the secret is known.
    fn answer(&self, endpoint: &Endpoint, client: IpAddr, challenge: &Challenge, query: &str) -> Response<Full<Bytes>> {
        let rejection = match self.client_limits.admit(client) {
            Ok(()) => match (challenge.answer)(query, &endpoint.source.secrets, now_ms().div_euclid(1000)) {
                Some(body) => {
                    endpoint.metrics.requests.count(Outcome::Challenged);
                    return challenged(body);
                }
                None => Rejection::from(Outcome::Malformed),
            },
            Err(used_up) => used_up.into(),
        };
        rejection.answer(endpoint)
    }

    /// Everything that costs nothing is refused first.
    async fn take(
        &self,
        endpoint: &Endpoint,
        client: IpAddr,
        request: Request<Incoming>,
        started: Instant,
    ) -> Result<(), Rejection> {
        if request.method() != Method::POST {
            return Err(Outcome::WrongMethod.into());
        }
        self.publisher_of(endpoint).check().map_err(|_| Outcome::Unavailable)?;
        self.client_limits.admit(client)?;
        self.forgers.admit(&endpoint.name, client)?;
        let _under_way = UnderWay::of(&self.in_flight);
        check_framing(&request)?;
        check_media(request.headers(), endpoint.source.provider.media)?;
        let taken = async {
            let (head, body) = request.into_parts();
            let body = self.read(client, body).await?;
            let _place = self.places.try_acquire().map_err(|_| Outcome::Overloaded)?;
            self.accept(endpoint, client, &head.headers, &body, started).await
        };
        match tokio::time::timeout(self.request_timeout, taken).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Outcome::Unavailable.into()),
        }
    }

    /// Where what a source sends is made durable.
    fn publisher_of<'a>(&'a self, endpoint: &'a Endpoint) -> &'a Publisher {
        endpoint.asked.as_ref().map_or(&*self.publisher, |asked| &asked.lane.claims)
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
        started: Instant,
    ) -> Result<(), Rejection> {
        if body.is_empty() {
            return Err(Outcome::Malformed.into());
        }
        let ConfiguredSource { provider, source, secrets, .. } = &endpoint.source;
        let received_at_us = now_us();
        let received_at_ms = received_at_us / 1000;
        let (delivery, now_unix) = (Delivery { headers, body }, received_at_ms.div_euclid(1000));
        let secret = (provider.authenticate)(&delivery, source, secrets, now_unix).map_err(|refusal| {
            endpoint.metrics.refusals.count(refusal);
            self.forgers.failed(&endpoint.name, client);
            Outcome::of_refusal(refusal)
        })?;
        if let (Some(metrics), None) = (endpoint.secrets.get(secret), &provider.fetch) {
            metrics.verified(now_unix);
        }
        // Behind the signature: what forgers send takes nothing from the source's rate.
        endpoint.limit.admit()?;
        let mut trace = self.traces.begin(&endpoint.source, headers, started, wall_us(received_at_us));
        let context = trace.as_ref().map(|trace| trace.context);
        let mut counts = Counts::default();
        let mut records = Vec::with_capacity(1);
        for item in (provider.normalise)(&delivery, source, received_at_ms) {
            let (shard, record) = match item {
                Item::NoChange => {
                    counts.no_change += 1;
                    continue;
                }
                Item::Claim(id) => {
                    let claim = Claim {
                        source: source.name.as_str().into(),
                        id: id.into(),
                        received_at_ms,
                        tries: 0,
                        due_at_ms: received_at_ms,
                    };
                    counts.claimed += 1;
                    // Its queue has no other shard.
                    (0, Record::claim(&claim))
                }
                Item::Event(event) => {
                    counts.accepted += 1;
                    (event.shard(self.shards), Record::event(&event))
                }
                Item::Quarantine { reason, body } => {
                    counts.quarantined += 1;
                    let trace_id = context.map(tracing::field::display);
                    tracing::warn!(source = source.name, %reason, trace_id, "quarantined");
                    let kept = quarantine::keep(headers, source);
                    endpoint.quarantine((reason, body), received_at_ms, kept, self.shards)
                }
            };
            let record = match context {
                Some(context) => traced(&record, context),
                None => record,
            };
            records.push((shard, record));
        }
        let publishing = context.map(|_| SystemTime::now());
        let published = self.publisher_of(endpoint).publish_all(records).await;
        if let (Some(trace), Some(since)) = (&mut trace, publishing) {
            trace.published(since, published.err().map(PublishError::as_str));
            tracing::info!(trace_id = %trace.context, source = source.name, durable = published.is_ok(), "traced");
        }
        published.map_err(|_| Outcome::Unavailable)?;
        endpoint.metrics.count(&counts);
        Ok(())
    }
}

/// What two servers in a row could read as two different requests is nobody's (RFC 9112, 3.2 and 6.1).
fn check_framing(request: &Request<Incoming>) -> Result<(), Rejection> {
    let named = request.uri().authority();
    let is_host = |value: &HeaderValue| {
        let host = Authority::try_from(value.as_bytes());
        host.is_ok_and(|host| !host.as_str().contains('@') && named.is_none_or(|named| *named == host))
    };
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    let is_needed = request.version() == Version::HTTP_11;
    let is_named = host.map_or(!is_needed, is_host) && hosts.next().is_none();
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let mut encodings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let is_plain = encodings.next().is_none_or(chunked) && encodings.next().is_none();
    if is_plain && is_named { Ok(()) } else { Err(Rejection::Ambiguous) }
}

/// Only as it is: a compressed body would have to be unpacked before its signature is known.
pub fn check_media(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Outcome> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let essence = text(CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_accepted = accepted.iter().any(|media| essence.eq_ignore_ascii_case(media));
    let is_plain = text(CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    if is_accepted && is_plain { Ok(()) } else { Err(Outcome::UnsupportedMedia) }
}
