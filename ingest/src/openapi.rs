//! The OpenAPI 3.1 document of the public listener, made of what that is made of: the sources, their providers, the outcomes.
//!
//! Each source is a path of its own, so that the document says exactly what it takes. It names no setting that is secret.

use domain::providers::{Challenge, Header, Provider, Source};
use serde_json::{Map, Value, json};

use crate::answer::{Outcome, media};

/// Where the gateway serves it.
pub const PATH: &str = "/openapi.json";

/// How a POST of a webhook may end.
const OF_WEBHOOKS: [Outcome; 10] = [
    Outcome::Accepted,
    Outcome::Malformed,
    Outcome::Unauthorized,
    Outcome::UnknownSource,
    Outcome::BodyTimeout,
    Outcome::TooLarge,
    Outcome::UnsupportedMedia,
    Outcome::RateLimited,
    Outcome::Overloaded,
    Outcome::Unavailable,
];

/// How a GET that asks for the secret may end.
const OF_CHALLENGES: [Outcome; 4] =
    [Outcome::Challenged, Outcome::Malformed, Outcome::UnknownSource, Outcome::RateLimited];

/// A source, as far as its path shows it.
pub struct Described<'a> {
    name: &'a str,
    provider: &'static Provider,
    headers: Vec<Header>,
}

impl<'a> Described<'a> {
    pub fn of(source: &'a Source, provider: &'static Provider) -> Self {
        Self { name: &source.name, provider, headers: (provider.headers)(source) }
    }
}

/// The document of a gateway with these sources.
pub fn text<'a>(sources: impl Iterator<Item = Described<'a>>) -> String {
    let described = json!({ "get": {
        "operationId": "getOpenapi",
        "summary": "This document",
        "responses": responses(&[Outcome::Accepted, Outcome::RateLimited], "This document.", json!({
            "application/json": { "schema": { "type": "object", "required": ["openapi", "info", "paths"] } },
        })),
    } });
    let webhooks = sources.map(|source| (format!("/webhooks/{}", source.name), path(&source)));
    let paths: Map<String, Value> = webhooks.chain([(PATH.to_owned(), described)]).collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Takes payment providers' webhooks and answers 2xx only when they are durable.",
            "description": "The last part of a webhook's path is the name of a source in the gateway's configuration.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": { "Problem": {
            "description": "RFC 9457. The detail says what the sender can do, and never why a signature was not accepted.",
            "type": "object",
            "required": ["title", "status", "detail"],
            "properties": {
                "title": { "type": "string" },
                "status": { "type": "integer" },
                "detail": { "type": "string" },
            },
        } } },
    });
    format!("{document:#}\n")
}

fn path(source: &Described<'_>) -> Value {
    let Described { name, provider, headers } = source;
    let accepted = match serde_json::from_str(provider.answer) {
        Ok(body @ Value::Object(_)) => body,
        _ => provider.answer.into(),
    };
    let post = json!({
        "operationId": format!("post_{name}"),
        "summary": format!("Deliver a webhook of {}", provider.name),
        "description": format!("The provider's own request, byte for byte. Its signature: {}.", provider.signed),
        "parameters": headers.iter().map(parameter).collect::<Vec<_>>(),
        "requestBody": { "required": true, "content": request_content(provider) },
        "responses": responses(
            &OF_WEBHOOKS,
            "Every payment event of it is durable, or it is known to carry no payment change.",
            json!({ media(provider.answer): { "schema": { "const": accepted } } }),
        ),
    });
    match &provider.challenge {
        None => json!({ "post": post }),
        Some(challenge) => json!({ "post": post, "get": challenged(name, challenge) }),
    }
}

fn challenged(name: &str, challenge: &Challenge) -> Value {
    json!({
        "operationId": format!("get_{name}"),
        "summary": "Ask whether the secret is known",
        "parameters": [{
            "name": challenge.parameter, "in": "query", "required": true,
            "schema": { "type": "string", "pattern": challenge.pattern },
        }],
        "responses": responses(
            &OF_CHALLENGES,
            "The challenge, signed.",
            json!({ "text/plain": { "schema": { "type": "string" } } }),
        ),
    })
}

