//! Logs, the metrics recorder, and the internal listener with `/metrics`, `/healthz` and `/readyz`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::http;

/// Histogram bounds in seconds: fine around the providers' deadlines and Tollgate's objectives.
const SECONDS: [f64; 19] =
    [0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 4.0, 10.0, 30.0, 60.0];
/// Histogram bounds of counts (rows, events).
const COUNTS: [f64; 13] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0];

/// The crates that log what they have made sure to be no secret.
const OURS: [&str; 5] = ["domain", "ingest", "platform", "reconciler", "writer"];

/// Logs whole messages as a warning when one comes back.
const NEVER: &str = "lapin";

/// Whether anything may be logged of this. What libraries say for their own debugging holds statements, users and frames, and
/// nobody promises that it never holds a header or a password, so no configuration can turn that on.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let name = metadata.target().split("::").next().unwrap_or_default();
    OURS.contains(&name) || (name != NEVER && *metadata.level() <= Level::INFO)
}

/// Writes log lines to standard error. Calling it again changes nothing.
pub fn init_logs(log: &Log) {
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let most = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let cap = filter_fn(may_be_logged).with_max_level_hint(most);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would be said on standard error too, and panic where that is closed.
        .log_internal_errors(false);
    let _already_set = match log.format {
        LogFormat::Human => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).finish().with(cap).try_init()
        }
        LogFormat::Json => builder.json().finish().with(cap).try_init(),
    };
}

/// Installs the process's metrics recorder, once, unless there is one already.
///
/// # Errors
/// Only when bucket bounds are empty, which they are not.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".into()), &COUNTS)?
        .build_recorder();
    let handle = recorder.handle();
    // Whoever runs a program inside of their own may have chosen another recorder.
    let _chosen_already = metrics::set_global_recorder(recorder);
    describe_gauge!("tollgate_build_info", "1; the labels say what runs.");
    gauge!("tollgate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    describe_gauge!("tollgate_dependency_ready", "1 where the program can use what it depends on.");
    Collector::default().describe();
    *installed = Some(handle.clone());
    Ok(handle)
}

/// Which dependencies a program can use right now.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Readiness {
    /// Not ready for any of these until each was set.
    #[must_use]
    pub fn of(dependencies: &[&'static str]) -> Self {
        Self(Arc::new(Mutex::new(dependencies.iter().map(|name| (*name, false)).collect())))
    }

    /// Sets whether a dependency can be used.
    pub fn set(&self, dependency: &'static str, ready: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.insert(dependency, ready) != Some(ready) {
            tracing::info!(dependency, ready, "dependency changed");
        }
    }

    /// Whether all dependencies can be used.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().all(|ready| *ready)
    }

    /// Sets the gauges of all dependencies.
    fn publish(&self) {
        for (dependency, ready) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            gauge!("tollgate_dependency_ready", "dependency" => *dependency).set(f64::from(u8::from(*ready)));
        }
    }

    fn answer(&self) -> (StatusCode, String) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = state.values().all(|ready| *ready);
        let dependencies: Vec<_> = state.iter().map(|(name, ready)| format!("\"{name}\":{ready}")).collect();
        let body = format!("{{\"ready\":{ready},\"dependencies\":{{{}}}}}\n", dependencies.join(","));
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
    }
}

/// Serves `/metrics`, `/healthz` and `/readyz` until `stop`; `address` may have port 0.
///
/// # Errors
/// When the address cannot be bound or the recorder cannot be installed.
pub async fn serve_internal(
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<SocketAddr, http::ServeError> {
    serve_internal_with(address, readiness, Router::new(), stop).await
}

/// [`serve_internal`] with further pages.
///
/// # Errors
/// As [`serve_internal`].
pub async fn serve_internal_with(
    address: SocketAddr,
    readiness: Readiness,
    pages: Router,
    stop: CancellationToken,
) -> Result<SocketAddr, http::ServeError> {
    let metrics = install_metrics().map_err(|error| http::ServeError::Setup(error.to_string()))?;
    let upkeep = metrics.clone();
    let upkeep_stop = stop.clone();
    tokio::spawn(async move {
        // Without upkeep histograms grow until the next scrape.
        while upkeep_stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(5))).await.is_some() {
            upkeep.run_upkeep();
        }
    });
    let json = [("content-type", "application/json")];
    let dependencies = readiness.clone();
    let render = move || {
        dependencies.publish();
        Collector::default().collect();
        ([("content-type", "text/plain; version=0.0.4")], metrics.render())
    };
    let router = pages
        .route("/metrics", get(async move || render()))
        .route("/healthz", get(async move || (json, "{\"healthy\":true}\n")))
        .route(
            "/readyz",
            get(async move || {
                let (status, body) = readiness.answer();
                (status, json, body)
            }),
        );
    let listener = http::bind(address).await?;
    let local = listener.local_addr().map_err(http::ServeError::Io)?;
    let service = hyper_util::service::TowerToHyperService::new(router);
    tokio::spawn(http::serve(listener, None, http::Limits::INTERNAL, move |_| service.clone(), stop));
    Ok(local)
}
