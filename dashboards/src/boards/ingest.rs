//! Ingest: what senders get, by source.

use super::uid;
use crate::board::{Board, Row, Variable};
use crate::panel::{Color, Levels, Panel, Unit};
use crate::promql::{INSTANCE, mean, quantile, rate};

const REQUESTS: &str = "tollgate_ingest_requests_total";
const ACK: &str = "tollgate_ingest_ack_seconds";
/// Of the instances and sources that are chosen.
const CHOSEN: &str = "instance=~\"$instance\", source=~\"$source\"";

pub fn board() -> Board {
    Board {
        uid: uid::INGEST,
        title: "Ingest",
        description: "The gateway: what providers send, what they get, and how fast.",
        variables: vec![
            Variable::new("instance", "Gateway", "label_values(up{job=\"ingest\"}, instance)"),
            Variable::new("source", "Source", "label_values(tollgate_ingest_requests_total, source)"),
        ],
        rows: vec![
            glance(),
            Row::graphs("Requests", [outcomes(), sources()]),
            Row::graphs("Time to 2xx", [ack(), ack_by_source()]),
            Row::graphs("Refused", [refusals(), unauthorized()]),
            Row::graphs("Secrets", [verified(), unused(), secrets_end()]),
            Row::graphs("Turned away", [turned_away(), publish_errors()]),
            Row::graphs("Publishing", [confirms(), frames(), in_flight()]),
            Row::graphs("Payment events", [items()]),
            Row::graphs("Connections", [connections(), connection_ends()]),
            Row::graphs("Providers that are asked", [fetches(), fetch_seconds(), claims()]),
            Row::graphs("Configuration and proxies", [reloads(), unnamed()]),
            Row::graphs("TLS", [handshakes(), certificate_ends()]),
        ],
    }
}

fn chosen(more: &str) -> String {
    format!("{CHOSEN}, {more}")
}

fn glance() -> Row {
    let away = rate("", REQUESTS, &chosen("outcome=~\"overloaded|unavailable|rate_limited\""));
    let all = rate("", REQUESTS, CHOSEN);
    Row::stats(
        "At a glance",
        [
            Panel::stat("Accepted", Unit::RequestsPerSecond, "Webhooks that got their 2xx.")
                .query("", rate("", REQUESTS, &chosen("outcome=\"accepted\""))),
            Panel::stat("Turned away", Unit::Share, "Requests that got 503 or 429: providers come again.")
                .query("", format!("{away} / clamp_min({all}, 1e-9)"))
                .levels(Levels::Above(0.001, 0.01)),
            Panel::stat("Time to 2xx, p99", Unit::Seconds, "One in a hundred accepted webhooks took longer.")
                .query("", quantile("0.99", "", ACK, CHOSEN))
                .levels(Levels::Deadlines)
                .no_value("no webhooks"),
            Panel::stat("Wrong signatures", Unit::Share, "Requests whose signature was not accepted.")
                .query(
                    "",
                    format!("{} / clamp_min({all}, 1e-9)", rate("", REQUESTS, &chosen("outcome=\"unauthorized\""))),
                )
                .levels(Levels::Above(0.01, 0.05)),
        ],
    )
}

fn outcomes() -> Panel {
    Panel::stack("By outcome", Unit::RequestsPerSecond, "What senders get. `accepted` is the only 2xx.")
        .query("{{outcome}}", format!("{} > 0", rate("outcome", REQUESTS, CHOSEN)))
        .color("accepted", Color::Green)
        .color("unauthorized", Color::Orange)
        .color("unavailable", Color::Red)
        .color("overloaded", Color::Red)
        .color("rate_limited", Color::Yellow)
        .no_value("no requests")
        .may_be_empty("nobody sends anything")
}

fn sources() -> Panel {
    Panel::stack("By source", Unit::RequestsPerSecond, "All requests. `unknown` is every path that names no source.")
        .query("{{source}}", rate("source", REQUESTS, CHOSEN))
        .no_value("no requests")
}

fn ack() -> Panel {
    Panel::series(
        "All chosen sources",
        Unit::Seconds,
        "From a request's header to its 2xx. Lines: the objective (1 s), Razorpay's deadline (5 s), Adyen's and \
         Square's (10 s).",
    )
    .query("p50", quantile("0.5", "", ACK, CHOSEN))
    .query("p99", quantile("0.99", "", ACK, CHOSEN))
    .query("p99.9", quantile("0.999", "", ACK, CHOSEN))
    .levels(Levels::Deadlines)
    .logarithmic()
    .no_value("no webhooks")
}

fn ack_by_source() -> Panel {
    Panel::series(
        "p99 by source",
        Unit::Seconds,
        "A source with large bodies or many items a request takes longer than others.",
    )
    .query("{{source}}", quantile("0.99", "source", ACK, CHOSEN))
    .levels(Levels::Deadlines)
    .logarithmic()
    .no_value("no webhooks")
}

