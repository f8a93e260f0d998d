//! Natural batching: while a frame waits for its confirm, the records that arrive meanwhile form the next one. An idle
//! gateway adds no delay; a busy one pays for one confirm per frame, not per event.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use domain::frame;
use futures_util::StreamExt;
use futures_util::future::{try_join, try_join_all};
use futures_util::stream::FuturesUnordered;
use platform::amqp::{Link, Outlet, PublishError, Queues, Stage, publish_frame};
use platform::clock::now_ms;
use platform::config::RabbitMq;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::metrics::PublishMetrics;

type Outcome = Result<(), PublishError>;

/// Publishes records to the queues of a stage.
pub struct Publisher<O = Link> {
    shards: Vec<Arc<Shard<O>>>,
    outlet: O,
    /// A task a shard; they end with the publisher.
    _tasks: JoinSet<()>,
}

struct Shard<O> {
    queue: String,
    config: RabbitMq,
    outlet: O,
    metrics: PublishMetrics,
    pending: Mutex<Pending>,
    /// What became of the latest frame was that the queue is full, or has no majority.
    full: AtomicBool,
    /// The latest frame was not taken.
    troubled: AtomicBool,
    wake: Notify,
}

/// What waits for the next frame. Bounded by the requests that may be under way.
#[derive(Default)]
struct Pending {
    records: Vec<(Bytes, oneshot::Sender<Outcome>)>,
    bytes: usize,
    in_flight: usize,
}

impl<O: Outlet + Clone> Publisher<O> {
    /// Starts one task a shard.
    pub fn new(config: &RabbitMq, stage: &Stage, outlet: &O) -> Self {
        let queues = Queues::of(config);
        let metrics = PublishMetrics::new();
        let mut tasks = JoinSet::new();
        let shards = queues.names(config, stage).into_iter().map(|queue| {
            let shard = Arc::new(Shard {
                queue,
                config: config.clone(),
                outlet: outlet.clone(),
                metrics: metrics.clone(),
                pending: Mutex::default(),
                full: AtomicBool::new(false),
                troubled: AtomicBool::new(false),
                wake: Notify::new(),
            });
            tasks.spawn(Arc::clone(&shard).run());
            shard
        });
        Self { shards: shards.collect(), outlet: outlet.clone(), _tasks: tasks }
    }

    /// Whether publishing can succeed right now: what cannot is refused before it costs anything.
    pub fn check(&self) -> Outcome {
        self.outlet.check()?;
        if self.shards.iter().all(|shard| shard.is_shut()) { Err(PublishError::Refused) } else { Ok(()) }
    }

    /// Publishes all records of a request to their shards, or none: what was published of a refused request comes
    /// again and is the same row. Returns when all are durable.
    pub async fn publish_all(&self, mut records: Vec<(u16, Bytes)>) -> Outcome {
        let Some((shard, record)) = records.pop() else { return Ok(()) };
        let last = self.publish(shard, record);
        if records.is_empty() {
            return last.await;
        }
        let others = try_join_all(records.into_iter().map(|(shard, record)| self.publish(shard, record)));
        try_join(others, last).await.map(|_| ())
    }

    async fn publish(&self, shard: u16, record: Bytes) -> Outcome {
        let (done, outcome) = oneshot::channel();
        match self.shards.get(usize::from(shard)) {
            Some(shard) => shard.submit(record, done),
            None => return Err(PublishError::Returned),
        }
        outcome.await.unwrap_or(Err(PublishError::Disconnected))
    }
}

impl<O: Outlet> Shard<O> {
    fn submit(&self, record: Bytes, done: oneshot::Sender<Outcome>) {
        let mut pending = self.lock();
        pending.bytes += record.len();
        pending.records.push((record, done));
        // While a frame is under way its confirm wakes the task: no wake-up per record.
        let wake = self.may_publish(&pending);
        drop(pending);
        if wake {
            self.wake.notify_one();
        }
    }

    /// A full queue is asked by one frame at a time whether there is room again: when that is refused the next request may
    /// ask. All others are turned away meanwhile, before they cost a signature.
    fn is_shut(&self) -> bool {
        self.full.load(Relaxed) && {
            let pending = self.lock();
            pending.in_flight > 0 || !pending.records.is_empty()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One frame at a time while few records wait, since a frame must be worth its confirm; more when a whole frame
    /// is waiting.
    fn may_publish(&self, pending: &Pending) -> bool {
        match pending.in_flight {
            0 => !pending.records.is_empty(),
            some => some < self.config.publishes_in_flight_max && pending.bytes >= self.config.frame_bytes_max,
        }
    }

    async fn run(self: Arc<Self>) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
                () = self.wake.notified() => {}
            }
            while let Some(records) = self.take_frame() {
                in_flight.push(self.publish(records));
            }
        }
    }

    /// Takes the next frame's records, if it is time to publish one.
    fn take_frame(&self) -> Option<Vec<(Bytes, oneshot::Sender<Outcome>)>> {
        let mut pending = self.lock();
        // Those who were answered 503 meanwhile, or went away, come again: their records only cost.
        pending.records.retain(|(_, done)| !done.is_closed());
        pending.bytes = pending.records.iter().map(|(record, _)| record.len()).sum();
        if !self.may_publish(&pending) {
            return None;
        }
        let mut bytes = frame::HEADER_BYTES;
        let fits = |(record, _): &&(Bytes, _)| {
            bytes += record.len();
            bytes <= self.config.frame_bytes_max
        };
        // One record goes even if it is larger by itself.
        let count = pending.records.iter().take_while(fits).count().max(1);
        let rest = pending.records.split_off(count);
        let records = std::mem::replace(&mut pending.records, rest);
        pending.bytes -= records.iter().map(|(record, _)| record.len()).sum::<usize>();
        pending.in_flight += 1;
        Some(records)
    }

    async fn publish(&self, records: Vec<(Bytes, oneshot::Sender<Outcome>)>) {
        let bytes: usize = records.iter().map(|(record, _)| record.len()).sum();
        let mut frame = frame::begin(now_ms(), frame::HEADER_BYTES + bytes);
        records.iter().for_each(|(record, _)| frame.extend_from_slice(record));
        let started = Instant::now();
        let outcome = publish_frame(&self.outlet, &self.config, &self.queue, &frame).await;
        self.full.store(outcome == Err(PublishError::Refused), Relaxed);
        match outcome {
            Ok(()) => {
                if self.troubled.swap(false, Relaxed) {
                    tracing::info!(queue = self.queue, "frames are taken again");
                }
                self.metrics.confirm_seconds.record(started.elapsed());
                self.metrics.frame_size.record(f64::from(u32::try_from(records.len()).unwrap_or(u32::MAX)));
            }
            Err(error) => {
                self.metrics.errors.count(error);
                // Told once: a full queue refuses hundreds a second.
                if !self.troubled.swap(true, Relaxed) {
                    tracing::warn!(%error, queue = self.queue, "frames are not taken: providers get 503");
                }
            }
        }
        self.lock().in_flight -= 1;
        for (_, done) in records {
            // The request may have timed out meanwhile; its provider sends it again.
            let _gone = done.send(outcome);
        }
    }
}
