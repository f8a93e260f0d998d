//! `payment_events`: every acknowledged event once, every other one at most once, nothing that was never sent, and
//! each as its plan says.

use std::time::Instant;

use domain::ids;
use domain::partition::{Layout, day_of};
use futures_util::{StreamExt, TryStreamExt};
use platform::cassandra::{cql_date, prepare};
use scylla::DeserializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlDecimal;
use uuid::Uuid;

use super::{Audit, AuditError, Findings, LOOK_AGAIN_AFTER, Scope, is_payment_event};
use crate::facts::{Facts, Run, account};
use crate::journal::Fate;
use crate::payload::Kits;

/// Partitions read at the same time.
const PARTITIONS_AT_ONCE: usize = 4;
const PAGE_ROWS: i32 = 5000;
const DAY_MS: i64 = 86_400_000;

#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct Row {
    provider: String,
    provider_event_id: String,
    amount: Option<CqlDecimal>,
    currency: Option<String>,
    kind: String,
    order_ref: Option<String>,
    payment_id: Uuid,
}

/// One partition: region, day, bucket.
type Partition = (String, i32, i32);

pub async fn compare(scope: &Scope<'_>) -> Result<Audit, AuditError> {
    let select = "SELECT provider, provider_event_id, amount, currency, kind, order_ref, payment_id \
                  FROM {keyspace}.payment_events WHERE region = ? AND day = ? AND bucket = ?";
    let mut select = prepare(scope.session, &scope.config.cassandra, select).await?;
    select.set_page_size(PAGE_ROWS);
    loop {
        let partitions = partitions(scope).await?;
        let mut tally = Tally::new(scope.run, scope.kits);
        let mut reads = futures_util::stream::iter(&partitions)
            .map(|partition| read(scope, &select, partition))
            .buffer_unordered(PARTITIONS_AT_ONCE);
        while let Some(rows) = reads.next().await {
            for (region, row) in rows? {
                tally.row(&region, &row);
            }
        }
        let audit = tally.close(partitions.len());
        // An event that changes nothing in Postgres can be stored a little after its order is in its last state.
        let may_arrive = audit.missing > 0 && audit.missing == audit.audit.findings.count;
        if !may_arrive || Instant::now() > scope.patience_until {
            return Ok(audit.audit);
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Every partition in which an event of the run can be, of every region.
async fn partitions(scope: &Scope<'_>) -> Result<Vec<Partition>, AuditError> {
    let (from_ms, to_ms) = scope.run.time_range_ms();
    let select = "SELECT slot_minutes, lanes FROM {keyspace}.days WHERE region = ? AND day = ?";
    let select = prepare(scope.session, &scope.config.cassandra, select).await?;
    let mut partitions = Vec::new();
    for region in &scope.config.regions {
        for day in day_of(from_ms)..=day_of(to_ms) {
            let row = scope.session.execute_unpaged(&select, (region, cql_date(day))).await;
            let row = row.map_err(|error| AuditError::Read(error.to_string()))?.into_rows_result();
            let row = row.map_err(|error| AuditError::Read(error.to_string()))?;
            let row = row.maybe_first_row::<(i32, i32)>().map_err(|error| AuditError::Read(error.to_string()))?;
            let Some(layout) = row.and_then(|(slot, lanes)| Layout::new(slot, lanes)) else { continue };
            let midnight = i64::from(day) * DAY_MS;
            let lane_zero = Uuid::nil();
            let first = layout.bucket(from_ms.max(midnight), lane_zero);
            let last = layout.bucket(to_ms.min(midnight + DAY_MS - 1), lane_zero) + layout.lanes;
            partitions.extend((first..last).map(|bucket| (region.clone(), day, bucket)));
        }
    }
    Ok(partitions)
}

/// The rows of one partition that carry this run's name, whichever run's they are said to be.
async fn read(
    scope: &Scope<'_>,
    select: &PreparedStatement,
    (region, day, bucket): &Partition,
) -> Result<Vec<(String, Row)>, AuditError> {
    let failed = |error: &dyn std::fmt::Display| AuditError::Read(error.to_string());
    let values = (region.clone(), cql_date(*day), *bucket);
    let pager = scope.session.execute_iter(select.clone(), values).await.map_err(|error| failed(&error))?;
    let mut rows = pager.rows_stream::<Row>().map_err(|error| failed(&error))?;
    let mut own = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(|error| failed(&error))? {
        if scope.run.name.find(row.provider_event_id.as_bytes()).is_some() {
            own.push((region.clone(), row));
        }
    }
    Ok(own)
}

/// Rows counted for each event.
struct Tally<'a> {
    run: &'a Run,
    kits: &'a Kits,
    counts: Vec<u8>,
    rows: u64,
    findings: Findings,
}

struct Tallied {
    audit: Audit,
    missing: u64,
}

impl<'a> Tally<'a> {
    fn new(run: &'a Run, kits: &'a Kits) -> Self {
        Self { run, kits, counts: vec![0; run.schedule.event_count()], rows: 0, findings: Findings::default() }
    }

    fn row(&mut self, region: &str, row: &Row) {
        self.rows += 1;
        let run = self.run;
        let Some(facts) = self.event_of(row) else {
            self.findings.add(|| {
                format!("Cassandra has event {} of {}, which was never made", row.provider_event_id, row.provider)
            });
            return;
        };
        let id = &row.provider_event_id;
        if !is_payment_event(facts.plan, facts.step) {
            self.findings.add(|| format!("Cassandra has event {id} ({:?}), which is no payment's", facts.plan));
            return;
        }
        if run.journal.fate(facts.event) == Fate::Unsent {
            self.findings.add(|| format!("Cassandra has event {id}, which was never sent"));
            return;
        }
        let count = &mut self.counts[facts.event as usize];
        *count = count.saturating_add(1);
        if *count == 2 {
            self.findings.add(|| format!("Cassandra has event {id} more than once"));
        }
        self.compare_row(&facts, region, row);
    }

    fn compare_row(&mut self, facts: &Facts, region: &str, row: &Row) {
        let run = self.run;
        let provider = facts.provider.as_str();
        let account = account(facts.provider);
        let payment = ids::payment_id(provider, account, &run.provider_payment_id(facts));
        let order = facts.step.names_order(facts.provider).then(|| run.name.order_ref(facts.order));
        let amount = row.amount.as_ref().and_then(|amount| minor(amount, facts.terms.currency.exponent));
        let source = self.kits.get(facts.provider).map(|kit| &kit.source.source);
        let expected_region = source.map_or("", |source| source.region_of(account));
        let mut differs = |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
            let id = &row.provider_event_id;
            self.findings.add(|| format!("event {id}: {what} must be {expected:?} and is {found:?}"));
        };
        if amount != Some(facts.amount) {
            differs("the amount in minor units", &facts.amount, &amount);
        }
        if row.currency.as_deref() != Some(facts.terms.currency.code) {
            differs("the currency", &facts.terms.currency.code, &row.currency);
        }
        if Some(row.kind.as_str()) != facts.step.kind(facts.provider) {
            differs("the kind", &facts.step.kind(facts.provider), &row.kind);
        }
        if row.order_ref != order {
            differs("the order", &order, &row.order_ref);
        }
        if row.payment_id != payment {
            differs("the payment", &payment, &row.payment_id);
        }
        if region != expected_region {
            differs("the region", &expected_region, &region);
        }
    }

    /// The event of a row: a dispute's events share a token, so the whole id decides.
    fn event_of(&self, row: &Row) -> Option<Facts> {
        let run = self.run;
        let named = run.name.find(row.provider_event_id.as_bytes())??;
        if named as usize >= run.schedule.event_count() {
            return None;
        }
        let mut events = run.schedule.order_of(named).events().map(|event| run.facts(event));
        events.find(|f| f.provider.as_str() == row.provider && run.provider_event_id(f) == row.provider_event_id)
    }

    fn close(mut self, partitions: usize) -> Tallied {
        let run = self.run;
        let mut missing = 0;
        for (event, count) in (0_u32..).zip(&self.counts) {
            if *count > 0 || run.journal.fate(event) != Fate::Acknowledged {
                continue;
            }
            let facts = run.facts(event);
            if is_payment_event(facts.plan, facts.step) {
                missing += 1;
                let id = run.provider_event_id(&facts);
                self.findings.add(|| format!("event {id} was acknowledged and is not in Cassandra"));
            }
        }
        let mut audit = Audit { findings: self.findings, ..Audit::default() };
        audit.looked_at.insert("rows in payment_events", self.rows);
        audit.looked_at.insert("partitions of payment_events", partitions as u64);
        Tallied { audit, missing }
    }
}

/// A decimal in minor units of a currency with `exponent` digits; `None` if it is finer or does not fit.
pub fn minor(amount: &CqlDecimal, exponent: u8) -> Option<i64> {
    let (bytes, scale) = amount.as_signed_be_bytes_slice_and_exponent();
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut value = if negative { -1_i64 } else { 0 };
    for byte in bytes {
        value = value.checked_mul(256)?.checked_add(i64::from(*byte))?;
    }
    let digits = u32::try_from(i32::from(exponent) - scale).ok()?;
    value.checked_mul(10_i64.checked_pow(digits)?)
}

#[cfg(test)]
mod tests;
