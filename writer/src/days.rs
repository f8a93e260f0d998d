//! How each (region, day) is cut into partitions: pinned by its first write, so that a change of the configuration
//! never splits a day.

use domain::partition::Layout;
use platform::cassandra::{CassandraError, cql_date, prepare};
use platform::config::Cassandra;
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};

/// The table of days.
pub struct Days {
    insert: PreparedStatement,
    select: PreparedStatement,
    configured: Layout,
}

impl Days {
    pub async fn new(session: &Session, config: &Cassandra) -> Result<Self, CassandraError> {
        let mut insert = prepare(
            session,
            config,
            "INSERT INTO {keyspace}.days (region, day, slot_minutes, lanes) VALUES (?, ?, ?, ?) IF NOT EXISTS",
        )
        .await?;
        insert.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        let select = "SELECT slot_minutes, lanes FROM {keyspace}.days WHERE region = ? AND day = ?";
        let mut select = prepare(session, config, select).await?;
        // A read that sees what a conditional insert under way will have decided.
        select.set_consistency(Consistency::LocalSerial);
        let configured = Layout { slot_minutes: config.slot_minutes, lanes: config.lanes };
        Ok(Self { insert, select, configured })
    }

    /// Reads the layout of a day, or pins the configured one.
    pub async fn pin(&self, session: &Session, region: &str, day: i32) -> Result<Layout, ExecutionError> {
        if let Some(layout) = self.read(session, region, day).await? {
            return Ok(layout);
        }
        let Layout { slot_minutes, lanes } = self.configured;
        session.execute_unpaged(&self.insert, (region, cql_date(day), slot_minutes, lanes)).await?;
        Ok(self.read(session, region, day).await?.unwrap_or(self.configured))
    }

    async fn read(&self, session: &Session, region: &str, day: i32) -> Result<Option<Layout>, ExecutionError> {
        let result = session.execute_unpaged(&self.select, (region, cql_date(day))).await?;
        let row = result.into_rows_result().ok().and_then(|rows| rows.maybe_first_row::<(i32, i32)>().ok().flatten());
        Ok(row.and_then(|(slot_minutes, lanes)| Layout::new(slot_minutes, lanes)))
    }
}
