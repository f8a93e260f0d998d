//! The events of payments, and where each of them is: stored in Cassandra, parked, or applied in Postgres.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::PaymentEvent;
use domain::frame::Record;
use domain::partition::day_of;
use futures_util::{StreamExt, TryStreamExt, stream};
use platform::cassandra::CassandraError;
use platform::clock::now_ms;
use scylla::client::session::Session;
use serde::Serialize;
use uuid::Uuid;

use super::lookup::ROWS_MAX;
use crate::archive::Archive;
use crate::plan::PaymentRow;

/// Partitions that one look-up reads, one row range each.
const PARTITIONS_MAX: usize = 100;
/// Reads of Cassandra at once.
const AT_ONCE: usize = 8;
/// Events so young may be stored and not applied: nothing in Postgres says yet where they are.
const RECENT_MS: i64 = 60 * 60 * 1000;
const MINUTE_MS: i64 = 60 * 1000;

/// One event. Times are Unix milliseconds, the amount is decimal text in whole units.
#[derive(Serialize)]
pub struct Event {
    pub event_id: Uuid,
    payment_id: Uuid,
    kind: &'static str,
    amount: Option<String>,
    currency: Option<String>,
    provider: String,
    provider_event_id: String,
    event_type: String,
    transaction_id: Option<String>,
    region: String,
    event_at_ms: i64,
    received_at_ms: i64,
    /// When its row was last written to Cassandra; null where Cassandra did not tell.
    stored_at_ms: Option<i64>,
    parked_at_ms: Option<i64>,
    /// `applied`, `parked` or `stored`: then it waits in a reconcile queue.
    place: &'static str,
}

/// What is known of the events of some payments.
pub struct Trail<'a> {
    regions: &'a [String],
    payments: &'a [PaymentRow],
    /// From another id under which events are stored to the payment's own.
    links: BTreeMap<Uuid, Uuid>,
    events: BTreeMap<(i64, Uuid, [u8; 16]), Event>,
    /// Region, time and id of parked events: where they are in Cassandra.
    places: BTreeSet<(String, i64, Uuid)>,
}

impl<'a> Trail<'a> {
    pub fn new(regions: &'a [String], payments: &'a [PaymentRow]) -> Self {
        Self { regions, payments, links: BTreeMap::new(), events: BTreeMap::new(), places: BTreeSet::new() }
    }

    /// Events under `alias` are of this payment.
    pub fn link(&mut self, alias: Uuid, payment_id: Uuid) {
        self.links.insert(alias, payment_id);
    }

    /// The other ids of the payments.
    pub fn aliases(&self) -> impl Iterator<Item = Uuid> {
        self.links.keys().copied()
    }

    /// An event that is parked.
    pub fn parked(&mut self, event: &PaymentEvent<'_>, parked_at_ms: i64) {
        self.places.insert((event.region.clone().into_owned(), event.event_time_ms, event.payment_id));
        let entry = self.event(event);
        entry.parked_at_ms = Some(parked_at_ms);
        if entry.place == "stored" {
            entry.place = "parked";
        }
    }

    /// Reads the events that Cassandra has: where the payments' facts say they are, where parked ones are, and those of
    /// the last hour.
    pub async fn read(&mut self, session: &Session, archive: &Archive, ids: &[Uuid]) -> Result<(), CassandraError> {
        let mut partitions = BTreeSet::new();
        let mut layouts = HashMap::new();
        for (region, at_ms, id) in self.likely_places(ids) {
            let day = day_of(at_ms);
            let layout = match layouts.get(&(region.clone(), day)) {
                Some(layout) => *layout,
                None => {
                    let layout = archive.layout(session, &region, day).await?;
                    layouts.insert((region.clone(), day), layout);
                    layout
                }
            };
            let Some(layout) = layout else { continue };
            if partitions.len() < PARTITIONS_MAX {
                partitions.insert((region, day, layout.bucket(at_ms, id), id));
            }
        }
        let reads = stream::iter(partitions).map(async |(region, day, bucket, id)| {
            let limit = i32::try_from(ROWS_MAX).unwrap_or(i32::MAX);
            archive.events_of(session, (&region, day, bucket), id, limit).await
        });
        let read: Vec<_> = reads.buffer_unordered(AT_ONCE).try_collect().await?;
        for (records, stored) in &read {
            for record in records {
                let Ok(Record::Event(event)) = Record::decode(record) else { continue };
                let of_event = |(id, hash, _): &&(Uuid, Vec<u8>, Option<i64>)| {
                    *id == event.event_id && hash[..] == event.content_hash.0
                };
                let stored_at_us = stored.iter().find(of_event).and_then(|(_, _, stored_at_us)| *stored_at_us);
                self.event(&event).stored_at_ms = stored_at_us.map(|us| us / 1000);
            }
        }
        Ok(())
    }

    /// Regions, times and ids under which events may be stored; the likeliest first.
    fn likely_places(&self, ids: &[Uuid]) -> Vec<(String, i64, Uuid)> {
        let mut places: Vec<_> = self.places.iter().cloned().collect();
        for row in self.payments {
            let aliases = self.links.iter().filter(|(_, payment)| **payment == row.payment_id).map(|(alias, _)| *alias);
            let ids: Vec<Uuid> = [row.payment_id].into_iter().chain(aliases).collect();
            for fact in row.facts.entries.values() {
                let times = BTreeSet::from([fact.event_time_ms, fact.first.at_ms]);
                let of_id = |id: &Uuid| times.iter().map(|at_ms| (row.region.clone(), *at_ms, *id)).collect::<Vec<_>>();
                places.extend(ids.iter().flat_map(of_id));
            }
        }
        let known: BTreeSet<&str> = self.payments.iter().map(|row| row.region.as_str()).collect();
        let regions = self.regions.iter().filter(|region| known.is_empty() || known.contains(region.as_str()));
        let now_ms = now_ms();
        for region in regions {
            for id in ids {
                // A minute is the shortest slot, and a little ahead: providers' clocks are not ours.
                let times = (0..).map(|step| now_ms + MINUTE_MS - step * MINUTE_MS);
                let recent = times.take_while(|at_ms| *at_ms > now_ms - RECENT_MS);
                places.extend(recent.map(|at_ms| (region.clone(), at_ms, *id)));
            }
        }
        places
    }

    fn event(&mut self, event: &PaymentEvent<'_>) -> &mut Event {
        let key = (event.event_time_ms, event.event_id, event.content_hash.0);
        let payment_id = self.links.get(&event.payment_id).copied().unwrap_or(event.payment_id);
        let payment = self.payments.iter().find(|row| row.payment_id == payment_id);
        self.events.entry(key).or_insert_with(|| Event {
            event_id: event.event_id,
            payment_id,
            kind: event.kind.as_str(),
            amount: event.amount.map(|money| money.to_decimal()),
            currency: event.amount.map(|money| money.currency.as_str().to_owned()),
            provider: event.provider.clone().into_owned(),
            provider_event_id: event.provider_event_id.clone().into_owned(),
            event_type: event.provider_event_type.clone().into_owned(),
            transaction_id: event.transaction_id.clone().map(Into::into),
            region: event.region.clone().into_owned(),
            event_at_ms: event.event_time_ms,
            received_at_ms: event.received_at_ms,
            stored_at_ms: None,
            parked_at_ms: None,
            // Merging what is merged already changes nothing: the same question that a sweep asks.
            place: match payment.is_some_and(|row| !row.facts.clone().merge(event)) {
                true => "applied",
                false => "stored",
            },
        })
    }

    /// The events by time.
    pub fn events(self) -> Vec<Event> {
        self.events.into_values().collect()
    }
}
