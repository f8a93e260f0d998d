//! What is kept of a payment's events: for each kind and transaction its first and its latest report.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use crate::event::read_money;
use crate::wire::{Reader, put_text};
use crate::{ContentHash, DecodeError, Kind, Money, PaymentEvent};

const FORMAT: u8 = 1;

/// Orders the reports of one kind: by the provider's version time, then by ids, so that no two events tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The provider's version or event time, Unix milliseconds.
    pub at_ms: i64,
    /// The event.
    pub event_id: Uuid,
    /// Its content.
    pub content_hash: ContentHash,
}

impl Version {
    /// The version of an event.
    #[must_use]
    pub fn of(event: &PaymentEvent<'_>) -> Self {
        Self { at_ms: event.version_ms, event_id: event.event_id, content_hash: event.content_hash }
    }
}

/// What was reported of one kind and transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// The first report: when it came true.
    pub first: Version,
    /// The latest report.
    pub latest: Version,
    /// The latest report's event time: with the payment's region, where it lies in Cassandra. Unix milliseconds.
    pub event_time_ms: i64,
    /// The latest report's amount.
    pub amount: Option<Money>,
}

/// A text that events name, with the first event that named it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The first event that named one.
    pub version: Version,
    /// What it named.
    pub text: String,
}

/// Everything kept of one payment's events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The shop's order, by the first event that names one.
    pub order: Option<Named>,
    /// The id of the shop's user, by the first event that names one: what Cassandra keeps of the reference.
    pub user: Option<Named>,
    /// By kind and the provider's transaction id (empty where the event names none).
    pub entries: BTreeMap<(Kind, String), Fact>,
}

impl Facts {
    /// Merges an event; returns whether it changed anything.
    pub fn merge(&mut self, event: &PaymentEvent<'_>) -> bool {
        let version = Version::of(event);
        let mut changed = merge_named(&mut self.order, version, event.order_ref.as_deref());
        changed |= merge_named(&mut self.user, version, event.user_id().map(|id| id.to_string()).as_deref());
        let report = Fact { first: version, latest: version, event_time_ms: event.event_time_ms, amount: event.amount };
        let key = (event.kind, event.transaction_id.as_deref().unwrap_or_default().to_owned());
        match self.entries.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(report);
                changed = true;
            }
            Entry::Occupied(mut entry) => {
                let fact = entry.get_mut();
                if version < fact.first {
                    fact.first = version;
                    changed = true;
                }
                if rank(event.kind, &report) > rank(event.kind, fact) {
                    *fact = Fact { first: fact.first, ..report };
                    changed = true;
                }
            }
        }
        changed
    }

    /// The latest version merged.
    #[must_use]
    pub fn latest(&self) -> Option<Version> {
        self.entries.values().map(|fact| fact.latest).max()
    }

    /// The earliest version merged.
    #[must_use]
    pub fn first(&self) -> Option<Version> {
        self.entries.values().map(|fact| fact.first).min()
    }

    /// The facts of one kind, with their transaction ids.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&str, &Fact)> {
        self.entries
            .range((kind, String::new())..)
            .take_while(move |((k, _), _)| *k == kind)
            .map(|((_, t), f)| (t.as_str(), f))
    }

    /// The fact of one kind and transaction.
    #[must_use]
    pub fn get(&self, kind: Kind, transaction: &str) -> Option<&Fact> {
        self.entries.get(&(kind, transaction.to_owned()))
    }

    /// Writes the compact form kept in Postgres.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::with_capacity(64 + self.entries.len() * 112);
        out.put_u8(FORMAT);
        for named in [&self.order, &self.user] {
            match named {
                Some(named) => {
                    put_text(&mut out, &named.text);
                    put_version(&mut out, &named.version);
                }
                None => out.put_u8(0),
            }
        }
        for ((kind, transaction), fact) in &self.entries {
            out.put_u8(kind.code());
            put_text(&mut out, transaction);
            put_version(&mut out, &fact.first);
            if fact.latest == fact.first {
                out.put_u8(0);
            } else {
                out.put_u8(1);
                put_version(&mut out, &fact.latest);
            }
            out.put_i64_le(fact.event_time_ms);
            match fact.amount {
                Some(money) => {
                    out.put_slice(&money.currency.as_bytes());
                    out.put_i64_le(money.minor);
                }
                None => out.put_slice(&[0; 11]),
            }
        }
        out.into()
    }

    /// Reads the compact form.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Facts::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            FORMAT => {}
            other => return Err(DecodeError::Version(other)),
        }
        let mut facts = Self { order: read_named(&mut r)?, user: read_named(&mut r)?, entries: BTreeMap::new() };
        while !r.is_empty() {
            let kind = Kind::from_code(r.u8()?).ok_or(DecodeError::Invalid("kind"))?;
            let transaction = r.text()?.to_owned();
            let first = read_version(&mut r)?;
            let latest = if r.u8()? == 0 { first } else { read_version(&mut r)? };
            let fact = Fact { first, latest, event_time_ms: r.i64()?, amount: read_money(&mut r)? };
            facts.entries.insert((kind, transaction), fact);
        }
        Ok(facts)
    }
}

/// Which of two reports of one kind and transaction is kept. Of cumulative figures in the same second the larger one is
/// the later; what was captured is kept at its largest, so that it never shrinks.
fn rank(kind: Kind, fact: &Fact) -> (i64, i64, Version) {
    let minor = fact.amount.map_or(0, |money| money.minor);
    match kind {
        Kind::Captured | Kind::CapturedTotal => (minor, 0, fact.latest),
        Kind::RefundedTotal => (fact.latest.at_ms, minor, fact.latest),
        _ => (fact.latest.at_ms, 0, fact.latest),
    }
}

fn merge_named(slot: &mut Option<Named>, version: Version, text: Option<&str>) -> bool {
    let Some(text) = text else { return false };
    if slot.as_ref().is_some_and(|named| (named.version, named.text.as_str()) <= (version, text)) {
        return false;
    }
    *slot = Some(Named { version, text: text.to_owned() });
    true
}

fn put_version(out: &mut BytesMut, version: &Version) {
    out.put_i64_le(version.at_ms);
    out.put_slice(version.event_id.as_bytes());
    out.put_slice(&version.content_hash.0);
}

fn read_version(r: &mut Reader<'_>) -> Result<Version, DecodeError> {
    Ok(Version { at_ms: r.i64()?, event_id: r.uuid()?, content_hash: ContentHash(r.array()?) })
}

fn read_named(r: &mut Reader<'_>) -> Result<Option<Named>, DecodeError> {
    match r.optional_text()? {
        Some(text) => Ok(Some(Named { version: read_version(r)?, text: text.to_owned() })),
        None => Ok(None),
    }
}
