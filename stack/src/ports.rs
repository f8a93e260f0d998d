//! Chooses the ports of the services: the usual ones, or the next free ones where those are taken.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::Service;

/// How far above its usual number a port is looked for. Ports stay below 32768, where outgoing connections begin.
const SEARCH: u16 = 500;
/// How far from the usual ports those of [`Ports::apart`] are.
const APART: u16 = 6000;

/// The loopback port of each listener, and of how many nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// Whether RabbitMQ and Cassandra have three nodes each, with these ports at [`Service::host`].
    pub cluster: bool,
    /// RabbitMQ: AMQP 0-9-1.
    pub amqp: u16,
    /// RabbitMQ: management API.
    pub rabbitmq_management: u16,
    /// RabbitMQ: metrics for Prometheus.
    pub rabbitmq_metrics: u16,
    /// RabbitMQ: distribution, between Erlang nodes.
    pub erlang_distribution: u16,
    /// The same of the second node: all nodes of one host name have ports of their own.
    pub erlang_distribution_2: u16,
    /// The same of the third node.
    pub erlang_distribution_3: u16,
    /// RabbitMQ: the Erlang port mapper.
    pub epmd: u16,
    /// Cassandra: CQL native protocol.
    pub cql: u16,
    /// Cassandra: between nodes.
    pub cassandra_storage: u16,
    /// Cassandra: JMX.
    pub jmx: u16,
    /// The same of the second node: JMX listens on 127.0.0.1 only.
    pub jmx_2: u16,
    /// The same of the third node.
    pub jmx_3: u16,
    /// Cassandra: metrics for Prometheus.
    pub cassandra_metrics: u16,
    /// Postgres.
    pub postgres: u16,
    /// Prometheus.
    pub prometheus: u16,
    /// The exporter of Postgres's metrics, which runs beside Prometheus.
    pub postgres_metrics: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self::USUAL
    }
}

impl Ports {
    /// The numbers that everybody knows.
    pub const USUAL: Self = Self {
        cluster: false,
        amqp: 5672,
        rabbitmq_management: 15672,
        rabbitmq_metrics: 15692,
        erlang_distribution: 25672,
        erlang_distribution_2: 25673,
        erlang_distribution_3: 25674,
        epmd: 4369,
        cql: 9042,
        cassandra_storage: 7000,
        jmx: 7199,
        jmx_2: 7200,
        jmx_3: 7201,
        cassandra_metrics: 7070,
        postgres: 5432,
        prometheus: 9090,
        postgres_metrics: 9187,
    };

    fn slots(&mut self) -> [(Service, &mut u16); 16] {
        [
            (Service::Rabbitmq, &mut self.amqp),
            (Service::Rabbitmq, &mut self.rabbitmq_management),
            (Service::Rabbitmq, &mut self.rabbitmq_metrics),
            (Service::Rabbitmq, &mut self.erlang_distribution),
            (Service::Rabbitmq, &mut self.epmd),
            (Service::Rabbitmq2, &mut self.erlang_distribution_2),
            (Service::Rabbitmq3, &mut self.erlang_distribution_3),
            (Service::Cassandra, &mut self.cql),
            (Service::Cassandra, &mut self.cassandra_storage),
            (Service::Cassandra, &mut self.jmx),
            (Service::Cassandra, &mut self.cassandra_metrics),
            (Service::Cassandra2, &mut self.jmx_2),
            (Service::Cassandra3, &mut self.jmx_3),
            (Service::Postgres, &mut self.postgres),
            (Service::Prometheus, &mut self.prometheus),
            (Service::Prometheus, &mut self.postgres_metrics),
        ]
    }

    /// Ports that no stack which looks upward from the usual ones comes near to.
    #[must_use]
    pub fn apart() -> Self {
        let mut ports = Self::USUAL;
        ports.slots().into_iter().for_each(|(_, port)| *port += APART);
        ports
    }

    /// Keeps the `remembered` ports; only those of services that are `starting` may move, and only where they are taken.
    ///
    /// # Errors
    /// When no port is free near one that is taken.
    pub fn choose(remembered: Option<&Self>, starting: &[Service], is_free: impl Fn(u16) -> bool) -> Result<Self> {
        let mut ports = remembered.unwrap_or(&Self::USUAL).clone();
        let stays = |service: Service| remembered.is_some() && !starting.contains(&service);
        let mut taken: BTreeSet<u16> = BTreeSet::new();
        for (service, port) in ports.slots() {
            if stays(service) {
                taken.insert(*port);
            }
        }
        for (service, port) in ports.slots() {
            if stays(service) {
                continue;
            }
            let candidates = *port..=port.saturating_add(SEARCH);
            match candidates.into_iter().find(|candidate| !taken.contains(candidate) && is_free(*candidate)) {
                Some(free) => *port = free,
                None => bail!("no free port for {service} from {port} to {}", port.saturating_add(SEARCH)),
            }
            taken.insert(*port);
        }
        Ok(ports)
    }

