//! The model broker behind the traits that programs use it by: an outlet to publish through, deliveries to consume.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::Confirmation;
use lapin::message::{BasicReturnMessage, Delivery};
use platform::amqp::{Deliveries, Outlet, PublishError};
use tokio::sync::Notify;

use crate::broker::{Next, stage_of};
use crate::faults::Fault;
use crate::planted::Planted;
use crate::world::{World, locked};

/// Longer than any confirm is waited for.
const NO_ANSWER: Duration = Duration::from_secs(60);

/// A program's publishing connection.
#[derive(Clone)]
pub struct SimOutlet {
    world: Arc<World>,
    connection: Arc<Connection>,
    /// Frames that may be on their way to one queue at once.
    in_flight_max: usize,
}

#[derive(Default)]
struct Connection {
    down: AtomicBool,
    lost: Notify,
    in_flight: Mutex<BTreeMap<String, usize>>,
}

/// Counts a frame that is on its way.
struct InFlight<'a>(&'a SimOutlet, &'a str);

impl<'a> InFlight<'a> {
    fn of(outlet: &'a SimOutlet, queue: &'a str) -> Self {
        let mut in_flight = locked(&outlet.connection.in_flight);
        let count = in_flight.entry(queue.to_owned()).or_default();
        *count += 1;
        if *count > outlet.in_flight_max {
            outlet.world.violate(|| format!("{count} frames are on their way to {queue} at once"));
        }
        Self(outlet, queue)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        locked(&self.0.connection.in_flight).entry(self.1.to_owned()).and_modify(|count| *count -= 1);
    }
}

impl SimOutlet {
    pub fn new(world: &Arc<World>, in_flight_max: usize) -> Self {
        Self { world: Arc::clone(world), connection: Arc::default(), in_flight_max }
    }

    /// Takes the connection away for a while.
    pub fn lose(&self) {
        if self.connection.down.swap(true, Ordering::Relaxed) {
            return;
        }
        self.connection.lost.notify_waiters();
        let (world, connection) = (Arc::clone(&self.world), Arc::clone(&self.connection));
        tokio::spawn(async move {
            let pause = world.seeded().millis(50, 500);
            tokio::time::sleep(pause).await;
            connection.down.store(false, Ordering::Relaxed);
        });
    }

    async fn confirmed(&self, queue: &str, frame: &[u8]) -> Option<Confirmation> {
        let (queue, frame) = (queue.to_owned(), frame.to_vec());
        self.world.call(NO_ANSWER, move |world, _| async move { take(&world, &queue, frame) }).await
    }
}

/// What the broker does with a frame.
fn take(world: &World, queue: &str, frame: Vec<u8>) -> Confirmation {
    let stage = stage_of(queue);
    if frame.len() > world.config.rabbitmq.frame_bytes_max && crate::broker::records(&frame).count() > 1 {
        world.violate(|| format!("a frame of {} bytes was published to {queue}", frame.len()));
    }
    if stage == "reconcile" {
        world.check_stored(&frame);
    }
    let unroutable = world.suffers(Fault::Returned) || locked(&world.broker).unroutable;
    let refused = world.suffers(Fault::Nacked) || locked(&world.broker).full;
    if !unroutable && !refused && locked(&world.broker).publish(queue, frame) {
        world.note(|| format!("{queue}: frame taken"));
        world.delivered.notify_waiters();
        return Confirmation::Ack(None);
    }
    world.note(|| format!("{queue}: frame {}", if unroutable { "returned" } else { "refused" }));
    if refused && !unroutable {
        return Confirmation::Nack(None);
    }
    let delivery = Delivery::mock(0, "".into(), queue.into(), false, Vec::new());
    Confirmation::Ack(Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() }))
}

impl Outlet for SimOutlet {
    fn check(&self) -> Result<(), PublishError> {
        if self.connection.down.load(Ordering::Relaxed) { Err(PublishError::Disconnected) } else { Ok(()) }
    }

    async fn send(&self, queue: &str, frame: &[u8]) -> Result<Confirmation, PublishError> {
        self.check()?;
        let _in_flight = InFlight::of(self, queue);
        let lost = self.connection.lost.notified();
        let early = match stage_of(queue) {
            "write" => Planted::AnswerBeforeConfirm,
            _ => Planted::AckBeforeConfirm,
        };
        if self.world.is_planted(early) {
            let (outlet, queue, frame) = (self.clone(), queue.to_owned(), frame.to_vec());
            tokio::spawn(async move { outlet.confirmed(&queue, &frame).await });
            return Ok(Confirmation::Ack(None));
        }
        let confirmation = tokio::select! {
            biased;
            confirmation = self.confirmed(queue, frame) => confirmation.ok_or(PublishError::Disconnected)?,
            () = lost => return Err(PublishError::Disconnected),
        };
        match confirmation {
            Confirmation::Ack(Some(_)) if self.world.is_planted(Planted::ReturnIsConfirm) => {
                Ok(Confirmation::Ack(None))
            }
            confirmation => Ok(confirmation),
        }
    }

    fn give_up(&self) {
        self.world.note(|| "no confirm in time".to_owned());
        self.lose();
    }
}

/// A consumer of one queue.
pub struct SimDeliveries {
    world: Arc<World>,
    queue: String,
    id: u64,
}

fn closed() -> lapin::Error {
    io::Error::other("closed").into()
}

impl SimDeliveries {
    pub fn subscribe(world: &Arc<World>, queue: &str, prefetch: u16) -> Self {
        let id = locked(&world.broker).subscribe(queue, prefetch);
        Self { world: Arc::clone(world), queue: queue.to_owned(), id }
    }

    fn close(&self) {
        let world = &self.world;
        locked(&world.broker).close(self.id, &mut world.seeded());
        world.delivered.notify_waiters();
    }
}

impl Drop for SimDeliveries {
    fn drop(&mut self) {
        self.close();
    }
}

impl Deliveries for SimDeliveries {
    fn queue(&self) -> &str {
        &self.queue
    }

    async fn next(&mut self) -> lapin::Result<(u64, Vec<u8>)> {
        loop {
            let delivered = self.world.delivered.notified();
            match locked(&self.world.broker).next(self.id) {
                Next::Frame(tag, frame) => {
                    self.world.note(|| format!("{}: frame delivered with tag {tag}", self.queue));
                    return Ok((tag, frame));
                }
                Next::Closed => return Err(closed()),
                Next::Nothing => {}
            }
            delivered.await;
        }
    }

    async fn ack_up_to(&mut self, tag: u64) -> lapin::Result<()> {
        if self.world.suffers(Fault::AckLost) {
            self.close();
            return Ok(());
        }
        let acknowledged = locked(&self.world.broker).ack_up_to(self.id, tag).ok_or_else(closed)?;
        self.world.note(|| format!("{}: acknowledged up to tag {tag}", self.queue));
        self.world.check_acknowledged(&self.queue, &acknowledged);
        Ok(())
    }

    async fn cancel(&mut self) -> lapin::Result<()> {
        let open = locked(&self.world.broker).cancel(self.id);
        if open { Ok(()) } else { Err(closed()) }
    }
}
