//! What everything in a schedule shares: time, chance, the models, the trace, and the first violation.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use platform::config::Config;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::broker::Broker;
use crate::cassandra::Cassandra;
use crate::faults::{Fault, Faults};
use crate::planted::Planted;
use crate::postgres::Postgres;
use crate::seeded::Seeded;
use crate::story::Story;

/// When every schedule begins, Unix milliseconds: an evening, so that its events lie on two days.
pub const BEGIN_MS: i64 = 1_700_000_000_000;

/// One schedule's world.
pub struct World {
    pub config: Config,
    pub story: Story,
    pub broker: Mutex<Broker>,
    /// Told when a queue has something new.
    pub delivered: Notify,
    pub cassandra: Mutex<Cassandra>,
    pub postgres: Mutex<Postgres>,
    pub planted: Option<Planted>,
    seeded: Mutex<Seeded>,
    faults: Faults,
    calm: AtomicBool,
    /// Requests that services have not answered yet.
    under_way: AtomicUsize,
    begun: Instant,
    violation: Mutex<Option<String>>,
    trace: Option<Mutex<Vec<String>>>,
}

/// Locks a mutex; nothing panics while it holds one.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(mut seeded: Seeded, config: Config, story: Story, planted: Option<Planted>, traced: bool) -> Arc<Self> {
        let faults = Faults::of(&mut seeded);
        Arc::new(Self {
            broker: Mutex::new(Broker::new(&config)),
            delivered: Notify::new(),
            cassandra: Mutex::default(),
            postgres: Mutex::default(),
            config,
            story,
            planted,
            seeded: Mutex::new(seeded),
            faults,
            calm: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            begun: Instant::now(),
            violation: Mutex::default(),
            trace: traced.then(Mutex::default),
        })
    }

    pub fn is_planted(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    pub fn seeded(&self) -> MutexGuard<'_, Seeded> {
        locked(&self.seeded)
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether a fault happens now; none do once all is to come to rest.
    pub fn suffers(&self, fault: Fault) -> bool {
        let share = self.faults.per_mille(fault);
        let happens = share > 0 && !self.calm.load(Ordering::Relaxed) && self.seeded().per_mille(share);
        if happens {
            self.note(|| format!("fault: {fault:?}"));
        }
        happens
    }

    /// From now on nothing goes wrong.
    pub fn calm_down(&self) {
        self.note(|| "calm".to_owned());
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Milliseconds since the schedule's begin.
    pub fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Virtual time, Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        BEGIN_MS + self.elapsed_ms()
    }

    /// The time that a message or a step takes.
    pub async fn pause(&self) {
        let slow = self.suffers(Fault::Slow);
        let pause = if slow { self.seeded().millis(5, 6000) } else { self.seeded().millis(0, 4) };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request to a service, whose work goes on whatever becomes of who asked; `None` when no answer came
    /// in time. The service is given a token that is dead when nobody waits for it any longer.
    pub async fn call<T, F>(
        self: &Arc<Self>,
        wait: Duration,
        serve: impl FnOnce(Arc<Self>, Weak<()>) -> F + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let waiting = Arc::new(());
        let asker = Arc::downgrade(&waiting);
        let world = Arc::clone(self);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            world.pause().await;
            if !world.suffers(Fault::RequestLost) {
                let result = serve(Arc::clone(&world), asker).await;
                world.pause().await;
                if !world.suffers(Fault::AnswerLost) {
                    let _gone = answer.send(result);
                }
            }
            world.under_way.fetch_sub(1, Ordering::Relaxed);
        });
        let until = Instant::now() + wait;
        let answer = timeout_at(until, answered).await.ok()?.ok();
        if answer.is_none() {
            // It was lost, of which nobody is told.
            sleep_until(until).await;
        }
        drop(waiting);
        answer
    }

    /// What is on its way, if something is.
    pub fn unrest(&self) -> Option<String> {
        let under_way = self.under_way.load(Ordering::Relaxed);
        let queued = !locked(&self.broker).is_empty();
        (under_way > 0 || queued).then(|| format!("{under_way} requests are under way, frames wait: {queued}"))
    }

    /// The contract is broken; the first violation is kept.
    pub fn violate(&self, what: impl FnOnce() -> String) {
        let mut violation = locked(&self.violation);
        if violation.is_none() {
            let what = what();
            self.note(|| format!("VIOLATION: {what}"));
            *violation = Some(what);
        }
    }

    pub fn violation(&self) -> Option<String> {
        locked(&self.violation).clone()
    }

    /// A line of the trace, if somebody reads it.
    pub fn note(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let line = format!("{:>6} ms  {}", self.elapsed_ms(), line());
            locked(trace).push(line);
        }
    }

    pub fn take_trace(&self) -> Vec<String> {
        self.trace.as_ref().map(|trace| std::mem::take(&mut *locked(trace))).unwrap_or_default()
    }
}

/// The same number for the same value, in every run.
pub fn digest(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
