//! The tables of what was set aside, `quarantine` and `dead_letters`, read page by page.
//!
//! Both are small, and both are read in the order of their partitions with a bound: a reader holds one page of rows without
//! their bytes, and fetches the bytes of a row when it works on it.

use std::collections::BTreeMap;

use platform::amqp::Stage;
use platform::cassandra::{self, BUCKETS, CassandraError, prepare, spread};
use platform::clock::now_ms;
use platform::config::Config;
use scylla::DeserializeRow;
use scylla::client::session::Session;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{Error, tried};

/// Rows of a page, without their bytes.
const PAGE_ROWS: i32 = 500;

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Quarantine,
    DeadLetters,
}

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// The first part of the key.
    fn key(self) -> &'static str {
        match self {
            Self::Quarantine => "source",
            Self::DeadLetters => "stage",
        }
    }

    /// The columns of [`QuarantineRow`] or [`DeadRow`].
    fn columns(self) -> &'static str {
        match self {
            Self::Quarantine => {
                "source, id, region, provider, reason, received_at, retried_at, retried_of, outcome, \
                 writetime(reason) AS written_us, writetime(outcome) AS marked_us"
            }
            Self::DeadLetters => {
                "stage, id, source, region, queue, reason, failed_at, program_version, redrives, redriven_at, \
                 redriven_of, writetime(reason) AS written_us"
            }
        }
    }

    fn bytes(self) -> &'static str {
        match self {
            Self::Quarantine => "body, headers",
            Self::DeadLetters => "record",
        }
    }

    /// The mark of a row that was put through again.
    fn mark(self) -> &'static str {
        match self {
            Self::Quarantine => "retried_at = ?, retried_of = ?, outcome = ?",
            Self::DeadLetters => "redriven_at = ?, redriven_of = ?, redrives = ?",
        }
    }
}

#[derive(DeserializeRow)]
struct QuarantineRow {
    source: String,
    id: Uuid,
    region: Option<String>,
    provider: Option<String>,
    reason: Option<String>,
    received_at: Option<CqlTimestamp>,
    retried_at: Option<CqlTimestamp>,
    retried_of: Option<CqlTimestamp>,
    outcome: Option<String>,
    written_us: Option<i64>,
    marked_us: Option<i64>,
}

#[derive(DeserializeRow)]
struct DeadRow {
    stage: String,
    id: Uuid,
    source: Option<String>,
    region: Option<String>,
    queue: Option<String>,
    reason: Option<String>,
    failed_at: Option<CqlTimestamp>,
    program_version: Option<String>,
    redrives: Option<i32>,
    redriven_at: Option<CqlTimestamp>,
    redriven_of: Option<CqlTimestamp>,
    written_us: Option<i64>,
}

/// A row without its bytes.
#[derive(Debug, Clone)]
pub struct Row {
    /// The source, or the stage of dead letters.
    pub key: String,
    pub id: Uuid,
    pub source: Option<String>,
    pub region: Option<String>,
    pub reason: String,
    /// When it was received, or failed last; Unix milliseconds.
    pub at_ms: i64,
    /// When it was put through again last.
    pub again_at_ms: Option<i64>,
    /// The `at_ms` that it had then.
    pub again_of_ms: Option<i64>,
    /// Cassandra's time for a mark, Unix microseconds: the row's own, or right behind an earlier mark of it.
    pub mark_us: i64,
    /// How often it was put through again; counted for dead letters only.
    pub again: i32,
    /// What only one of the tables has.
    pub more: Vec<(&'static str, Option<String>)>,
}

impl Row {
    /// Whether it was put through again, and did not come back since.
    pub fn is_done(&self) -> bool {
        self.again_of_ms == Some(self.at_ms)
    }

    /// A value that only one of the tables has.
    pub fn get(&self, name: &str) -> &str {
        let value = self.more.iter().find(|(known, _)| *known == name);
        value.and_then(|(_, value)| value.as_deref()).unwrap_or("-")
    }

    /// Everything but the bytes.
    pub fn json(&self, kind: Kind) -> serde_json::Map<String, Value> {
        let time = |ms: Option<i64>| ms.map(super::print::time);
        let (at, again_at) = match kind {
            Kind::Quarantine => ("received_at", "retried_at"),
            Kind::DeadLetters => ("failed_at", "redriven_at"),
        };
        let mut fields = serde_json::Map::new();
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("id", self.id.to_string().into());
        put(kind.key(), self.key.clone().into());
        put("source", self.source.clone().into());
        put("region", self.region.clone().into());
        put("reason", self.reason.clone().into());
        put(at, time(Some(self.at_ms)).into());
        put(again_at, time(self.again_at_ms).into());
        put("open", (!self.is_done()).into());
        if kind == Kind::DeadLetters {
            put("attempts", self.attempts().into());
        }
        self.more.iter().for_each(|(name, value)| put(name, value.clone().into()));
        fields
    }

