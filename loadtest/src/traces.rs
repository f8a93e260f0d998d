//! Where traced events spent their time: the load test is the collector that `trace.endpoint` names, if nobody else is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::signature::to_hex;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use platform::config::Trace;
use platform::http::{self, Limits};
use prost::Message;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Bytes of one export; the programs send some hundred spans at once.
const EXPORT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Spans that are kept.
const SPANS_MAX: usize = 1_000_000;
/// Programs send what they recorded every second.
const LAST_SPANS: Duration = Duration::from_millis(2500);

/// What the traces of a load test say.
#[derive(Debug, Clone, Serialize)]
pub struct Traces {
    /// Traces that reached Postgres, or were accepted without a payment change.
    pub collected: usize,
    /// Time of each stage over all of them, in the order of the way.
    pub stages: Vec<StageTimes>,
    /// The one that took longest from its first byte to its last stage; those that waited for their order apart.
    pub slowest: Option<SlowTrace>,
}

/// How long a stage took.
#[derive(Debug, Clone, Serialize)]
pub struct StageTimes {
    /// The program.
    pub program: String,
    /// What it did.
    pub stage: String,
    /// Median.
    pub p50_ms: f64,
    /// 99 of 100 were faster.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// One event's way.
#[derive(Debug, Clone, Serialize)]
pub struct SlowTrace {
    /// The trace's id, also in the programs' logs.
    pub trace_id: String,
    /// From the request's header to the end of the last stage.
    pub total_ms: f64,
    /// The stages in the order in which they began.
    pub stages: Vec<SlowStage>,
}

/// A stage of one event's way.
#[derive(Debug, Clone, Serialize)]
pub struct SlowStage {
    /// The program.
    pub program: String,
    /// What it did.
    pub stage: String,
    /// Since the request's header.
    pub began_ms: f64,
    /// How long it took.
    pub took_ms: f64,
}

struct Span {
    program: String,
    stage: String,
    start_ns: u64,
    end_ns: u64,
}

/// Spans by trace.
#[derive(Default)]
struct Collected {
    traces: BTreeMap<Vec<u8>, Vec<Span>>,
    spans: usize,
}

/// Takes the programs' spans while the load runs.
pub struct Collector {
    collected: Arc<Mutex<Collected>>,
    stop: CancellationToken,
}

impl Collector {
    /// Listens at `trace.endpoint`, if that is an address of this machine and nobody else does.
    pub async fn start(config: &Trace) -> Option<Self> {
        let address = config.endpoint.strip_prefix("http://")?.trim_end_matches('/');
        let address: SocketAddr = address.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())?;
        let Ok(listener) = http::bind(address).await else {
            eprintln!("traces go to the collector at {}: look there for the slowest", config.endpoint);
            return None;
        };
        let collected = Arc::<Mutex<Collected>>::default();
        let stop = CancellationToken::new();
        let shared = Arc::clone(&collected);
        let serve = move |_| {
            let collected = Arc::clone(&shared);
            service_fn(move |request| {
                let collected = Arc::clone(&collected);
                async move { Ok(take(&collected, request).await) }
            })
        };
        tokio::spawn(http::serve(listener, None, Limits::INTERNAL, serve, stop.clone()));
        Some(Self { collected, stop })
    }

    /// What was collected, once the programs have sent their last spans.
    pub async fn finish(self) -> Traces {
        tokio::time::sleep(LAST_SPANS).await;
        self.stop.cancel();
        let collected = std::mem::take(&mut *lock(&self.collected));
        summary(collected.traces)
    }
}

fn lock(collected: &Mutex<Collected>) -> std::sync::MutexGuard<'_, Collected> {
    collected.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One export (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>); an empty answer says that all was taken.
async fn take(collected: &Mutex<Collected>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let is_export = request.method() == Method::POST && request.uri().path() == "/v1/traces";
    let mut response = Response::new(Full::default());
    *response.status_mut() = match Limited::new(request.into_body(), EXPORT_BYTES_MAX).collect().await {
        Ok(body) if is_export => match ExportTraceServiceRequest::decode(body.to_bytes()) {
            Ok(export) => {
                lock(collected).add(export);
                StatusCode::OK
            }
            Err(_) => StatusCode::BAD_REQUEST,
        },
        Ok(_) => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    response
}

impl Collected {
    fn add(&mut self, export: ExportTraceServiceRequest) {
        for of_program in export.resource_spans {
            let attributes = of_program.resource.map(|resource| resource.attributes).unwrap_or_default();
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let program = match name.and_then(|name| name.value?.value) {
                Some(Value::StringValue(name)) => name.trim_start_matches("tollgate-").to_owned(),
                _ => "?".to_owned(),
            };
            for span in of_program.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                if self.spans == SPANS_MAX {
                    return;
                }
                self.spans += 1;
                self.traces.entry(span.trace_id).or_default().push(Span {
                    program: program.clone(),
                    stage: span.name,
                    start_ns: span.start_time_unix_nano,
                    end_ns: span.end_time_unix_nano,
                });
            }
        }
    }
}

