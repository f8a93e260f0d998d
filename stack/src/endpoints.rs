//! The addresses of a stack, and the ones that the environment gives instead.

use std::env;

use serde::Serialize;

use crate::Service;
use crate::ports::Ports;
use crate::postgres;

/// Where each service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// AMQP, with account and virtual host.
    pub rabbitmq_url: String,
    /// RabbitMQ's management API.
    pub rabbitmq_management_url: String,
    /// RabbitMQ's metrics for Prometheus, `host:port`.
    pub rabbitmq_metrics: String,
    /// Cassandra's contact points, each `host:port`.
    pub cassandra_nodes: Vec<String>,
    /// The shop's database.
    pub postgres_url: String,
    /// Prometheus.
    pub prometheus_url: String,
    /// Whether RabbitMQ and Cassandra are this stack's own, of one node each.
    pub own_rabbitmq: bool,
    /// See `own_rabbitmq`.
    pub own_cassandra: bool,
    /// What programs need beside the addresses where services ask for passwords, as environment variables.
    #[serde(skip)]
    pub credentials: Vec<(String, String)>,
}

impl Endpoints {
    /// The addresses of services that this stack starts itself.
    #[must_use]
    pub fn of(ports: &Ports) -> Self {
        Self {
            rabbitmq_url: format!("amqp://guest:guest@127.0.0.1:{}/%2f", ports.amqp),
            rabbitmq_management_url: format!("http://127.0.0.1:{}", ports.rabbitmq_management),
            rabbitmq_metrics: format!("127.0.0.1:{}", ports.rabbitmq_metrics),
            cassandra_nodes: vec![format!("127.0.0.1:{}", ports.cql)],
            postgres_url: own_postgres_url(ports.postgres),
            prometheus_url: format!("http://127.0.0.1:{}", ports.prometheus),
            own_rabbitmq: true,
            own_cassandra: true,
            credentials: Vec::new(),
        }
    }

    /// Puts `address` in the place of the one of a service of our own.
    pub(crate) fn replace(&mut self, service: Service, address: &str) {
        match service {
            Service::Rabbitmq => {
                let host = host_port(address, 5672);
                let host = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host);
                self.rabbitmq_management_url = format!("http://{host}:15672");
                self.rabbitmq_metrics = format!("{host}:15692");
                self.rabbitmq_url = address.to_owned();
                self.own_rabbitmq = false;
            }
            Service::Cassandra => {
                self.cassandra_nodes = address.split(',').map(|node| node.trim().to_owned()).collect();
                self.own_cassandra = false;
            }
            Service::Postgres => self.postgres_url = address.to_owned(),
            Service::Prometheus => self.prometheus_url = address.to_owned(),
        }
    }

    /// The address of one service, in the form of its environment variable.
    #[must_use]
    pub fn address(&self, service: Service) -> String {
        match service {
            Service::Rabbitmq => self.rabbitmq_url.clone(),
            Service::Cassandra => self.cassandra_nodes.join(","),
            Service::Postgres => self.postgres_url.clone(),
            Service::Prometheus => self.prometheus_url.clone(),
        }
    }

    /// The environment in which Tollgate's programs find the services, and ask no more copies of them than they have nodes.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let addresses = Service::ALL.iter().map(|service| (service.variable().to_owned(), self.address(*service)));
        let group_size = ("TOLLGATE_RABBITMQ_GROUP_SIZE".to_owned(), "1".to_owned());
        let replication = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}".to_owned();
        let replication = ("TOLLGATE_CASSANDRA_REPLICATION".to_owned(), replication);
        let single = [(self.own_rabbitmq, group_size), (self.own_cassandra, replication)];
        let single = single.into_iter().filter(|(own, _)| *own).map(|(_, pair)| pair);
        addresses.chain(single).chain(self.credentials.iter().cloned()).collect()
    }
}

/// Our own Postgres, or a proxy in front of it, on a port of loopback.
pub(crate) fn own_postgres_url(port: u16) -> String {
    format!("postgres://{0}@127.0.0.1:{port}/{0}", postgres::NAME)
}

/// The address that the environment gives for a service, unless it is `own`: then somebody only took over what
/// `cargo stack env` printed.
pub(crate) fn given(service: Service, own: Option<&Endpoints>) -> Option<String> {
    let address = env::var(service.variable()).ok().filter(|address| !address.trim().is_empty())?;
    (own.map(|own| own.address(service)).as_ref() != Some(&address)).then_some(address)
}

/// `host:port` of a URL or of a bare address.
#[must_use]
pub fn host_port(url: &str, usual_port: u16) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after_brackets = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    if after_brackets.contains(':') { host.to_owned() } else { format!("{host}:{usual_port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address() {
        assert_eq!(host_port("amqp://guest:p%40ss@mq.example/vhost", 5672), "mq.example:5672");
        assert_eq!(host_port("postgres://u@10.0.0.1:6432/db?sslmode=require", 5432), "10.0.0.1:6432");
        assert_eq!(host_port("[::1]", 9042), "[::1]:9042");
        assert_eq!(host_port("[::1]:9043", 9042), "[::1]:9043");
    }

    #[test]
    fn the_environment_names_every_service() {
        let env = Endpoints::of(&Ports::USUAL).env();
        let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "TOLLGATE_RABBITMQ_URL",
                "TOLLGATE_CASSANDRA_NODES",
                "TOLLGATE_POSTGRES_URL",
                "TOLLGATE_PROMETHEUS_URL",
                "TOLLGATE_RABBITMQ_GROUP_SIZE",
                "TOLLGATE_CASSANDRA_REPLICATION"
            ]
        );
    }

    #[test]
    fn a_given_broker_takes_its_other_addresses_along() {
        let mut endpoints = Endpoints::of(&Ports::USUAL);
        endpoints.replace(Service::Rabbitmq, "amqp://u:p@mq.example:5673/%2f");
        assert_eq!(endpoints.rabbitmq_management_url, "http://mq.example:15672");
        assert_eq!(endpoints.rabbitmq_metrics, "mq.example:15692");
    }
}
