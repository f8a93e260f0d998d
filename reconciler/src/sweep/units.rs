//! The sweep's work as rows in Postgres: requested, claimed, finished. A crash gives its claim back by itself.

use std::time::Duration;

use platform::postgres::in_time;
use sqlx::{PgPool, Row};

use super::Tally;

/// How long a claim holds without being renewed.
pub const CLAIM: Duration = Duration::from_secs(60);

/// One lane of a region's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub region: String,
    /// Days since 1970-01-01.
    pub day: i32,
    pub lane: i32,
}

impl Unit {
    /// The day as a date.
    #[must_use]
    pub fn date(&self) -> jiff::civil::Date {
        date_of(self.day)
    }
}

/// A day since 1970-01-01 as a date.
#[must_use]
pub fn date_of(day: i32) -> jiff::civil::Date {
    let epoch = jiff::civil::Date::constant(1970, 1, 1);
    epoch.checked_add(jiff::Span::new().days(day)).unwrap_or(epoch)
}

/// The table of sweeps.
pub struct Units {
    pool: PgPool,
}

impl Units {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Requests every lane of a day that was finished longer ago than this, or never. Lanes under way stay as they are.
    pub async fn request(
        &self,
        region: &str,
        day: i32,
        lanes: i32,
        older_than_minutes: u32,
    ) -> Result<(), sqlx::Error> {
        in_time(sqlx::query(
            "INSERT INTO sweeps (region, day, lane) \
             SELECT $1, date '1970-01-01' + $2, lane FROM generate_series(0, $3 - 1) AS lane \
             ON CONFLICT (region, day, lane) DO UPDATE SET requested_at = now(), finished_at = NULL, claimed_until = NULL \
             WHERE sweeps.finished_at < now() - $4 * interval '1 minute'",
        )
        .bind(region)
        .bind(day)
        .bind(lanes)
        .bind(i64::from(older_than_minutes))
        .execute(&self.pool))
        .await?;
        Ok(())
    }

    /// Lanes of a day that are not finished.
    pub async fn unfinished(&self, region: &str, day: i32) -> Result<i64, sqlx::Error> {
        in_time(sqlx::query(
            "SELECT count(*) FROM sweeps WHERE region = $1 AND day = date '1970-01-01' + $2 AND finished_at IS NULL",
        )
        .bind(region)
        .bind(day)
        .fetch_one(&self.pool))
        .await?
        .try_get(0)
    }

    /// Claims a lane that nobody has, of any day or of one; those that were tried before and not finished come last.
    pub async fn claim(&self, of: Option<(&str, i32)>) -> Result<Option<Unit>, sqlx::Error> {
        let row = in_time(
            sqlx::query(
                "UPDATE sweeps s SET claimed_until = now() + $3 * interval '1 second' FROM ( \
                 SELECT region, day, lane FROM sweeps WHERE finished_at IS NULL \
                 AND (claimed_until IS NULL OR claimed_until < now()) \
                 AND ($1::text IS NULL OR region = $1) AND ($2::int IS NULL OR day = date '1970-01-01' + $2) \
                 ORDER BY claimed_until NULLS FIRST, day DESC, region, lane LIMIT 1 FOR UPDATE SKIP LOCKED) u \
             WHERE s.region = u.region AND s.day = u.day AND s.lane = u.lane \
             RETURNING s.region, s.day - date '1970-01-01', s.lane",
            )
            .bind(of.map(|(region, _)| region))
            .bind(of.map(|(_, day)| day))
            .bind(i64::try_from(CLAIM.as_secs()).unwrap_or(60))
            .fetch_optional(&self.pool),
        )
        .await?;
        row.map(|row| Ok(Unit { region: row.try_get(0)?, day: row.try_get(1)?, lane: row.try_get(2)? })).transpose()
    }

    /// Keeps a claim.
    pub async fn renew(&self, unit: &Unit) -> Result<(), sqlx::Error> {
        in_time(
            sqlx::query(
                "UPDATE sweeps SET claimed_until = now() + $4 * interval '1 second' \
             WHERE region = $1 AND day = date '1970-01-01' + $2 AND lane = $3 AND finished_at IS NULL",
            )
            .bind(&unit.region)
            .bind(unit.day)
            .bind(unit.lane)
            .bind(i64::try_from(CLAIM.as_secs()).unwrap_or(60))
            .execute(&self.pool),
        )
        .await?;
        Ok(())
    }

    /// Gives a claim back without having finished.
    pub async fn release(&self, unit: &Unit) -> Result<(), sqlx::Error> {
        in_time(
            sqlx::query(
                "UPDATE sweeps SET claimed_until = NULL \
             WHERE region = $1 AND day = date '1970-01-01' + $2 AND lane = $3 AND finished_at IS NULL",
            )
            .bind(&unit.region)
            .bind(unit.day)
            .bind(unit.lane)
            .execute(&self.pool),
        )
        .await?;
        Ok(())
    }

    /// Ends a claim with what was found.
    pub async fn finish(&self, unit: &Unit, tally: &Tally) -> Result<(), sqlx::Error> {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        in_time(
            sqlx::query(
                "UPDATE sweeps SET finished_at = now(), claimed_until = NULL, events = $4, healed = $5, reported = $6 \
             WHERE region = $1 AND day = date '1970-01-01' + $2 AND lane = $3",
            )
            .bind(&unit.region)
            .bind(unit.day)
            .bind(unit.lane)
            .bind(count(tally.events))
            .bind(count(tally.healed()))
            .bind(count(tally.breaks))
            .execute(&self.pool),
        )
        .await?;
        Ok(())
    }
}
