//! The figures of the page: what all programs and queues say now, and how their counters grew in the last seconds. However
//! many look, the programs are asked at most once a second, by one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use platform::amqp::{Depths, Waiting};
use platform::clock::now_ms;
use platform::config::Config;
use serde::Serialize;
use tokio::sync::Mutex;

use super::exposition::{Counter, Reading, quantile};
use super::scrape::scrape;

/// Within this time, what was asked is what is shown.
const FRESH: Duration = Duration::from_secs(1);
/// Rates are over this time: short enough to see a change, long enough not to flicker.
const WINDOW: Duration = Duration::from_secs(10);
/// The broker is asked for a few queues only.
const QUEUES_WITHIN: Duration = Duration::from_secs(1);

/// All programs that are watched, and what they said.
pub struct Board(Mutex<State>);

struct State {
    programs: Vec<Program>,
    depths: Depths,
    samples: VecDeque<Sample>,
    shown: Option<(Instant, Arc<str>)>,
}

struct Program {
    address: String,
    /// Where the configuration says it or the program once did.
    role: Option<&'static str>,
    /// Unix milliseconds.
    answered_at_ms: Option<i64>,
}

/// What each program said at one time, in the order of [`State::programs`].
struct Sample {
    at: Instant,
    readings: Vec<Result<Reading, &'static str>>,
}

/// The answer of `/api/status`. What is not known is null, never zero.
#[derive(Serialize)]
struct Figures {
    /// Unix milliseconds.
    at_ms: i64,
    accepted: Rate,
    stored: Rate,
    applied: Rate,
    /// Seconds, of the answers of the last seconds.
    ack: Option<Ack>,
    waiting: Option<Frames>,
    parked: Option<Parked>,
    /// Kinds that have open ones.
    breaks: Option<Vec<Breaks>>,
    /// Since the programs' start.
    dead_letters: Option<f64>,
    quarantined: Option<f64>,
    programs: Vec<Shown>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Rate {
    per_second: Option<f64>,
    /// Programs of this stage that answer, of those that are known.
    answering: usize,
    programs: usize,
}

#[derive(Serialize)]
struct Ack {
    p50: f64,
    p99: f64,
}

#[derive(Serialize)]
struct Frames {
    write: u64,
    reconcile: u64,
    dead: u64,
}

#[derive(Serialize)]
struct Parked {
    events: f64,
    oldest_seconds: f64,
}

#[derive(Serialize)]
struct Breaks {
    kind: String,
    open: f64,
    oldest_seconds: f64,
}

#[derive(Serialize)]
struct Shown {
    name: Option<&'static str>,
    address: String,
    version: Option<String>,
    /// Why it does not answer; null where it does.
    problem: Option<&'static str>,
    answered_at_ms: Option<i64>,
    dependencies: BTreeMap<String, bool>,
}

impl Board {
    /// Of the programs that the configuration names, or else of its own three.
    pub fn new(config: &Config) -> Self {
        let own = [
            ("ingest", config.ingest.internal_listen),
            ("writer", config.writer.internal_listen),
            ("reconciler", config.reconciler.internal_listen),
        ];
        let program = |address, role| Program { address, role, answered_at_ms: None };
        let programs = match config.status.programs.is_empty() {
            true => own.map(|(role, address)| program(address.to_string(), Some(role))).into(),
            false => config.status.programs.iter().map(|address| program(address.clone(), None)).collect(),
        };
        let depths = Depths::of(&config.rabbitmq);
        Self(Mutex::new(State { programs, depths, samples: VecDeque::new(), shown: None }))
    }

    /// The figures as JSON, at most a second old.
    pub async fn json(&self) -> Result<Arc<str>, serde_json::Error> {
        // Whoever comes meanwhile waits here, and finds what the first one brought.
        let mut state = self.0.lock().await;
        if let Some((_, shown)) = state.shown.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(shown));
        }
        let waiting = state.ask().await;
        let text: Arc<str> = serde_json::to_string(&state.figures(waiting))?.into();
        state.shown = Some((Instant::now(), Arc::clone(&text)));
        Ok(text)
    }
}

impl State {
    /// Asks all programs and the broker, at the same time.
    async fn ask(&mut self) -> Option<Waiting> {
        let scrapes = join_all(self.programs.iter().map(|program| scrape(&program.address)));
        let queues = tokio::time::timeout(QUEUES_WITHIN, self.depths.ask());
        let (readings, queues) = tokio::join!(scrapes, queues);
        for (program, reading) in self.programs.iter_mut().zip(&readings) {
            if let Ok(reading) = reading {
                program.role = reading.role.or(program.role);
                program.answered_at_ms = Some(now_ms());
            }
        }
        self.keep(Sample { at: Instant::now(), readings });
        match queues {
            Ok(Ok(waiting)) => return Some(waiting),
            Ok(Err(error)) => tracing::debug!(error, "the queues' depths are not known"),
            Err(_) => tracing::debug!("the broker did not tell the queues' depths in time"),
        }
        None
    }

