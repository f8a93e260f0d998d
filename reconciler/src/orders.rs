//! The shop's table of orders as the configuration maps it: the statements for it, and its check at the start.

use std::collections::BTreeMap;

use domain::fold::{OrderStatus, Terms};
use domain::money::{MoneyError, decimal_text, parse_decimal};
use domain::{Currency, Money};
use platform::config::{Config, KeyType, Orders};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::breaks::{self, Break};
use crate::plan::{OrderChange, OrderRow};

/// Why the mapped table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OrdersError {
    /// The configuration does not fit the table.
    #[error("{0}")]
    Mapping(String),
    /// Postgres did not answer.
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
}

/// The table, with its statements.
pub struct OrdersTable {
    config: Orders,
    schema: String,
    select: String,
    lock: String,
    write: Option<String>,
    known: String,
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

impl OrdersTable {
    pub fn new(config: &Config) -> Self {
        let orders = config.orders.clone();
        let schema = if orders.schema.is_empty() { &config.postgres.schema } else { &orders.schema };
        let table = format!("{}.{}", quoted(schema), quoted(&orders.table));
        let column = |name: &str| format!("o.{}", quoted(name));
        let amount = |name: &str| match name {
            "" => "NULL".to_owned(),
            name => format!("coalesce({}, 0)::text", column(name)),
        };
        let key = column(&orders.key);
        let currency = match orders.currency.as_str() {
            "" => format!("'{}'", orders.currency_code),
            name => format!("upper({}::text)", column(name)),
        };
        let status = if orders.status.is_empty() { "NULL".into() } else { format!("{}::text", column(&orders.status)) };
        let cast = |reference: &str| cast(orders.key_type, reference);
        let columns = format!(
            "SELECT {key}::text, {currency}, {}::text, {status}, {}, {}, {} FROM {table} o",
            column(&orders.total),
            amount(&orders.paid),
            amount(&orders.refunded),
            amount(&orders.disputed)
        );
        let select = format!(
            "{columns} WHERE {key} = ANY (ARRAY(SELECT {} FROM UNNEST($1::text[]) AS n (reference)))",
            cast("n.reference")
        );
        let collation = if orders.key_type == KeyType::Text { " COLLATE \"C\"" } else { "" };
        let lock = format!(
            "{columns} WHERE {key} = ANY (ARRAY(SELECT {} FROM (SELECT unnest($1::text[]) UNION \
             SELECT order_ref FROM payments WHERE payment_id = ANY ($2) UNION \
             SELECT y.order_ref FROM links l JOIN payments y USING (payment_id) WHERE l.alias = ANY ($2)) \
             AS n (reference))) \
             ORDER BY {key}{collation} FOR NO KEY UPDATE OF o",
            cast("n.reference")
        );
        let written = [
            (&orders.status, "coalesce(u.status, o.@)"),
            (&orders.paid, "u.paid::numeric"),
            (&orders.refunded, "u.refunded::numeric"),
            (&orders.disputed, "u.disputed::numeric"),
            (&orders.updated_at, "now()"),
        ];
        let set: Vec<String> = written
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| format!("{} = {}", quoted(name), value.replace('@', &quoted(name))))
            .collect();
        let write = (!set.is_empty()).then(|| {
            format!(
                "UPDATE {table} o SET {} FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) \
                 AS u (reference, status, paid, refunded, disputed) WHERE {key} = {}",
                set.join(", "),
                cast("u.reference")
            )
        });
        let known = format!("EXISTS (SELECT FROM {table} o WHERE {key} = @)");
        Self { schema: schema.clone(), config: orders, select, lock, write, known }
    }

    /// What the configuration says of the shop's words.
    pub fn words(&self) -> &Orders {
        &self.config
    }

    /// A condition: the order that a text expression names is there.
    pub fn known(&self, reference: &str) -> String {
        self.known.replace('@', &cast(self.config.key_type, reference))
    }

