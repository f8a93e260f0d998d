//! The OpenAPI 3.1 document of the public listener, made of what it is made of: the outcomes, the providers, their headers.

use std::collections::BTreeMap;

use domain::providers::{ALL, Header, Source};
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
const OF_CHALLENGES: [Outcome; 5] =
    [Outcome::Challenged, Outcome::Malformed, Outcome::UnknownSource, Outcome::WrongMethod, Outcome::RateLimited];

/// The document as it is committed and served.
pub fn text() -> String {
    format!("{:#}\n", document())
}

fn document() -> Value {
    let source = json!({
        "name": "source", "in": "path", "required": true, "description": "A source of the configuration.",
        "schema": { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Takes payment providers' webhooks and answers 2xx only when they are durable.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": {
            "/webhooks/{source}": {
                "parameters": [source],
                "post": {
                    "operationId": "postWebhook",
                    "summary": "Deliver a webhook",
                    "description": about_providers(),
                    "parameters": headers(),
                    "requestBody": { "required": true, "content": request_content() },
                    "responses": responses(&OF_WEBHOOKS, accepted_content()),
                },
                "get": {
                    "operationId": "getChallenge",
                    "summary": "Ask whether the secret is known, of a provider that does so",
                    "parameters": [{
                        "name": "bt_challenge", "in": "query", "required": true, "description": "Braintree's challenge.",
                        "schema": { "type": "string", "pattern": "^[0-9a-f]{20,32}$" },
                    }],
                    "responses": responses(&OF_CHALLENGES, text_content(json!({ "type": "string" }))),
                },
            },
            PATH: {
                "get": {
                    "operationId": "getOpenapi",
                    "summary": "This document",
                    "responses": responses(&[Outcome::Accepted, Outcome::RateLimited], json!({
                        "application/json": { "schema": { "type": "object", "required": ["openapi", "info", "paths"] } },
                    })),
                },
            },
        },
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
    })
}

fn about_providers() -> String {
    let line = |provider: &&domain::providers::Provider| {
        format!("- `{}` ({}): {}.", provider.name, provider.media.join(", "), provider.signed)
    };
    let lines: Vec<String> = ALL.iter().map(line).collect();
    format!(
        "A provider's own request, byte for byte: the signature covers the raw body. What each provider signs, and as which \
         media type it sends:\n\n{}\n\nOf a `generic` source the header of the signature is configured.",
        lines.join("\n")
    )
}

/// The headers of all providers: which a request needs depends on its source, so none is needed by all.
fn headers() -> Vec<Value> {
    let described = ALL.iter().flat_map(|provider| {
        let headers = (provider.headers)(&Source::default());
        headers.into_iter().map(move |Header { name, form, example }| {
            json!({
                "name": name, "in": "header", "required": false, "description": format!("{}: {form}.", provider.name),
                "schema": { "type": "string" }, "example": example,
            })
        })
    });
    described.collect()
}

fn request_content() -> Value {
    let kinds = ALL.iter().flat_map(|provider| provider.media).map(|media| {
        let schema = match *media {
            "application/x-www-form-urlencoded" => json!({
                "type": "object",
                "required": ["bt_signature", "bt_payload"],
                "properties": { "bt_signature": { "type": "string" }, "bt_payload": { "type": "string" } },
            }),
            _ => json!({ "type": "object" }),
        };
        ((*media).to_owned(), json!({ "schema": schema }))
    });
    Value::Object(kinds.collect())
}

/// The providers' bodies of a 200, by media type.
fn accepted_content() -> Value {
    let mut bodies: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for provider in ALL {
        let body = serde_json::from_str(provider.answer).ok().filter(Value::is_object);
        let body = body.unwrap_or_else(|| provider.answer.into());
        let known = bodies.entry(media(provider.answer)).or_default();
        if !known.contains(&body) {
            known.push(body);
        }
    }
    let content = bodies.into_iter().map(|(media, bodies)| (media.to_owned(), json!({ "schema": { "enum": bodies } })));
    Value::Object(content.collect())
}

fn text_content(schema: Value) -> Value {
    json!({ "text/plain": { "schema": schema } })
}

/// The answers of outcomes; several of one status are one answer.
fn responses(outcomes: &[Outcome], accepted: Value) -> Value {
    let mut responses = Map::new();
    for outcome in outcomes {
        let status = outcome.status();
        let details: Vec<&str> =
            outcomes.iter().filter(|other| other.status() == status).map(|other| other.detail()).collect();
        let response = match status.is_success() {
            true => {
                json!({ "description": "Durable, or known to carry no payment change.", "content": accepted.clone() })
            }
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
    let header = |name: &str, what: &str, schema: Value| json!({ name: { "required": true, "description": what, "schema": schema } });
    match outcome {
        Outcome::WrongMethod => header("Allow", "The methods that are taken.", json!({ "type": "string" })),
        Outcome::Unauthorized => header("WWW-Authenticate", "The body's signature.", json!({ "type": "string" })),
        passing if passing.is_passing() => {
            header("Retry-After", "Seconds after which to send it again.", json!({ "type": "integer", "minimum": 1 }))
        }
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

    /// `WRITE_DOCS=1 cargo test -p ingest` writes it.
    #[test]
    fn the_committed_document_is_what_the_code_says() {
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(DOCUMENT, text()).unwrap();
        }
        assert!(std::fs::read_to_string(DOCUMENT).unwrap_or_default() == text(), "WRITE_DOCS=1 cargo test -p ingest");
    }

    #[test]
    fn every_outcome_is_documented() {
        for outcome in Outcome::ALL {
            assert!(OF_WEBHOOKS.contains(&outcome) || OF_CHALLENGES.contains(&outcome), "{outcome:?}");
        }
    }

    #[test]
    fn every_provider_and_its_headers_are_there() {
        let text = text();
        for provider in ALL {
            assert!(text.contains(&format!("- `{}` (", provider.name)), "{}", provider.name);
            for header in (provider.headers)(&Source::default()) {
                assert!(text.contains(&format!("\"name\": \"{}\"", header.name)), "{}", header.name);
            }
        }
    }
}
