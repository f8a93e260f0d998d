//! A lane: one thread with its own connections and every n-th slot of the schedule. Whoever is free takes the next
//! request that is due; nobody sleeps for one request, so the rate is not bounded by timers, and latency counts from
//! the time at which a request was due, however late it was sent.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::outcome::{Outcome, Verdict};
use super::stats::{Counters, Recorder};
use crate::facts::Run;
use crate::payload::{Kits, Request};
use crate::plan::Plan;

/// How often due requests are looked for while connections are free.
const TICK: Duration = Duration::from_millis(1);
/// Wrong answers that are told in words.
const TOLD_MAX: usize = 20;
/// No provider waits longer (Adyen: about 10 s).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A load to be driven.
#[derive(Clone)]
pub struct Load {
    pub run: Arc<Run>,
    pub kits: Arc<Kits>,
    pub address: SocketAddr,
    pub connections: usize,
    pub threads: usize,
    /// How long after the schedule's end refused requests are sent again.
    pub give_up: Duration,
    /// How long refused requests wait at least until they are sent again.
    pub resend_after: Duration,
    pub counters: Arc<Counters>,
    pub recorders: Vec<Arc<Mutex<Recorder>>>,
    /// Orders whose first event was acknowledged, and which the shop has not committed yet.
    pub late_orders: mpsc::UnboundedSender<u32>,
    /// Nothing is sent any more.
    pub stop: CancellationToken,
    /// Nothing is sent for the first time any more; what was refused is sent again until it is taken.
    pub finish: CancellationToken,
}

/// Sends everything; returns when all is answered or given up.
///
/// # Errors
/// When a thread cannot be started.
pub async fn drive(load: Load) -> std::io::Result<()> {
    let start = Instant::now();
    let mut ends = Vec::new();
    for index in 0..load.threads {
        let (sender, end) = tokio::sync::oneshot::channel();
        let load = load.clone();
        std::thread::Builder::new().name(format!("load-{index}")).spawn(move || {
            let _receiver_gone = sender.send(run_lane(load, index, start));
        })?;
        ends.push(end);
    }
    for end in ends {
        end.await.map_err(std::io::Error::other)??;
    }
    Ok(())
}

fn run_lane(load: Load, index: usize, start: Instant) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connections = (load.connections / load.threads).max(1);
    let next = u32::try_from(index).unwrap_or(0);
    let step = u32::try_from(load.threads).unwrap_or(1);
    let end = load.run.schedule.due_after(load.run.schedule.slot_count());
    let recorder = Arc::clone(&load.recorders[index]);
    let lane = Rc::new(Lane {
        give_up_at: Cell::new(start + end + load.give_up),
        load,
        recorder,
        start,
        step,
        next: Cell::new(next),
        retries: RefCell::default(),
        in_flight: Cell::new(0),
        free: Cell::new(0),
        finished: Cell::new(false),
        wake: Notify::new(),
    });
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let tasks: Vec<_> = (0..connections).map(|_| tokio::task::spawn_local(Rc::clone(&lane).serve())).collect();
        lane.tick().await;
        for task in tasks {
            task.await.map_err(std::io::Error::other)?;
        }
        Ok(())
    })
}

/// A request to send: an event, when it was due, and how often it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Delivery {
    due: Instant,
    event: u32,
    slot: u32,
    attempt: u8,
}

struct Lane {
    load: Load,
    recorder: Arc<Mutex<Recorder>>,
    start: Instant,
    give_up_at: Cell<Instant>,
    step: u32,
    next: Cell<u32>,
    /// By the time at which they are sent again.
    retries: RefCell<BinaryHeap<Reverse<(Instant, Delivery)>>>,
    in_flight: Cell<usize>,
    free: Cell<usize>,
    finished: Cell<bool>,
    wake: Notify,
}

impl Lane {
    /// Wakes a free connection whenever something is due, until all is done.
    async fn tick(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.is_done(Instant::now()) {
            ticks.tick().await;
            if self.load.finish.is_cancelled() {
                self.give_up_at.set(self.give_up_at.get().min(Instant::now() + self.load.give_up));
            }
            if self.free.get() > 0 && self.due_at().is_some_and(|due| due <= Instant::now()) {
                self.wake.notify_one();
            }
        }
        self.finished.set(true);
        self.wake.notify_waiters();
    }

    fn is_done(&self, now: Instant) -> bool {
        let stopped = self.load.stop.is_cancelled();
        let exhausted = self.next_slot().is_none() && self.retries.borrow().is_empty();
        self.in_flight.get() == 0 && (stopped || exhausted) || now >= self.give_up_at.get()
    }

    /// The next slot of the schedule, if there is one left and the load goes on.
    fn next_slot(&self) -> Option<u32> {
        let left = self.next.get() < self.load.run.schedule.slot_count() && !self.load.finish.is_cancelled();
        left.then(|| self.next.get())
    }

