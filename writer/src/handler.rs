//! Settles a batch of frames: the one place where an outcome becomes stored, quarantined or dead-lettered.

use std::sync::Arc;
use std::time::Instant;

use domain::TraceContext;
use domain::frame::{Frame, Record, context};
use domain::quarantine::Quarantined;
use platform::amqp::{Batch, Handler, Link, Outlet};
use platform::clock::{now_ms, seconds_between};
use platform::dead_letters::{Inserts, Table};
use platform::retry::Stopped;
use platform::trace::{Span, SpanKind, Tracer, wall, wall_us};
use tokio_util::sync::CancellationToken;

use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::store::{Incoming, Store};
use crate::tables::{Prepared, Tables};

/// What the writer does with its frames.
pub struct WriteHandler<T = Prepared, D = Table, O = Link> {
    pub store: Arc<Store<T, D>>,
    pub forwarder: Arc<Forwarder<O>>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    pub give_up: CancellationToken,
}

/// The records of a batch, sorted by what is to be done with them.
#[derive(Default)]
struct Sorted<'a> {
    events: Vec<Incoming<'a>>,
    quarantined: Vec<Quarantined<'a>>,
    /// Raw bytes and reason.
    dead: Vec<(&'a [u8], String)>,
    /// Contexts of those that are traced, and when their frame was staged.
    traced: Vec<(TraceContext, i64)>,
    oldest_ms: Option<i64>,
}

impl<'a> Sorted<'a> {
    fn of(batch: &'a Batch) -> Self {
        let mut sorted = Self::default();
        for bytes in &batch.frames {
            match Frame::parse(bytes) {
                // The queue of dead frames: nothing in it is tried again without a person's word.
                Ok(frame) if batch.shard.is_none() => {
                    sorted.dead.extend(frame.records().map(|raw| (raw, "delivery limit reached".to_owned())));
                }
                Ok(frame) => {
                    sorted.oldest_ms = Some(sorted.oldest_ms.map_or(frame.staged_at_ms, |t| t.min(frame.staged_at_ms)));
                    for raw in frame.records() {
                        sorted.traced.extend(context(raw).map(|context| (context, frame.staged_at_ms)));
                        sorted.sort(raw);
                    }
                }
                Err(error) => sorted.dead.push((bytes, format!("not a frame: {error}"))),
            }
        }
        sorted
    }

    fn sort(&mut self, raw: &'a [u8]) {
        match Record::decode(raw) {
            // A part of the key, which Cassandra would refuse again and again.
            Ok(Record::Event(event)) if event.region.is_empty() => self.dead.push((raw, "no region".to_owned())),
            Ok(Record::Event(event)) => self.events.push(Incoming { event, raw }),
            Ok(Record::Quarantined(body)) => self.quarantined.push(body),
            Ok(Record::Claim(_)) => self.dead.push((raw, "a claim, not a payment event".to_owned())),
            Err(error) => self.dead.push((raw, error.to_string())),
        }
    }
}

impl<T: Tables, D: Inserts, O: Outlet> Handler for WriteHandler<T, D, O> {
    async fn settle(&self, batch: Batch) -> Result<(), Stopped> {
        let started = Instant::now();
        let sorted = Sorted::of(&batch);
        let give_up = &self.give_up;

        let refused = self.store.write_events(&sorted.events, give_up).await?;
        let is_stored = |index| !refused.iter().any(|(refused, _)| *refused == index);
        let stored: Vec<&Incoming<'_>> =
            sorted.events.iter().enumerate().filter(|(index, _)| is_stored(*index)).map(|(_, event)| event).collect();
        let refused_bodies = self.store.quarantine(&sorted.quarantined, give_up).await?;
        self.metrics.quarantined.increment((sorted.quarantined.len() - refused_bodies.len()) as u64);
        let refused_bodies: Vec<_> = refused_bodies
            .into_iter()
            .map(|(index, reason)| (Record::quarantined(&sorted.quarantined[index]), reason))
            .collect();
        let records = sorted.events.len() + sorted.quarantined.len() + sorted.dead.len();
        let mut dead = sorted.dead;
        dead.extend(refused_bodies.iter().map(|(raw, reason)| (&raw[..], reason.clone())));
        dead.extend(refused.iter().map(|(index, reason)| (sorted.events[*index].raw, reason.clone())));
        self.store.dead_letter(&batch.queue, &dead, give_up).await?;
        if let Some(oldest_ms) = sorted.oldest_ms {
            self.metrics.stored_seconds.record(seconds_between(oldest_ms, now_ms()));
        }
        let stored_at = Instant::now();
        self.forwarder.forward(&stored, give_up).await?;
        self.trace(&sorted.traced, started, stored_at);

        stored.chunk_by(|a, b| a.event.region == b.event.region).for_each(|events| {
            events.iter().take(1).for_each(|first| self.metrics.stored(&first.event.region, events.len()));
        });
        self.metrics.flush_size.record(f64::from(u32::try_from(records).unwrap_or(u32::MAX)));
        self.metrics.flush_seconds.record(started.elapsed());
        Ok(())
    }
}

impl<T, D, O> Clone for WriteHandler<T, D, O> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            forwarder: Arc::clone(&self.forwarder),
            metrics: Arc::clone(&self.metrics),
            tracer: self.tracer.clone(),
            give_up: self.give_up.clone(),
        }
    }
}

impl<T, D, O> WriteHandler<T, D, O> {
    /// Records the stages of traced records, whose batch began at `started` and was in Cassandra at `stored_at`.
    fn trace(&self, traced: &[(TraceContext, i64)], started: Instant, stored_at: Instant) {
        if traced.is_empty() || !self.tracer.is_on() {
            return;
        }
        let [started, stored_at, now] = [started, stored_at, Instant::now()].map(wall);
        for (parent, staged_at_ms) in traced {
            tracing::info!(trace_id = %parent, "traced: stored");
            let staged_at = wall_us(staged_at_ms * 1000);
            self.tracer.record(Span::of(*parent, "write queue", SpanKind::Consumer, staged_at, started));
            self.tracer.record(Span::of(*parent, "store", SpanKind::Client, started, stored_at));
            self.tracer.record(Span::of(*parent, "forward", SpanKind::Producer, stored_at, now));
        }
    }
}
