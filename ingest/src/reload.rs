//! SIGHUP: the configuration is read again, and its sources and certificate replace those at work. Requests under way end with
//! the sources they began with, connections with their certificate; none waits and none is dropped.

use std::path::PathBuf;
use std::sync::Arc;

use platform::config::{self, Config, ConfigError, ConfiguredSource};
use platform::tls::Certificate;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::intake::Gateway;
use crate::metrics::ReloadMetrics;
use crate::tls::Tls;

/// Waits for SIGHUP, which from now on does not end the program.
pub struct Reloads {
    hangup: Signal,
    file: Option<PathBuf>,
    /// What the program was started with.
    running: Config,
}

impl Reloads {
    /// Listens for SIGHUP; `file` is read again each time.
    ///
    /// # Errors
    /// When the signal cannot be listened for.
    pub fn listen(running: Config, file: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, file, running })
    }

    /// Serves reloads one after another until `stop`.
    pub async fn serve(mut self, gateway: Arc<Gateway>, tls: Option<Tls>, stop: CancellationToken) {
        let metrics = ReloadMetrics::new();
        while let Some(Some(())) = stop.run_until_cancelled(self.hangup.recv()).await {
            let file = self.file.clone();
            let reading = tokio::task::spawn_blocking(move || read(file));
            let Some(read) = stop.run_until_cancelled(reading).await else { return };
            match read.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string())) {
                Ok(Read { config, sources, certificate }) => {
                    self.say_what_needs_a_restart(&config);
                    tracing::info!(sources = sources.len(), "configuration read again");
                    gateway.replace_sources(sources);
                    if let (Some(tls), Some(certificate)) = (&tls, certificate) {
                        tls.replace(certificate);
                    }
                    metrics.count(true);
                }
                Err(error) => {
                    tracing::error!(error, "configuration cannot be used: the one before stays in force");
                    metrics.count(false);
                }
            }
        }
    }

    fn say_what_needs_a_restart(&self, config: &Config) {
        let is_tls = |config: &Config| !config.ingest.tls_certificate.as_os_str().is_empty();
        let stays = is_tls(&self.running) == is_tls(config);
        let applied = |key: &String| stays && ["ingest.tls_certificate", "ingest.tls_key"].contains(&key.as_str());
        match self.running.changed_keys(config).map(|keys| keys.into_iter().filter(|key| !applied(key)).collect()) {
            Ok(keys) if Vec::is_empty(&keys) => {}
            Ok(keys) => tracing::warn!(keys = keys.join(", "), "changed, but only a restart puts these into force"),
            Err(error) => tracing::warn!(%error, "cannot tell what else changed"),
        }
    }
}

/// What a reload puts into force: all of it, or nothing.
struct Read {
    config: Config,
    sources: Vec<ConfiguredSource>,
    certificate: Option<Certificate>,
}

fn read(file: Option<PathBuf>) -> Result<Read, ConfigError> {
    let config = config::load(file.as_deref())?;
    let sources = config.prepare_sources(&config::folder_of(file.as_deref()))?;
    if sources.is_empty() {
        // A file that was emptied, or is just being written, rather than a wish.
        return Err(ConfigError::Relation("there are no sources left: every webhook would get 404".to_owned()));
    }
    let certificate = config.ingest.certificate()?;
    Ok(Read { config, sources, certificate })
}
