//! Parked events: looked at again at least every poll, and at once after events were parked, so that an order which
//! was committed in between is not missed.

use std::time::Duration;

use domain::PaymentEvent;
use domain::frame::Record;
use platform::config::Reconciler;
use platform::postgres::in_time;
use sqlx::{AssertSqlSafe, Row};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::apply::{ApplyError, Books};
use crate::breaks::{MISSING_ORDER, ORPHAN_REFUND, UNREADABLE_ORDER};
use crate::handler::ReconcileHandler;
use crate::metrics::Metrics;
use crate::plan::Arrived;
use crate::sql;
use crate::stores::{Parked, Stores};

/// Events of one transaction.
const BATCH_MAX: i64 = 500;

/// The longest pause between two walks.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Looks at parked events until `stop`.
pub async fn poll(handler: ReconcileHandler<impl Stores>, config: Reconciler, stop: CancellationToken) {
    let poll = Duration::from_millis(config.parked_poll_ms);
    // Breaks are about minutes; looking for them walks all that is parked.
    let report_every = Duration::from_millis(u64::try_from(config.parked_break_after_ms / 6).unwrap_or(0));
    let mut pause = poll;
    let mut reported: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = handler.parked.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        let started = Instant::now();
        let outcome = async {
            let is_due = || reported.is_none_or(|at| at.elapsed() >= report_every);
            while walk(&handler).await? && !is_due() && !stop.is_cancelled() {}
            if is_due() {
                handler.stores.report(&handler.metrics, config.parked_break_after_ms).await?;
                reported = Some(Instant::now());
            }
            Ok::<(), ApplyError>(())
        };
        if let Err(error) = outcome.await {
            tracing::warn!(?error, "parked events were not looked at; trying again");
        }
        // A long list is looked at less often rather than all the time; but a walk that was long because a store was
        // away says nothing about the list.
        pause = (started.elapsed() * 4).clamp(poll, poll.max(PAUSE_MAX));
    }
}

/// Walks all parked events whose order or payment is known by now; returns whether any was merged, so that others may
/// be by now. One that still cannot be merged holds up none behind it.
pub async fn walk(handler: &ReconcileHandler<impl Stores>) -> Result<bool, ApplyError> {
    let mut progress = false;
    let mut after: (Uuid, Vec<u8>) = (Uuid::nil(), Vec::new());
    loop {
        let rows = handler.stores.parked(&after).await?;
        let Some((event_id, content_hash, _)) = rows.last() else { return Ok(progress) };
        after = (*event_id, content_hash.clone());
        let mut events = Vec::with_capacity(rows.len());
        for (_, _, raw) in &rows {
            match Record::decode(raw) {
                Ok(Record::Event(event)) => events.push(Arrived { event, raw }),
                _ => tracing::error!("a parked event cannot be read"),
            }
        }
        progress |= unpark(handler, &events).await?;
    }
}

