//! Which requests are traced, and what is recorded of one.

use std::num::NonZeroU32;
use std::time::{Instant, SystemTime};

use domain::TraceContext;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hyper::header::HeaderMap;
use platform::config::ConfiguredSource;
use platform::trace::{KeyValue, Span, SpanKind, Tracer, new_context, wall};

/// Chooses the requests that are traced: some a second, evenly, so that tracing costs the same at any load. Asked only
/// about verified requests: strangers cannot use it up.
pub struct Traces {
    tracer: Tracer,
    budget: DefaultDirectRateLimiter,
}

impl Traces {
    pub fn new(tracer: Tracer, per_second: u32) -> Self {
        let one = NonZeroU32::MIN;
        let quota = Quota::per_second(NonZeroU32::new(per_second).unwrap_or(one)).allow_burst(one);
        Self { tracer, budget: RateLimiter::direct(quota) }
    }

    /// Begins the trace of a verified request whose header came at `started` and whose body was read at `read`.
    pub fn begin(
        &self,
        source: &ConfiguredSource,
        headers: &HeaderMap,
        started: Instant,
        read: SystemTime,
    ) -> Option<RequestTrace<'_>> {
        if !self.tracer.is_on() || self.budget.check().is_err() {
            return None;
        }
        let caller = headers.get("traceparent").and_then(|header| TraceContext::parse(header.to_str().ok()?));
        let attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", "/webhooks/{source}"),
            KeyValue::new("tollgate.source", source.source.name.clone()),
            KeyValue::new("tollgate.provider", source.provider.name),
        ];
        let trace = RequestTrace {
            tracer: &self.tracer,
            context: new_context(caller),
            caller: caller.map_or([0; 8], |caller| caller.span_id),
            started: wall(started),
            attributes,
            error: Some("gave up before RabbitMQ confirmed"),
        };
        trace.part("read", SpanKind::Internal, trace.started, read);
        trace.part("verify", SpanKind::Internal, read, SystemTime::now());
        Some(trace)
    }
}

/// A request's trace. Recorded when dropped, however the request ends.
pub struct RequestTrace<'a> {
    tracer: &'a Tracer,
    /// What follows is a child of this.
    pub context: TraceContext,
    caller: [u8; 8],
    started: SystemTime,
    attributes: Vec<KeyValue>,
    error: Option<&'static str>,
}

impl RequestTrace<'_> {
    /// Records publishing, which began at `start` and ended just now.
    pub fn published(&mut self, start: SystemTime, error: Option<&'static str>) {
        self.part("publish", SpanKind::Producer, start, SystemTime::now());
        self.error = error;
    }

    fn part(&self, name: &'static str, kind: SpanKind, start: SystemTime, end: SystemTime) {
        self.tracer.record(Span::of(self.context, name, kind, start, end));
    }
}

impl Drop for RequestTrace<'_> {
    fn drop(&mut self) {
        let attributes = std::mem::take(&mut self.attributes);
        let whole = Span::of(self.context, "webhook", SpanKind::Server, self.started, SystemTime::now());
        self.tracer.record_root(self.caller, Span { attributes, error: self.error, ..whole });
    }
}
