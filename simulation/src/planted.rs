//! Bugs planted on purpose, each in place of a part: the simulation must find them.

use std::sync::Arc;

use platform::amqp::{Batch, Handler};
use platform::retry::Stopped;

use crate::world::World;

/// A bug that Tollgate does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// The writer acknowledges frames before they are stored.
    AckBeforeStore,
    /// The writer does not wait for the confirm of what it hands on.
    AckBeforeConfirm,
    /// The gateway answers before the confirm.
    AnswerBeforeConfirm,
    /// A frame that no queue took is taken for one that is confirmed.
    ReturnIsConfirm,
    /// Rows lie in the day of their arrival, not of their event.
    DayByArrival,
    /// Every delivery counts: amounts are added up instead of folded.
    Increments,
    /// Payments are written whatever version their row has.
    NoVersionCheck,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AckBeforeStore,
        Self::AckBeforeConfirm,
        Self::AnswerBeforeConfirm,
        Self::ReturnIsConfirm,
        Self::DayByArrival,
        Self::Increments,
        Self::NoVersionCheck,
    ];
}

/// Settles batches; with [`Planted::AckBeforeStore`] it says so before it is true.
#[derive(Clone)]
pub struct Early<H> {
    pub handler: H,
    pub world: Arc<World>,
}

impl<H: Handler> Handler for Early<H> {
    async fn settle(&self, batch: Batch) -> Result<(), Stopped> {
        if !self.world.is_planted(Planted::AckBeforeStore) {
            return self.handler.settle(batch).await;
        }
        let handler = self.handler.clone();
        tokio::spawn(async move { handler.settle(batch).await });
        Ok(())
    }
}