fn parameter(header: &Header) -> Value {
    json!({
        "name": header.name, "in": "header", "required": true, "description": header.form,
        "schema": { "type": "string" }, "example": header.example,
    })
}

fn request_content(provider: &Provider) -> Value {
    let schema: Value = serde_json::from_str(provider.body).unwrap_or_default();
    Value::Object(provider.media.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect())
}

/// The answers of outcomes; several of one status are one answer.
fn responses(outcomes: &[Outcome], what: &str, accepted: Value) -> Value {
    let mut responses = Map::new();
    for outcome in outcomes {
        let status = outcome.status();
        let details: Vec<&str> =
            outcomes.iter().filter(|other| other.status() == status).map(|other| other.detail()).collect();
        let response = match status.is_success() {
            true => json!({ "description": what, "content": accepted.clone() }),
            false => json!({
                "description": details.join(" "),
                "headers": response_headers(*outcome),
                "content": { "application/problem+json": { "schema": {
                    "allOf": [{ "$ref": "#/components/schemas/Problem" }],
                    "properties": { "status": { "const": status.as_u16() }, "detail": { "enum": details } },
                } } },
            }),
        };
        responses.insert(status.as_str().to_owned(), response);
    }
    Value::Object(responses)
}

fn response_headers(outcome: Outcome) -> Value {
    let header = |what: &str, schema: Value| json!({ "required": true, "description": what, "schema": schema });
    let text = |what: &str, pattern: &str| header(what, json!({ "type": "string", "pattern": pattern }));
    let retry_after = || header("Seconds after which to send it again.", json!({ "type": "integer", "minimum": 1 }));
    match outcome {
        Outcome::Unauthorized => {
            json!({ "WWW-Authenticate": header("The body's signature.", json!({ "type": "string" })) })
        }
        Outcome::RateLimited => json!({
            "Retry-After": retry_after(),
            "RateLimit-Policy": text("The budget that is used up: how many requests in how many seconds.", "^\"[a-z]+\";q=[0-9]+;w=[0-9]+$"),
            "RateLimit": text("What is left of it, and in how many seconds there is more.", "^\"[a-z]+\";r=0;t=[0-9]+$"),
        }),
        passing if passing.is_passing() => json!({ "Retry-After": retry_after() }),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use domain::providers::ALL;

    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

    /// The document with one source for each provider, named after it.
    fn of_all() -> String {
        let named = |provider: &&'static Provider| Source { name: provider.name.to_owned(), ..Source::default() };
        let sources: Vec<Source> = ALL.iter().map(named).collect();
        text(sources.iter().zip(ALL).map(|(source, provider)| Described::of(source, provider)))
    }

    /// `WRITE_DOCS=1 cargo test -p ingest` writes it.
    #[test]
    fn the_committed_document_is_what_the_code_says() {
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(DOCUMENT, of_all()).unwrap();
        }
        assert!(std::fs::read_to_string(DOCUMENT).unwrap_or_default() == of_all(), "WRITE_DOCS=1 cargo test -p ingest");
    }

    #[test]
    fn every_outcome_is_documented_but_that_of_methods_which_are_not() {
        for outcome in Outcome::ALL {
            let is_documented = OF_WEBHOOKS.contains(&outcome) || OF_CHALLENGES.contains(&outcome);
            assert_eq!(is_documented, outcome != Outcome::WrongMethod, "{outcome:?}");
        }
    }

    #[test]
    fn every_provider_says_what_it_takes() {
        let document: Value = serde_json::from_str(&of_all()).unwrap();
        for provider in ALL {
            let path = &document["paths"][format!("/webhooks/{}", provider.name)];
            assert_eq!(path["get"].is_object(), provider.challenge.is_some(), "{}", provider.name);
            for media in provider.media {
                let schema = &path["post"]["requestBody"]["content"][media]["schema"];
                assert!(schema.is_object(), "{}: {schema}", provider.name);
            }
            for header in (provider.headers)(&Source::default()) {
                let names = path["post"]["parameters"].as_array().unwrap().iter().map(|parameter| &parameter["name"]);
                assert!(names.into_iter().any(|name| *name == header.name), "{}", header.name);
            }
        }
    }
}