    /// Creates the table where the configuration says so, and checks that all mapped columns are there.
    pub async fn prepare(&self, pool: &PgPool) -> Result<(), OrdersError> {
        if self.config.create {
            let mut connection = pool.acquire().await?;
            sqlx::raw_sql(include_str!("../../schema/postgres/orders.sql")).execute(&mut *connection).await?;
        }
        let rows = sqlx::query(
            "SELECT a.attname::text, format_type(a.atttypid, NULL), t.typcategory::text FROM pg_attribute a \
             JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_type t ON t.oid = a.atttypid \
             WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
        )
        .bind(&self.schema)
        .bind(&self.config.table)
        .fetch_all(pool)
        .await?;
        let mut columns = BTreeMap::new();
        for row in &rows {
            columns.insert(row.try_get::<String, _>(0)?, (row.try_get::<String, _>(1)?, row.try_get::<String, _>(2)?));
        }
        self.check(&columns)
    }

    /// Checks columns: by name their type and its category (N a number, S a text, U a UUID, …).
    fn check(&self, columns: &BTreeMap<String, (String, String)>) -> Result<(), OrdersError> {
        let table = format!("{}.{}", self.schema, self.config.table);
        let fail = |message: String| Err(OrdersError::Mapping(message));
        if columns.is_empty() {
            return fail(format!(
                "there is no table {table}; set orders.schema and orders.table, or orders.create = true"
            ));
        }
        let key_types: &[&str] = match self.config.key_type {
            KeyType::Text => &["text", "character varying", "character"],
            KeyType::BigInt => &["bigint", "integer", "smallint"],
            KeyType::Uuid => &["uuid"],
        };
        let numeric: &[&str] = &["numeric"];
        let texts: &[&str] = &["text", "character varying", "character"];
        let orders = &self.config;
        let mapped = [
            ("key", &orders.key, key_types),
            ("total", &orders.total, numeric),
            ("currency", &orders.currency, texts),
            ("status", &orders.status, texts),
            ("paid", &orders.paid, numeric),
            ("refunded", &orders.refunded, numeric),
            ("disputed", &orders.disputed, numeric),
            ("updated_at", &orders.updated_at, &["timestamp with time zone", "timestamp without time zone"]),
        ];
        for (name, column, types) in mapped.into_iter().filter(|(_, column, _)| !column.is_empty()) {
            let Some((found, _)) = columns.get(column) else {
                let there = columns.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                return fail(format!("orders.{name}: {table} has no column {column:?}; it has: {there}"));
            };
            if !types.contains(&found.as_str()) {
                return fail(format!(
                    "orders.{name}: column {column:?} of {table} is {found}, but must be {}",
                    types.join(" or ")
                ));
            }
        }
        Ok(())
    }

