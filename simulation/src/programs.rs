//! Tollgate's programs, made of their real parts, on the models: started, stopped, crashed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use domain::partition::Layout;
use ingest::publisher::Publisher;
use platform::amqp::{Collect, Handler, PublishError, Queues, Stage, drain};
use platform::dead_letters::DeadLetters;
use platform::retry::{Backoff, give_up_after};
use platform::trace::Tracer;
use reconciler::handler::ReconcileHandler;
use reconciler::parked;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::forward::Forwarder;
use writer::handler::WriteHandler;
use writer::store::Store;

use crate::amqp::{SimDeliveries, SimOutlet};
use crate::cassandra::SimTables;
use crate::planted::Early;
use crate::stores::SimStores;
use crate::world::{World, locked};

/// A gateway that runs.
pub struct Gateway {
    publisher: Publisher<SimOutlet>,
    pub outlet: SimOutlet,
    crashed: CancellationToken,
    request_timeout: Duration,
}

impl Gateway {
    fn start(world: &Arc<World>) -> Arc<Self> {
        let outlet = SimOutlet::new(world, world.config.rabbitmq.publishes_in_flight_max);
        Arc::new(Self {
            publisher: Publisher::new(&world.config.rabbitmq, &Stage::Write, &outlet),
            outlet,
            crashed: CancellationToken::new(),
            request_timeout: Duration::from_millis(world.config.ingest.request_timeout_ms),
        })
    }

    /// Takes a request as `ingest::intake` does behind the signature; true is a 2xx.
    pub async fn take(&self, records: Vec<(u16, Bytes)>) -> bool {
        let publishing = async {
            self.publisher.check()?;
            self.publisher.publish_all(records).await
        };
        let timed = tokio::time::timeout(self.request_timeout, publishing);
        let timed_out = Err(PublishError::TimedOut);
        let answered = self.crashed.run_until_cancelled(timed).await;
        matches!(answered.map(|outcome| outcome.unwrap_or(timed_out)), Some(Ok(())))
    }
}

/// A writer or a reconciler that runs; its tasks end where they are when it is dropped.
pub struct Program {
    _tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Where it publishes.
    pub outlet: Option<SimOutlet>,
}

/// A program that may be replaced by a new one.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    Writer,
    Reconciler,
}

/// All programs.
pub struct Programs {
    world: Arc<World>,
    gateway: Mutex<Option<Arc<Gateway>>>,
    others: Vec<(Role, Mutex<Option<Program>>)>,
}

impl Programs {
    pub fn start(world: &Arc<World>) -> Arc<Self> {
        let [writers, reconcilers] = [(); 2].map(|()| world.seeded().within(1, 2));
        let roles = (0..writers).map(|_| Role::Writer).chain((0..reconcilers).map(|_| Role::Reconciler));
        let others = roles.map(|role| (role, Mutex::default())).collect();
        let programs = Self { world: Arc::clone(world), gateway: Mutex::default(), others };
        programs.start_all();
        Arc::new(programs)
    }

    /// Starts whatever does not run.
    pub fn start_all(&self) {
        locked(&self.gateway).get_or_insert_with(|| Gateway::start(&self.world));
        for (role, program) in &self.others {
            locked(program).get_or_insert_with(|| Program::start(&self.world, *role));
        }
    }

    pub fn gateway(&self) -> Option<Arc<Gateway>> {
        locked(&self.gateway).clone()
    }

    /// Ends one program, at whatever it is: the gateway is 0.
    pub fn crash(&self, number: usize) {
        match number.checked_sub(1).and_then(|number| self.others.get(number)) {
            None => {
                self.world.note(|| "gateway crashes".to_owned());
                let gateway = locked(&self.gateway).take();
                gateway.inspect(|gateway| gateway.crashed.cancel());
            }
            Some((role, program)) => {
                self.world.note(|| format!("{role:?} {number} crashes"));
                *locked(program) = None;
            }
        }
    }

    /// Tells one program to end what it does; the gateway goes on.
    pub fn stop(&self, number: usize) {
        if let Some((role, program)) = number.checked_sub(1).and_then(|number| self.others.get(number)) {
            self.world.note(|| format!("{role:?} {number} is told to stop"));
            locked(program).as_ref().inspect(|program| program.stop.cancel());
        }
    }

