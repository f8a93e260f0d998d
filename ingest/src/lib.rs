//! The gateway: admit, verify, normalise, publish, answer. A 2xx means that every payment event of the request is in
//! a replicated queue, or in quarantine, or carries no payment change.

mod admission;
mod answer;
mod client;
mod commands;
mod confirm;
mod endpoint;
mod intake;
mod metrics;
mod openapi;
#[doc(hidden)] // Open to the simulation only.
pub mod publisher;
mod reload;
mod tls;
mod traces;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use platform::amqp::{self, Link, Stage};
use platform::config::{self, Config, ConfigError};
use platform::http::{self, Limits, ServeError};
use platform::telemetry::{self, Readiness};
use platform::tls::TlsError;
use platform::trace::Tracer;
use tokio_util::sync::CancellationToken;

pub use crate::commands::Command;
use crate::confirm::Asking;
use crate::endpoint::Sources;
use crate::intake::Gateway;
use crate::publisher::Publisher;
use crate::reload::Reloads;
use crate::tls::Tls;

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A source, its secret, or the listener's certificate is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Providers' APIs cannot be asked.
    #[error("ingest.fetch_ca_file: {0}")]
    Authorities(TlsError),
    /// A listener cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Runs the gateway until `stop`; requests under way are then answered. `file` is what the configuration was read from: its
/// folder is where relative paths of secrets start from, and it is read again on SIGHUP.
///
/// # Errors
/// When the configuration or a listener cannot be used. Services that are away are waited for, with 503 meanwhile.
pub async fn run(config: Config, file: Option<&Path>, stop: CancellationToken) -> Result<(), IngestError> {
    let reloads = Reloads::listen(config.clone(), file.map(Path::to_owned)).map_err(ServeError::Io)?;
    let sources = config.prepare_sources(&config::folder_of(file))?;
    if sources.is_empty() {
        tracing::warn!("no sources are configured: every webhook is answered with 404");
    }
    let readiness = Readiness::of(&["rabbitmq"]);
    telemetry::serve_internal(config.ingest.internal_listen, readiness.clone(), stop.clone()).await?;
    // Behind the recorder of metrics: it has some.
    let tracer = Tracer::open(&config.trace, "ingest")?;
    let tls = Tls::open(&config.ingest)?;
    let listener = http::bind(config.ingest.listen).await?;
    // The link outlives `stop`: requests under way still publish.
    let link_stop = CancellationToken::new();
    let link = Link::open(
        config.rabbitmq.clone(),
        "tollgate ingest".into(),
        Stage::Write,
        readiness.clone(),
        link_stop.clone(),
    );
    let at_work = Arc::new(ArcSwap::from_pointee(Sources::none()));
    let publisher = Arc::new(Publisher::new(&config.rabbitmq, &Stage::Write, &link));
    let asking = Asking::new(&config, &at_work, &publisher, (&stop, &link_stop)).map_err(IngestError::Authorities)?;
    let watched = Arc::clone(&at_work);
    amqp::watch_members(&config.rabbitmq, move || watched.load().stages(), &readiness, &stop);
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(listen = %config.ingest.listen, scheme, sources = sources.len(), "taking webhooks");
    let limits = Limits {
        listener: "public",
        connections_max: config.ingest.connections_max,
        client_connections_max: config.ingest.client_connections_max,
        trusted_proxies: config.ingest.trusted_proxies.clone(),
        header_timeout: Duration::from_millis(config.ingest.header_timeout_ms),
        streams_max: 256,
        drain_timeout: Duration::from_millis(config.ingest.drain_timeout_ms),
    };
    let gateway = Arc::new(Gateway::new(&config, sources, at_work, publisher, asking, tracer.clone()));
    tokio::spawn(admission::sweep(Arc::clone(&gateway), stop.clone()));
    let listens = tls.as_ref().map(|tls| Arc::clone(&tls.listener));
    tokio::spawn(reloads.serve(Arc::clone(&gateway), tls, stop.clone()));
    let serve = http::serve(
        listener,
        listens,
        limits,
        |peer| {
            let gateway = Arc::clone(&gateway);
            hyper::service::service_fn(move |request| {
                let gateway = Arc::clone(&gateway);
                async move { Ok(gateway.handle(peer.ip(), request).await) }
            })
        },
        stop.clone(),
    );
    tokio::join!(serve, gateway.asked());
    link_stop.cancel();
    tracer.close().await;
    Ok(())
}
