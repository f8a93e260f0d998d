//! What grows with time and not with payments: a partition a month of each history table, made ahead and pruned.

use platform::postgres::in_time;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

const EVERY: std::time::Duration = std::time::Duration::from_secs(3600);

/// Makes the partitions of this month and the next, and drops those that ended more than `history_days` ago. Payments,
/// parked events and open breaks are never pruned.
pub async fn maintain(pool: &PgPool, history_days: u32) -> Result<(), sqlx::Error> {
    let statement = format!(
        "DO $$ DECLARE history text; month timestamp; part text; BEGIN \
         PERFORM pg_advisory_xact_lock(hashtext('tollgate history ' || current_schema())); \
         FOREACH history IN ARRAY ARRAY['transitions', 'closed_breaks'] LOOP \
             FOR ahead IN 0..1 LOOP \
                 month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead); \
                 EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', \
                     history || to_char(month, '_YYYY_MM'), history, month::text || '+00', \
                     (month + interval '1 month')::text || '+00'); \
             END LOOP; \
             FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = history::regclass LOOP \
                 month := to_timestamp(right(part, 7), 'YYYY_MM') AT TIME ZONE 'UTC'; \
                 IF month + interval '1 month' < (now() AT TIME ZONE 'UTC') - make_interval(days => {history_days}) THEN \
                     EXECUTE format('DROP TABLE %I', part); \
                 END IF; \
             END LOOP; \
         END LOOP; END $$"
    );
    in_time(sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool)).await?;
    Ok(())
}

/// [`maintain`] every hour until `stop`.
pub async fn keep(pool: PgPool, history_days: u32, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        if let Err(error) = maintain(&pool, history_days).await {
            tracing::warn!(%error, "the history tables were not maintained; trying again in an hour");
        }
    }
}
