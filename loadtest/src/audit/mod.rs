//! The audit: what was sent and acknowledged, joined with what Cassandra and Postgres hold.

mod drain;
mod events;
mod orders;
mod raw;
mod view;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use platform::cassandra::CassandraError;
use platform::config::Config;
use scylla::client::session::Session;
use serde::Serialize;
use sqlx::PgPool;

pub use drain::wait_until_drained;

use crate::facts::Run;
use crate::journal::Fate;
use crate::payload::Kits;
use crate::plan::{Plan, Step};

/// Findings that are told in words.
const TOLD_MAX: usize = 20;
/// How often a store is asked again whether something has arrived.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Why an audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Cassandra does not answer.
    #[error(transparent)]
    Cassandra(Box<CassandraError>),
    /// A page cannot be read.
    #[error("cannot read from Cassandra: {0}")]
    Read(String),
    /// Postgres does not answer.
    #[error("cannot read from Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
}

impl From<CassandraError> for AuditError {
    fn from(error: CassandraError) -> Self {
        // It is much larger than the others.
        Self::Cassandra(Box::new(error))
    }
}

/// What is not as it must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How many.
    pub count: u64,
    /// The first of them in words: what was expected and what was found.
    pub first: Vec<String>,
}

impl Findings {
    /// Adds one; its words are only made while they are told.
    pub fn add(&mut self, words: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < TOLD_MAX {
            self.first.push(words());
        }
    }

    /// Adds others.
    pub fn extend(&mut self, other: Self) {
        self.count += other.count;
        let room = TOLD_MAX - self.first.len().min(TOLD_MAX);
        self.first.extend(other.first.into_iter().take(room));
    }
}

/// What the audit looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Whether nothing was found.
    pub clean: bool,
    /// What is not as it must be.
    pub findings: Findings,
    /// Numbers looked at, by name.
    pub looked_at: BTreeMap<&'static str, u64>,
}

/// What an audit needs.
pub struct Scope<'a> {
    pub run: &'a Run,
    pub kits: &'a Kits,
    pub config: &'a Config,
    pub session: &'a Session,
    pub pool: &'a PgPool,
    /// Until then, what is missing may still arrive.
    pub patience_until: Instant,
}

/// Compares everything.
pub async fn audit(scope: &Scope<'_>) -> Result<Audit, AuditError> {
    let mut audit = Audit::default();
    let run = scope.run;
    let events = 0..u32::try_from(run.schedule.event_count()).unwrap_or(u32::MAX);
    let fates = events.map(|event| (run.schedule.order_of(event).plan, run.journal.fate(event)));
    for (plan, fate) in fates.filter(|(plan, _)| *plan != Plan::Forged) {
        let name = match (plan, fate) {
            (_, Fate::Unsent) => "events never sent",
            (_, Fate::Uncertain) => "events sent and not acknowledged",
            (Plan::NoChange, _) => "events acknowledged that change no payment",
            (Plan::Unknown, _) => "events acknowledged of an unknown type",
            _ => "payment events acknowledged",
        };
        *audit.looked_at.entry(name).or_default() += 1;
    }
    for part in [
        patiently(scope, async || orders::compare(scope).await).await?,
        patiently(scope, async || events::compare(scope).await).await?,
        patiently(scope, async || raw::compare(scope).await).await?,
        patiently(scope, async || view::compare(scope).await).await?,
    ] {
        audit.findings.extend(part.findings);
        audit.looked_at.extend(part.looked_at);
    }
    audit.clean = audit.findings.count == 0;
    Ok(audit)
}

/// A database that was killed under the load may still be on its way back.
async fn patiently(
    scope: &Scope<'_>,
    mut compare: impl AsyncFnMut() -> Result<Audit, AuditError>,
) -> Result<Audit, AuditError> {
    loop {
        match compare().await {
            Err(_) if Instant::now() < scope.patience_until => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            outcome => return outcome,
        }
    }
}

/// Whether an event becomes a row of `payment_events`.
fn is_payment_event(plan: Plan, step: Step) -> bool {
    plan != Plan::Forged && !matches!(step, Step::NoChange | Step::Unknown)
}
