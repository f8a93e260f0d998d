//! Metering the processes behind the configured addresses over a window, also if one is restarted in between.

use std::net::IpAddr;
use std::time::Duration;

use platform::config::Config;
use serde::Serialize;

use super::proc;

/// One line of the bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Whose.
    pub process: String,
    /// CPU seconds of the window; absent if the process is not to be seen from here.
    pub cpu_seconds: Option<f64>,
    /// CPU microseconds for each accepted payment event.
    pub us_per_payment: Option<f64>,
    /// Why there is no figure.
    pub note: Option<String>,
}

/// What the window cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Bill {
    /// Each process.
    pub lines: Vec<Line>,
    /// All of them.
    pub cpu_seconds: f64,
    /// All of them, for each accepted payment event.
    pub us_per_payment: f64,
    /// The whole machine was busy this long, others than the processes above included.
    pub machine_busy_seconds: f64,
    /// The length of the window.
    pub window_seconds: f64,
}

/// Where a process is found.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// This process.
    Own,
    /// A process of this number.
    Process(u32),
    /// Whoever listens on this port of this machine.
    Port(u16),
    /// Another machine, or several processes.
    Elsewhere,
}

struct Metered {
    name: &'static str,
    place: Place,
    /// The process of now, its start and its time at the last sample.
    current: Option<(u32, u64, Duration)>,
    /// Time spent in the window.
    spent: Duration,
    seen: bool,
}

/// Meters from its making on.
pub struct Meter {
    processes: Vec<Metered>,
    busy_before: Duration,
    started: std::time::Instant,
}

impl Meter {
    /// Meters the processes behind the configured addresses.
    pub fn new(config: &Config) -> Self {
        Self::of(&[
            ("generator", Place::Own),
            ("ingest", Place::Port(config.ingest.listen.port())),
            ("rabbitmq", Place::rabbitmq(config)),
            ("writer", Place::Port(config.writer.internal_listen.port())),
            ("cassandra", Place::cassandra(config)),
            ("reconciler", Place::Port(config.reconciler.internal_listen.port())),
            ("postgres", Place::postgres(config)),
        ])
    }

    /// Meters these processes.
    pub fn of(places: &[(&'static str, Place)]) -> Self {
        let processes = places
            .iter()
            .map(|&(name, place)| Metered { name, place, current: None, spent: Duration::ZERO, seen: false })
            .collect();
        let mut meter = Self { processes, busy_before: proc::busy(), started: std::time::Instant::now() };
        meter.sample();
        // What was spent before the window is not in the bill.
        meter.processes.iter_mut().for_each(|process| process.spent = Duration::ZERO);
        meter
    }

    /// Adds what was spent since the last sample. A process that ends between two samples loses what it spent between.
    pub fn sample(&mut self) {
        let all = proc::processes();
        let mut taken: Vec<u32> = Vec::new();
        for process in &mut self.processes {
            let alive = |(pid, started, _): (u32, u64, Duration)| all.get(&pid).is_some_and(|p| p.started == started);
            if !process.current.is_some_and(alive) {
                let pid = match process.place {
                    Place::Own => Some(std::process::id()),
                    Place::Process(pid) => Some(pid),
                    Place::Port(port) => proc::listener(port),
                    Place::Elsewhere => None,
                };
                // A process that came within the window is billed from its start.
                process.current = pid.and_then(|pid| Some((pid, all.get(&pid)?.started, Duration::ZERO)));
            }
            let Some((pid, started, before)) = process.current else { continue };
            process.seen = true;
            let now = if taken.contains(&pid) { None } else { proc::tree_cpu(pid, &all) };
            taken.push(pid);
            if let Some(now) = now {
                process.spent += now.saturating_sub(before);
                process.current = Some((pid, started, now));
            }
        }
    }

    /// Closes the window.
    pub fn bill(mut self, payments: u64) -> Bill {
        self.sample();
        let payments = f64::from(u32::try_from(payments).unwrap_or(u32::MAX));
        let each = |seconds: f64| if payments > 0.0 { seconds * 1e6 / payments } else { 0.0 };
        let own = std::process::id();
        let mut bill = Bill {
            machine_busy_seconds: proc::busy().saturating_sub(self.busy_before).as_secs_f64(),
            window_seconds: self.started.elapsed().as_secs_f64(),
            ..Bill::default()
        };
        for process in &self.processes {
            let shared = !matches!(process.place, Place::Own) && process.current.is_some_and(|(pid, _, _)| pid == own);
            let note = match process.place {
                Place::Elsewhere => Some("on another machine, or of several nodes"),
                _ if shared => Some("in the generator's process"),
                _ if !process.seen => Some("not found, or not to be seen by this user"),
                _ => None,
            };
            let seconds = note.is_none().then_some(process.spent.as_secs_f64());
            bill.cpu_seconds += seconds.unwrap_or(0.0);
            bill.lines.push(Line {
                process: process.name.to_owned(),
                cpu_seconds: seconds,
                us_per_payment: seconds.map(each),
                note: note.map(str::to_owned),
            });
        }
        bill.us_per_payment = each(bill.cpu_seconds);
        bill
    }
}

impl Place {
    /// RabbitMQ of a configuration.
    #[must_use]
    pub fn rabbitmq(config: &Config) -> Self {
        Self::of(config.rabbitmq.url.expose(), 5672)
    }

    /// Cassandra of a configuration.
    #[must_use]
    pub fn cassandra(config: &Config) -> Self {
        Self::of(&config.cassandra.nodes.join(","), 9042)
    }

    /// Postgres of a configuration.
    #[must_use]
    pub fn postgres(config: &Config) -> Self {
        Self::of(config.postgres.url.expose(), 5432)
    }

    /// The port of an address, if it is this machine's and of one node.
    fn of(address: &str, usual_port: u16) -> Self {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host_port.contains(',') {
            return Self::Elsewhere;
        }
        let (host, port) = match host_port.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(usual_port)),
            _ => (host_port, usual_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if loopback { Self::Port(port) } else { Self::Elsewhere }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(address: &str) -> Option<u16> {
        match Place::of(address, 1) {
            Place::Port(port) => Some(port),
            _ => None,
        }
    }

    #[test]
    fn addresses_lead_to_ports_of_this_machine_only() {
        assert_eq!(port("amqp://guest:gu%40est@127.0.0.1:5673/%2f"), Some(5673));
        assert_eq!(port("postgres://tollgate@localhost/tollgate"), Some(1));
        assert_eq!(port("127.0.0.3:9042"), Some(9042));
        assert_eq!(port("[::1]:9042"), Some(9042));
        assert_eq!(port("[::1]"), Some(1));
        assert_eq!(port("amqp://mq.example:5672"), None);
    }
}
