//! Waits for conditions with a deadline, and knows which condition is whose health.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::endpoints::{host_port, host_ports};
use crate::layout::Layout;
use crate::ports::Ports;
use crate::tls::Tls;
use crate::{Service, cassandra, health, postgres, prometheus, rabbitmq, sys};

const BETWEEN_CHECKS: Duration = Duration::from_millis(100);

/// An end to waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    within: Duration,
    heeds_interrupts: bool,
}

impl Deadline {
    /// From now. A caught Ctrl-C ends the waiting too.
    #[must_use]
    pub fn within(within: Duration) -> Self {
        Self { start: Instant::now(), within, heeds_interrupts: true }
    }

    /// From now, whatever signal arrives: for cleaning up.
    #[must_use]
    pub fn deaf(within: Duration) -> Self {
        Self { heeds_interrupts: false, ..Self::within(within) }
    }
}

/// Tries `check` again and again until it succeeds.
///
/// # Errors
/// The last error of `check` when time is up.
pub fn until(deadline: &Deadline, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        let Err(error) = check() else { return Ok(()) };
        if deadline.heeds_interrupts && sys::interrupted() {
            bail!("interrupted");
        }
        if deadline.start.elapsed() >= deadline.within {
            return Err(error).with_context(|| format!("not so within {} s", deadline.within.as_secs()));
        }
        thread::sleep(BETWEEN_CHECKS);
    }
}

/// Whether a service of our own does its work.
///
/// # Errors
/// When not, with the reason.
pub fn healthy(service: Service, layout: &Layout, ports: &Ports) -> Result<()> {
    if let Some(tls) = Tls::of(layout) {
        return encrypted(&tls, service, ports);
    }
    match service.first_node() {
        Service::Rabbitmq => rabbitmq::health(ports, service),
        Service::Cassandra => cassandra::health(ports, service),
        Service::Postgres => postgres::health(ports),
        _ => prometheus::health(ports),
    }
}

/// Whether a service of a stack with TLS does its work, as far as it says so without one.
fn encrypted(tls: &Tls, service: Service, ports: &Ports) -> Result<()> {
    let address = |port: u16| format!("127.0.0.1:{port}");
    match service.first_node() {
        Service::Rabbitmq => {
            health::tcp(&address(ports.amqp))?;
            // By its password: another broker that has just taken these ports is none of ours.
            let management = address(ports.rabbitmq_management);
            health::http(&management, "/api/health/checks/virtual-hosts", Some(&tls.authorization()?))
        }
        Service::Cassandra => health::tcp(&address(ports.cql)),
        Service::Postgres => postgres::accepts(ports),
        _ => prometheus::health(ports),
    }
}

/// Whether a service at a given address answers, of several nodes any; behind TLS only whether something accepts
/// connections.
///
/// # Errors
/// When not, with the reason.
pub fn answers(service: Service, address: &str) -> Result<()> {
    match service.first_node() {
        Service::Rabbitmq if address.starts_with("amqps:") => any(&host_ports(address, 5671), health::tcp),
        Service::Rabbitmq => any(&host_ports(address, 5672), health::amqp),
        Service::Cassandra => any(&host_ports(address, 9042), health::cql),
        Service::Postgres => health::postgres_answers(&host_port(address, 5432)),
        _ if address.starts_with("https:") => health::tcp(&host_port(address, 443)),
        _ => health::http(&host_port(address, 9090), "/-/ready", None),
    }
}

/// Whether one of the nodes answers; else what the last one says.
fn any(nodes: &[String], answers: impl Fn(&str) -> Result<()>) -> Result<()> {
    let mut last = Ok(());
    for node in nodes {
        last = answers(node);
        if last.is_ok() {
            break;
        }
    }
    last
}
