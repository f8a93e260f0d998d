//! The sources whose providers are asked, each with all of its own: a queue, a connection to publish to it, one to consume it, and
//! a task that asks. What goes wrong with one provider's API, or comes in for it without end, is in no other's way.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use platform::amqp::{Collect, Link, Stage, Subscription, consume};
use platform::config::{Config, RabbitMq};
use platform::retry::give_up_after;
use platform::telemetry::Readiness;
use platform::tls::TlsError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api::Api;
use super::source::{Asked, Lane};
use super::{CLAIMS_MAX, Confirmer, FRAMES_MAX};
use crate::endpoint::Sources;
use crate::publisher::Publisher;

/// How long more claims are waited for behind the first: most of what waits in the queue is to be in one batch.
const GATHER: Duration = Duration::from_millis(20);

/// What they have in common.
pub struct Asking {
    sources: Arc<ArcSwap<Sources>>,
    /// To the write queues.
    events: Arc<Publisher>,
    api: Arc<Api>,
    rabbitmq: RabbitMq,
    fetches_in_flight_max: usize,
    /// No more claims are taken from the queues.
    stop: CancellationToken,
    /// Nothing more is published.
    link_stop: CancellationToken,
    tasks: TaskTracker,
}

impl Asking {
    /// # Errors
    /// When `ingest.fetch_ca_file` cannot be used.
    pub fn new(
        config: &Config,
        sources: &Arc<ArcSwap<Sources>>,
        events: &Arc<Publisher>,
        (stop, link_stop): (&CancellationToken, &CancellationToken),
    ) -> Result<Self, TlsError> {
        Ok(Self {
            sources: Arc::clone(sources),
            events: Arc::clone(events),
            api: Arc::new(Api::new(&config.ingest)?),
            rabbitmq: config.rabbitmq.clone(),
            fetches_in_flight_max: config.ingest.fetches_in_flight_max,
            stop: stop.clone(),
            link_stop: link_stop.clone(),
            tasks: TaskTracker::new(),
        })
    }

    /// What a source needs to take claims. It ends with the last who holds it.
    pub fn open(&self, source: &str) -> Asked {
        let (stage, link_stop) = (Stage::Fetch(source.into()), self.link_stop.child_token());
        // Readiness of its own: a gateway that cannot take one source's claims takes all others' webhooks.
        let (name, readiness) = ("tollgate ingest: claims".into(), Readiness::of(&["rabbitmq"]));
        let link = Link::open(self.rabbitmq.clone(), name, stage.clone(), readiness, link_stop.clone());
        let claims = Publisher::new(&self.rabbitmq, &stage, &link);
        Asked::new(source, self.fetches_in_flight_max, Lane::new(claims, self.stop.child_token(), link_stop))
    }

    /// Begins to ask about the claims of those sources that are new.
    pub fn start(&self, sources: &Sources) {
        for endpoint in sources.endpoints.values() {
            if let Some(stop) = endpoint.asked.as_ref().and_then(|asked| asked.lane.begin()) {
                let confirmer = Confirmer {
                    sources: Arc::clone(&self.sources),
                    source: Arc::clone(&endpoint.name),
                    api: Arc::clone(&self.api),
                    events: Arc::clone(&self.events),
                    shards: self.rabbitmq.shards,
                    stop: stop.clone(),
                    give_up: give_up_after(&stop),
                };
                self.tasks.spawn(serve(self.rabbitmq.clone(), confirmer, stop));
            }
        }
    }

    /// Returns once all are told to stop and what was under way has ended.
    pub async fn ended(&self) {
        self.stop.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Consumes one source's claims until `stop`.
async fn serve(rabbitmq: RabbitMq, confirmer: Confirmer, stop: CancellationToken) {
    let collect = Collect { prefetch: FRAMES_MAX, flush: Duration::ZERO, gather: GATHER, records_max: CLAIMS_MAX };
    let stage = Stage::Fetch(Arc::clone(&confirmer.source));
    let subscription = Subscription { name: "tollgate ingest: fetch", stage, dead: false, collect };
    // Of its own: a gateway that cannot ask right now takes webhooks all the same.
    let readiness = Readiness::of(&["rabbitmq_consumer"]);
    let give_up = confirmer.give_up.clone();
    consume(&rabbitmq, subscription, confirmer, &readiness, &stop).await;
    give_up.cancel();
}
