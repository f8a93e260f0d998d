//! The nodes of a RabbitMQ cluster, one after another, so that one that is away costs no more than a try.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Channel, Connection};

use super::connect::connect_to;
use super::{Stage, declare, explain};
use crate::config::RabbitMq;

/// How long it may take until a connection can be used. One whose other end accepts it and then says nothing would be
/// waited for without end: heartbeats begin behind the handshake.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How long one node of several may keep a program from the next: providers get 503 meanwhile.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// The nodes, and which one comes next: behind the one that was used last, which may be the one that died.
#[derive(Debug)]
pub(super) struct Nodes {
    urls: Vec<String>,
    next: usize,
}

impl Nodes {
    /// Begins with any of them, so that programs spread over the cluster.
    pub fn of(config: &RabbitMq) -> Self {
        let urls = config.urls();
        let start = RandomState::new().hash_one(0_u8) % u64::try_from(urls.len()).unwrap_or(1);
        Self { urls, next: usize::try_from(start).unwrap_or(0) }
    }

    /// Connects to the first that can be used.
    pub async fn connect(&mut self, config: &RabbitMq, name: &str) -> lapin::Result<Connection> {
        let within = self.connect_within();
        self.first(|url| async move { timed(within, connect_to(config, &url, name, None)).await }).await
    }

    /// Connects to the first that can be used, and declares the queues of a stage.
    pub async fn open(&mut self, config: &RabbitMq, name: &str, stage: &Stage) -> lapin::Result<(Connection, Channel)> {
        let within = self.connect_within();
        let open = |url: String| async move {
            timed(OPEN_WITHIN, async {
                let connection = timed(within, connect_to(config, &url, name, stage.amqp_frame_bytes())).await?;
                let channel = declare(&connection, config, stage).await?;
                Ok((connection, channel))
            })
            .await
        };
        self.first(open).await
    }

    fn connect_within(&self) -> Duration {
        if self.urls.len() > 1 { CONNECT_WITHIN } else { OPEN_WITHIN }
    }

    /// Tries each once; the error is the last one's.
    async fn first<T, F>(&mut self, open: impl Fn(String) -> F) -> lapin::Result<T>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let mut others = self.urls.len();
        loop {
            others -= 1;
            let url = self.urls[self.next].clone();
            self.next = (self.next + 1) % self.urls.len();
            match open(url.clone()).await {
                Err(error) if others > 0 => {
                    let (node, error) = (host(&url), explain(&error));
                    tracing::warn!(node, error, "cannot use this node of rabbitmq; trying the next");
                }
                outcome => return outcome,
            }
        }
    }
}

async fn timed<T>(within: Duration, opening: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    let timeout = || io::Error::new(io::ErrorKind::TimedOut, "it accepts the connection but does not answer");
    tokio::time::timeout(within, opening).await.unwrap_or_else(|_| Err(timeout().into()))
}

/// The host of a URL, without its account.
fn host(url: &str) -> String {
    url.parse::<AMQPUri>()
        .map_or_else(|_| String::new(), |uri| format!("{}:{}", uri.authority.host, uri.authority.port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use super::*;

    fn nodes() -> Nodes {
        let text = "[rabbitmq]\nurl = \"amqp://u:p@a,b,c/%2f\"";
        Nodes::of(&crate::config::parse("x", text, &BTreeMap::new()).unwrap().rabbitmq)
    }

    /// Tries the nodes, all of which fail but `good`; those tried, in order.
    fn tried(nodes: &mut Nodes, good: &str) -> Vec<String> {
        let tried = Mutex::new(Vec::new());
        let open = |url: String| {
            let host = host(&url);
            tried.lock().unwrap().push(host.clone());
            async move { if host == good { Ok(()) } else { Err(io::Error::other("away").into()) } }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = runtime.block_on(nodes.first(open));
        let tried = tried.into_inner().unwrap();
        assert_eq!(outcome.is_ok(), tried.last().is_some_and(|last| last == good));
        tried
    }

    #[test]
    fn every_node_is_tried_once_and_the_one_that_was_used_comes_last() {
        let mut nodes = nodes();
        assert_eq!(tried(&mut nodes, "none").len(), 3);
        assert_eq!(tried(&mut nodes, "b:5672").last().unwrap(), "b:5672");
        assert_eq!(tried(&mut nodes, "none"), ["c:5672", "a:5672", "b:5672"]);
    }

    #[test]
    fn programs_begin_with_different_nodes() {
        let first: BTreeSet<usize> = (0..200).map(|_| nodes().next).collect();
        assert_eq!(first, BTreeSet::from([0, 1, 2]));
    }
}
