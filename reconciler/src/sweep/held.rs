//! The other direction: every payment that Postgres holds is in Cassandra, its order is in line with it, and the
//! shop's view shows it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use domain::fold::Payment;
use domain::money::decimal_text;
use domain::partition::day_of;
use platform::clock::{now_ms, now_us};
use platform::postgres::in_time;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use super::archived::Seen;
use super::{Lane, Pace, SweepError, Sweeper, Tally};
use crate::apply::ApplyError;
use crate::breaks::{self, Break, MISSING_ORDER, MISSING_PAYMENT, STALE_AUTHORIZATION};
use crate::plan::{Known, PaymentRow, Plan};
use crate::sql::{PAYMENT_COLUMNS, payment_of, read_payments};

/// Payments of one page.
const PAGE: i64 = 1000;
/// Rows of the view read by one request: each is a partition.
const VIEW_ROWS: usize = 100;
const DAY_MS: i64 = 86_400_000;

impl Sweeper {
    pub(super) async fn sweep_held(
        &self,
        lane: &Lane<'_>,
        seen: &Seen,
        tally: &mut Tally,
        pace: &mut Pace<'_, '_>,
    ) -> Result<(), SweepError> {
        // The lane of domain::partition::Layout::bucket.
        let select = format!(
            "SELECT {PAYMENT_COLUMNS} FROM payments WHERE region = $1 AND day = date '1970-01-01' + $2 AND payment_id > $3 \
             AND (get_byte(uuid_send(payment_id), 0) * 256 + get_byte(uuid_send(payment_id), 1)) % $4 = $5 \
             ORDER BY payment_id LIMIT {PAGE}"
        );
        let mut after = Uuid::nil();
        loop {
            let rows = in_time(
                sqlx::query(AssertSqlSafe(select.clone()))
                    .bind(&lane.unit.region)
                    .bind(lane.unit.day)
                    .bind(after)
                    .bind(lane.layout.map_or(1, |layout| layout.lanes))
                    .bind(lane.unit.lane)
                    .fetch_all(&self.handler.stores.books.pool),
            )
            .await?;
            let payments = rows.iter().map(payment_of).collect::<Result<Vec<_>, _>>()?;
            let Some(end) = payments.last() else { return Ok(()) };
            after = end.payment_id;
            tally.payments += payments.len() as u64;
            pace.read(lane.unit, 0).await?;
            self.check_payments(lane, &payments, seen, tally).await?;
            self.check_orders(lane, &payments, tally).await?;
            self.check_view(lane, &payments, tally).await?;
        }
    }

    /// Payments that Cassandra never had, and authorizations that nobody captures.
    async fn check_payments(
        &self,
        lane: &Lane<'_>,
        payments: &[PaymentRow],
        seen: &Seen,
        tally: &mut Tally,
    ) -> Result<(), SweepError> {
        let stale_before_ms = now_ms() - i64::from(self.config.stale_authorization_days) * DAY_MS;
        let mut found = Vec::new();
        for row in payments {
            let payment = Payment::of(&row.facts);
            let of = |kind, detail| Break {
                kind,
                subject: row.payment_id.to_string(),
                order_ref: Some(row.order_ref.clone()),
                payment_id: Some(row.payment_id),
                region: Some(row.region.clone()),
                day: Some(row.day()),
                currency: payment.currency.map(|currency| currency.as_str().to_owned()),
                expected: None,
                actual: Some(payment.shop_amount()),
                detail,
            };
            if !seen.contains(row.payment_id) && !self.is_archived(row).await? {
                let detail =
                    format!("{} {} is in Postgres, but Cassandra has no event of it", row.provider, row.provider_ref);
                found.push(of(MISSING_PAYMENT, detail));
            }
            if let Some(since_ms) = payment.authorized_since_ms(&row.facts).filter(|since| *since < stale_before_ms) {
                let days = (now_ms() - since_ms) / DAY_MS;
                found.push(of(STALE_AUTHORIZATION, format!("authorized {days} days ago and never captured")));
            }
        }
        let subjects: Vec<String> = payments.iter().map(|row| row.payment_id.to_string()).collect();
        self.report(lane, &found, &[MISSING_PAYMENT, STALE_AUTHORIZATION], &subjects, tally).await
    }