    /// How often a program has had it: the first time, and each time that it was put through again.
    pub fn attempts(&self) -> i32 {
        self.again.saturating_add(1)
    }
}

/// The bytes of a row.
pub struct Bytes {
    /// The raw body, or the record.
    pub bytes: Vec<u8>,
    /// Kept headers, of a quarantined body.
    pub headers: BTreeMap<String, String>,
}

/// What became of a row that was put through again.
pub enum Mark<'a> {
    Retried(&'a str),
    Redriven,
}

/// One of the tables, with its statements prepared.
pub struct Table {
    pub kind: Kind,
    session: Session,
    all: PreparedStatement,
    partition: PreparedStatement,
    one: PreparedStatement,
    bytes: PreparedStatement,
    mark: PreparedStatement,
    delete: PreparedStatement,
    /// First parts of the key that a row may be found under.
    keys: Vec<String>,
}

impl Table {
    /// Connects. Nothing is created: the writer does that.
    pub async fn open(kind: Kind, config: &Config) -> Result<Self, Error> {
        let session = cassandra::connect(&config.cassandra).await?;
        let prepared = async |statement: String| {
            let prepared = prepare(&session, &config.cassandra, &statement).await;
            prepared.map_err(|error| match error {
                CassandraError::Prepare(_) => {
                    format!("{error}; the tables are made, or brought up to date, when a writer of this version starts")
                }
                error => error.to_string(),
            })
        };
        let (table, key) = (kind.table(), kind.key());
        let (columns, bytes) = (kind.columns(), kind.bytes());
        let from = format!("FROM {{keyspace}}.{table}");
        let row = format!("WHERE {key} = ? AND bucket = ? AND id = ?");
        let mut all = prepared(format!("SELECT {columns} {from}")).await?;
        let mut partition = prepared(format!("SELECT {columns} {from} WHERE {key} = ? AND bucket = ?")).await?;
        all.set_page_size(PAGE_ROWS);
        partition.set_page_size(PAGE_ROWS);
        Ok(Self {
            kind,
            all,
            partition,
            one: prepared(format!("SELECT {columns} {from} {row}")).await?,
            bytes: prepared(format!("SELECT {bytes} {from} {row}")).await?,
            mark: prepared(format!("UPDATE {{keyspace}}.{table} USING TIMESTAMP ? SET {} {row}", kind.mark())).await?,
            delete: prepared(format!("DELETE {from} {row}")).await?,
            keys: match kind {
                Kind::Quarantine => config.sources.keys().cloned().collect(),
                Kind::DeadLetters => [Stage::Write, Stage::Reconcile].map(|stage| stage.as_str().to_owned()).into(),
            },
            session,
        })
    }

    /// The pages of a key, or of the whole table.
    pub fn pages(&self, key: Option<&str>) -> Pages<'_> {
        let partitions = match key {
            Some(key) => (0..BUCKETS).rev().map(|bucket| Some((key.to_owned(), bucket))).collect(),
            None => vec![None],
        };
        Pages { table: self, partitions, state: PagingState::start() }
    }

