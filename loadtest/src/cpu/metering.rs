//! Metering beside a load: once a second, so that a process that ends in between is billed too.

use std::time::Duration;

use platform::config::Config;
use tokio_util::sync::CancellationToken;

use super::Meter;

/// A meter that runs beside the load, from the end of the warm-up until it is stopped.
pub struct Metering {
    enough: CancellationToken,
    task: tokio::task::JoinHandle<Option<Meter>>,
}

impl Metering {
    pub fn start(config: Config, warm_up: Duration) -> Self {
        let enough = CancellationToken::new();
        let until = enough.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            tokio::select! {
                () = tokio::time::sleep(warm_up) => {}
                () = until.cancelled() => return None,
            }
            let mut meter = Meter::new(&config);
            loop {
                tokio::select! {
                    _ = ticks.tick() => meter.sample(),
                    () = until.cancelled() => return Some(meter),
                }
            }
        });
        Self { enough, task }
    }

    /// The meter; none if the warm-up never ended.
    pub async fn stop(self) -> Result<Option<Meter>, tokio::task::JoinError> {
        self.enough.cancel();
        self.task.await
    }
}
