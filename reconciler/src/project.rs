//! The shop's view: one row a payment in Cassandra, written after the commit, ordered by the row's version, so that a
//! late or repeated write never goes back.

use std::collections::HashMap;

use domain::fold::Payment;
use domain::ids::reference_id;
use domain::partition::day_of;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use platform::cassandra::{CassandraError, batch_of, cql_date, decimal, is_retriable, prepare};
use platform::config::Cassandra;
use platform::retry::{Backoff, Stopped};
use scylla::SerializeRow;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlDecimal, CqlTimestamp, MaybeUnset};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::plan::PaymentRow;

/// Batches of one flush, all under way at once. Each row is a partition and so a mutation of its own, and with
/// `commitlog_sync: group` Cassandra runs the mutations of a batch one after another, each waiting for the next sync:
/// it is the number of batches that gives the speed, and their density that saves the cost. As many as Cassandra has
/// threads for requests (`native_transport_max_threads`).
const BATCHES: usize = 128;
/// So many at least where there are rows for them: a few rows are written at once, not one after another.
const BATCHES_MIN: usize = 32;
/// Rows of one batch, of which each costs less than in smaller ones.
const BATCH_ROWS_DENSE: usize = 16;
/// Rows of one batch that are not too long on their way.
const BATCH_ROWS_MAX: usize = 100;

/// The table `payments` in Cassandra.
pub struct Projection {
    insert: PreparedStatement,
    keyspace: String,
}

#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct ViewRow<'a> {
    payment_id: Uuid,
    user_id: MaybeUnset<Uuid>,
    order_id: Uuid,
    amount: MaybeUnset<CqlDecimal>,
    status: &'static str,
    timestamp: CqlTimestamp,
    currency: MaybeUnset<String>,
    region: &'a str,
    day: CqlDate,
    version_us: i64,
}

impl<'a> ViewRow<'a> {
    fn new(row: &'a PaymentRow) -> Self {
        let payment = Payment::of(&row.facts);
        let latest_ms = row.facts.latest().map_or(0, |version| version.at_ms);
        let first_ms = row.facts.first().map_or(0, |version| version.at_ms);
        let currency = payment.currency;
        Self {
            payment_id: row.payment_id,
            user_id: MaybeUnset::from_option(row.facts.user.as_ref().map(|user| reference_id(&user.text))),
            order_id: reference_id(&row.order_ref),
            amount: MaybeUnset::from_option(currency.map(|c| decimal(payment.shop_amount(), c.exponent()))),
            status: payment.shop_status(),
            timestamp: CqlTimestamp(latest_ms),
            currency: MaybeUnset::from_option(currency.map(|c| c.as_str().to_owned())),
            region: &row.region,
            day: cql_date(day_of(first_ms)),
            version_us: row.version,
        }
    }
}

impl Projection {
    pub async fn new(session: &Session, config: &Cassandra) -> Result<Self, CassandraError> {
        let insert = "INSERT INTO {keyspace}.payments (payment_id, user_id, order_id, amount, status, timestamp, \
                      currency, region, day) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
        Ok(Self { insert: prepare(session, config, insert).await?, keyspace: config.keyspace.clone() })
    }

    /// Writes payments; tries until all are written.
    pub async fn write(
        &self,
        session: &Session,
        payments: &[PaymentRow],
        give_up: &CancellationToken,
    ) -> Result<(), Stopped> {
        let groups = self.by_replica(session, payments);
        let mut writes = FuturesUnordered::new();
        let dense = payments.len().div_ceil(BATCHES_MIN).min(BATCH_ROWS_DENSE);
        let batch_rows = payments.len().div_ceil(BATCHES).max(dense).clamp(1, BATCH_ROWS_MAX);
        for rows in groups.iter().flat_map(|group| group.chunks(batch_rows)) {
            writes.push(self.write_batch(session, rows, give_up));
        }
        while let Some(outcome) = writes.next().await {
            outcome?;
        }
        Ok(())
    }

    /// Rows that the same node holds go into one batch, so that no node passes on what is not its own.
    fn by_replica<'r>(&self, session: &Session, payments: &'r [PaymentRow]) -> Vec<Vec<ViewRow<'r>>> {
        let cluster = session.get_cluster_state();
        let single = cluster.get_nodes_info().len() == 1;
        let mut groups: HashMap<Option<Uuid>, Vec<ViewRow<'r>>> = HashMap::new();
        for payment in payments {
            let replica = if single { None } else { self.replica(&cluster, payment.payment_id) };
            groups.entry(replica).or_default().push(ViewRow::new(payment));
        }
        groups.into_values().collect()
    }

    fn replica(&self, cluster: &scylla::cluster::ClusterState, payment_id: Uuid) -> Option<Uuid> {
        let replicas = cluster.get_endpoints(&self.keyspace, "payments", &(payment_id,)).ok()?;
        replicas.first().map(|(node, _)| node.host_id)
    }

    async fn write_batch(
        &self,
        session: &Session,
        rows: &[ViewRow<'_>],
        give_up: &CancellationToken,
    ) -> Result<(), Stopped> {
        let batch = batch_of(&self.insert, rows.len());
        let mut backoff = Backoff::for_services();
        while let Err(error) = session.batch(&batch, rows).await {
            if !is_retriable(&error) {
                // The view can be written again from Postgres at any time; the orders are right without it.
                tracing::error!(%error, "cassandra refuses rows of the shop's view");
                return Ok(());
            }
            tracing::warn!(%error, "the shop's view was not written; trying again");
            backoff.pause(give_up).await?;
        }
        Ok(())
    }
}
