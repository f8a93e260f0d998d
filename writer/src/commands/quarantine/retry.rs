//! `writer quarantine retry`: stored bodies and headers through the provider's module of this version again.
//!
//! Nothing is lost if it is killed at any point: a row is marked only after RabbitMQ has confirmed its events. Killed in
//! between, the row is still open and the next retry publishes the same events again: their ids are a function of what they
//! say, so they are the same rows. The row is kept: if the correction was wrong, the body is the evidence.

use bytes::Bytes;
use domain::frame::Record;
use domain::providers::{self, Delivery, Item};
use domain::quarantine;
use platform::amqp::Stage;
use platform::config::Config;

use super::super::Error;
use super::super::aside::{self, Mark, Row, Table};
use super::super::drive::Done;
use super::super::print::summary;
use super::super::publish::Publisher;

/// What a body says now.
struct Meaning {
    /// Events, each with its queue and record.
    events: Vec<(String, Bytes)>,
    /// In words.
    text: String,
    /// Why items are still not understood.
    left: Vec<String>,
}

/// Puts rows through again.
pub struct Retry<'r> {
    pub config: &'r Config,
    pub table: &'r Table,
    pub publisher: Publisher,
    pub dry_run: bool,
}

impl Retry<'_> {
    pub async fn run(&self, row: &Row) -> Result<Done, Error> {
        let Some(bytes) = self.table.bytes(row).await? else {
            return Ok(Done::Left("it was dropped meanwhile".to_owned()));
        };
        let meaning = match self.read(row, bytes) {
            Ok(meaning) => meaning,
            Err(why) => return Ok(Done::Left(why)),
        };
        if !self.dry_run {
            for (queue, record) in &meaning.events {
                self.publisher.publish(&Stage::Write, queue, record).await?;
            }
        }
        if !meaning.left.is_empty() {
            return Ok(Done::Left(format!("{}: {}", row.key, meaning.left.join("; "))));
        }
        if !self.dry_run {
            self.table.mark(row, Mark::Retried(&meaning.text)).await?;
        }
        Ok(Done::Yes(format!("{}: {}", row.key, meaning.text)))
    }

    /// What a row's body says with the source as it is configured now. It is read as if it came in when it came in: its
    /// event keeps the time of its arrival, and is believed or not by that time. It was verified then.
    fn read(&self, row: &Row, aside::Bytes { bytes: body, headers }: aside::Bytes) -> Result<Meaning, String> {
        let name = &row.key;
        let settings = self
            .config
            .sources
            .get(name)
            .ok_or_else(|| format!("there is no source {name:?} in the configuration any more: add it again"))?;
        if settings.provider != row.get("provider") {
            let (now, then) = (&settings.provider, row.get("provider"));
            return Err(format!("source {name} is of provider {now} now, and this body is of {then}"));
        }
        let provider = providers::find(&settings.provider).ok_or("unknown provider")?;
        let source = settings.source(name).map_err(|error| error.to_string())?;
        let headers = quarantine::restore(&headers.into_iter().map(|(n, v)| (n.into(), v.into())).collect());
        let mut meaning = Meaning { events: Vec::new(), text: String::new(), left: Vec::new() };
        let mut texts = Vec::new();
        for item in provider.read(&Delivery { headers: &headers, body: &body }, &source, row.at_ms) {
            match item {
                Item::Event(event) => {
                    texts.push(summary(&event));
                    let queue = self.publisher.queue_of(&Stage::Write, &event);
                    meaning.events.push((queue, Record::event(&event)));
                }
                Item::NoChange => texts.push("no payment change".to_owned()),
                Item::Claim(_) => meaning.left.push("it only names a payment: the provider must be asked".to_owned()),
                Item::Quarantine { reason, .. } => meaning.left.push(reason.into_owned()),
            }
        }
        meaning.text = texts.join("; ");
        Ok(meaning)
    }
}
