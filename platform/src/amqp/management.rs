//! RabbitMQ's management API, asked for what AMQP does not tell: which nodes have a copy of a queue.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use lapin::uri::AMQPUri;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::config::{Management, RabbitMq};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How many nodes have a copy of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Members {
    /// Up or not.
    pub all: usize,
    /// Those that are up.
    pub online: usize,
}

impl Members {
    /// Whether a frame that is confirmed is on as many disks as was asked for, and one can be confirmed. A single member that
    /// is away is neither: it gets what it missed when it is back.
    pub fn are_enough(self, wanted: usize) -> bool {
        self.all >= wanted && self.online * 2 > self.all
    }
}

#[derive(Deserialize)]
struct Queue {
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    online: Vec<String>,
}

/// Asks for the members of each of these queues, node after node until one answers.
///
/// # Errors
/// What the last one says, in words.
pub(super) async fn members(config: &RabbitMq, queues: &[String]) -> Result<Vec<Members>, String> {
    let vhost =
        config.urls().iter().find_map(|url| url.parse::<AMQPUri>().ok()).map_or_else(String::new, |uri| uri.vhost);
    let mut outcome = Err("rabbitmq.management_url names nobody".to_owned());
    for node in config.management() {
        let asking = tokio::time::timeout(ANSWER_WITHIN, ask(&node, &vhost, queues));
        outcome = asking.await.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        match &mut outcome {
            Ok(_) => break,
            Err(error) => *error = format!("{}: {error}", node.address),
        }
    }
    outcome
}

async fn ask(node: &Management, vhost: &str, queues: &[String]) -> Result<Vec<Members>, String> {
    let stream = TcpStream::connect(&node.address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let mut members = Vec::with_capacity(queues.len());
    let outcome = async {
        for queue in queues {
            members.push(ask_one(&mut sender, node, vhost, queue).await?);
        }
        Ok(members)
    };
    let outcome = outcome.await;
    connection.abort();
    outcome
}

async fn ask_one(
    sender: &mut SendRequest<Empty<Bytes>>,
    node: &Management,
    vhost: &str,
    queue: &str,
) -> Result<Members, String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let account = STANDARD.encode(format!("{}:{}", node.user.username, node.user.password));
    let request = Request::get(format!("/api/queues/{}/{}?columns=members,online", escaped(vhost), escaped(queue)))
        .header(HOST, &node.address)
        .header(AUTHORIZATION, format!("Basic {account}"))
        .body(Empty::new())
        .map_err(|error| words(&error))?;
    sender.ready().await.map_err(|error| words(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| words(&error))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => return Err("it refuses the account: it needs RabbitMQ's tag `management`".into()),
        StatusCode::NOT_FOUND => return Err(format!("there is no queue {queue} (yet)")),
        status => return Err(format!("it answers {status}")),
    }
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    let Queue { members, online } = serde_json::from_slice(&body.to_bytes()).map_err(|error| words(&error))?;
    Ok(Members { all: members.len(), online: online.iter().filter(|node| members.contains(node)).count() })
}

/// A part of a path, with everything escaped that could be more than that.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_away_is_enough_but_one_that_never_was_is_not() {
        let enough = |all, online| Members { all, online }.are_enough(3);
        assert!(enough(3, 3) && enough(3, 2) && enough(5, 3));
        assert!(!enough(3, 1) && !enough(2, 2) && !enough(1, 1) && !enough(5, 2) && !enough(0, 0));
        assert!(Members { all: 1, online: 1 }.are_enough(1));
    }

    #[test]
    fn names_are_parts_of_a_path() {
        assert_eq!(escaped("/"), "%2F");
        assert_eq!(escaped("payments.write-2_0"), "payments.write-2_0");
        assert_eq!(escaped("a b?c/é"), "a%20b%3Fc%2F%C3%A9");
    }
}