    /// The services that have another port here than in `earlier`, with both.
    #[must_use]
    pub fn moved(&self, earlier: &Self) -> Vec<(Service, u16, u16)> {
        let (mut earlier, mut now) = (earlier.clone(), self.clone());
        let pairs = earlier.slots().into_iter().zip(now.slots());
        pairs.map(|((service, old), (_, new))| (service, *old, *new)).filter(|(_, old, new)| old != new).collect()
    }

    /// The same ports for a cluster.
    #[must_use]
    pub fn clustered(self) -> Self {
        Self { cluster: true, ..self }
    }

    /// The services that there are.
    #[must_use]
    pub fn services(&self) -> &'static [Service] {
        if self.cluster { &Service::CLUSTER } else { &Service::ALL }
    }

    /// The nodes of a service that there are, of all that there may be.
    #[must_use]
    pub fn nodes<'a>(&self, all: &'a [Service; 3]) -> &'a [Service] {
        if self.cluster { all } else { &all[..1] }
    }

    /// Whether it is one of these.
    #[must_use]
    pub fn contain(&self, port: u16) -> bool {
        self.clone().slots().into_iter().any(|(_, slot)| *slot == port)
    }
}

/// A server could listen on this loopback port now.
///
/// # Errors
/// When it could not.
pub fn check_free(port: u16) -> Result<()> {
    check_free_at(Ipv4Addr::LOCALHOST, port)
}

/// The nodes of a cluster could listen on this port now, each at its address.
///
/// # Errors
/// When one could not.
pub fn check_free_for_cluster(port: u16) -> Result<()> {
    (1..=3).try_for_each(|node| check_free_at(Ipv4Addr::new(127, 0, 0, node), port))
}

fn check_free_at(host: Ipv4Addr, port: u16) -> Result<()> {
    TcpListener::bind((host, port)).map(drop).with_context(|| format!("port {port} is taken at {host}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn usual_ports_are_kept_when_free() {
        assert_eq!(Ports::choose(None, &[], |_| true).unwrap(), Ports::USUAL);
    }

    #[test]
    fn a_taken_port_moves_up_and_never_onto_another_of_ours() {
        // 5672 is taken by someone, and so is everything up to the management port's neighbours.
        let ports = Ports::choose(None, &[], |port| port != 5672 && port != 15672).unwrap();
        assert_eq!(ports.amqp, 5673);
        assert_eq!(ports.rabbitmq_management, 15673);

        let crowded = Ports { cql: 7000, ..Ports::USUAL };
        let ports = Ports::choose(Some(&crowded), &[Service::Cassandra], |_| true).unwrap();
        assert_eq!((ports.cql, ports.cassandra_storage), (7000, 7001));
    }

    #[test]
    fn only_services_that_start_may_move() {
        let remembered = Ports { postgres: 5440, ..Ports::USUAL };
        let taken = |port| port != 5440;
        let ports = Ports::choose(Some(&remembered), &[Service::Cassandra], taken).unwrap();
        assert_eq!(ports, remembered);
        let ports = Ports::choose(Some(&remembered), &[Service::Postgres], taken).unwrap();
        assert_eq!(ports.moved(&remembered), [(Service::Postgres, 5440, 5441)]);
    }

    #[test]
    fn a_listening_port_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(check_free(port).is_err());
        drop(listener);
        assert!(check_free(port).is_ok());
    }

    #[test]
    fn ports_apart_are_found_by_nobody_else() {
        let (mut usual, mut apart) = (Ports::USUAL, Ports::apart());
        for (_, apart) in apart.slots() {
            assert!(*apart < 32_768, "{apart} is for outgoing connections");
            for (_, usual) in usual.slots() {
                assert!(!(*usual..=*usual + SEARCH).contains(apart), "{apart} is near {usual}");
            }
        }
    }

    #[test]
    fn nothing_free_is_an_error() {
        assert!(Ports::choose(None, &[], |_| false).is_err());
    }
}