    /// Ends those that were told to stop.
    pub fn replace_stopped(&self) {
        for (_, program) in &self.others {
            let mut program = locked(program);
            *program = program.take().filter(|program| !program.stop.is_cancelled());
        }
    }

    /// Takes away the publishing connections of all programs.
    pub fn lose_links(&self) {
        self.gateway().inspect(|gateway| gateway.outlet.lose());
        for (_, program) in &self.others {
            locked(program).as_ref().and_then(|program| program.outlet.as_ref()).inspect(|outlet| outlet.lose());
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.others.len() + 1
    }
}

impl Program {
    fn start(world: &Arc<World>, role: Role) -> Self {
        world.note(|| format!("{role:?} starts"));
        let stop = CancellationToken::new();
        let give_up = give_up_after(&stop);
        // A new start may come with another configuration; days that are pinned stay as they are.
        let slot_minutes = [60, 240, 1440][world.seeded().index(3)];
        let tables = SimTables::new(world, Layout { slot_minutes, lanes: 2 });
        let mut tasks = JoinSet::new();
        let mut consumers = Consumers { world, stop: &stop, tasks: &mut tasks };
        let outlet = match role {
            Role::Writer => {
                let config = &world.config.rabbitmq;
                // Each queue's batch has frames of its own under way.
                let in_flight_max = config.publishes_in_flight_max * (usize::from(config.shards) + 1);
                let outlet = SimOutlet::new(world, in_flight_max);
                let dead_letters = DeadLetters::of(tables.clone(), Stage::Write);
                let handler = WriteHandler {
                    store: Arc::new(Store::of(tables, dead_letters, &world.config)),
                    forwarder: Arc::new(Forwarder::new(config.clone(), outlet.clone())),
                    metrics: Arc::new(writer::metrics::Metrics::new(&[])),
                    tracer: Tracer::default(),
                    give_up,
                };
                let handler = Early { handler, world: Arc::clone(world) };
                let writer = &world.config.writer;
                let collect = Collect {
                    gather: Duration::ZERO,
                    prefetch: writer.prefetch_frames,
                    flush: Duration::from_millis(writer.flush_ms),
                    records_max: writer.flush_rows_max,
                };
                consumers.start(Stage::Write, true, collect, &handler);
                Some(outlet)
            }
            Role::Reconciler => {
                let dead_letters = Arc::new(DeadLetters::of(tables, Stage::Reconcile));
                let handler = ReconcileHandler {
                    stores: SimStores { world: Arc::clone(world), dead_letters },
                    metrics: Arc::new(reconciler::metrics::Metrics::default()),
                    parked: Arc::new(Notify::new()),
                    tracer: Tracer::default(),
                    give_up,
                };
                let config = &world.config.reconciler;
                let collect = Collect {
                    gather: Duration::ZERO,
                    prefetch: config.prefetch_frames,
                    flush: Duration::from_millis(config.flush_ms),
                    records_max: config.flush_rows_max,
                };
                consumers.start(Stage::Reconcile, false, collect, &handler);
                tasks.spawn(parked::poll(handler, config.clone(), stop.clone()));
                None
            }
        };
        Self { _tasks: tasks, stop, outlet }
    }
}

/// Starts what `platform::amqp::consume` keeps: a consumer for each queue, opened again when its connection ends.
struct Consumers<'c> {
    world: &'c Arc<World>,
    stop: &'c CancellationToken,
    tasks: &'c mut JoinSet<()>,
}

impl Consumers<'_> {
    fn start(&mut self, stage: Stage, dead: bool, collect: Collect, handler: &impl Handler) {
        let queues = Queues::of(&self.world.config.rabbitmq);
        let shards = (0..self.world.config.rabbitmq.shards).map(|shard| (queues.name(&stage, shard), Some(shard)));
        for (queue, shard) in shards.chain(dead.then(|| (queues.dead(), None))) {
            let (world, stop, handler) = (Arc::clone(self.world), self.stop.clone(), handler.clone());
            self.tasks.spawn(async move {
                let mut backoff = Backoff::for_services();
                while !stop.is_cancelled() {
                    let deliveries = SimDeliveries::subscribe(&world, &queue, collect.prefetch);
                    if drain(deliveries, shard, collect, handler.clone(), stop.clone()).await.is_ok() {
                        backoff = Backoff::for_services();
                    }
                    if backoff.pause(&stop).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}
