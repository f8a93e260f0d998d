//! `[orders]`: the shop's table of orders, Tollgate's own or one that is already there.

use std::collections::BTreeMap;

use domain::fold::OrderStatus;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The type of the key column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// Any text.
    Text,
    /// A number; the reference is its decimal form.
    BigInt,
    /// A UUID; the reference is its lower-case form with hyphens.
    Uuid,
}

/// `[orders]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Orders {
    pub create: bool,
    pub schema: String,
    pub table: String,
    pub key: String,
    pub key_type: KeyType,
    pub total: String,
    pub currency: String,
    pub currency_code: String,
    pub status: String,
    pub paid: String,
    pub refunded: String,
    pub disputed: String,
    pub updated_at: String,
    pub replaceable: Vec<String>,
    pub words: BTreeMap<String, String>,
    pub agrees: BTreeMap<String, Vec<String>>,
}

impl Orders {
    /// The shop's word for a status; none where Tollgate is not to write that status.
    #[must_use]
    pub fn word(&self, status: OrderStatus) -> Option<&str> {
        self.words.get(status.as_str()).map(String::as_str).filter(|word| !word.is_empty() && !self.status.is_empty())
    }

    /// Whether a status may be written over this word.
    #[must_use]
    pub fn is_replaceable(&self, word: &str) -> bool {
        self.replaceable.iter().any(|replaceable| replaceable == word)
    }

    /// Whether this word of the shop says nothing else than the status.
    #[must_use]
    pub fn agrees(&self, word: &str, status: OrderStatus) -> bool {
        self.word(status) == Some(word)
            || self.agrees.get(word).is_some_and(|statuses| statuses.iter().any(|s| s == status.as_str()))
    }

    /// Checks names and words.
    ///
    /// # Errors
    /// [`ConfigError::Relation`] that names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError::Relation(message));
        let required = [("table", &self.table), ("key", &self.key), ("total", &self.total)];
        if let Some((key, _)) = required.iter().find(|(_, name)| name.is_empty()) {
            return fail(format!("orders.{key} must not be empty"));
        }
        let columns = [&self.currency, &self.status, &self.paid, &self.refunded, &self.disputed, &self.updated_at];
        let names = required.iter().map(|(_, name)| *name).chain(columns).chain([&self.schema]);
        for name in names {
            if name.len() > 63 || name.contains(['"', '\0']) {
                return fail(format!("orders: {name:?} is no name of a table or column"));
            }
        }
        if self.currency.is_empty() == self.currency_code.is_empty() {
            return fail(
                "orders needs either currency, a column, or currency_code, one currency for all orders".into(),
            );
        }
        if !self.currency_code.is_empty() && domain::Currency::parse(&self.currency_code).is_err() {
            return fail(format!("orders.currency_code: {:?} is no currency", self.currency_code));
        }
        let known = |status: &str| OrderStatus::ALL.iter().any(|known| known.as_str() == status);
        let named = self.words.keys().chain(self.agrees.values().flatten());
        if let Some(unknown) = named.into_iter().find(|status| !known(status)) {
            let all = OrderStatus::ALL.map(OrderStatus::as_str).join(", ");
            return fail(format!("orders: {unknown:?} is no status of an order; there are: {all}"));
        }
        Ok(())
    }
}
