//! The addresses of a stack, and the ones that the environment gives instead.

use std::env;

use serde::Serialize;

use crate::Service;
use crate::ports::Ports;
use crate::postgres;

/// Where each service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// AMQP, with account and virtual host; of a cluster all nodes, as the programs take it.
    pub rabbitmq_url: String,
    /// RabbitMQ's management API, of the first node.
    pub rabbitmq_management_url: String,
    /// RabbitMQ's metrics for Prometheus, each `host:port`.
    pub rabbitmq_metrics: Vec<String>,
    /// Cassandra's contact points, each `host:port`.
    pub cassandra_nodes: Vec<String>,
    /// The metrics of this stack's own Cassandra for Prometheus, each `host:port`.
    pub cassandra_metrics: Vec<String>,
    /// The shop's database.
    pub postgres_url: String,
    /// Prometheus.
    pub prometheus_url: String,
    /// Nodes of this stack's own RabbitMQ and Cassandra, each.
    pub nodes: usize,
    /// Whether RabbitMQ is this stack's own.
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
        let at = |all, port: u16| -> Vec<String> {
            ports.nodes(all).iter().map(|node| format!("{}:{port}", node.host())).collect()
        };
        Self {
            rabbitmq_url: format!("amqp://guest:guest@{}/%2f", at(&Service::RABBITMQ, ports.amqp).join(",")),
            rabbitmq_management_url: format!("http://127.0.0.1:{}", ports.rabbitmq_management),
            rabbitmq_metrics: at(&Service::RABBITMQ, ports.rabbitmq_metrics),
            cassandra_nodes: at(&Service::CASSANDRA, ports.cql),
            cassandra_metrics: at(&Service::CASSANDRA, ports.cassandra_metrics),
            postgres_url: own_postgres_url(ports.postgres),
            prometheus_url: format!("http://127.0.0.1:{}", ports.prometheus),
            nodes: ports.nodes(&Service::RABBITMQ).len(),
            own_rabbitmq: true,
            own_cassandra: true,
            credentials: Vec::new(),
        }
    }

    /// Puts `address` in the place of the one of a service of our own.
    pub(crate) fn replace(&mut self, service: Service, address: &str) {
        match service.first_node() {
            Service::Rabbitmq => {
                let nodes = host_ports(address, 5672);
                let hosts: Vec<&str> =
                    nodes.iter().map(|node| node.rsplit_once(':').map_or(node.as_str(), |(host, _)| host)).collect();
                self.rabbitmq_management_url = format!("http://{}:15672", hosts[0]);
                self.rabbitmq_metrics = hosts.iter().map(|host| format!("{host}:15692")).collect();
                self.rabbitmq_url = address.to_owned();
                self.own_rabbitmq = false;
            }
            Service::Cassandra => {
                self.cassandra_nodes = address.split(',').map(|node| node.trim().to_owned()).collect();
                self.own_cassandra = false;
            }
            Service::Postgres => self.postgres_url = address.to_owned(),
            _ => self.prometheus_url = address.to_owned(),
        }
    }

    /// The address of one service, in the form of its environment variable.
    #[must_use]
    pub fn address(&self, service: Service) -> String {
        match service.first_node() {
            Service::Rabbitmq => self.rabbitmq_url.clone(),
            Service::Cassandra => self.cassandra_nodes.join(","),
            Service::Postgres => self.postgres_url.clone(),
            _ => self.prometheus_url.clone(),
        }
    }

    /// The management API of every node, as the programs take it.
    fn management_of_all_nodes(&self) -> String {
        let port = self.rabbitmq_management_url.rsplit(':').next().unwrap_or_default();
        let nodes = Service::RABBITMQ.iter().take(self.nodes).map(|node| format!("{}:{port}", node.host()));
        format!("http://guest:guest@{}", nodes.collect::<Vec<_>>().join(","))
    }

    /// The address of one node; of one that is not ours, or has no others, that of the service.
    pub(crate) fn address_of_node(&self, service: Service) -> String {
        let all = self.address(service);
        let own = match service.first_node() {
            Service::Rabbitmq => self.own_rabbitmq,
            Service::Cassandra => self.own_cassandra,
            _ => false,
        };
        let is_its = |node: &String| self.nodes > 1 && own && node.starts_with(&format!("{}:", service.host()));
        host_ports(&all, 0).into_iter().find(is_its).unwrap_or(all)
    }

    /// The environment in which Tollgate's programs find the services, and ask no more copies of them than they have nodes.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let addresses = Service::ALL.iter().map(|service| (service.variable().to_owned(), self.address(*service)));
        let group_size = ("TOLLGATE_RABBITMQ_GROUP_SIZE".to_owned(), self.nodes.to_string());
        let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {}}}", self.nodes);
        let replication = ("TOLLGATE_CASSANDRA_REPLICATION".to_owned(), replication);
        let management = ("TOLLGATE_RABBITMQ_MANAGEMENT_URL".to_owned(), self.management_of_all_nodes());
        // A stack with TLS has other accounts, and single nodes.
        let plain = self.credentials.is_empty();
        let own = [
            (self.own_rabbitmq && plain, management),
            (self.own_rabbitmq, group_size),
            (self.own_cassandra, replication),
        ];
        let own = own.into_iter().filter(|(own, _)| *own).map(|(_, pair)| pair);
        addresses.chain(own).chain(self.credentials.iter().cloned()).collect()
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

/// `host:port` of a URL or of a bare address; of the first, where it names several.
#[must_use]
pub fn host_port(url: &str, usual_port: u16) -> String {
    host_ports(url, usual_port).remove(0)
}

/// `host:port` of each node that a URL or a bare address names, with commas between them.
#[must_use]
pub fn host_ports(url: &str, usual_port: u16) -> Vec<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let with_port = |host: &str| {
        let after_brackets = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
        if after_brackets.contains(':') { host.to_owned() } else { format!("{host}:{usual_port}") }
    };
    hosts.split(',').map(str::trim).map(with_port).collect()
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
                "TOLLGATE_RABBITMQ_MANAGEMENT_URL",
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
        assert_eq!(endpoints.rabbitmq_metrics, ["mq.example:15692"]);
        endpoints.replace(Service::Rabbitmq, "amqp://u:p@mq-1.example,mq-2.example:5673/%2f");
        assert_eq!(endpoints.rabbitmq_management_url, "http://mq-1.example:15672");
        assert_eq!(endpoints.rabbitmq_metrics, ["mq-1.example:15692", "mq-2.example:15692"]);
    }

    #[test]
    fn a_cluster_is_named_with_all_nodes_and_as_many_copies() {
        let endpoints = Endpoints::of(&Ports::USUAL.clustered());
        let value = |wanted: &str| endpoints.env().into_iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        assert_eq!(
            value("TOLLGATE_RABBITMQ_URL").as_deref(),
            Some("amqp://guest:guest@127.0.0.1:5672,127.0.0.2:5672,127.0.0.3:5672/%2f")
        );
        assert_eq!(value("TOLLGATE_CASSANDRA_NODES").as_deref(), Some("127.0.0.1:9042,127.0.0.2:9042,127.0.0.3:9042"));
        assert_eq!(
            value("TOLLGATE_RABBITMQ_MANAGEMENT_URL").as_deref(),
            Some("http://guest:guest@127.0.0.1:15672,127.0.0.2:15672,127.0.0.3:15672")
        );
        assert_eq!(value("TOLLGATE_RABBITMQ_GROUP_SIZE").as_deref(), Some("3"));
        assert!(value("TOLLGATE_CASSANDRA_REPLICATION").is_some_and(|value| value.ends_with(": 3}")));
    }
}
