//! The public listener's certificate at work: shown to new connections, changed by a reload, its end in the metrics.

use std::sync::Arc;

use platform::config::{ConfigError, Ingest};
use platform::tls::{Certificate, ServerTls};

use crate::metrics::TlsMetrics;

pub struct Tls {
    pub listener: Arc<ServerTls>,
    metrics: TlsMetrics,
}

impl Tls {
    /// None where the listener is plain HTTP.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used.
    pub fn open(config: &Ingest) -> Result<Option<Self>, ConfigError> {
        let metrics = TlsMetrics::new();
        let Some(certificate) = config.certificate()? else { return Ok(None) };
        metrics.shows(&certificate);
        Ok(Some(Self { listener: Arc::new(ServerTls::new(certificate, metrics.handshakes.clone())), metrics }))
    }

    /// Shows a certificate that was read again.
    pub fn replace(&self, certificate: Certificate) {
        self.metrics.shows(&certificate);
        self.listener.replace(certificate);
    }
}
