//! One direction: every event that Cassandra has is merged or parked in Postgres.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use domain::ContentHash;
use domain::fold::Facts;
use domain::frame::Record;
use platform::clock::now_ms;
use platform::postgres::in_time;
use scylla::response::PagingState;
use sqlx::Row;
use uuid::Uuid;

use super::{Lane, Pace, SweepError, Sweeper, Tally};
use crate::breaks::{self, CONFLICTING_DUPLICATE};
use crate::plan::{Arrived, conflicting};
use crate::sql::read_links;

/// Events compared at once.
const BATCH: usize = 1000;

/// The payments of a lane that Cassandra has: the first 64 bits of their ids, sorted. 8 bytes a payment of one lane.
pub struct Seen(Vec<u64>);

impl Seen {
    pub fn contains(&self, payment_id: Uuid) -> bool {
        self.0.binary_search(&payment_id.as_u64_pair().0).is_ok()
    }
}

impl Sweeper {
    pub(super) async fn sweep_archived(
        &self,
        lane: &Lane<'_>,
        tally: &mut Tally,
        pace: &mut Pace<'_, '_>,
    ) -> Result<Seen, SweepError> {
        let mut seen = Vec::new();
        let Some(layout) = lane.layout else { return Ok(Seen(seen)) };
        let mut records: Vec<Bytes> = Vec::with_capacity(2 * BATCH);
        let mut last = None;
        for bucket in layout.buckets().filter(|bucket| bucket % layout.lanes == lane.unit.lane) {
            let mut from = Some(PagingState::start());
            while let Some(state) = from {
                let place = (lane.unit.region.as_str(), lane.unit.day, bucket);
                let (page, next) = self.archive.page(&self.handler.stores.session, place, state).await?;
                from = next;
                pace.read(lane.unit, page.len()).await?;
                records.extend(page);
                if records.len() >= BATCH {
                    self.compare(lane, &records, &mut seen, &mut last, tally).await?;
                    records.clear();
                }
            }
        }
        self.compare(lane, &records, &mut seen, &mut last, tally).await?;
        seen.sort_unstable();
        seen.dedup();
        Ok(Seen(seen))
    }

    async fn compare(
        &self,
        lane: &Lane<'_>,
        records: &[Bytes],
        seen: &mut Vec<u64>,
        last: &mut Option<(Uuid, ContentHash)>,
        tally: &mut Tally,
    ) -> Result<(), SweepError> {
        let arrived: Vec<Arrived<'_>> = records
            .iter()
            .filter_map(|raw| match Record::decode(raw) {
                Ok(Record::Event(event)) => Some(Arrived { event, raw }),
                _ => None,
            })
            .collect();
        tally.events += arrived.len() as u64;
        let ids: BTreeSet<Uuid> = arrived.iter().map(|arrived| arrived.event.payment_id).collect();
        seen.extend(ids.iter().map(|id| id.as_u64_pair().0));
        let (mut facts, links) = self.facts(ids.into_iter().collect()).await?;
        let mut conflicts = Vec::new();
        let mut missed = Vec::new();
        let young_from_ms = now_ms() - i64::from(self.config.settle_seconds) * 1000;
        for arrived in arrived {
            let event = &arrived.event;
            if last.is_some_and(|(id, hash)| id == event.event_id && hash != event.content_hash) {
                conflicts.push(conflicting(event));
            }
            *last = Some((event.event_id, event.content_hash));
            // Merged in memory, so that of two reports of which the later one says all only that one counts as missed.
            let payment_id = links.get(&event.payment_id).unwrap_or(&event.payment_id);
            if facts.get_mut(payment_id).is_some_and(|facts| !facts.merge(event)) {
                continue;
            }
            match event.received_at_ms > young_from_ms {
                true => tally.recent += 1,
                false => missed.push(arrived),
            }
        }
        let parked = self.parked(&missed).await?;
        missed.retain(|arrived| !parked.contains(&arrived.event.event_id));
        for Arrived { event, .. } in &missed {
            tally.missed_events += 1;
            tally.line(|| {
                let (kind, payment) = (event.kind.as_str(), event.payment_id);
                let order = event.order_ref.as_deref().unwrap_or("that of its payment");
                format!("missed event {} ({kind} of payment {payment}, order {order})", event.event_id)
            });
        }
        self.report_conflicts(lane, conflicts, tally).await?;
        if !lane.dry_run {
            self.handler.apply_all("sweep", &missed).await?;
        }
        Ok(())
    }

    /// What Postgres holds of the payments that these ids stand for, and which of the ids are another's.
    async fn facts(&self, mut ids: Vec<Uuid>) -> Result<(HashMap<Uuid, Facts>, HashMap<Uuid, Uuid>), SweepError> {
        let (links, rows) = in_time::<_, sqlx::Error>(async {
            let mut connection = self.handler.stores.books.pool.acquire().await?;
            let links = read_links(&mut connection, &ids).await?;
            ids.extend(links.values());
            let select = sqlx::query("SELECT payment_id, facts FROM payments WHERE payment_id = ANY ($1)");
            Ok((links, select.bind(ids).fetch_all(&mut *connection).await?))
        })
        .await?;
        let decode = |bytes: &[u8]| Facts::decode(bytes).map_err(|error| sqlx::Error::Decode(error.into()));
        let facts = rows.iter().map(|row| Ok((row.try_get(0)?, decode(row.try_get(1)?)?)));
        Ok((facts.collect::<Result<_, sqlx::Error>>()?, links))
    }

    async fn parked(&self, missed: &[Arrived<'_>]) -> Result<HashSet<Uuid>, SweepError> {
        if missed.is_empty() {
            return Ok(HashSet::new());
        }
        let rows = in_time(
            sqlx::query("SELECT event_id FROM parked_events WHERE event_id = ANY ($1)")
                .bind(missed.iter().map(|arrived| arrived.event.event_id).collect::<Vec<_>>())
                .fetch_all(&self.handler.stores.books.pool),
        )
        .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Opens breaks that are not open: which of the contents came last is not known here.
    async fn report_conflicts(
        &self,
        lane: &Lane<'_>,
        mut found: Vec<breaks::Break>,
        tally: &mut Tally,
    ) -> Result<(), SweepError> {
        if found.is_empty() {
            return Ok(());
        }
        let pool = &self.handler.stores.books.pool;
        let rows = in_time(
            sqlx::query("SELECT subject FROM breaks WHERE kind = $1 AND subject = ANY ($2)")
                .bind(CONFLICTING_DUPLICATE)
                .bind(found.iter().map(|found| found.subject.as_str()).collect::<Vec<_>>())
                .fetch_all(pool),
        )
        .await?;
        let open: HashSet<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        found.retain(|found| !open.contains(&found.subject));
        for found in &found {
            tally.breaks += 1;
            tally.line(|| format!("break {} of {}: {}", found.kind, found.subject, found.detail));
        }
        if !lane.dry_run {
            in_time::<_, sqlx::Error>(async {
                let mut tx = pool.begin().await?;
                breaks::write(&mut tx, &found, &[], &[]).await?;
                tx.commit().await
            })
            .await?;
        }
        Ok(())
    }
}
