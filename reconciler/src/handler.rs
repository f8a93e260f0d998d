//! Settles a batch of stored frames: applied, parked or dead-lettered; then the shop's view.

use std::sync::Arc;
use std::time::Instant;

use domain::frame::{Frame, Record, context};
use platform::amqp::{Batch, Handler};
use platform::clock::{now_ms, seconds_between};
use platform::retry::{Backoff, Stopped};
use platform::trace::{KeyValue, Span, SpanKind, Tracer, wall, wall_us};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::apply::{Applied, ApplyError};
use crate::metrics::Metrics;
use crate::plan::Arrived;
use crate::stores::{Services, Stores};

/// How often events that are alone in their transactions meet others at their rows before they are parked.
const ALONE_MAX: u32 = 3;

/// What the reconciler does with its frames.
#[derive(Clone)]
pub struct ReconcileHandler<S = Services> {
    pub stores: S,
    pub metrics: Arc<Metrics>,
    /// Told when events were parked: their order may have come meanwhile.
    pub parked: Arc<Notify>,
    pub tracer: Tracer,
    pub give_up: CancellationToken,
}

impl<S: Stores> Handler for ReconcileHandler<S> {
    async fn settle(&self, batch: Batch) -> Result<(), Stopped> {
        let mut events = Vec::new();
        let mut dead = Vec::new();
        let mut oldest_ms = i64::MAX;
        let started = Instant::now();
        for bytes in &batch.frames {
            match Frame::parse(bytes) {
                Ok(frame) => {
                    oldest_ms = oldest_ms.min(frame.staged_at_ms);
                    for raw in frame.records() {
                        if let Some(parent) = context(raw) {
                            let staged_at = wall_us(frame.staged_at_ms * 1000);
                            let taken_at = wall(started);
                            let queued = Span::of(parent, "reconcile queue", SpanKind::Consumer, staged_at, taken_at);
                            self.tracer.record(queued);
                        }
                        match Record::decode(raw) {
                            Ok(Record::Event(event)) => events.push(Arrived { event, raw }),
                            Ok(Record::Quarantined(_) | Record::Claim(_)) => {
                                dead.push((raw, "not a payment event".to_owned()))
                            }
                            Err(error) => dead.push((raw, error.to_string())),
                        }
                    }
                }
                Err(error) => dead.push((bytes.as_slice(), format!("not a frame: {error}"))),
            }
        }
        self.stores.dead_letter(&batch.queue, &dead, &self.give_up).await?;
        self.apply_all(&batch.queue, &events).await?;
        if !events.is_empty() {
            let now_ms = now_ms();
            self.metrics.applied_seconds.record(seconds_between(oldest_ms, now_ms));
            for arrived in &events {
                self.metrics.received_applied_seconds.record(seconds_between(arrived.event.received_at_ms, now_ms));
            }
        }
        Ok(())
    }
}

impl<S: Stores> ReconcileHandler<S> {
    /// Applies events in as few transactions as conflicts and refused values allow; returns what each did. `origin`
    /// is the queue, or the command, that the events come from.
    pub async fn apply_all(&self, origin: &str, events: &[Arrived<'_>]) -> Result<Vec<Applied>, Stopped> {
        let mut done = Vec::new();
        let mut waiting = vec![events];
        let mut alone = 0;
        let mut backoff = Backoff::for_services();
        while let Some(events) = waiting.pop() {
            if events.is_empty() {
                continue;
            }
            let started = Instant::now();
            let applied = self.stores.apply(events).await;
            if matches!(applied, Err(ApplyError::Conflict)) {
                self.metrics.conflicts.increment(1);
            }
            match applied {
                Ok(applied) => {
                    self.metrics.transaction_seconds.record(started.elapsed());
                    self.metrics.transaction_size.record(f64::from(u32::try_from(events.len()).unwrap_or(u32::MAX)));
                    done.push(self.finish(events, started, applied).await?);
                    backoff = Backoff::for_services();
                }
                Err(ApplyError::Unavailable(error)) => {
                    tracing::warn!(%error, "postgres did not take a batch; trying again");
                    waiting.push(events);
                    backoff.pause(&self.give_up).await?;
                }
                Err(ApplyError::Refused(error)) if events.len() == 1 => {
                    match self.stores.apply_refused(&events[0]).await {
                        Ok(applied) => done.push(self.finish(events, started, applied).await?),
                        Err(ApplyError::Refused(_)) => {
                            let dead = [(events[0].raw, error.to_string())];
                            self.stores.dead_letter(origin, &dead, &self.give_up).await?;
                        }
                        Err(_) => {
                            waiting.push(events);
                            backoff.pause(&self.give_up).await?;
                        }
                    }
                }
                // Somebody holds its rows, perhaps for long: it waits where it is in nobody's way.
                Err(ApplyError::Conflict) if events.len() == 1 => {
                    alone += 1;
                    if alone > ALONE_MAX && self.stores.park(&events[0]).await.is_ok() {
                        let parked = Applied { parked: 1, merged: vec![false], ..Applied::default() };
                        done.push(self.finish(events, started, parked).await?);
                        continue;
                    }
                    waiting.insert(0, events);
                    backoff.pause(&self.give_up).await?;
                }
                // Halves: a conflict is less likely to meet, and a refused value ends up alone.
                Err(ApplyError::Conflict | ApplyError::Refused(_)) => {
                    let (first, second) = events.split_at(events.len() / 2);
                    waiting.extend([second, first]);
                    backoff.pause(&self.give_up).await?;
                }
            }
        }
        Ok(done)
    }

    /// What follows a commit: counts, the shop's view, another look at what was parked. The transaction of these `events`
    /// began at `started`.
    pub async fn finish(&self, events: &[Arrived<'_>], started: Instant, applied: Applied) -> Result<Applied, Stopped> {
        let committed = Instant::now();
        self.metrics.applied.increment(applied.merged.iter().filter(|merged| **merged).count() as u64);
        self.metrics.parked_total.increment(applied.parked);
        self.metrics.transitions.increment(applied.transitions as u64);
        if applied.parked > 0 {
            self.parked.notify_one();
        }
        let viewed = self.stores.write_view(&applied.payments, &self.give_up).await?;
        if viewed {
            self.metrics.projection_seconds.record(committed.elapsed());
        }
        if self.tracer.is_on() {
            self.trace(events, &applied, viewed, started, committed);
        }
        Ok(applied)
    }

    /// Records the stages of those events that are traced.
    fn trace(&self, events: &[Arrived<'_>], applied: &Applied, viewed: bool, started: Instant, committed: Instant) {
        let [started, committed, now] = [started, committed, Instant::now()].map(wall);
        for (arrived, merged) in events.iter().zip(&applied.merged) {
            let Some(parent) = context(arrived.raw) else { continue };
            let outcome = if *merged { "applied" } else { "parked" };
            tracing::info!(trace_id = %parent, payment_id = %arrived.event.payment_id, outcome, "traced");
            let attributes = vec![
                KeyValue::new("tollgate.payment_id", arrived.event.payment_id.to_string()),
                KeyValue::new("tollgate.kind", arrived.event.kind.as_str()),
            ];
            let name = if *merged { "apply" } else { "park" };
            let transaction = Span::of(parent, name, SpanKind::Client, started, committed);
            self.tracer.record(Span { attributes, ..transaction });
            if *merged && viewed {
                self.tracer.record(Span::of(parent, "view", SpanKind::Client, committed, now));
            }
        }
    }
}