    /// What to say of an id that is not found.
    pub fn where_to_look(&self) -> &'static str {
        match self.kind {
            Kind::Quarantine => " of a configured source: give --source for another",
            Kind::DeadLetters => "",
        }
    }

    /// Finds a row by its id, under `key` or any that is known.
    pub async fn find(&self, id: Uuid, key: Option<&str>) -> Result<Option<Row>, Error> {
        let known = self.keys.iter().map(String::as_str);
        let keys: Vec<&str> = key.map_or_else(|| known.collect(), |key| vec![key]);
        for key in keys {
            let rows = tried("read Cassandra", async || {
                let result = self.session.execute_unpaged(&self.one, (key, spread(id), id)).await?;
                self.rows(&result.into_rows_result().map_err(unexpected)?)
            });
            if let Some(row) = rows.await?.pop() {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The bytes of a row, unless it was dropped meanwhile.
    pub async fn bytes(&self, row: &Row) -> Result<Option<Bytes>, Error> {
        let key = (&row.key, spread(row.id), row.id);
        tried("read Cassandra", async || {
            let result = self.session.execute_unpaged(&self.bytes, key).await?;
            let rows = result.into_rows_result().map_err(unexpected)?;
            let bytes = match self.kind {
                Kind::Quarantine => rows
                    .maybe_first_row::<(Option<Vec<u8>>, Option<BTreeMap<String, String>>)>()
                    .map_err(unexpected)?
                    .map(|(body, headers)| (body, headers.unwrap_or_default())),
                Kind::DeadLetters => rows
                    .maybe_first_row::<(Option<Vec<u8>>,)>()
                    .map_err(unexpected)?
                    .map(|(record,)| (record, BTreeMap::new())),
            };
            Ok::<_, Error>(bytes.and_then(|(bytes, headers)| Some(Bytes { bytes: bytes?, headers })))
        })
        .await
    }

    /// Marks a row as put through again, as it was read: if it came back meanwhile it stays open. The mark carries the
    /// row's time, so that it makes no row of one that was dropped meanwhile.
    pub async fn mark(&self, row: &Row, mark: Mark<'_>) -> Result<(), Error> {
        let (now, of) = (CqlTimestamp(now_ms()), CqlTimestamp(row.at_ms));
        let key = (&row.key, spread(row.id), row.id);
        tried("mark the row in Cassandra", async || {
            let marked = match mark {
                Mark::Retried(outcome) => {
                    let values = (row.mark_us, now, of, outcome, key.0, key.1, key.2);
                    self.session.execute_unpaged(&self.mark, values).await
                }
                Mark::Redriven => {
                    let values = (row.mark_us, now, of, row.attempts(), key.0, key.1, key.2);
                    self.session.execute_unpaged(&self.mark, values).await
                }
            };
            marked.map(drop)
        })
        .await
    }

    /// Deletes a row.
    pub async fn delete(&self, row: &Row) -> Result<(), Error> {
        let key = (&row.key, spread(row.id), row.id);
        tried("delete the row in Cassandra", async || self.session.execute_unpaged(&self.delete, key).await.map(drop))
            .await
    }

    fn rows(&self, result: &QueryRowsResult) -> Result<Vec<Row>, Error> {
        match self.kind {
            Kind::Quarantine => {
                let rows = result.rows::<QuarantineRow>().map_err(unexpected)?;
                rows.filter_map(|row| row.map(quarantined).transpose()).collect::<Result<_, _>>()
            }
            Kind::DeadLetters => {
                let rows = result.rows::<DeadRow>().map_err(unexpected)?;
                rows.filter_map(|row| row.map(dead).transpose()).collect::<Result<_, _>>()
            }
        }
        .map_err(unexpected)
    }
}

/// None of what is no whole row.
fn quarantined(row: QuarantineRow) -> Option<Row> {
    Some(Row {
        source: Some(row.source.clone()),
        key: row.source,
        id: row.id,
        region: row.region,
        reason: row.reason?,
        at_ms: row.received_at?.0,
        again_at_ms: row.retried_at.map(|at| at.0),
        again_of_ms: row.retried_of.map(|of| of.0),
        mark_us: row.written_us?.max(row.marked_us.map_or(i64::MIN, |marked_us| marked_us + 1)),
        again: 0,
        more: vec![("provider", row.provider), ("outcome", row.outcome)],
    })
}

/// None of what is no whole row.
fn dead(row: DeadRow) -> Option<Row> {
    Some(Row {
        key: row.stage,
        id: row.id,
        source: row.source,
        region: row.region,
        reason: row.reason?,
        at_ms: row.failed_at?.0,
        again_at_ms: row.redriven_at.map(|at| at.0),
        again_of_ms: row.redriven_of.map(|of| of.0),
        // Each mark has a later time and a larger count: of two at once Cassandra keeps the larger values.
        mark_us: row.written_us?,
        again: row.redrives.unwrap_or(0),
        more: vec![("queue", row.queue), ("program_version", row.program_version)],
    })
}

/// Partitions, read one after the other.
pub struct Pages<'t> {
    table: &'t Table,
    /// What is to be read, the next one last; `None` is the whole table.
    partitions: Vec<Option<(String, i32)>>,
    state: PagingState,
}

impl Pages<'_> {
    /// The next page; none behind the last one. A page may be empty.
    pub async fn next(&mut self) -> Result<Option<Vec<Row>>, Error> {
        let Some(partition) = self.partitions.last() else { return Ok(None) };
        let Table { session, all, partition: of_key, .. } = self.table;
        let (rows, next) = tried("read Cassandra", async || {
            let from = self.state.clone();
            let (result, next) = match partition {
                Some((key, bucket)) => session.execute_single_page(of_key, (key, bucket), from).await?,
                None => session.execute_single_page(all, (), from).await?,
            };
            let rows = self.table.rows(&result.into_rows_result().map_err(unexpected)?)?;
            Ok::<_, Error>((rows, next))
        })
        .await?;
        match next {
            PagingStateResponse::HasMorePages { state } => self.state = state,
            PagingStateResponse::NoMorePages => {
                self.partitions.pop();
                self.state = PagingState::start();
            }
        }
        Ok(Some(rows))
    }
}

fn unexpected(error: impl std::fmt::Display) -> Error {
    CassandraError::Answer(error.to_string()).into()
}