    /// Looks once more for what the walk did not see: it may have come while the walk was under way, or the latest
    /// event named the payment by another id and lies elsewhere.
    async fn is_archived(&self, row: &PaymentRow) -> Result<bool, SweepError> {
        let session = &self.handler.stores.session;
        let times: BTreeSet<i64> = row.facts.entries.values().map(|fact| fact.event_time_ms).collect();
        for event_time_ms in times.into_iter().rev() {
            let day = day_of(event_time_ms);
            if let Some(layout) = self.archive.layout(session, &row.region, day).await? {
                let place = (row.region.as_str(), day, layout.bucket(event_time_ms, row.payment_id));
                if self.archive.holds(session, place, row.payment_id).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Orders that are not what their payments say, were written over by the shop, or are gone.
    async fn check_orders(
        &self,
        lane: &Lane<'_>,
        payments: &[PaymentRow],
        tally: &mut Tally,
    ) -> Result<(), SweepError> {
        let references: BTreeSet<&str> = payments.iter().map(|row| row.order_ref.as_str()).collect();
        let references: Vec<&str> = references.into_iter().collect();
        let books = &self.handler.stores.books;
        let kinds = breaks::of_orders();
        let (found, rows, open) = in_time::<_, SweepError>(async {
            let mut connection = books.pool.acquire().await?;
            let found = books.orders.read(&mut connection, &references).await?;
            let rows = read_payments(&mut connection, &[], &references).await?;
            Ok((found, rows, open_breaks(&mut connection, &kinds, &references).await?))
        })
        .await?;
        let (links, words) = (HashMap::new(), books.orders.words());
        let orders = &found.there;
        let known = Known { payments: rows, links, orders, examine: &references, words };
        let mut plan = Plan::of(&[], known, now_us());
        plan.breaks.extend(found.breaks());

        let due: HashSet<(&str, &str)> = plan.breaks.iter().map(|found| (found.kind, found.subject.as_str())).collect();
        let there: HashSet<(&str, &str)> =
            open.iter().map(|(kind, subject)| (kind.as_str(), subject.as_str())).collect();
        for (row, _) in &plan.payments {
            tally.payment_rows += 1;
            tally.line(|| format!("the columns of payment {} do not say what its events say", row.payment_id));
        }
        let mended = plan.payments.iter().map(|(row, _)| row.order_ref.as_str());
        let changed = plan.orders.iter().map(|change| change.reference.as_str()).chain(mended);
        let wrong: BTreeSet<&str> =
            due.symmetric_difference(&there).map(|(_, reference)| *reference).chain(changed).collect();
        let wrong: Vec<&str> = wrong.into_iter().collect();
        for change in &plan.orders {
            tally.orders += 1;
            tally.line(|| {
                let Some(row) = orders.get(&change.reference) else { return String::new() };
                let currency = row.terms.total.currency;
                let whole = |minor: i64| decimal_text(minor, currency.exponent());
                let [paid, refunded, disputed] = row.amounts.map(|minor| minor.map_or("-".to_owned(), whole));
                let due = [change.order.paid, change.order.refunded, change.order.disputed].map(whole);
                format!(
                    "order {}, in {}, is {}: {paid} paid, {refunded} refunded, {disputed} disputed; its payments say {}: {}, {}, {}",
                    change.reference,
                    currency.as_str(),
                    row.status,
                    change.order.status.as_str(),
                    due[0],
                    due[1],
                    due[2]
                )
            });
        }
        for opened in plan.breaks.iter().filter(|opened| !there.contains(&(opened.kind, opened.subject.as_str()))) {
            tally.breaks += 1;
            tally.line(|| format!("break {} of order {}: {}", opened.kind, opened.subject, opened.detail));
        }
        if !lane.dry_run && !wrong.is_empty() {
            self.examine(&wrong).await?;
        }
        let gone: Vec<Break> = payments
            .iter()
            .filter(|row| !orders.contains_key(&row.order_ref) && !found.unreadable.contains_key(&row.order_ref))
            .map(|row| Break {
                kind: MISSING_ORDER,
                subject: row.order_ref.clone(),
                order_ref: Some(row.order_ref.clone()),
                payment_id: Some(row.payment_id),
                region: Some(row.region.clone()),
                day: Some(row.day()),
                detail: "there are payments for this order, but the shop has no such order".into(),
                ..Break::default()
            })
            .collect();
        self.report(lane, &gone, &[MISSING_ORDER], &[], tally).await
    }

    /// Brings orders in line; one whose row is refused holds up no other.
    async fn examine(&self, references: &[&str]) -> Result<(), SweepError> {
        match self.handler.stores.books.examine(references).await {
            Ok(applied) => {
                self.handler.finish(&[], Instant::now(), applied).await?;
                Ok(())
            }
            Err(ApplyError::Unavailable(error)) => Err(ApplyError::Unavailable(error).into()),
            Err(error) if references.len() == 1 => {
                tracing::warn!(
                    ?error,
                    order = references[0],
                    "an order was not brought in line; the next sweep tries again"
                );
                Ok(())
            }
            Err(_) => {
                let (first, second) = references.split_at(references.len() / 2);
                Box::pin(self.examine(first)).await?;
                Box::pin(self.examine(second)).await
            }
        }
    }

    /// Rows of the shop's view that are missing or older than their payment. The view is written after the commit, so
    /// that of a payment changed just now may still be on its way.
    async fn check_view(&self, lane: &Lane<'_>, payments: &[PaymentRow], tally: &mut Tally) -> Result<(), SweepError> {
        let Some(projection) = &self.handler.stores.projection else { return Ok(()) };
        let session = &self.handler.stores.session;
        let young_from_us = now_us() - i64::from(self.config.settle_seconds) * 1_000_000;
        let mut stale = Vec::new();
        for rows in payments.chunks(VIEW_ROWS) {
            let ids: Vec<Uuid> = rows.iter().map(|row| row.payment_id).collect();
            let versions: HashMap<Uuid, i64> = self.archive.view_versions(session, &ids).await?.into_iter().collect();
            let is_old = |row: &&PaymentRow| versions.get(&row.payment_id).is_none_or(|version| *version < row.version);
            let settled = rows.iter().filter(|row| row.version <= young_from_us);
            stale.extend(settled.filter(is_old).cloned());
        }
        for row in &stale {
            tally.view_rows += 1;
            tally.line(|| format!("the shop's view of payment {} is missing or old", row.payment_id));
        }
        if !lane.dry_run && !stale.is_empty() {
            let renewed = self.renew(stale).await?;
            projection.write(session, &renewed, &self.handler.give_up).await?;
        }
        Ok(())
    }

    /// Gives rows a new version: in the view a deletion may lie over the old one. A row that was changed meanwhile is
    /// left out; its view is written by who changed it.
    async fn renew(&self, stale: Vec<PaymentRow>) -> Result<Vec<PaymentRow>, SweepError> {
        let version = now_us();
        let rows = in_time(
            sqlx::query(
                "UPDATE payments p SET version = greatest($3, p.version + 1) \
             FROM UNNEST($1::uuid[], $2::bigint[]) AS u (id, expected) \
             WHERE p.payment_id = u.id AND p.version = u.expected RETURNING p.payment_id, p.version",
            )
            .bind(stale.iter().map(|row| row.payment_id).collect::<Vec<_>>())
            .bind(stale.iter().map(|row| row.version).collect::<Vec<_>>())
            .bind(version)
            .fetch_all(&self.handler.stores.books.pool),
        )
        .await?;
        let versions: HashMap<Uuid, i64> =
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
        let renewed = stale.into_iter().filter_map(|row| {
            let version = *versions.get(&row.payment_id)?;
            Some(PaymentRow { version, ..row })
        });
        Ok(renewed.collect())
    }

    /// Opens what is not open, and closes of `kinds` what is open about `subjects` and was not found.
    async fn report(
        &self,
        lane: &Lane<'_>,
        found: &[Break],
        kinds: &[&str],
        subjects: &[String],
        tally: &mut Tally,
    ) -> Result<(), SweepError> {
        let examined: Vec<&str> = subjects.iter().map(String::as_str).collect();
        let about: Vec<&str> =
            examined.iter().copied().chain(found.iter().map(|found| found.subject.as_str())).collect();
        let pool = &self.handler.stores.books.pool;
        let open = in_time(async { open_breaks(&mut *pool.acquire().await?, kinds, &about).await }).await?;
        let is_open =
            |found: &Break| open.iter().any(|(kind, subject)| kind == found.kind && *subject == found.subject);
        let mut reported = HashSet::new();
        for found in found.iter().filter(|found| !is_open(found)) {
            if reported.insert((found.kind, &found.subject)) {
                tally.breaks += 1;
                tally.line(|| format!("break {} of {}: {}", found.kind, found.subject, found.detail));
            }
        }
        if !lane.dry_run && (!found.is_empty() || !open.is_empty()) {
            in_time::<_, sqlx::Error>(async {
                let mut tx = pool.begin().await?;
                breaks::write(&mut tx, found, kinds, &examined).await?;
                tx.commit().await
            })
            .await?;
        }
        Ok(())
    }
}

async fn open_breaks(
    connection: &mut PgConnection,
    kinds: &[&str],
    subjects: &[&str],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query("SELECT kind, subject FROM breaks WHERE subject = ANY ($1) AND kind = ANY ($2)")
        .bind(subjects)
        .bind(kinds)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
