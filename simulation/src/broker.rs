//! A model of RabbitMQ's quorum queues: what is confirmed is kept, what is not acknowledged is delivered again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use domain::frame::{Frame, Record};
use platform::amqp::{Queues, Stage};
use platform::config::Config;

use crate::seeded::Seeded;
use crate::story::{EventKey, key_of};
use crate::world::{World, digest, locked};

/// A message of a queue.
#[derive(Debug)]
pub struct Message {
    pub frame: Vec<u8>,
    /// Times that it came back from a consumer.
    returns: i32,
}

#[derive(Debug, Default)]
struct Consumer {
    queue: String,
    /// Delivered and not acknowledged, with their tags; those behind `handed` still wait at the consumer.
    unacked: VecDeque<(u64, Message)>,
    handed: usize,
    tag: u64,
    prefetch: usize,
    cancelled: bool,
}

/// What a consumer finds.
pub enum Next {
    Frame(u64, Vec<u8>),
    Nothing,
    Closed,
}

/// All queues.
pub struct Broker {
    queues: BTreeMap<String, VecDeque<Message>>,
    consumers: BTreeMap<u64, Consumer>,
    dead: String,
    delivery_limit: i32,
    numbers: u64,
    /// Digests of the records that a queue has taken at any time, by queue's stage.
    taken: BTreeSet<(&'static str, u64)>,
    /// Digests of records whose frames were returned too often.
    pub limit_reached: BTreeSet<EventKey>,
    /// Full, as long as this is set.
    pub full: bool,
    /// The queues of a stage cannot be reached, as long as this is set.
    pub unroutable: bool,
}

impl Broker {
    pub fn new(config: &Config) -> Self {
        let names = Queues::of(&config.rabbitmq);
        let stages = [Stage::Write, Stage::Reconcile];
        let of_stages = stages.iter().flat_map(|stage| names.names(&config.rabbitmq, stage));
        let mut queues: BTreeMap<_, _> = of_stages.map(|name| (name, VecDeque::new())).collect();
        queues.insert(names.dead(), VecDeque::new());
        Self {
            queues,
            consumers: BTreeMap::new(),
            dead: names.dead(),
            delivery_limit: config.rabbitmq.delivery_limit,
            numbers: 0,
            taken: BTreeSet::new(),
            limit_reached: BTreeSet::new(),
            full: false,
            unroutable: false,
        }
    }

    /// Takes a frame durably; false where there is no such queue.
    pub fn publish(&mut self, queue: &str, frame: Vec<u8>) -> bool {
        let Some(messages) = self.queues.get_mut(queue) else { return false };
        let stage = stage_of(queue);
        self.taken.extend(records(&frame).map(|raw| (stage, digest(raw))));
        messages.push_back(Message { frame, returns: 0 });
        true
    }

    /// Whether the queues of a stage have taken this record at any time.
    pub fn has_taken(&self, stage: &'static str, raw: &[u8]) -> bool {
        self.taken.contains(&(stage, digest(raw)))
    }

    pub fn subscribe(&mut self, queue: &str, prefetch: u16) -> u64 {
        self.numbers += 1;
        let consumer = Consumer { queue: queue.to_owned(), prefetch: prefetch.into(), ..Consumer::default() };
        self.consumers.insert(self.numbers, consumer);
        self.numbers
    }

    pub fn next(&mut self, id: u64) -> Next {
        let Some(consumer) = self.consumers.get_mut(&id) else { return Next::Closed };
        if let Some(ready) = self.queues.get_mut(&consumer.queue).filter(|_| !consumer.cancelled) {
            while consumer.unacked.len() < consumer.prefetch
                && let Some(message) = ready.pop_front()
            {
                consumer.tag += 1;
                consumer.unacked.push_back((consumer.tag, message));
            }
        }
        match consumer.unacked.get(consumer.handed) {
            Some((tag, message)) => {
                consumer.handed += 1;
                Next::Frame(*tag, message.frame.clone())
            }
            None => Next::Nothing,
        }
    }

    /// Acknowledges; returns the messages that are gone, or none where the connection is not there any more.
    pub fn ack_up_to(&mut self, id: u64, tag: u64) -> Option<Vec<Message>> {
        let consumer = self.consumers.get_mut(&id)?;
        let count = consumer.unacked.iter().take_while(|(of, _)| *of <= tag).count();
        consumer.handed -= count;
        Some(consumer.unacked.drain(..count).map(|(_, message)| message).collect())
    }

    pub fn cancel(&mut self, id: u64) -> bool {
        self.consumers.get_mut(&id).map(|consumer| consumer.cancelled = true).is_some()
    }

    /// Ends a consumer: what it has not acknowledged is delivered again, mostly in its old place.
    pub fn close(&mut self, id: u64, seeded: &mut Seeded) {
        let Some(consumer) = self.consumers.remove(&id) else { return };
        for (_, mut message) in consumer.unacked.into_iter().rev() {
            message.returns += 1;
            if message.returns > self.delivery_limit && consumer.queue != self.dead {
                self.limit_reached.extend(records(&message.frame).filter_map(key_of_raw));
                message.returns = 0;
                self.queues.entry(self.dead.clone()).or_default().push_back(message);
                continue;
            }
            let ready = self.queues.entry(consumer.queue.clone()).or_default();
            let place = if seeded.per_mille(300) { seeded.index(ready.len() + 1) } else { 0 };
            ready.insert(place, message);
        }
    }

    /// Ends the connections of consumers chosen by the seed.
    pub fn close_some(&mut self, seeded: &mut Seeded) {
        let chosen: Vec<u64> = self.consumers.keys().copied().filter(|_| seeded.per_mille(500)).collect();
        chosen.into_iter().for_each(|id| self.close(id, seeded));
    }

    pub fn is_empty(&self) -> bool {
        self.queues.values().all(VecDeque::is_empty) && self.consumers.values().all(|c| c.unacked.is_empty())
    }
}

/// `write`, `reconcile`, or `dead`.
pub fn stage_of(queue: &str) -> &'static str {
    match queue {
        _ if queue.contains(".write.") => "write",
        _ if queue.contains(".reconcile.") => "reconcile",
        _ => "dead",
    }
}

/// The raw records of a frame; what is no frame has none.
pub fn records(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    Frame::parse(frame).ok().into_iter().flat_map(|frame| frame.records())
}

fn key_of_raw(raw: &[u8]) -> Option<EventKey> {
    match Record::decode(raw) {
        Ok(Record::Event(event)) => Some(key_of(&event)),
        _ => None,
    }
}

impl World {
    /// An acknowledgement has arrived: each record of these frames must be in its place by now.
    pub fn check_acknowledged(&self, queue: &str, messages: &[Message]) {
        for raw in messages.iter().flat_map(|message| records(&message.frame)) {
            let settled = match (stage_of(queue), key_of_raw(raw)) {
                (_, _) if locked(&self.cassandra).is_dead_letter(raw) => true,
                ("write", Some(key)) => {
                    locked(&self.cassandra).has(key) && locked(&self.broker).has_taken("reconcile", raw)
                }
                ("reconcile", Some(key)) => locked(&self.postgres).has(key),
                ("write", None) => locked(&self.cassandra).is_quarantined(raw),
                _ => false,
            };
            if !settled {
                self.violate(|| format!("{queue}: a frame was acknowledged whose record is nowhere else"));
            }
        }
    }
}
