//! Whether the system is itself again: every program is ready, webhooks are acknowledged, events are applied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use platform::inquiry::get;

use super::faults::Target;
use super::world::World;
use crate::client::Counters;

/// Who takes longer is stuck.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A program answers at once or not at all.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// New acknowledgements that show that they flow.
const ACKNOWLEDGED: u64 = 20;
const APPLIED: &str = "tollgate_reconciler_events_total{outcome=\"applied\"} ";

/// Waits until it has recovered from what ended at `since`; how long that took.
///
/// # Errors
/// What is missing when it takes too long, in words.
pub async fn wait(world: &World, counters: &Arc<Counters>, since: Instant) -> Result<Duration, String> {
    let before = Counters::read(&counters.acknowledged);
    let mut applied = None;
    loop {
        let missing = match look(world).await {
            Err(missing) => missing,
            Ok(now) => {
                // A restarted program counts from zero.
                let first = *applied.get_or_insert(now);
                applied = Some(first.min(now));
                let acknowledged = Counters::read(&counters.acknowledged) - before;
                match (acknowledged >= ACKNOWLEDGED, now > first) {
                    (true, true) => return Ok(since.elapsed()),
                    (false, _) => format!("{acknowledged} webhooks were acknowledged since the end of the fault"),
                    (true, false) => "nothing is applied".to_owned(),
                }
            }
        };
        if since.elapsed() > RECOVERED_WITHIN {
            return Err(format!("not recovered within {} s: {missing}", RECOVERED_WITHIN.as_secs()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The events that the reconciler has applied, if every program is ready; else what is missing.
pub async fn look(world: &World) -> Result<f64, String> {
    for (program, listener) in world.listeners() {
        let name = program.as_str();
        let answer = get(&listener.to_string(), "/readyz", ANSWERED_WITHIN).await.map_err(|error| {
            match world.runs(program) {
                true => format!("{name} does not answer: {error}"),
                false => format!("{name} has ended"),
            }
        })?;
        if answer.status != 200 {
            return Err(format!("{name} is not ready: {} {}", answer.status, answer.body.trim()));
        }
    }
    let reconciler = world.listeners().into_iter().find(|(program, _)| *program == Target::Reconciler);
    let (_, listener) = reconciler.ok_or("there is no reconciler")?;
    let metrics = get(&listener.to_string(), "/metrics", ANSWERED_WITHIN).await;
    let metrics = metrics.map_err(|error| format!("no metrics: {error}"))?;
    let applied = metrics.body.lines().find_map(|line| line.strip_prefix(APPLIED)?.trim().parse().ok());
    applied.ok_or_else(|| "the reconciler does not count what it applies".to_owned())
}
