//! Reaching Postgres: a small pool whose connections live in the configured schema.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool};

use crate::config::Postgres;

/// How long an answer of Postgres is waited for. Its side of a connection may be gone without a word (a host that lost its
/// power, a firewall that forgot): who only waits for an answer would wait for ever. Far more than any transaction takes.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// How long a connection that was given back may take to answer once more.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// Work on Postgres, given up when it takes longer than [`ANSWERED_WITHIN`].
///
/// # Errors
/// Those of the work, and that it was given up.
pub async fn in_time<T, E: From<sqlx::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::time::timeout(ANSWERED_WITHIN, work).await.unwrap_or_else(|_| Err(no_answer().into()))
}

/// The error of a connection that does not answer in time.
#[must_use]
pub fn no_answer() -> sqlx::Error {
    let text = format!("no answer within {} s; the connection is given up", ANSWERED_WITHIN.as_secs());
    std::io::Error::new(std::io::ErrorKind::TimedOut, text).into()
}

/// Makes the pool; connections are opened when they are needed.
///
/// # Errors
/// When the URL is not one, or the password cannot be read.
pub fn pool(config: &Postgres, lock_timeout: Duration) -> Result<PgPool, sqlx::Error> {
    let mut options = PgConnectOptions::from_str(config.url.expose())?;
    if let Some(password) = config.current_password().map_err(|error| sqlx::Error::Configuration(error.into()))? {
        options = options.password(password.expose());
    }
    let options = options
        .application_name("tollgate")
        .options([
            ("search_path", config.schema.as_str()),
            ("lock_timeout", &format!("{}ms", lock_timeout.as_millis())),
            // Every statement finds its rows by key. Planned for its own arrays, never for a table that was still
            // empty when the statement was first seen.
            ("plan_cache_mode", "force_custom_plan"),
            ("enable_seqscan", "off"),
            // The other side of [`ANSWERED_WITHIN`]: a transaction whose client is gone without a word holds its locks no
            // longer than this.
            ("idle_in_transaction_session_timeout", "30s"),
        ])
        // Statements hold references of the shop; they do not belong in a log.
        .disable_statement_logging();
    Ok(PgPoolOptions::new()
        .max_connections(config.connections_max)
        .acquire_timeout(Duration::from_secs(3))
        // Whoever gives an answer up gives the connection back; one that is half-open must not keep its place. The pool's own
        // question, which follows, has no bound.
        .after_release(|connection, _| {
            Box::pin(async move {
                let alive = tokio::time::timeout(RELEASED_WITHIN, connection.ping()).await;
                alive.unwrap_or_else(|_| Err(no_answer())).map(|()| true)
            })
        })
        .connect_lazy_with(options))
}

/// Why Postgres cannot be reached, said before anybody waits for a pool.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach Postgres at {address}: {cause}; set postgres.url or TOLLGATE_POSTGRES_URL")]
pub struct Unreachable {
    address: String,
    cause: sqlx::Error,
}

/// Connects once, to say plainly what is wrong.
///
/// # Errors
/// [`Unreachable`].
pub async fn reach(pool: &PgPool) -> Result<(), Unreachable> {
    let options = pool.connect_options();
    let address = format!("{}:{}", options.get_host(), options.get_port());
    let connected = tokio::time::timeout(Duration::from_secs(5), options.connect()).await;
    let cause = match connected {
        Ok(Ok(connection)) => return connection.close().await.map_err(|cause| Unreachable { address, cause }),
        Ok(Err(cause)) => cause,
        Err(_) => sqlx::Error::PoolTimedOut,
    };
    Err(Unreachable { address, cause })
}

/// Creates the configured schema if it is not there.
///
/// # Errors
/// What Postgres says.
pub async fn create_schema(pool: &PgPool, schema: &str) -> Result<(), sqlx::Error> {
    // Asked first: who may not make schemas may not do so where the schema is there either.
    let found = sqlx::query("SELECT FROM pg_namespace WHERE nspname = $1").bind(schema).fetch_optional(pool).await?;
    if found.is_some() {
        return Ok(());
    }
    // The name was checked to be a plain identifier when the configuration was loaded.
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""))).execute(pool).await?;
    Ok(())
}