fn refusals() -> Panel {
    Panel::stack(
        "Signatures refused, by reason",
        Unit::RequestsPerSecond,
        "`wrong_signature`: a secret was rotated, or somebody forges. `outside_tolerance`: a clock is wrong, or a \
         replay.",
    )
    .query("{{reason}}", rate("reason", "tollgate_ingest_refusals_total", CHOSEN))
    .no_value("none")
}

fn unauthorized() -> Panel {
    let refused = rate("source", REQUESTS, &chosen("outcome=\"unauthorized\""));
    Panel::series(
        "Share of wrong signatures, by source",
        Unit::Share,
        "Of all requests of the source. All of a source's: its secret was rotated at the provider, and Tollgate does \
         not know.",
    )
    .query("{{source}}", format!("{refused} / clamp_min({}, 1e-9)", rate("source", REQUESTS, CHOSEN)))
    .levels(Levels::Above(0.05, 0.5))
    .no_value("none")
}

/// What is asked of secrets that are taken away is of no use.
fn of_configured(expression: &str) -> String {
    let configured = format!("max by (source, secret) (tollgate_ingest_secret_configured{{{CHOSEN}}})");
    format!("({expression}) and {configured} == 1")
}

fn verified() -> Panel {
    Panel::stack(
        "Verified, by secret",
        Unit::RequestsPerSecond,
        "Which of a source's secrets the provider signs with. While one is rotated both may be here; the old one can go when \
         it has stopped.",
    )
    .query("{{source}}, {{secret}}", rate("source, secret", "tollgate_ingest_secret_verified_total", CHOSEN))
    .no_value("no webhooks")
}

fn unused() -> Panel {
    let last = format!("tollgate_ingest_secret_last_verified_timestamp_seconds{{{CHOSEN}}} > 0");
    Panel::series(
        "Time since a secret last verified",
        Unit::Seconds,
        "Of configured secrets that have verified something since the gateway's start. Grows while a secret has nothing to do; \
         provider's retries may still need it.",
    )
    .query("{{source}}, {{secret}}", of_configured(&format!("time() - max by (source, secret) ({last})")))
    .logarithmic()
    .no_value("no webhooks")
}

fn secrets_end() -> Panel {
    let end = format!("tollgate_ingest_secret_not_after_timestamp_seconds{{{CHOSEN}}} < +Inf");
    Panel::series(
        "Time until a secret ends",
        Unit::Seconds,
        "Of configured secrets with a `not_after` or a certificate; below zero it verifies nothing any more. Yellow: a week. \
         Red: a day.",
    )
    .query("{{source}}, {{secret}}", of_configured(&format!("min by (source, secret) ({end}) - time()")))
    .levels(Levels::Below(604_800.0, 86_400.0))
    .no_value("no secret ends")
    .may_be_empty("no secret has an end")
}

fn reloads() -> Panel {
    Panel::stack(
        "Configuration read again",
        Unit::PerSecond,
        "On SIGHUP. `refused`: it cannot be used and the one before stays in force; the gateway's log says where and why.",
    )
    .query("{{instance}}, {{outcome}}", rate("instance, outcome", "tollgate_ingest_reloads_total", INSTANCE))
    .no_value("never")
}

fn handshakes() -> Panel {
    Panel::stack(
        "TLS handshakes",
        Unit::PerSecond,
        "Of the public listener. `not_tls`: plain HTTP, mostly; `refused`: the client does not believe the certificate; \
         `incompatible`: only old versions or ciphers; `timeout` and `closed`: it did not finish.",
    )
    .query("{{outcome}}", rate("outcome", "tollgate_ingest_tls_handshakes_total", INSTANCE))
    .no_value("no TLS here")
    .may_be_empty("the listener is plain HTTP")
}

fn certificate_ends() -> Panel {
    let end = format!("tollgate_ingest_certificate_not_after_timestamp_seconds{{{INSTANCE}}}");
    Panel::series(
        "Time until the certificate ends",
        Unit::Seconds,
        "Of the public listener, or the first of its chain. Below zero senders refuse to connect. Red: a week; an alert comes \
         two weeks before.",
    )
    .query("{{instance}}", format!("min by (instance) ({end} < +Inf) - time()"))
    .levels(Levels::Below(14.0 * 86_400.0, 7.0 * 86_400.0))
    .no_value("no TLS here")
    .may_be_empty("the listener is plain HTTP")
}

fn unnamed() -> Panel {
    Panel::series(
        "Requests of unnamed clients",
        Unit::RequestsPerSecond,
        "A trusted proxy named no client, so its own address has a client's limits. More than its health checks: it does not \
         send the header of `ingest.proxy_header`.",
    )
    .query("{{instance}}", rate("instance", "tollgate_ingest_unnamed_clients_total", INSTANCE))
    .no_value("none")
}

fn turned_away() -> Panel {
    Panel::stack(
        "Requests turned away",
        Unit::RequestsPerSecond,
        "`unavailable`: RabbitMQ does not take frames. `overloaded`: too many at once. `rate_limited`: over a \
         client's or source's rate.",
    )
    .query(
        "{{source}}, {{outcome}}",
        format!(
            "{} > 0",
            rate("source, outcome", REQUESTS, &chosen("outcome=~\"overloaded|unavailable|rate_limited|body_timeout\""))
        ),
    )
    .no_value("none")
    .may_be_empty("everybody is served")
}

