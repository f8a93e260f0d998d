//! The sweep: compares a day of Cassandra with Postgres, lane by lane. What it may mend it mends (an event that was not
//! merged, an order out of line with its payments, a row of the shop's view); the rest becomes a break.

mod archived;
mod held;
mod units;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::partition::Layout;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use platform::cassandra::CassandraError;
use platform::clock::now_ms;
use platform::config::{Config, Sweep as SweepConfig};
use tokio_util::sync::CancellationToken;

use crate::apply::ApplyError;
use crate::archive::Archive;
use crate::handler::ReconcileHandler;
pub use units::{Unit, Units};

/// How often the schedule is looked at.
const TICK: Duration = Duration::from_secs(60);
/// Lanes of one round that may fail each for a reason of its own: more, and it is a database that is away.
const FAILURES_MAX: u32 = 3;
/// Lines of a report that are kept, a lane.
const LINES_MAX: usize = 200;

/// Why a sweep ended before its end; it can be run again and goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Cassandra did not answer, or has a row that cannot be read.
    #[error(transparent)]
    Cassandra(Box<CassandraError>),
    /// Postgres did not answer.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// A transaction was not committed.
    #[error("Postgres did not take a change: {0:?}")]
    Apply(ApplyError),
    /// The program is to end.
    #[error("stopped")]
    Stopped,
}

impl From<CassandraError> for SweepError {
    fn from(error: CassandraError) -> Self {
        Self::Cassandra(Box::new(error))
    }
}

impl From<ApplyError> for SweepError {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

impl From<platform::retry::Stopped> for SweepError {
    fn from(_: platform::retry::Stopped) -> Self {
        Self::Stopped
    }
}

/// What a sweep saw and did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Tally {
    /// Events read from Cassandra.
    pub events: u64,
    /// Payments read from Postgres.
    pub payments: u64,
    /// Events too young to be judged.
    pub recent: u64,
    /// Events that Postgres lacked; merged, or parked, but in a dry run.
    pub missed_events: u64,
    /// Payments whose columns say something else than their events; mended but in a dry run.
    pub payment_rows: u64,
    /// Orders out of line with their payments; mended but in a dry run.
    pub orders: u64,
    /// Rows of the shop's view that were missing or old; written but in a dry run.
    pub view_rows: u64,
    /// Differences that nobody may mend: breaks that this sweep found.
    pub breaks: u64,
    /// What was found, a line each; the first of each lane.
    pub lines: Vec<String>,
}

impl Tally {
    fn line(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(line());
        }
    }

    /// What was mended, or would have been.
    #[must_use]
    pub fn healed(&self) -> u64 {
        self.missed_events + self.payment_rows + self.orders + self.view_rows
    }

    /// Adds another lane's.
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.payments += other.payments;
        self.recent += other.recent;
        self.missed_events += other.missed_events;
        self.payment_rows += other.payment_rows;
        self.orders += other.orders;
        self.view_rows += other.view_rows;
        self.breaks += other.breaks;
        self.lines.extend(other.lines);
    }
}

/// One lane of a day: what one program sweeps at a time.
#[derive(Debug, Clone)]
struct Lane<'u> {
    unit: &'u Unit,
    /// None where Cassandra has nothing of the day.
    layout: Option<Layout>,
    dry_run: bool,
}

/// Is told the rows read from Cassandra since it was told last.
pub type RowsRead<'r> = dyn FnMut(u64) + Send + 'r;

/// Keeps a sweep at its rate, and its claim alive.
struct Pace<'p, 'r> {
    sweeper: &'p Sweeper,
    /// None in a dry run.
    claim: Option<&'p Units>,
    renewed: Instant,
    rows_read: &'p mut RowsRead<'r>,
}

impl Pace<'_, '_> {
    /// Called after each page; waits until as many rows may be read.
    async fn read(&mut self, unit: &Unit, rows: usize) -> Result<(), SweepError> {
        (self.rows_read)(rows as u64);
        let Sweeper { limiter, stop, config, .. } = self.sweeper;
        let mut left = u32::try_from(rows).unwrap_or(u32::MAX);
        while let Some(part) = NonZeroU32::new(left.min(config.rows_per_second)) {
            // A part is never more than the limiter's burst, which is one second's rows.
            let _ready = stop.run_until_cancelled(limiter.until_n_ready(part)).await.ok_or(SweepError::Stopped)?;
            left -= part.get();
        }
        if let Some(units) = self.claim.filter(|_| self.renewed.elapsed() > units::CLAIM / 4) {
            units.renew(unit).await?;
            self.renewed = Instant::now();
        }
        Ok(())
    }
}

/// Sweeps.
#[derive(Clone)]
pub struct Sweeper {
    handler: ReconcileHandler,
    archive: Arc<Archive>,
    config: SweepConfig,
    limiter: Arc<DefaultDirectRateLimiter>,
    stop: CancellationToken,
}

