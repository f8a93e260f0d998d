//! `writer dead-letters redrive`: raw records into the queue that they came from.
//!
//! Nothing is lost if it is killed at any point: a row is marked only after RabbitMQ has confirmed its record, and what is
//! published twice is stored and applied once. A record that fails again is the same row with another time, and so it is
//! open again, whether the mark comes before or after.

use domain::frame::Record;
use platform::amqp::Stage;

use super::super::Error;
use super::super::aside::{Mark, Row, Table};
use super::super::drive::Done;
use super::super::publish::Publisher;

/// Puts rows through again.
pub struct Redrive<'r> {
    pub table: &'r Table,
    pub publisher: Publisher,
    pub dry_run: bool,
}

impl Redrive<'_> {
    pub async fn run(&self, row: &Row) -> Result<Done, Error> {
        let Some(stage) = [Stage::Write, Stage::Reconcile].into_iter().find(|stage| stage.as_str() == row.key) else {
            return Ok(Done::Left(format!("this version knows no stage {:?}", row.key)));
        };
        let Some(bytes) = self.table.bytes(row).await? else {
            return Ok(Done::Left("it was dropped meanwhile".to_owned()));
        };
        let record = &bytes.bytes;
        if let Ok(Record::Claim(claim)) = Record::decode(record) {
            let again = format!("post id={} to the gateway's /webhooks/{} instead", claim.id, claim.source);
            return Ok(Done::Left(format!("it is a claim, which only a gateway can settle: {again}")));
        }
        let queue = self.publisher.queue_or(&stage, row.get("queue"), || self.queue_now(&stage, record));
        let text = format!("into {queue}, attempt {}", row.attempts().saturating_add(1));
        if !self.dry_run {
            self.publisher.publish(&stage, &queue, record).await?;
            self.table.mark(row, Mark::Redriven).await?;
        }
        Ok(Done::Yes(text))
    }

    /// Where a record goes that came from no queue of the stage: from the queue of dead frames, from a command, or from
    /// one that there is no longer.
    fn queue_now(&self, stage: &Stage, record: &[u8]) -> String {
        match Record::decode(record) {
            Ok(Record::Event(event)) => self.publisher.queue_of(stage, &event),
            _ => self.publisher.first(stage),
        }
    }
}
