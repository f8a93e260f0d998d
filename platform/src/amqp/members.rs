//! Watches whether the queues that a program publishes to have the copies that its configuration asks for.

use std::time::Duration;

use metrics::{Gauge, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

use super::management::{Members, members};
use super::{Queues, Stage};
use crate::config::RabbitMq;
use crate::telemetry::Readiness;

/// The name in `/readyz`.
const DEPENDENCY: &str = "queue_members";
const ASK_EVERY: Duration = Duration::from_secs(10);
/// As long as all is not well, or not known.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Watches the queues of `stages`, which may be others each time, until `stop`, where `rabbitmq.group_size` is above 1 or a
/// management API is configured. The program is not ready until each queue is known to have as many members as configured, most
/// of them online.
///
/// A question without an answer changes nothing: that nobody answers it does not keep frames from being confirmed.
pub fn watch_members(
    config: &RabbitMq,
    stages: impl Fn() -> Vec<Stage> + Send + 'static,
    readiness: &Readiness,
    stop: &CancellationToken,
) {
    if !config.asks_for_members() {
        return;
    }
    readiness.set(DEPENDENCY, false);
    describe_gauge!(
        "tollgate_queue_members",
        "Nodes with a copy of the queue: wanted by rabbitmq.group_size, there, and known to be online."
    );
    let (config, readiness, stop) = (config.clone(), readiness.clone(), stop.clone());
    tokio::spawn(async move {
        let names = Queues::of(&config);
        let (mut said, mut times) = (String::new(), 0_u64);
        loop {
            let of_stage = |stage: Stage| {
                let names = names.names(&config, &stage);
                names.into_iter().map(|name| (stage.as_str(), name)).collect()
            };
            let queues = stages().into_iter().flat_map::<Vec<_>, _>(of_stage).chain([("dead", names.dead())]);
            let (stages, queues): (Vec<_>, Vec<_>) = queues.unzip();
            let gauges = stages.iter().zip(&queues).map(|(stage, queue)| Gauges::of(stage, queue, config.group_size));
            let answer = members(&config, &queues).await;
            let known = answer.as_ref().map_or(&[][..], Vec::as_slice);
            gauges.enumerate().for_each(|(at, gauges)| gauges.set(known.get(at)));
            let problem = match &answer {
                Ok(all) => {
                    let lacking = lacking(&queues, all, config.group_size.into());
                    readiness.set(DEPENDENCY, lacking.is_empty());
                    lacking
                }
                Err(error) => format!("members of the queues are not known: {error}"),
            };
            times = if said == problem { times + 1 } else { 1 };
            // Not at the first time: at the start the queues may not be there yet.
            if !problem.is_empty() && times == 2 {
                tracing::warn!(problem, "see rabbitmq.group_size and rabbitmq.management_url");
            }
            let pause = if problem.is_empty() { ASK_EVERY } else { ASK_AGAIN };
            said = problem;
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    });
}

/// What keeps a program from being ready, in words; nothing if all is well.
fn lacking(queues: &[String], all: &[Members], wanted: usize) -> String {
    let few = queues.iter().zip(all).filter(|(_, members)| !members.are_enough(wanted));
    let words = few.map(|(queue, Members { all, online })| {
        format!(
            "queue {queue} has {all} members, {online} of them online, of {wanted}: `rabbitmq-queues grow` adds some"
        )
    });
    words.collect::<Vec<_>>().join("; ")
}

/// The metric of one queue.
struct Gauges {
    members: Gauge,
    online: Gauge,
}

impl Gauges {
    fn of(stage: &'static str, queue: &str, wanted: u16) -> Self {
        let of = |state: &'static str| gauge!("tollgate_queue_members", "stage" => stage, "queue" => queue.to_owned(), "state" => state);
        of("wanted").set(f64::from(wanted));
        Self { members: of("there"), online: of("online") }
    }

    fn set(&self, members: Option<&Members>) {
        let number = |count: usize| f64::from(u16::try_from(count).unwrap_or(u16::MAX));
        // Who has a copy is still so when nobody can say it; who is online is not.
        if let Some(members) = members {
            self.members.set(number(members.all));
        }
        self.online.set(members.map_or(0.0, |members| number(members.online)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_queues_that_lack_members_are_told() {
        let queues = ["a".to_owned(), "b".to_owned()];
        let members = |all, online| Members { all, online };
        assert_eq!(lacking(&queues, &[members(3, 2), members(3, 3)], 3), "");
        let text = lacking(&queues, &[members(3, 2), members(1, 1)], 3);
        assert!(
            text.starts_with("queue b has 1 members, 1 of them online, of 3") && !text.contains("queue a"),
            "{text}"
        );
    }
}