    fn keep(&mut self, sample: Sample) {
        // One a second at most, so that this is a dozen.
        self.samples.retain(|earlier| sample.at.duration_since(earlier.at) <= WINDOW + FRESH);
        self.samples.push_back(sample);
    }

    /// The latest readings of the programs of a role that answered; none where none did.
    fn latest(&self, role: &str) -> Option<Vec<&Reading>> {
        let latest = self.samples.back()?;
        let of_role = self.programs.iter().zip(&latest.readings);
        let of_role = of_role.filter(|(program, _)| program.role == Some(role));
        let readings: Vec<&Reading> = of_role.filter_map(|(_, reading)| reading.as_ref().ok()).collect();
        (!readings.is_empty()).then_some(readings)
    }

    /// By how much a program's counter grew in the window, and in how many seconds. A counter that is smaller than before
    /// began again at zero.
    fn growth(&self, program: usize, counter: impl Fn(&Reading) -> f64) -> Option<(f64, f64)> {
        self.samples.back()?.readings.get(program)?.as_ref().ok()?;
        let of_program = |sample: &Sample| Some((sample.at, counter(sample.readings.get(program)?.as_ref().ok()?)));
        let values: Vec<(Instant, f64)> = self.samples.iter().filter_map(of_program).collect();
        let ((first, _), (last, _)) = (values.first()?, values.last()?);
        let seconds = last.duration_since(*first).as_secs_f64();
        let grown = values.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 });
        (seconds > 0.0).then(|| (grown.sum(), seconds))
    }

    fn rate(&self, role: &str, counter: Counter) -> Rate {
        let of_role: Vec<usize> =
            self.programs.iter().enumerate().filter(|(_, p)| p.role == Some(role)).map(|(index, _)| index).collect();
        let rates: Vec<f64> = of_role
            .iter()
            .filter_map(|program| self.growth(*program, counter).map(|(grown, seconds)| grown / seconds))
            .collect();
        Rate {
            per_second: (!rates.is_empty()).then(|| rates.iter().sum()),
            answering: self.latest(role).map_or(0, |readings| readings.len()),
            programs: of_role.len(),
        }
    }

    fn ack(&self) -> Option<Ack> {
        let bounds: Vec<f64> = self.latest("ingest")?.first()?.acks.iter().map(|(bound, _)| *bound).collect();
        let at = |reading: &Reading, bound: f64| {
            reading.acks.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()).map_or(0.0, |(_, count)| *count)
        };
        let grown: Vec<(f64, f64)> = bounds
            .into_iter()
            .map(|bound| {
                let programs = 0..self.programs.len();
                let grown = programs.filter_map(|program| self.growth(program, |reading| at(reading, bound)));
                (bound, grown.map(|(grown, _)| grown).sum())
            })
            .collect();
        Some(Ack { p50: quantile(&grown, 0.5)?, p99: quantile(&grown, 0.99)? })
    }

    /// What the reconcilers counted in Postgres, every few seconds. All count the same; the largest is the latest
    /// that anybody should act on. Without Postgres they only know how it was.
    fn counted(&self) -> Option<(Parked, Vec<Breaks>)> {
        let mut readings = self.latest("reconciler")?;
        readings.retain(|reading| reading.dependencies.get("postgres") == Some(&true));
        let largest = |figure: Counter| readings.iter().map(|reading| figure(reading)).reduce(f64::max);
        let events = largest(|reading| reading.parked)?;
        let oldest_seconds = largest(|reading| reading.parked_age)?;
        let mut breaks: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (kind, (open, oldest)) in readings.iter().flat_map(|reading| &reading.breaks) {
            let entry = breaks.entry(kind).or_default();
            *entry = (entry.0.max(*open), entry.1.max(*oldest));
        }
        let open = breaks.into_iter().filter(|(_, (open, _))| *open > 0.0);
        let open = open.map(|(kind, (open, oldest_seconds))| Breaks { kind: kind.to_owned(), open, oldest_seconds });
        Some((Parked { events, oldest_seconds }, open.collect()))
    }

    fn figures(&self, waiting: Option<Waiting>) -> Figures {
        let (parked, breaks) = self.counted().unzip();
        let sum = |role, figure: Counter| -> Option<f64> {
            self.latest(role).map(|readings| readings.into_iter().map(figure).sum())
        };
        let dead = |role| sum(role, |reading| reading.dead_letters);
        Figures {
            at_ms: now_ms(),
            accepted: self.rate("ingest", |reading| reading.accepted),
            stored: self.rate("writer", |reading| reading.stored),
            applied: self.rate("reconciler", |reading| reading.applied),
            ack: self.ack(),
            waiting: waiting.map(|Waiting { write, reconcile, dead }| Frames { write, reconcile, dead }),
            parked,
            breaks,
            dead_letters: dead("writer").zip(dead("reconciler")).map(|(writer, reconciler)| writer + reconciler),
            quarantined: sum("writer", |reading| reading.quarantined),
            programs: self.programs.iter().enumerate().map(|(index, program)| self.shown(index, program)).collect(),
        }
    }

    fn shown(&self, index: usize, program: &Program) -> Shown {
        let reading = self.samples.back().and_then(|sample| sample.readings.get(index));
        let (reading, problem) = match reading {
            Some(Ok(reading)) => (Some(reading), None),
            Some(Err(problem)) => (None, Some(*problem)),
            None => (None, Some("was not asked yet")),
        };
        Shown {
            name: program.role,
            address: program.address.clone(),
            version: reading.and_then(|reading| reading.version.clone()),
            problem,
            answered_at_ms: program.answered_at_ms,
            dependencies: reading.map(|reading| reading.dependencies.clone()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(programs: usize) -> State {
        let config = platform::config::parse("test", "", &BTreeMap::new());
        let mut config = config.unwrap_or_else(|error| unreachable!("the defaults: {error}"));
        config.status.programs = (0..programs).map(|index| format!("127.0.0.1:{}", 9000 + index)).collect();
        Board::new(&config).0.into_inner()
    }

    fn writer(stored: f64) -> Result<Reading, &'static str> {
        Ok(Reading { role: Some("writer"), stored, ..Reading::default() })
    }

    fn add(state: &mut State, start: Instant, second: u64, readings: Vec<Result<Reading, &'static str>>) {
        for (program, reading) in state.programs.iter_mut().zip(&readings) {
            program.role = reading.as_ref().ok().and_then(|reading| reading.role).or(program.role);
        }
        state.keep(Sample { at: start + Duration::from_secs(second), readings });
    }

    #[test]
    fn rates_are_summed_and_a_program_that_does_not_answer_is_no_zero() {
        let (mut state, start) = (state(2), Instant::now());
        let rate = |state: &State| state.rate("writer", |reading| reading.stored);
        assert_eq!(rate(&state), Rate { per_second: None, answering: 0, programs: 0 });
        add(&mut state, start, 0, vec![writer(100.0), writer(1000.0)]);
        assert_eq!(rate(&state), Rate { per_second: None, answering: 2, programs: 2 });
        add(&mut state, start, 2, vec![writer(120.0), writer(1100.0)]);
        assert_eq!(rate(&state), Rate { per_second: Some(60.0), answering: 2, programs: 2 });
        add(&mut state, start, 4, vec![writer(140.0), Err("cannot be reached")]);
        assert_eq!(rate(&state), Rate { per_second: Some(10.0), answering: 1, programs: 2 });
        add(&mut state, start, 6, vec![Err("cannot be reached"), Err("cannot be reached")]);
        assert_eq!(rate(&state), Rate { per_second: None, answering: 0, programs: 2 });
    }

    #[test]
    fn a_restart_is_no_negative_rate_and_old_samples_are_forgotten() {
        let (mut state, start) = (state(1), Instant::now());
        for (second, stored) in [(0, 500.0), (1, 510.0), (2, 5.0), (3, 15.0)] {
            add(&mut state, start, second, vec![writer(stored)]);
        }
        assert_eq!(state.growth(0, |reading| reading.stored), Some((25.0, 3.0)));
        add(&mut state, start, 100, vec![writer(5000.0)]);
        assert_eq!(state.rate("writer", |reading| reading.stored).per_second, None);
    }

    #[test]
    fn without_postgres_nothing_is_said_of_parked_events_and_breaks() {
        let (mut state, start) = (state(1), Instant::now());
        let reconciler = |postgres: bool| {
            Ok(Reading {
                role: Some("reconciler"),
                parked: 3.0,
                breaks: [("amount".to_owned(), (2.0, 9.0)), ("status".to_owned(), (0.0, 0.0))].into(),
                dependencies: [("postgres".to_owned(), postgres)].into(),
                ..Reading::default()
            })
        };
        add(&mut state, start, 0, vec![reconciler(true)]);
        let counted = state.counted().map(|(parked, breaks)| (parked.events, breaks.len()));
        assert_eq!(counted, Some((3.0, 1)));
        add(&mut state, start, 1, vec![reconciler(false)]);
        assert!(state.counted().is_none());
    }
}
