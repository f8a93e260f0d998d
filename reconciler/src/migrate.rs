//! Migrations, embedded: each runs once, in order, under sqlx's lock, so that several programs may start at once.

use std::borrow::Cow;

use platform::postgres::create_schema;
use sqlx::PgPool;
use sqlx::SqlStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgPoolOptions;

const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "tollgate", include_str!("../../schema/postgres/0001_tollgate.sql"))];

/// Brings the configured schema up to date.
pub async fn run(pool: &PgPool, schema: &str) -> Result<(), sqlx::Error> {
    create_schema(pool, schema).await?;
    let migrations = MIGRATIONS.map(|(version, name, text)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(text), false)
    });
    let migrator = Migrator { migrations: Cow::Owned(migrations.into()), ..Migrator::DEFAULT };
    // A connection of its own, ended in any case: after a failure it would keep sqlx's lock, and nobody could try again.
    let options = PgPool::connect_options(pool);
    let single = PgPoolOptions::new().max_connections(1).connect_with((*options).clone()).await?;
    let outcome = migrator.run(&single).await.map_err(|error| sqlx::Error::Migrate(Box::new(error)));
    single.close().await;
    outcome
}

/// Whether the tables were made by another version than this, which waiting does not mend.
pub fn is_other_version(error: &MigrateError) -> bool {
    matches!(error, MigrateError::VersionMismatch(_) | MigrateError::VersionMissing(_) | MigrateError::Dirty(_))
}
