//! Replay: merges events of a window from Cassandra into Postgres again. Nothing is replaced: what is known already
//! changes nothing, so a window never outweighs the events outside of it.

use std::collections::HashSet;

use bytes::Bytes;
use domain::frame::Record;
use platform::postgres::in_time;
use scylla::response::PagingState;
use sqlx::Row;
use uuid::Uuid;

use crate::apply::{Applied, ApplyError};
use crate::archive::Archive;
use crate::handler::ReconcileHandler;
use crate::parked;
use crate::plan::Arrived;
use crate::sweep::SweepError;

/// Events of one transaction.
const BATCH: usize = 1000;

/// What is replayed.
#[derive(Debug, Clone)]
pub struct Window {
    pub region: String,
    /// First and last day, days since 1970-01-01.
    pub days: (i32, i32),
    /// Only the payments of this order.
    pub order: Option<String>,
    /// Only show what would change.
    pub dry_run: bool,
}

/// What a replay did, or would do.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Replayed {
    /// Events read from Cassandra.
    pub events: u64,
    /// Events that Postgres did not know.
    pub news: u64,
    /// Payments whose columns said something else than their events, as after a corrected rule.
    pub mended: u64,
    /// Events that wait for their order or payment.
    pub parked: u64,
    /// Orders written; in a dry run once for each batch that changes them.
    pub orders: u64,
    /// Changes of orders' statuses, a line each; the first of them.
    pub lines: Vec<String>,
}

const LINES_MAX: usize = 1000;

impl Replayed {
    fn add(&mut self, applied: &Applied) {
        self.news += applied.news as u64;
        self.mended += applied.mended as u64;
        self.parked += applied.parked;
        self.orders += applied.orders.len() as u64;
        for (reference, from, word) in &applied.orders {
            if let (Some(word), true) = (word, self.lines.len() < LINES_MAX) {
                self.lines.push(format!("order {reference}: {from} → {word}"));
            }
        }
    }
}

/// Replays a window. `progress` is told what was done so far, after each page.
pub async fn replay(
    handler: &ReconcileHandler,
    archive: &Archive,
    window: &Window,
    progress: &mut impl FnMut(&Replayed),
) -> Result<Replayed, SweepError> {
    let mut replayed = Replayed::default();
    let wanted = match &window.order {
        Some(order) => Some(payments_of(handler, archive, window, order).await?),
        None => None,
    };
    let mut waiting: Vec<Bytes> = Vec::with_capacity(2 * BATCH);
    let mut pages = Pages::of(handler, archive, window).await?;
    while let Some(page) = pages.next().await? {
        replayed.events += page.len() as u64;
        waiting.extend(page);
        if waiting.len() >= BATCH {
            merge(handler, window, wanted.as_ref(), &waiting, &mut replayed).await?;
            waiting.clear();
        }
        progress(&replayed);
    }
    merge(handler, window, wanted.as_ref(), &waiting, &mut replayed).await?;
    // An event may have come before the one that names its order.
    while !window.dry_run && parked::walk(handler).await? && !handler.give_up.is_cancelled() {}
    Ok(replayed)
}

async fn merge(
    handler: &ReconcileHandler,
    window: &Window,
    wanted: Option<&HashSet<Uuid>>,
    records: &[Bytes],
    replayed: &mut Replayed,
) -> Result<(), SweepError> {
    let events: Vec<Arrived<'_>> = records
        .iter()
        .filter_map(|raw| match Record::decode(raw) {
            Ok(Record::Event(event)) => Some(Arrived { event, raw }),
            _ => None,
        })
        .filter(|arrived| wanted.is_none_or(|wanted| wanted.contains(&arrived.event.payment_id)))
        .collect();
    if window.dry_run {
        match handler.stores.books.preview(&events).await {
            Ok(applied) => replayed.add(&applied),
            Err(ApplyError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
        return Ok(());
    }
    for applied in handler.apply_all("replay", &events).await? {
        replayed.add(&applied);
    }
    Ok(())
}

/// The payments of an order: those that Postgres knows and those whose events in the window name it.
async fn payments_of(
    handler: &ReconcileHandler,
    archive: &Archive,
    window: &Window,
    order: &str,
) -> Result<HashSet<Uuid>, SweepError> {
    let rows = in_time(
        sqlx::query("SELECT payment_id FROM payments WHERE order_ref = $1")
            .bind(order)
            .fetch_all(&handler.stores.books.pool),
    )
    .await?;
    let mut payments = rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<Uuid>, _>>()?;
    let mut aliases = Vec::new();
    let mut pages = Pages::of(handler, archive, window).await?;
    while let Some(page) = pages.next().await? {
        for raw in &page {
            let Ok(Record::Event(event)) = Record::decode(raw) else { continue };
            if event.order_ref.as_deref() == Some(order) {
                payments.insert(event.payment_id);
            }
            aliases.extend(event.alias().map(|alias| (alias, event.payment_id)));
        }
    }
    // Events that name one of them by another id.
    let named: Vec<Uuid> =
        aliases.into_iter().filter(|(_, id)| payments.contains(id)).map(|(alias, _)| alias).collect();
    payments.extend(named);
    Ok(payments)
}

/// The pages of a window, one after the other.
struct Pages<'p> {
    handler: &'p ReconcileHandler,
    archive: &'p Archive,
    region: &'p str,
    /// Partitions to read, the next one last.
    partitions: Vec<(i32, i32)>,
    state: Option<PagingState>,
}

impl<'p> Pages<'p> {
    async fn of(handler: &'p ReconcileHandler, archive: &'p Archive, window: &'p Window) -> Result<Self, SweepError> {
        let (from, to) = window.days;
        let mut partitions = Vec::new();
        for day in archive.days(&handler.stores.session, &window.region, from, to).await? {
            let layout = archive.layout(&handler.stores.session, &window.region, day).await?;
            partitions.extend(layout.into_iter().flat_map(|layout| layout.buckets()).map(|bucket| (day, bucket)));
        }
        partitions.reverse();
        Ok(Self { handler, archive, region: &window.region, partitions, state: None })
    }

    /// The next page, until the program is to end.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, SweepError> {
        let Some((day, bucket)) = self.partitions.last().copied() else { return Ok(None) };
        if self.handler.give_up.is_cancelled() {
            return Err(SweepError::Stopped);
        }
        let from = self.state.take().unwrap_or_else(PagingState::start);
        let (page, next) = self.archive.page(&self.handler.stores.session, (self.region, day, bucket), from).await?;
        self.state = next;
        if self.state.is_none() {
            self.partitions.pop();
        }
        Ok(Some(page))
    }
}
