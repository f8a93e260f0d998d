//! Traces: the way of single events through all programs, exported by OTLP. Spans are recorded when they are over, with
//! the times that the program knows anyway, so that what is not traced costs a comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use domain::TraceContext;
use metrics::{Counter, counter, describe_counter};
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{BatchConfigBuilder, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor};
use uuid::Uuid;

pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;

use crate::config::Trace;
use crate::http::ServeError;

/// Spans that wait for the collector; more are dropped, and the log says so.
const WAITING_MAX: usize = 8192;
/// How long spans wait for others to be sent with.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Records spans, or does nothing where tracing is off. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<BatchSpanProcessor<Tokio>>>);

/// A part of an event's way that is over.
#[derive(Debug)]
pub struct Span {
    /// The trace, and the span that this one is a part of.
    pub parent: TraceContext,
    /// What was done: a fixed word, so that trace stores can group by it.
    pub name: &'static str,
    /// Its part in the conversation between programs.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What it was about; never secrets, signatures or bodies.
    pub attributes: Vec<KeyValue>,
    /// Why it failed, if it did.
    pub error: Option<&'static str>,
}

impl Span {
    /// A span without attributes that did not fail.
    #[must_use]
    pub fn of(parent: TraceContext, name: &'static str, kind: SpanKind, start: SystemTime, end: SystemTime) -> Self {
        Self { parent, name, kind, start, end, attributes: Vec::new(), error: None }
    }
}

impl Tracer {
    /// Starts exporting in the background, unless `trace.endpoint` is empty.
    ///
    /// # Errors
    /// When the exporter cannot be set up.
    pub fn open(config: &Trace, program: &'static str) -> Result<Self, ServeError> {
        if config.endpoint.is_empty() {
            return Ok(Self::default());
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", config.endpoint.trim_end_matches('/')))
            .with_timeout(SEND_WITHIN)
            .build()
            .map_err(|error| ServeError::Setup(format!("trace.endpoint: {error}")))?;
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .with_scheduled_delay(SEND_EVERY)
            .with_max_export_timeout(SEND_WITHIN)
            .build();
        let mut processor =
            BatchSpanProcessor::builder(Exporter::new(exporter), Tokio).with_batch_config(batch).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        processor.set_resource(
            &Resource::builder().with_service_name(format!("tollgate-{program}")).with_attribute(version).build(),
        );
        Ok(Self(Some(processor.into())))
    }

    /// Whether spans go anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records a span under its parent.
    pub fn record(&self, span: Span) {
        let id = new_span_id();
        self.record_as(TraceContext { span_id: id, ..span.parent }, span.parent.span_id, span);
    }

    /// Records the span that others here are parts of: their `parent` is its own name. `caller` is the span that it was
    /// called from, or zeros.
    pub fn record_root(&self, caller: [u8; 8], span: Span) {
        self.record_as(span.parent, caller, span);
    }

    fn record_as(&self, context: TraceContext, parent: [u8; 8], span: Span) {
        let Some(processor) = &self.0 else { return };
        let context = SpanContext::new(
            TraceId::from_bytes(context.trace_id),
            SpanId::from_bytes(context.span_id),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        processor.on_end(SpanData {
            span_context: context,
            parent_span_id: SpanId::from_bytes(parent),
            parent_span_is_remote: true,
            span_kind: span.kind,
            name: span.name.into(),
            start_time: span.start,
            end_time: span.end.max(span.start),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("tollgate").build(),
        });
    }

    /// Sends what waits, and ends.
    pub async fn close(self) {
        let Some(processor) = self.0 else { return };
        let closing = tokio::task::spawn_blocking(move || processor.shutdown_with_timeout(SEND_WITHIN));
        if !matches!(tokio::time::timeout(SEND_WITHIN, closing).await, Ok(Ok(Ok(())))) {
            tracing::warn!("the last spans were not sent: the collector at trace.endpoint does not answer");
        }
    }
}

/// Tells once that the collector is away, and once that it is back, instead of every second.
#[derive(Debug)]
struct Exporter {
    otlp: opentelemetry_otlp::SpanExporter,
    is_failing: AtomicBool,
    sent: Counter,
    failed: Counter,
}

impl Exporter {
    fn new(otlp: opentelemetry_otlp::SpanExporter) -> Self {
        describe_counter!("tollgate_trace_spans_total", "Spans by whether the collector took them.");
        let spans = |outcome| counter!("tollgate_trace_spans_total", "outcome" => outcome);
        Self { otlp, is_failing: AtomicBool::new(false), sent: spans("sent"), failed: spans("failed") }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exported = self.otlp.export(batch).await;
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        match exported {
            Ok(()) => {
                self.sent.increment(spans);
                if was_failing {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                self.failed.increment(spans);
                if !was_failing {
                    tracing::warn!(%error, "spans are lost: the collector at trace.endpoint does not take them");
                }
            }
        }
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// A trace that begins here, or goes on from a caller's span.
#[must_use]
pub fn new_context(caller: Option<TraceContext>) -> TraceContext {
    let trace_id = caller.map_or_else(|| Uuid::new_v4().into_bytes(), |caller| caller.trace_id);
    TraceContext { trace_id, span_id: new_span_id() }
}

fn new_span_id() -> [u8; 8] {
    let [.., a, b, c, d, e, f, g, h] = Uuid::new_v4().into_bytes();
    [a, b, c, d, e, f, g, h]
}

/// When an instant was, by the wall clock.
#[must_use]
pub fn wall(instant: Instant) -> SystemTime {
    SystemTime::now().checked_sub(instant.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A time in Unix microseconds.
#[must_use]
pub fn wall_us(unix_us: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(unix_us).unwrap_or(0))
}
