//! The caller's side.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::{TlsError, certificates, provider};

/// Believes servers whose certificate an authority of `ca_file` (PEM) has signed, or, where that is empty, a public one.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn client_config(ca_file: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    if ca_file.as_os_str().is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    } else {
        for certificate in certificates(ca_file)? {
            roots.add(certificate).map_err(|error| TlsError::unusable(ca_file, error.to_string()))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError::unusable(ca_file, error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth().into())
}
