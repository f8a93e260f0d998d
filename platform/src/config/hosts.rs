//! URLs that name several hosts of one cluster: `amqp://user:password@one:5672,two:5672,three:5672/%2f`.

use lapin::uri::{AMQPUri, AMQPUserInfo};

use super::RabbitMq;

/// One URL for each host, in their order.
pub(crate) fn one_a_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    hosts.split(',').map(|host| format!("{scheme}://{user}{}{path}", host.trim())).collect()
}

/// Where and as whom a node's management API is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Management {
    /// `host:port`.
    pub address: String,
    pub user: AMQPUserInfo,
}

impl RabbitMq {
    /// The port of the management API, as RabbitMQ comes.
    const MANAGEMENT_PORT: u16 = 15672;

    /// Whether the queues' members are asked for: where there should be others than the one that takes the frames, or
    /// somebody says whom to ask.
    #[must_use]
    pub fn asks_for_members(&self) -> bool {
        self.group_size > 1 || !self.management_url.expose().is_empty()
    }

    /// Every node's AMQP address as a URL of its own.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        one_a_host(self.url.expose())
    }

    /// The management API of every node: as configured, else at the hosts of `url`, with its account. Of URLs that cannot
    /// be read, which the check of the configuration refuses, none.
    pub(crate) fn management(&self) -> Vec<Management> {
        let given = self.management_url.expose();
        let (uris, port): (Vec<AMQPUri>, _) = match given.strip_prefix("http://") {
            Some(rest) => {
                (one_a_host(&format!("amqp://{rest}")).iter().filter_map(|url| url.parse().ok()).collect(), None)
            }
            None => (self.urls().iter().filter_map(|url| self.uri_of(url).ok()).collect(), Some(Self::MANAGEMENT_PORT)),
        };
        let management = uris.into_iter().map(|AMQPUri { authority, .. }| Management {
            address: format!("{}:{}", authority.host, port.unwrap_or(authority.port)),
            user: authority.userinfo,
        });
        management.collect()
    }

    /// What is wrong with the addresses, in words that hold nothing of them.
    pub(super) fn check_addresses(&self) -> Result<(), &'static str> {
        let is_amqp = |url: &String| url.parse::<AMQPUri>().is_ok() && !has_no_host(url);
        if !self.urls().iter().all(is_amqp) {
            return Err(
                "rabbitmq.url must be like amqp://user:password@host:5672/%2f, with commas between the hosts of a cluster",
            );
        }
        let management = self.management_url.expose();
        let is_http = |url: String| url.parse::<hyper::Uri>().is_ok_and(|uri| uri.port().is_some());
        if management.is_empty() {
            // Its account must not travel in the clear where somebody has taken care that it does not.
            return match self.group_size > 1 && self.url.expose().starts_with("amqps:") {
                true => Err(
                    "rabbitmq.management_url must be set where rabbitmq.url is amqps and rabbitmq.group_size above 1",
                ),
                false => Ok(()),
            };
        }
        if !management.starts_with("http://") || !one_a_host(management).into_iter().all(is_http) {
            return Err(
                "rabbitmq.management_url must be like http://user:password@host:15672, with commas between hosts",
            );
        }
        Ok(())
    }
}

fn has_no_host(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.is_empty() || host.starts_with(':')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::parse;

    fn rabbitmq(text: &str) -> Result<RabbitMq, String> {
        let parsed = parse("x", &format!("[rabbitmq]\n{text}"), &BTreeMap::new());
        parsed.map(|config| config.rabbitmq).map_err(|error| error.to_string())
    }

    #[test]
    fn every_host_of_a_url_gets_one_of_its_own() {
        let config = rabbitmq("url = \"amqp://u:p,%40@a:5672, b,[::1]:5673/shop?heartbeat=9\"").unwrap();
        let urls = ["a:5672", "b", "[::1]:5673"].map(|host| format!("amqp://u:p,%40@{host}/shop?heartbeat=9"));
        assert_eq!(config.urls(), urls);
        let one = rabbitmq("url = \"amqp://a/%2f\"").unwrap();
        assert_eq!(one.urls(), ["amqp://a/%2f"]);
    }

    #[test]
    fn the_management_is_where_amqp_is_unless_it_is_said_otherwise() {
        let config = rabbitmq("url = \"amqp://u:p%40@a:5671,b:5671/%2f\"").unwrap();
        let addresses: Vec<_> = config.management().into_iter().map(|api| api.address).collect();
        assert_eq!(addresses, ["a:15672", "b:15672"]);
        assert_eq!(config.management()[0].user.password, "p@");
        let config = rabbitmq("management_url = \"http://ops:s@c:80,d:81\"").unwrap();
        let [c, d] = config.management().try_into().unwrap();
        assert_eq!((c.address.as_str(), d.address.as_str(), d.user.username.as_str()), ("c:80", "d:81", "ops"));
    }

    #[test]
    fn members_are_asked_for_where_there_should_be_several_or_somebody_says_whom_to_ask() {
        assert!(rabbitmq("group_size = 3").unwrap().asks_for_members());
        assert!(!rabbitmq("group_size = 1").unwrap().asks_for_members());
        assert!(rabbitmq("group_size = 1\nmanagement_url = \"http://a:15672\"").unwrap().asks_for_members());
    }

    #[test]
    fn addresses_that_could_never_work_are_refused_without_being_told() {
        for (text, named) in [
            ("url = \"amqp://u:hunter2@a:5672,,b:5672/%2f\"", "rabbitmq.url"),
            ("url = \"amqp://u:hunter2@a:5672,b:x/%2f\"", "rabbitmq.url"),
            ("management_url = \"https://u:hunter2@a:15671\"", "rabbitmq.management_url"),
            ("management_url = \"http://u:hunter2@a\"", "rabbitmq.management_url"),
            ("url = \"amqps://u:hunter2@a/%2f\"", "rabbitmq.management_url must be set"),
        ] {
            let error = rabbitmq(text).unwrap_err();
            assert!(error.contains(named) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
