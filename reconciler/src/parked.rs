//! Parked events: looked at again at least every poll, and at once after events were parked, so that an order which
//! was committed in between is not missed.

use std::time::{Duration, Instant};

use domain::frame::Record;
use platform::config::Reconciler;
use sqlx::Row;
use tokio_util::sync::CancellationToken;

use crate::apply::{Applied, ApplyError, apply_in};
use crate::handler::ReconcileHandler;
use crate::plan::Arrived;

/// Events of one transaction.
const BATCH_MAX: i64 = 500;

/// Looks at parked events until `stop`.
pub async fn poll(handler: ReconcileHandler, config: Reconciler, stop: CancellationToken) {
    let poll = Duration::from_millis(config.parked_poll_ms);
    // Breaks are about minutes; looking for them walks all that is parked.
    let report_every = Duration::from_millis(u64::try_from(config.parked_break_after_ms / 6).unwrap_or(0));
    let mut pause = poll;
    let mut reported: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = handler.parked.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        let started = Instant::now();
        let outcome = async {
            while apply_ready(&handler).await? {}
            if reported.is_none_or(|at| at.elapsed() >= report_every) {
                report(&handler, config.parked_break_after_ms).await?;
                reported = Some(Instant::now());
            }
            Ok::<(), ApplyError>(())
        };
        if let Err(error) = outcome.await {
            tracing::warn!(?error, "parked events were not looked at; trying again");
        }
        // A long list is looked at less often rather than all the time.
        pause = poll.max(started.elapsed() * 4);
    }
}

/// Applies events whose order or payment is known by now; returns whether there may be more.
async fn apply_ready(handler: &ReconcileHandler) -> Result<bool, ApplyError> {
    let mut tx = handler.pool.begin().await?;
    let rows = sqlx::query(
        "SELECT event_id, content_hash, record FROM parked_events p \
         WHERE CASE WHEN order_ref IS NULL \
                    THEN EXISTS (SELECT FROM payments y WHERE y.payment_id = p.payment_id) \
                    ELSE EXISTS (SELECT FROM orders o WHERE o.reference = p.order_ref) END \
         ORDER BY event_id LIMIT $1 FOR UPDATE SKIP LOCKED",
    )
    .bind(BATCH_MAX)
    .fetch_all(&mut *tx)
    .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let raw: &[u8] = row.try_get(2)?;
        match Record::decode(raw) {
            Ok(Record::Event(event)) => events.push(Arrived { event, raw }),
            other => tracing::error!(?other, "a parked event cannot be read"),
        }
    }
    if events.is_empty() {
        return Ok(false);
    }
    let mut applied = apply_in(&mut tx, &events).await?;
    let merged = std::mem::take(&mut applied.merged);
    let settled: Vec<_> = events.iter().zip(merged).filter(|(_, merged)| *merged).map(|(a, _)| &a.event).collect();
    let progress = !settled.is_empty();
    sqlx::query(
        "DELETE FROM parked_events p USING UNNEST($1::uuid[], $2::bytea[]) AS u (event_id, content_hash) \
         WHERE p.event_id = u.event_id AND p.content_hash = u.content_hash",
    )
    .bind(settled.iter().map(|event| event.event_id).collect::<Vec<_>>())
    .bind(settled.iter().map(|event| &event.content_hash.0[..]).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    // Stopping in between is no loss: the view is written again with the payment's next event.
    let _stopped = handler.finish(Applied { parked: 0, ..applied }).await;
    Ok(progress)
}

/// Opens and closes breaks for events that wait long, and sets the gauges.
async fn report(handler: &ReconcileHandler, break_after_ms: i64) -> Result<(), ApplyError> {
    let mut tx = handler.pool.begin().await?;
    sqlx::query(
        "INSERT INTO breaks (kind, subject, detail) \
         SELECT 'unknown_order', coalesce(order_ref, payment_id::text), \
                count(*) || ' parked events since ' || min(parked_at) FROM parked_events \
         WHERE parked_at < now() - $1 * interval '1 millisecond' GROUP BY 2 \
         ON CONFLICT (kind, subject) DO UPDATE \
         SET first_seen = now(), last_seen = now(), detail = excluded.detail, closed_at = NULL \
         WHERE breaks.closed_at IS NOT NULL",
    )
    .bind(break_after_ms)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE breaks b SET closed_at = now() WHERE closed_at IS NULL AND kind = 'unknown_order' \
         AND NOT EXISTS (SELECT FROM parked_events p WHERE coalesce(p.order_ref, p.payment_id::text) = b.subject)",
    )
    .execute(&mut *tx)
    .await?;
    let row = sqlx::query(
        "SELECT count(*), coalesce(extract(epoch FROM now() - min(parked_at)), 0)::float8 FROM parked_events",
    )
    .fetch_one(&mut *tx)
    .await?;
    let count: i64 = row.try_get(0)?;
    handler.metrics.parked.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    handler.metrics.parked_age.set(row.try_get::<f64, _>(1)?);
    let open = sqlx::query("SELECT kind, count(*) FROM breaks WHERE closed_at IS NULL GROUP BY kind")
        .fetch_all(&mut *tx)
        .await?;
    let open: Result<Vec<(String, i64)>, sqlx::Error> =
        open.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    handler.metrics.set_breaks(&open?);
    tx.commit().await?;
    Ok(())
}