    /// Reads orders without locking them.
    pub async fn read(&self, tx: &mut PgConnection, references: &[&str]) -> Result<OrderRows, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(self.select.clone())).bind(references).fetch_all(tx).await?;
        OrderRows::of(&rows)
    }

    /// Locks the orders that events name and those of the payments they name, in key order; others wait, and nobody
    /// waits in a circle. `FOR NO KEY UPDATE` leaves the shop's foreign keys on orders alone.
    pub async fn lock(
        &self,
        tx: &mut PgConnection,
        references: &[&str],
        payment_ids: &[Uuid],
    ) -> Result<OrderRows, sqlx::Error> {
        let rows =
            sqlx::query(AssertSqlSafe(self.lock.clone())).bind(references).bind(payment_ids).fetch_all(tx).await?;
        OrderRows::of(&rows)
    }

    /// Writes orders, which are locked.
    pub async fn write(
        &self,
        tx: &mut PgConnection,
        changes: &[OrderChange],
        orders: &BTreeMap<String, OrderRow>,
    ) -> Result<(), sqlx::Error> {
        let Some(write) = &self.write else { return Ok(()) };
        let amounts = |amount: fn(&OrderChange) -> i64| -> Vec<String> {
            let exponent = |c: &OrderChange| orders.get(&c.reference).map_or(2, |o| o.terms.total.currency.exponent());
            changes.iter().map(|change| decimal_text(amount(change), exponent(change))).collect()
        };
        sqlx::query(AssertSqlSafe(write.clone()))
            .bind(changes.iter().map(|change| change.reference.as_str()).collect::<Vec<_>>())
            .bind(changes.iter().map(|change| change.word.as_deref()).collect::<Vec<_>>())
            .bind(amounts(|change| change.order.paid))
            .bind(amounts(|change| change.order.refunded))
            .bind(amounts(|change| change.order.disputed))
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// A reference as a value of the key's type; NULL, which is no order's key, where it cannot be one. Only the canonical
/// form of a key is its reference, so that `7` and `007` are not two names of one order.
fn cast(key_type: KeyType, reference: &str) -> String {
    match key_type {
        KeyType::Text => reference.to_owned(),
        KeyType::BigInt => {
            // In two steps: the second is no number before the first is looked at.
            format!(
                "(CASE WHEN {reference} ~ '^(0|-?[1-9][0-9]{{0,18}})$' THEN CASE WHEN {reference}::numeric \
                 BETWEEN -9223372036854775808 AND 9223372036854775807 THEN {reference}::bigint END END)"
            )
        }
        KeyType::Uuid => format!(
            "(CASE WHEN {reference} ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN {reference}::uuid END)"
        ),
    }
}

/// Rows of the shop's orders, by their references.
#[derive(Default)]
pub struct OrderRows {
    pub there: BTreeMap<String, OrderRow>,
    /// Why those cannot be used that say what no order can be: they are the shop's to mend.
    pub unreadable: BTreeMap<String, String>,
}

impl OrderRows {
    fn of(rows: &[PgRow]) -> Result<Self, sqlx::Error> {
        let mut orders = Self::default();
        for row in rows {
            let reference: String = row.try_get(0)?;
            match order_of(row) {
                Ok(order) => drop(orders.there.insert(reference, order)),
                Err(why) => drop(orders.unreadable.insert(reference, why)),
            }
        }
        Ok(orders)
    }

    /// Of those that cannot be used; their events wait.
    pub fn breaks(&self) -> impl Iterator<Item = Break> {
        self.unreadable.iter().map(|(reference, why)| Break {
            kind: breaks::UNREADABLE_ORDER,
            subject: reference.clone(),
            order_ref: Some(reference.clone()),
            detail: why.clone(),
            ..Break::default()
        })
    }
}

fn order_of(row: &PgRow) -> Result<OrderRow, String> {
    let text = |index: usize| row.try_get::<Option<&str>, _>(index).map_err(|error| error.to_string());
    let needed = |index, name| text(index)?.ok_or_else(|| format!("its {name} is NULL"));
    let code = needed(1, "currency")?;
    let currency = Currency::parse(code).map_err(|_| format!("{code:?} is no currency that Tollgate knows"))?;
    let minor = |name, text: &str| {
        let plain = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
        let words = |error: MoneyError| format!("its {name} {plain} {code}: {error}");
        parse_decimal(text, currency.exponent()).map_err(words)
    };
    let amount = |index: usize, name| text(index)?.map(|text| minor(name, text)).transpose();
    let total = needed(2, "total")?;
    let money =
        Money::new(minor("total", total)?, currency).map_err(|error| format!("its total {total} {code}: {error}"));
    Ok(OrderRow {
        terms: Terms { total: money? },
        status: text(3)?.unwrap_or_default().to_owned(),
        amounts: [amount(4, "paid")?, amount(5, "refunded")?, amount(6, "disputed")?],
    })
}

/// The shop's word that is to be written, and whether the word that is there says something else.
pub fn settle_status(words: &Orders, current: &str, status: OrderStatus) -> (Option<String>, bool) {
    match words.word(status) {
        _ if words.status.is_empty() || words.agrees(current, status) => (None, false),
        Some(word) if words.is_replaceable(current) => (Some(word.to_owned()), false),
        Some(_) => (None, true),
        None => (None, false),
    }
}
