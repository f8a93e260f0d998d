//! Several nodes of RabbitMQ and Cassandra: which one is used, whether queues have the copies that they should, and a
//! cluster of three of each (`cargo stack --cluster up`) of which nodes are killed under load.
//!
//! `cargo test --release -p it -- --ignored --nocapture nodes::` does the last: it starts the cluster if it does not run and
//! leaves it running. It takes about ten minutes, so `cargo verify` does not run it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use it::{Running, event_body, eventually, free_ports, own_setup, send, services_mine, services_up, within};
use loadtest::Report;
use platform::config::{self, Config};
use stack::{Endpoints, Service, Stack};

use crate::faults::{Programs, check};
use crate::support::ready;

const RATE: u32 = 150;
/// Of one round: a node dies, is away for a while, and comes back, all under load.
const SECONDS: u32 = 50;
const KILLED_AFTER: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(12);
/// Providers may be told to come again for so long, no longer: a cluster that loses a node goes on by itself.
const GAP_MAX: Duration = Duration::from_secs(10);
/// Until a node that is back has what it missed, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(240);

/// A gateway with these variables, and its configuration.
fn gateway(name: &str, variables: &[(&str, String)]) -> Result<(Running, Config)> {
    let mut setup = own_setup(name, "")?;
    setup.variables.extend(variables.iter().map(|(key, value)| (format!("TOLLGATE_RABBITMQ_{key}"), value.clone())));
    let config = config::parse("test", &setup.text, &setup.variables)?;
    Ok((Running::ingest(config.clone()), config))
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_of_fewer_members_than_configured_take_frames_but_the_gateway_is_not_ready() -> Result<()> {
    let _services = services_up().await;
    let management = Stack::open()?.endpoints()?.rabbitmq_management_url.replace("//", "//guest:guest@");
    for (size, state, status) in [("1", true, 200), ("3", false, 503)] {
        let variables = [("GROUP_SIZE", size.to_owned()), ("MANAGEMENT_URL", management.clone())];
        let (running, config) = gateway("lonely", &variables)?;
        eventually("known", async || {
            let text = send(config.ingest.internal_listen, "GET", "/metrics", &[], b"").await?.body;
            for (state, value) in [("wanted", size), ("there", "1"), ("online", "1")] {
                let series = text.lines().filter(|line| line.starts_with("tollgate_queue_members"));
                let mut series =
                    series.filter(|line| line.contains(&config.rabbitmq.queue_prefix) && line.contains(state));
                ensure!(series.clone().count() == 2, "{state}: {text}");
                ensure!(series.all(|line| line.ends_with(&format!(" {value}"))), "{state}: {text}");
            }
            Ok(())
        })
        .await?;
        let answer = eventually("connected", async || {
            let answer = send(config.ingest.internal_listen, "GET", "/readyz", &[], b"").await?;
            ensure!(answer.body.contains("\"rabbitmq\":true"), "{}", answer.body);
            ensure!(answer.body.contains(&format!("\"queue_members\":{state}")), "{size}: {answer:?}");
            ensure!(answer.status == status, "{size}: {answer:?}");
            Ok(())
        });
        answer.await?;
        let posted =
            it::post(config.ingest.listen, "m1", &event_body("payment.captured", "p", Some("o"), 1, "c")).await?;
        ensure!(posted.status == 200, "{size}: {posted:?}");
        running.stop().await?;
        delete_queues(&config).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_away_or_say_nothing_cost_a_try_each() -> Result<()> {
    let _services = services_up().await;
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let [closed] = free_ports()?;
    let own = Stack::open()?.endpoints()?.rabbitmq_url;
    let url = own.replace('@', &format!("@{},{closed},", mute.local_addr()?));
    // Where it begins is drawn: some begin with each.
    for _ in 0..6 {
        let (running, config) = gateway("thirds", &[("URL", url.clone())])?;
        within(Duration::from_secs(10), "it takes webhooks", async || {
            let body = event_body("payment.captured", "p", Some("o"), 1, "c");
            let posted = it::post(config.ingest.listen, "m1", &body).await?;
            ensure!(posted.status == 200, "{posted:?}");
            Ok(())
        })
        .await?;
        running.stop().await?;
        delete_queues(&config).await?;
    }
    Ok(())
}

async fn delete_queues(config: &Config) -> Result<()> {
    let connection = platform::amqp::connect(&config.rabbitmq, "test").await?;
    let channel = connection.create_channel().await?;
    for queue in ["write.0", "dead"] {
        let queue = format!("{}.{queue}", config.rabbitmq.queue_prefix);
        channel.queue_delete(queue.as_str().into(), Default::default()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes, and a cluster: cargo test --release -p it -- --ignored nodes::"]
async fn a_node_of_each_kind_may_die_at_any_time() -> Result<()> {
    let _services = services_mine().await;
    let endpoints = stack(|stack| stack.up(stack.services()))?;
    ensure!(
        endpoints.own_rabbitmq && endpoints.own_cassandra && endpoints.nodes == 3,
        "addresses of other services are set: unset TOLLGATE_RABBITMQ_URL and TOLLGATE_CASSANDRA_NODES"
    );
    let mut setup = own_setup("nodes", "")?;
    setup.variables.extend(endpoints.env());
    setup.config = config::parse("test", &setup.text, &setup.variables)?;
    let programs = Programs::start_as(setup).await?;
    wait_whole(&programs, &endpoints).await?;

    let one_by_one = Service::RABBITMQ.into_iter().chain(Service::CASSANDRA).map(|node| vec![node]);
    let both = [vec![Service::Rabbitmq2, Service::Cassandra3]];
    let mut table =
        "killed | longest time without an accepted webhook | 5xx | time to 2xx p50, p99 | backlog gone after"
            .to_owned();
    for nodes in one_by_one.chain(both) {
        let (gap, report) = without(&programs, &endpoints, &nodes).await?;
        let names: Vec<&str> = nodes.iter().map(|node| node.name()).collect();
        table.push_str(&format!(
            "\n{} | {:.1} s | {} | {:.1} ms, {:.0} ms | {:.1} s",
            names.join(" and "),
            gap.as_secs_f64(),
            report.refused_5xx,
            report.latency.p50_ms,
            report.latency.p99_ms,
            report.drained_after_seconds.unwrap_or(f64::NAN)
        ));
        println!("{table}");
        ensure!(gap < GAP_MAX, "nothing was accepted for {gap:?} when {names:?} died");
    }
    programs.clean().await
}

/// One round of load in which these nodes die and come back.
async fn without(programs: &Programs, endpoints: &Endpoints, nodes: &[Service]) -> Result<(Duration, Report)> {
    let internal = programs.config().ingest.internal_listen;
    let gap = tokio::spawn(longest_gap(internal, Instant::now() + Duration::from_secs(SECONDS.into())));
    let load = programs.load_at(RATE, SECONDS);
    tokio::time::sleep(KILLED_AFTER).await;
    for node in nodes {
        stack(|stack| stack.kill(*node))?;
    }
    if nodes.iter().any(|node| node.first_node() == Service::Rabbitmq) {
        within(PATIENCE, "a member is missed", async || members(programs, 2).await).await?;
    }
    tokio::time::sleep(AWAY).await;
    // One of three away is no reason to take the gateways out of service.
    ready(internal).await?;
    for node in nodes {
        stack(|stack| stack.start(*node))?;
    }
    let report = load.await??;
    check(&report)?;
    wait_whole(programs, endpoints).await?;
    Ok((gap.await?, report))
}

/// Waits until every node is a member again of everything that it was a member of.
async fn wait_whole(programs: &Programs, endpoints: &Endpoints) -> Result<()> {
    within(PATIENCE, "all members of all queues", async || members(programs, 3).await).await?;
    within(PATIENCE, "all Cassandra nodes", async || {
        for node in &endpoints.cassandra_metrics {
            let text = send(node.parse()?, "GET", "/metrics", &[], b"").await?.body;
            let up = text.lines().find(|line| line.starts_with("cassandra_nodes{state=\"Up\"")).unwrap_or_default();
            ensure!(up.ends_with(" 3.0"), "{node}: {up:?}");
        }
        Ok(())
    })
    .await
}

/// Whether gateway and writer say that each queue has three members of which so many are online.
async fn members(programs: &Programs, online: usize) -> Result<()> {
    let config = programs.config();
    for program in [config.ingest.internal_listen, config.writer.internal_listen] {
        let text = send(program, "GET", "/metrics", &[], b"").await?.body;
        for (state, wanted) in [("there", 3), ("online", online)] {
            let values: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with("tollgate_queue_members") && line.contains(&format!("\"{state}\"")))
                .filter_map(|line| line.rsplit_once(' ').map(|(_, value)| value))
                .collect();
            let wanted = wanted.to_string();
            ensure!(values.len() == 2 && values.iter().all(|value| *value == wanted), "{state}: {values:?}");
        }
    }
    Ok(())
}

/// The longest time up to `end` in which the gateway accepted nothing, of twenty looks a second.
async fn longest_gap(gateway: SocketAddr, end: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    let (mut last, mut since) = (accepted(gateway).await.unwrap_or(0), None::<Instant>);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = accepted(gateway).await.unwrap_or(last);
        longest = longest.max(since.map_or(Duration::ZERO, |since| since.elapsed()));
        if now != last {
            // It begins with the first accepted webhook.
            (last, since) = (now, Some(Instant::now()));
        }
    }
    longest
}

async fn accepted(gateway: SocketAddr) -> Result<u64> {
    let text = send(gateway, "GET", "/metrics", &[], b"").await?.body;
    let lines = text.lines().filter(|line| line.starts_with("tollgate_ingest_requests_total{"));
    let accepted = lines.filter(|line| line.contains("outcome=\"accepted\""));
    accepted.map(|line| Ok(line.rsplit_once(' ').context("no value")?.1.parse::<u64>()?)).sum()
}

fn stack<T>(act: impl FnOnce(&Stack) -> Result<T>) -> Result<T> {
    tokio::task::block_in_place(|| act(&Stack::open_cluster()?))
}