fn summary(mut traces: BTreeMap<Vec<u8>, Vec<Span>>) -> Traces {
    // What was cut off by the end of the load test says nothing; the gateway's own span comes last of its spans.
    traces.retain(|_, spans| spans.iter().any(|span| span.stage == "webhook"));
    let traces: BTreeMap<Vec<u8>, Vec<SlowStage>> = traces.into_iter().map(|(id, spans)| (id, way(spans))).collect();

    let mut stages: BTreeMap<(&str, &str), Vec<&SlowStage>> = BTreeMap::new();
    for stage in traces.values().flatten() {
        stages.entry((&stage.program, &stage.stage)).or_default().push(stage);
    }
    let mut stages: Vec<(Order, StageTimes)> = stages.into_values().map(|measured| times(&measured)).collect();
    stages.sort_by_key(|(order, times)| (*order, std::cmp::Reverse(nanos(times.p50_ms))));
    let total = |way: &[SlowStage]| way.iter().map(|stage| stage.began_ms + stage.took_ms).fold(0.0, f64::max);
    let waited = |way: &[SlowStage]| way.iter().any(|stage| stage.stage == "park");
    let slowest = traces.iter().filter(|(_, way)| !waited(way)).max_by(|(_, a), (_, b)| total(a).total_cmp(&total(b)));
    Traces {
        collected: traces.len(),
        stages: stages.into_iter().map(|(_, times)| times).collect(),
        slowest: slowest.map(|(id, way)| SlowTrace { trace_id: to_hex(id), total_ms: total(way), stages: way.clone() }),
    }
}

/// The stages of one trace, in order.
fn way(spans: Vec<Span>) -> Vec<SlowStage> {
    let header_ns = spans.iter().find(|span| span.stage == "webhook").map_or(0, |span| span.start_ns);
    let mut way: Vec<SlowStage> = spans
        .into_iter()
        .map(|span| SlowStage {
            began_ms: millis(span.start_ns.saturating_sub(header_ns)),
            took_ms: millis(span.end_ns.saturating_sub(span.start_ns)),
            program: span.program,
            stage: span.stage,
        })
        .collect();
    way.sort_by_key(|stage| (order(&stage.program, stage.began_ms), std::cmp::Reverse(nanos(stage.took_ms))));
    way
}

/// Where a stage is on the way: its millisecond, then its program, then its nanosecond. Queues know their beginning only to
/// the millisecond.
type Order = (u64, usize, u64);

fn order(program: &str, began_ms: f64) -> Order {
    let program = ["ingest", "writer", "reconciler"].iter().position(|name| *name == program).unwrap_or(3);
    (nanos(began_ms) / 1_000_000, program, nanos(began_ms))
}

/// The times of one stage, and where it mostly is on the way.
fn times(measured: &[&SlowStage]) -> (Order, StageTimes) {
    let sorted = |value: fn(&SlowStage) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(|stage| value(stage)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let at = |values: &[f64], share: usize| values[(values.len() * share / 100).min(values.len() - 1)];
    let (began, took) = (sorted(|stage| stage.began_ms), sorted(|stage| stage.took_ms));
    let SlowStage { program, stage, .. } = measured[0];
    let times = StageTimes {
        program: program.clone(),
        stage: stage.clone(),
        p50_ms: at(&took, 50),
        p99_ms: at(&took, 99),
        max_ms: at(&took, 100),
    };
    (order(program, at(&began, 50)), times)
}

fn nanos(ms: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(ms / 1000.0).as_nanos()).unwrap_or(u64::MAX)
}

fn millis(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64() * 1000.0
}

impl std::fmt::Display for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "traces     {:<28} p50 ms     p99 ms     max ms   of {}", "", self.collected)?;
        for StageTimes { program, stage, p50_ms, p99_ms, max_ms } in &self.stages {
            writeln!(f, "  {program:<12} {stage:<18} {p50_ms:>12.1} {p99_ms:>10.1} {max_ms:>10.1}")?;
        }
        let Some(slowest) = &self.slowest else { return Ok(()) };
        writeln!(f, "slowest    {} took {:.1} ms", slowest.trace_id, slowest.total_ms)?;
        for SlowStage { program, stage, began_ms, took_ms } in &slowest.stages {
            writeln!(f, "  {program:<12} {stage:<18} {took_ms:>12.1} ms, {began_ms:.1} ms after the header")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(program: &str, stage: &str, start_ms: u64, end_ms: u64) -> Span {
        Span {
            program: program.into(),
            stage: stage.into(),
            start_ns: start_ms * 1_000_000,
            end_ns: end_ms * 1_000_000,
        }
    }

    #[test]
    fn the_slowest_is_told_and_what_waited_for_its_order_is_not_it() {
        let quick = vec![span("writer", "store", 8, 10), span("ingest", "webhook", 0, 5), span("ingest", "read", 0, 1)];
        let slow = vec![span("ingest", "webhook", 100, 105), span("reconciler", "apply", 120, 190)];
        let waited = vec![
            span("ingest", "webhook", 0, 5),
            span("reconciler", "park", 20, 30),
            span("reconciler", "apply", 5_000, 5_010),
        ];
        let cut_off = vec![span("writer", "store", 0, 60_000)];
        let traces = [quick, slow, waited, cut_off].into_iter().enumerate();
        let said = summary(traces.map(|(id, spans)| (vec![u8::try_from(id).unwrap_or(0)], spans)).collect());
        assert_eq!(said.collected, 3);
        let slowest = said.slowest.as_ref().map(|slow| (slow.trace_id.as_str(), slow.total_ms));
        assert_eq!(slowest, Some(("01", 90.0)));
        let stages: Vec<_> = said.stages.iter().map(|stage| (stage.stage.as_str(), stage.max_ms)).collect();
        assert_eq!(stages, [("webhook", 5.0), ("read", 1.0), ("store", 2.0), ("park", 10.0), ("apply", 70.0)]);
    }
}
