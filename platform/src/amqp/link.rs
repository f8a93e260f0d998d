//! The publishing side's connection: kept open in the background, asked for by those who have something to publish.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lapin::{Channel, Connection};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::nodes::Nodes;
use super::publish::PublishError;
use super::refusals::Refusals;
use super::topology::confirming;
use super::{STEADY_AFTER, Stage, explain};
use crate::config::RabbitMq;
use crate::retry::Backoff;
use crate::telemetry::Readiness;

/// A handle to the publishing connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    open: watch::Receiver<Option<Arc<Open>>>,
    suspect: Arc<Notify>,
    refusals: Arc<Mutex<Refusals>>,
}

#[derive(Debug)]
pub(super) struct Open {
    connection: Connection,
    /// Closed with the connection, or by an error.
    first: Channel,
    /// Those on which nothing is under way.
    idle: Mutex<Vec<Channel>>,
}

/// A channel for one frame. RabbitMQ does not say which of several unconfirmed messages came back, only that one did, before
/// the acknowledgements: so a channel never has more than one.
pub(super) struct Lease {
    open: Arc<Open>,
    channel: Channel,
}

impl Lease {
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What was sent has been confirmed, so that the channel may be used again. Without this it is closed.
    pub(super) fn settled(self) {
        self.open.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.channel);
    }
}

impl Link {
    /// Starts keeping a connection to publish to `stage`, whose queues it declares, until `stop`.
    #[must_use]
    pub fn open(config: RabbitMq, name: String, stage: Stage, readiness: Readiness, stop: CancellationToken) -> Self {
        let (sender, open) = watch::channel(None);
        let suspect = Arc::new(Notify::new());
        tokio::spawn(keep(config, name, stage, readiness, sender, Arc::clone(&suspect), stop));
        Self { open, suspect, refusals: Arc::default() }
    }

    /// The connection, if one can publish on it right now.
    pub(super) fn usable(&self) -> Result<Arc<Open>, PublishError> {
        let open = self.open.borrow();
        let open = open.as_ref().ok_or(PublishError::Disconnected)?;
        match open.connection.status() {
            status if status.blocked() => Err(PublishError::Blocked),
            status if status.connected() => Ok(Arc::clone(open)),
            _ => Err(PublishError::Disconnected),
        }
    }

    /// A channel on which nothing is under way.
    pub(super) async fn lease(&self) -> Result<Lease, PublishError> {
        let open = self.usable()?;
        let idle = open.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let channel = match idle {
            Some(channel) => channel,
            None => confirming(&open.connection).await.map_err(|_| PublishError::Disconnected)?,
        };
        Ok(Lease { open, channel })
    }

    /// Waits until one can publish.
    pub async fn ready(&self) {
        let mut open = self.open.clone();
        while self.usable().is_err() {
            // A blocked connection is unblocked without a change of the watched value.
            let _timeout = tokio::time::timeout(Duration::from_millis(100), open.changed()).await;
        }
    }

    /// Notes that a queue has taken a frame.
    pub(super) fn taken(&self, queue: &str) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).taken(queue);
    }

    /// Notes that a queue has refused a frame; when it refuses all of them, the connection is given up.
    pub(super) fn refused(&self, queue: &str) {
        if self.refusals.lock().unwrap_or_else(PoisonError::into_inner).refused(queue, Instant::now()) {
            self.give_up();
        }
    }

    /// Gives the connection up: nothing on it can be trusted to come.
    pub fn give_up(&self) {
        self.suspect.notify_one();
    }
}

async fn keep(
    config: RabbitMq,
    name: String,
    stage: Stage,
    readiness: Readiness,
    sender: watch::Sender<Option<Arc<Open>>>,
    suspect: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::for_services();
    let mut nodes = Nodes::of(&config);
    while !stop.is_cancelled() {
        let Some(opened) = stop.run_until_cancelled(nodes.open(&config, &name, &stage)).await else { return };
        match opened {
            Ok((connection, channel)) => {
                tracing::info!(name, "connected to rabbitmq");
                let opened = Instant::now();
                let idle = Mutex::new(vec![channel.clone()]);
                let open = Arc::new(Open { connection, first: channel, idle });
                // Whoever gave a connection up meant an earlier one.
                let _earlier = suspect.notified().now_or_never();
                sender.send_replace(Some(Arc::clone(&open)));
                watch_over(&open, &readiness, &suspect, &stop).await;
                sender.send_replace(None);
                readiness.set("rabbitmq", false);
                let _closing =
                    tokio::time::timeout(Duration::from_secs(1), open.connection.close(200, "bye".into())).await;
                if opened.elapsed() > STEADY_AFTER {
                    backoff = Backoff::for_services();
                }
            }
            Err(error) => tracing::warn!(error = explain(&error), name, "cannot use rabbitmq; trying again"),
        }
        if backoff.pause(&stop).await.is_err() {
            return;
        }
    }
}

/// Returns when the connection is not to be used any longer.
async fn watch_over(open: &Open, readiness: &Readiness, suspect: &Notify, stop: &CancellationToken) {
    loop {
        let usable = open.connection.status().connected() && open.first.status().connected();
        if !usable {
            tracing::warn!("connection to rabbitmq lost");
            return;
        }
        readiness.set("rabbitmq", !open.connection.status().blocked());
        tokio::select! {
            () = stop.cancelled() => return,
            () = suspect.notified() => {
                tracing::warn!("a confirm that did not come, a frame that came back, or only refusals; giving the connection to rabbitmq up");
                return;
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}