    /// When the next request is due; none while the load is being stopped.
    fn due_at(&self) -> Option<Instant> {
        if self.load.stop.is_cancelled() {
            return None;
        }
        let scheduled = self.next_slot().map(|slot| self.start + self.load.run.schedule.due_after(slot));
        let again = self.retries.borrow().peek().map(|Reverse((at, _))| *at);
        scheduled.into_iter().chain(again).min()
    }

    fn take(&self, now: Instant) -> Option<Delivery> {
        let due = self.due_at().filter(|due| *due <= now)?;
        let mut retries = self.retries.borrow_mut();
        if retries.peek().is_some_and(|Reverse((at, _))| *at == due) {
            Counters::subtract(&self.load.counters.waiting);
            return retries.pop().map(|Reverse((_, delivery))| delivery);
        }
        let slot = self.next.get();
        self.next.set(slot + self.step);
        Some(Delivery { due, event: self.load.run.schedule.due(slot).event, slot, attempt: 0 })
    }

    /// Waits for something due; `None` at the end.
    async fn next_due(&self) -> Option<Delivery> {
        loop {
            if self.finished.get() {
                return None;
            }
            if let Some(delivery) = self.take(Instant::now()) {
                // One wakes the next, until nothing is due or nobody is free.
                if self.free.get() > 0 && self.due_at().is_some_and(|due| due <= Instant::now()) {
                    self.wake.notify_one();
                }
                return Some(delivery);
            }
            self.free.set(self.free.get() + 1);
            self.wake.notified().await;
            self.free.set(self.free.get() - 1);
        }
    }

    /// One connection, from its first request to the end of the load.
    async fn serve(self: Rc<Self>) {
        let mut connection = Connection::new(self.load.address, ANSWER_TIMEOUT);
        let mut request = Request::default();
        while let Some(delivery) = self.next_due().await {
            if !request.build(&self.load.kits, &self.load.run, delivery.event, platform::clock::now_ms() / 1000) {
                continue;
            }
            self.in_flight.set(self.in_flight.get() + 1);
            Counters::add(&self.load.counters.in_flight);
            if delivery.attempt == 0 {
                Counters::add(&self.load.counters.sent);
                self.load.run.journal.sent(delivery.event);
            }
            let outcome = connection.exchange(request.bytes()).await;
            self.settle(delivery, outcome);
            self.in_flight.set(self.in_flight.get() - 1);
            Counters::subtract(&self.load.counters.in_flight);
        }
    }

    fn settle(&self, delivery: Delivery, outcome: Outcome) {
        let run = &self.load.run;
        let now = Instant::now();
        let plan = run.schedule.order_of(delivery.event).plan;
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        let recorder = &mut *recorder;
        let measured = delivery.slot >= run.schedule.warm_up_slots();
        let totals = if measured { &mut recorder.measured } else { &mut recorder.warm_up };
        totals.count(outcome);
        if delivery.attempt == 0 {
            totals.requests += 1
        } else {
            totals.retries += 1
        }
        match outcome.judge(plan, delivery.attempt) {
            Verdict::Accepted => {
                if run.journal.acknowledged(delivery.event) {
                    totals.accepted_events += 1;
                    totals.accepted_payments += u64::from(!matches!(plan, Plan::NoChange | Plan::Unknown));
                    Counters::add(&self.load.counters.acknowledged);
                    if plan == Plan::LateOrder {
                        let _no_one_listens = self.load.late_orders.send(run.schedule.order_number(delivery.event));
                    }
                }
                if delivery.attempt == 0 {
                    let micros = u64::try_from(now.duration_since(delivery.due).as_micros()).unwrap_or(u64::MAX);
                    recorder.recent.saturating_record(micros);
                    if measured {
                        recorder.latency.saturating_record(micros);
                    }
                }
                if measured {
                    recorder.last_accepted = now.duration_since(self.start);
                }
            }
            Verdict::Refused => totals.refused_forgeries += 1,
            Verdict::Again(wait) => {
                let wait = wait.max(self.load.resend_after);
                let again = Delivery { attempt: delivery.attempt.saturating_add(1), ..delivery };
                // Spread by event, or all that were refused together would come back together.
                let spread = wait / 4 * (delivery.event % 16) / 16;
                self.retries.borrow_mut().push(Reverse((now + wait + spread, again)));
                Counters::add(&self.load.counters.waiting);
            }
            Verdict::Wrong(status) => {
                recorder.wrong_count += 1;
                if recorder.wrong.len() < TOLD_MAX {
                    let facts = run.facts(delivery.event);
                    recorder.wrong.push(format!(
                        "{} event {} ({plan:?}, {:?}) was answered with {status}",
                        facts.provider.as_str(),
                        run.provider_event_id(&facts),
                        facts.step,
                    ));
                }
            }
        }
    }
}
