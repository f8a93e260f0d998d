//! `quarantine` and `dead_letters`: exactly the events of unknown types in the first, nothing of the run in the second.

use std::collections::HashMap;
use std::time::Instant;

use futures_util::TryStreamExt;
use platform::amqp::Stage;
use platform::cassandra::prepare;
use scylla::statement::prepared::PreparedStatement;

use super::{Audit, AuditError, Findings, LOOK_AGAIN_AFTER, Scope};
use crate::journal::Fate;
use crate::plan::{Plan, Provider};

/// Each source and stage is spread over this many partitions.
const BUCKETS: i32 = 16;

pub async fn compare(scope: &Scope<'_>) -> Result<Audit, AuditError> {
    let (mut findings, quarantined) = loop {
        let (findings, quarantined) = compare_quarantine(scope).await?;
        if findings.count == 0 || Instant::now() > scope.patience_until {
            break (findings, quarantined);
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    };
    let select = "SELECT record, reason FROM {keyspace}.dead_letters WHERE stage = ? AND bucket = ?";
    let select = prepare(scope.session, &scope.config.cassandra, select).await?;
    let mut dead = 0;
    for stage in [Stage::Write, Stage::Reconcile] {
        for (event, reason) in read(scope, &select, stage.as_str()).await? {
            dead += 1;
            findings.add(|| format!("{} is in dead_letters of stage {}: {reason}", name(scope, event), stage.as_str()));
        }
    }
    let mut audit = Audit { findings, ..Audit::default() };
    audit.looked_at.insert("rows in quarantine", quarantined);
    audit.looked_at.insert("rows in dead_letters", dead);
    Ok(audit)
}

async fn compare_quarantine(scope: &Scope<'_>) -> Result<(Findings, u64), AuditError> {
    let select = "SELECT body, reason FROM {keyspace}.quarantine WHERE source = ? AND bucket = ?";
    let select = prepare(scope.session, &scope.config.cassandra, select).await?;
    let run = scope.run;
    let mut findings = Findings::default();
    let mut counts: HashMap<u32, u32> = HashMap::new();
    let mut rows = 0;
    for kit in Provider::ALL.iter().filter_map(|provider| scope.kits.get(*provider)) {
        for (event, reason) in read(scope, &select, &kit.source.source.name).await? {
            rows += 1;
            let known = event.filter(|event| (*event as usize) < run.schedule.event_count());
            match known.filter(|event| run.schedule.order_of(*event).plan == Plan::Unknown) {
                Some(event) => *counts.entry(event).or_default() += 1,
                None => findings.add(|| format!("{} is in quarantine: {reason}", name(scope, event))),
            }
        }
    }
    for order in run.schedule.orders().iter().filter(|order| order.plan == Plan::Unknown) {
        let event = order.first_event;
        let found = counts.get(&event).copied().unwrap_or(0);
        let right = match run.journal.fate(event) {
            Fate::Acknowledged => found == 1,
            Fate::Uncertain => found <= 1,
            Fate::Unsent => found == 0,
        };
        if !right {
            findings
                .add(|| format!("{} must be in quarantine once and is there {found} times", name(scope, Some(event))));
        }
    }
    Ok((findings, rows))
}

fn name(scope: &Scope<'_>, event: Option<u32>) -> String {
    let known = event.filter(|event| (*event as usize) < scope.run.schedule.event_count());
    let id = known.map(|event| scope.run.provider_event_id(&scope.run.facts(event)));
    id.map_or_else(|| "a record of this run".to_owned(), |id| format!("event {id}"))
}

/// The rows that carry this run's name: their event and why they are there.
async fn read(
    scope: &Scope<'_>,
    select: &PreparedStatement,
    key: &str,
) -> Result<Vec<(Option<u32>, String)>, AuditError> {
    let failed = |error: &dyn std::fmt::Display| AuditError::Read(error.to_string());
    let mut own = Vec::new();
    for bucket in 0..BUCKETS {
        let pager = scope.session.execute_iter(select.clone(), (key, bucket)).await.map_err(|error| failed(&error))?;
        let mut rows = pager.rows_stream::<(Vec<u8>, String)>().map_err(|error| failed(&error))?;
        while let Some((bytes, reason)) = rows.try_next().await.map_err(|error| failed(&error))? {
            if let Some(event) = scope.run.name.find(&bytes) {
                own.push((event, reason));
            }
        }
    }
    Ok(own)
}