fn publish_errors() -> Panel {
    Panel::stack(
        "Frames that RabbitMQ did not take",
        Unit::MessagesPerSecond,
        "`blocked`: an alarm of memory or disk. `refused`: the queue is full or has no majority. `timed_out`: no \
         confirm in time.",
    )
    .query("{{reason}}", rate("reason", "tollgate_ingest_publish_errors_total", INSTANCE))
    .no_value("none")
}

fn confirms() -> Panel {
    Panel::series(
        "Publish to confirm",
        Unit::Seconds,
        "What RabbitMQ takes to have a frame on disk: the larger part of the time to 2xx.",
    )
    .query("p50", quantile("0.5", "", "tollgate_ingest_confirm_seconds", INSTANCE))
    .query("p99", quantile("0.99", "", "tollgate_ingest_confirm_seconds", INSTANCE))
    .levels(Levels::Above(0.5, 3.0))
    .logarithmic()
    .no_value("no frames")
}

fn frames() -> Panel {
    Panel::series(
        "Records in a frame",
        Unit::Count,
        "Frames grow under load, so that a confirm is shared by many. 1 when there is little to do.",
    )
    .query("mean", mean("", "tollgate_ingest_frame_size", INSTANCE))
    .query("p99", quantile("0.99", "", "tollgate_ingest_frame_size", INSTANCE))
    .no_value("no frames")
}

fn in_flight() -> Panel {
    Panel::series("Requests under way", Unit::Count, "Near `ingest.in_flight_max` (1024 by default) senders get 503.")
        .query("{{instance}}", format!("tollgate_ingest_in_flight{{{INSTANCE}}}"))
        .levels(Levels::Above(700.0, 1000.0))
        .no_value("no gateway")
}

fn items() -> Panel {
    Panel::stack(
        "Items of accepted requests",
        Unit::EventsPerSecond,
        "`accepted`: payment events. `no_change`: known to change no payment. `quarantined`: verified, not understood.",
    )
    .query("{{outcome}}", rate("outcome", "tollgate_ingest_events_total", CHOSEN))
    .color("accepted", Color::Green)
    .color("no_change", Color::Blue)
    .color("quarantined", Color::Orange)
    .no_value("no webhooks")
}

const NOBODY_ASKED: &str = "no source has a provider that is asked";

fn fetches() -> Panel {
    Panel::stack(
        "Questions to providers' APIs",
        Unit::RequestsPerSecond,
        "About webhooks that only name a payment. `unknown`: there is no such payment, and nothing happens. `unauthorized`: a \
         token was not accepted. All others are asked again.",
    )
    .query("{{source}}, {{outcome}}", format!("{} > 0", rate("source, outcome", "tollgate_ingest_fetches_total", CHOSEN)))
    .no_value("none")
    .may_be_empty(NOBODY_ASKED)
}

fn fetch_seconds() -> Panel {
    Panel::series(
        "Time to confirm",
        Unit::Seconds,
        "An answer of the provider's API, and all of it: from the webhook until what happened is durable.",
    )
    .query("{{source}}, answer p99", quantile("0.99", "source", "tollgate_ingest_fetch_seconds", CHOSEN))
    .query("{{source}}, in all p99", quantile("0.99", "source", "tollgate_ingest_claim_seconds", CHOSEN))
    .logarithmic()
    .no_value("none")
    .may_be_empty(NOBODY_ASKED)
}

fn claims() -> Panel {
    Panel::series(
        "Left alone",
        Unit::Count,
        "1: the provider's API fails again and again, and is asked once in up to a minute. What is to be asked waits in its queue.",
    )
    .query("{{source}}", format!("max by (source) (tollgate_ingest_fetch_breaker_open{{{CHOSEN}}})"))
    .query(
        "{{source}}, put back a second",
        format!("{} > 0", rate("source", "tollgate_ingest_claims_deferred_total", CHOSEN)),
    )
    .levels(Levels::Above(0.5, 0.9))
    .no_value("none")
    .may_be_empty(NOBODY_ASKED)
}

fn connections() -> Panel {
    Panel::series(
        "Open connections",
        Unit::Count,
        "Of the public listener. At `ingest.connections_max` (10000 by default) new ones wait; a client address may have \
         `ingest.client_connections_max` (1000).",
    )
    .query("{{instance}}", format!("tollgate_http_connections{{listener=\"public\", {INSTANCE}}}"))
    .levels(Levels::Above(5000.0, 9000.0))
    .no_value("no gateway")
}

fn connection_ends() -> Panel {
    let ends = format!("listener=\"public\", end!=\"done\", {INSTANCE}");
    Panel::stack(
        "Connections ended by the gateway",
        Unit::PerSecond,
        "`refused`: more than a client may have. `silent`: nothing was asked in time. `broken`: cut off, too slow, or no HTTP. Many \
         of one kind: somebody tries what the gateway bears.",
    )
    .query("{{end}}", rate("end", "tollgate_http_connections_total", &ends))
    .no_value("none")
}