/// Applies parked events; in halves where a conflict or a refused value stops them all.
async fn unpark(handler: &ReconcileHandler<impl Stores>, events: &[Arrived<'_>]) -> Result<bool, ApplyError> {
    let started = std::time::Instant::now();
    let applied = match handler.stores.apply(events).await {
        Ok(applied) => applied,
        Err(ApplyError::Unavailable(error)) => return Err(ApplyError::Unavailable(error)),
        Err(error) if events.len() <= 1 => match (error, events.first()) {
            (ApplyError::Refused(_), Some(event)) => match handler.stores.apply_refused(event).await {
                Err(ApplyError::Refused(error)) => {
                    let dead = [(event.raw, error.to_string())];
                    if handler.stores.dead_letter("parked", &dead, &handler.give_up).await.is_ok() {
                        handler.stores.unpark(&[&event.event]).await?;
                    }
                    return Ok(false);
                }
                applied => applied?,
            },
            (error, _) => {
                tracing::warn!(?error, "a parked event was not applied");
                return Ok(false);
            }
        },
        Err(_) => {
            let (first, second) = events.split_at(events.len() / 2);
            let first = Box::pin(unpark(handler, first)).await?;
            return Ok(Box::pin(unpark(handler, second)).await? || first);
        }
    };
    let merged = events.iter().zip(&applied.merged).filter(|(_, merged)| **merged);
    let settled: Vec<_> = merged.map(|(arrived, _)| &arrived.event).collect();
    // The view first: as long as the events are parked, a crash in between only has them merged and written again.
    if settled.is_empty() || handler.finish(events, started, applied).await.is_err() {
        return Ok(false);
    }
    handler.stores.unpark(&settled).await?;
    Ok(true)
}

/// Reads a page of parked events whose order or payment is known by now.
pub async fn read(books: &Books, after: &(Uuid, Vec<u8>)) -> Result<Vec<Parked>, ApplyError> {
    let select = format!(
        "SELECT event_id, content_hash, record FROM parked_events p WHERE (event_id, content_hash) > ($1, $2) \
         AND ({} OR EXISTS (SELECT FROM payments y WHERE y.payment_id = p.payment_id) \
              OR EXISTS (SELECT FROM links l WHERE l.alias = p.payment_id)) \
         ORDER BY event_id, content_hash LIMIT $3",
        books.orders.known("p.order_ref")
    );
    let select = sqlx::query_as(AssertSqlSafe(select)).bind(after.0).bind(&after.1).bind(BATCH_MAX);
    Ok(in_time(select.fetch_all(&books.pool)).await?)
}

/// Parks an event; its rows are not looked at.
pub async fn add(books: &Books, event: &Arrived<'_>) -> Result<(), ApplyError> {
    in_time(async { sql::park(&mut *books.pool.acquire().await?, &[event]).await }).await?;
    Ok(())
}

/// Deletes parked events, which are applied or dead letters.
pub async fn delete(books: &Books, settled: &[&PaymentEvent<'_>]) -> Result<(), ApplyError> {
    let delete = sqlx::query(
        "DELETE FROM parked_events p USING UNNEST($1::uuid[], $2::bytea[]) AS u (event_id, content_hash) \
         WHERE p.event_id = u.event_id AND p.content_hash = u.content_hash",
    )
    .bind(settled.iter().map(|event| event.event_id).collect::<Vec<_>>())
    .bind(settled.iter().map(|event| &event.content_hash.0[..]).collect::<Vec<_>>());
    in_time(delete.execute(&books.pool)).await?;
    Ok(())
}

/// Opens and closes breaks for events that wait long, and sets the gauges.
pub async fn report(books: &Books, metrics: &Metrics, break_after_ms: i64) -> Result<(), ApplyError> {
    let mut tx = books.pool.begin().await?;
    sqlx::query(
        "INSERT INTO breaks (kind, subject, order_ref, payment_id, detail) \
         SELECT CASE WHEN min(p.order_ref) IS NULL AND bool_and(kind LIKE 'refund%') THEN $3 ELSE $2 END, \
                coalesce(order_ref, payment_id::text), min(order_ref), (array_agg(payment_id))[1], \
                'events that wait: ' || count(*) || ', since ' || \
                to_char(min(parked_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM parked_events p \
         WHERE parked_at < now() - $1 * interval '1 millisecond' \
             AND NOT EXISTS (SELECT FROM breaks u WHERE u.kind = $4 AND u.subject = p.order_ref) GROUP BY coalesce(order_ref, payment_id::text) \
         ON CONFLICT (kind, subject) DO NOTHING",
    )
    .bind(break_after_ms)
    .bind(MISSING_ORDER)
    .bind(ORPHAN_REFUND)
    .bind(UNREADABLE_ORDER)
    .execute(&mut *tx)
    .await?;
    // One that the sweep opened, for payments whose order was deleted, ends when the order is there again. An order that is there but
    // cannot be used is not missing, and one that is not there is not unreadable.
    let close = format!(
        "WITH gone AS (DELETE FROM breaks b WHERE (kind = $1 OR kind = $2 AND order_ref IS NULL) \
             AND NOT EXISTS (SELECT FROM parked_events p WHERE coalesce(p.order_ref, p.payment_id::text) = b.subject) \
             AND ({known} OR NOT EXISTS (SELECT FROM payments y WHERE y.order_ref = b.subject)) \
             OR kind = $1 AND EXISTS (SELECT FROM breaks u WHERE u.kind = $3 AND u.subject = b.subject) \
             OR kind = $3 AND NOT {known} RETURNING b.*) \
         INSERT INTO closed_breaks SELECT gone.*, now() FROM gone",
        known = books.orders.known("b.subject")
    );
    sqlx::query(AssertSqlSafe(close))
        .bind(MISSING_ORDER)
        .bind(ORPHAN_REFUND)
        .bind(UNREADABLE_ORDER)
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query(
        "SELECT count(*), coalesce(extract(epoch FROM now() - min(parked_at)), 0)::float8 FROM parked_events",
    )
    .fetch_one(&mut *tx)
    .await?;
    let count: i64 = row.try_get(0)?;
    metrics.parked.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    metrics.parked_age.set(row.try_get::<f64, _>(1)?);
    let open = sqlx::query(
        "SELECT kind, count(*), extract(epoch FROM now() - min(first_seen))::float8 FROM breaks \
         WHERE resolved_at IS NULL GROUP BY kind",
    )
    .fetch_all(&mut *tx)
    .await?;
    let open = open.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
    metrics.set_breaks(&open.collect::<Result<Vec<_>, sqlx::Error>>()?);
    let pending: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sweeps WHERE finished_at IS NULL").fetch_one(&mut *tx).await?;
    metrics.sweep_pending.set(f64::from(u32::try_from(pending).unwrap_or(u32::MAX)));
    tx.commit().await?;
    Ok(())
}