impl Sweeper {
    pub fn new(handler: ReconcileHandler, archive: Arc<Archive>, config: &Config, stop: CancellationToken) -> Self {
        let rows = NonZeroU32::new(config.sweep.rows_per_second).unwrap_or(NonZeroU32::MIN);
        let limiter = Arc::new(RateLimiter::direct(Quota::per_second(rows)));
        Self { handler, archive, config: config.sweep.clone(), limiter, stop }
    }

    /// Shows what a sweep of one lane would find; `rows_read` is told the rows read since it was told last.
    pub async fn look(&self, unit: &Unit, rows_read: &mut RowsRead<'_>) -> Result<Tally, SweepError> {
        let mut pace = Pace { sweeper: self, claim: None, renewed: Instant::now(), rows_read };
        self.sweep(unit, &mut pace).await
    }

    /// Sweeps a claimed lane, renews the claim on the way, and says that it is done.
    pub async fn mend(&self, units: &Units, unit: &Unit, rows_read: &mut RowsRead<'_>) -> Result<Tally, SweepError> {
        let mut pace = Pace { sweeper: self, claim: Some(units), renewed: Instant::now(), rows_read };
        let tally = match self.sweep(unit, &mut pace).await {
            Ok(tally) => tally,
            Err(SweepError::Stopped) => {
                // For whoever comes next; if Postgres is away, the claim ends by itself.
                let _away = units.release(unit).await;
                return Err(SweepError::Stopped);
            }
            // The claim is kept for its time: others come first, or a lane that cannot be read would hold up all behind it.
            Err(error) => return Err(error),
        };
        units.finish(unit, &tally).await?;
        self.handler.metrics.swept(&tally);
        Ok(tally)
    }

    async fn sweep(&self, unit: &Unit, pace: &mut Pace<'_, '_>) -> Result<Tally, SweepError> {
        let layout = self.archive.layout(&self.handler.stores.session, &unit.region, unit.day).await?;
        let lane = Lane { unit, layout, dry_run: pace.claim.is_none() };
        let mut tally = Tally::default();
        let seen = self.sweep_archived(&lane, &mut tally, pace).await?;
        self.sweep_held(&lane, &seen, &mut tally, pace).await?;
        Ok(tally)
    }

    /// The lanes of a day, for requests.
    pub async fn lanes(&self, region: &str, day: i32) -> Result<i32, SweepError> {
        let layout = self.archive.layout(&self.handler.stores.session, region, day).await?;
        Ok(layout.map_or(1, |layout| layout.lanes))
    }

    /// Waits, unless the program is to end.
    pub async fn pause(&self, pause: Duration) -> Result<(), SweepError> {
        self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.ok_or(SweepError::Stopped)
    }

    /// Sweeps by schedule until stopped: recent days often, older ones rarely. Several programs share the work.
    pub async fn keep(self, regions: Vec<String>) {
        let units = Units::new(self.handler.stores.books.pool.clone());
        // A program that has just started has others' backlog to work off.
        let first = Duration::from_secs(u64::from(self.config.recent_every_minutes) * 60);
        let mut pause = first;
        while self.pause(pause).await.is_ok() {
            pause = TICK;
            match self.tick(&units, &regions).await {
                Ok(()) | Err(SweepError::Stopped) => {}
                Err(error) => tracing::warn!(%error, "a sweep did not come to its end; trying again"),
            }
        }
    }

    async fn tick(&self, units: &Units, regions: &[String]) -> Result<(), SweepError> {
        let today = domain::partition::day_of(now_ms());
        let recent = i32::try_from(self.config.recent_days).unwrap_or(i32::MAX);
        let older = i32::try_from(self.config.older_days).unwrap_or(i32::MAX);
        for region in regions {
            for back in 0..recent.max(older) {
                let day = today - back;
                let minutes = match back < recent {
                    true => self.config.recent_every_minutes,
                    false => self.config.older_every_hours.saturating_mul(60),
                };
                units.request(region, day, self.lanes(region, day).await?, minutes).await?;
            }
        }
        let mut failures = 0;
        while let Some(unit) = units.claim(None).await? {
            let tally = match self.mend(units, &unit, &mut |_| {}).await {
                Ok(tally) => tally,
                Err(SweepError::Stopped) => return Err(SweepError::Stopped),
                Err(error) if failures < FAILURES_MAX => {
                    failures += 1;
                    let (day, lane) = (unit.date(), unit.lane);
                    tracing::warn!(%error, region = %unit.region, %day, lane, "a lane was not swept to its end; others first");
                    continue;
                }
                Err(error) => return Err(error),
            };
            if tally.healed() + tally.breaks > 0 {
                let Tally { missed_events, payment_rows, orders, view_rows, breaks, .. } = tally;
                tracing::warn!(
                    region = %unit.region,
                    day = %unit.date(),
                    lane = unit.lane,
                    missed_events,
                    payment_rows,
                    orders,
                    view_rows,
                    breaks,
                    "a sweep found differences"
                );
            }
        }
        Ok(())
    }
}
