//! Raw cost of Postgres: transactions that insert two hundred payments and update their orders, two statements each.

use std::time::{Duration, Instant};

use platform::config::{Config, Postgres};
use platform::postgres::create_schema;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::{LimitsError, Step, client_and};
use crate::cpu::Place;
use crate::orders::pool;
use crate::seeded::Seeded;

const TABLES: [&str; 2] =
    [include_str!("../../../schema/postgres/orders.sql"), include_str!("../../../schema/postgres/0001_tollgate.sql")];
const ORDERS: i64 = 200_000;
const BATCH: i64 = 200;

pub async fn measure(config: &Config, schema: &str, length: Duration) -> Result<Step, LimitsError> {
    let pool = pool(&Postgres { schema: schema.to_owned(), ..config.postgres.clone() })?;
    create_schema(&pool, schema).await?;
    let outcome = measure_in(&pool, config, length).await;
    // The name is made of letters, digits and underscores.
    let drop = sqlx::query(AssertSqlSafe(format!("DROP SCHEMA \"{schema}\" CASCADE"))).execute(&pool).await;
    let step = outcome?;
    drop?;
    Ok(step)
}

async fn measure_in(pool: &PgPool, config: &Config, length: Duration) -> Result<Step, sqlx::Error> {
    for tables in TABLES {
        sqlx::raw_sql(tables).execute(pool).await?;
    }
    sqlx::query(
        "INSERT INTO orders (reference, total, currency) SELECT 'o-' || n, 19.99, 'EUR' FROM generate_series(1, $1) n",
    )
    .bind(ORDERS)
    .execute(pool)
    .await?;
    let mut seeded = Seeded::new(1);
    let meter = client_and("postgres", Place::postgres(config));
    let end = Instant::now() + length;
    let mut first = 0;
    while Instant::now() < end {
        apply(pool, &mut seeded, first).await?;
        first += BATCH;
    }
    Ok(Step::of("applied: 200 payments and orders a transaction", 1, first.unsigned_abs(), meter))
}

async fn apply(pool: &PgPool, seeded: &mut Seeded, first: i64) -> Result<(), sqlx::Error> {
    let references: Vec<String> = (first..first + BATCH).map(|n| format!("o-{}", n % ORDERS + 1)).collect();
    let ids: Vec<Uuid> = references.iter().map(|_| Uuid::from_u64_pair(seeded.next(), seeded.next())).collect();
    let facts: Vec<Vec<u8>> = references.iter().map(|_| vec![7; 120]).collect();
    let mut tx = pool.begin().await?;
    sqlx::query(
        "INSERT INTO payments (payment_id, order_ref, facts, provider, account, provider_ref, region, currency, status, \
             captured, refunded, disputed, version, day) \
         SELECT id, reference, facts, 'stripe', '', reference, 'eu', 'EUR', 'captured', 1999, 0, 0, 1, current_date \
         FROM UNNEST($1::uuid[], $2::text[], $3::bytea[]) AS u (id, reference, facts)",
    )
    .bind(&ids)
    .bind(&references)
    .bind(&facts)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE orders o SET status = 'paid', paid = 19.99, updated_at = now() \
         FROM UNNEST($1::text[]) AS u (reference) WHERE o.reference = u.reference",
    )
    .bind(&references)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}
