//! Files that the configuration names beside the secrets of sources: certificates, keys and passwords.

use std::path::Path;

use lapin::uri::AMQPUri;

use super::secrets::read_file;
use super::{Cassandra, Config, ConfigError, Ingest, Postgres, RabbitMq, Secret};
use crate::tls::{self, client_config};

impl Config {
    /// Relative paths start from the configuration file's folder.
    pub(super) fn resolve_files(&mut self, folder: &Path) {
        let files = [
            &mut self.ingest.tls_certificate,
            &mut self.ingest.tls_key,
            &mut self.ingest.fetch_ca_file,
            &mut self.rabbitmq.ca_file,
            &mut self.rabbitmq.password_file,
            &mut self.cassandra.ca_file,
            &mut self.cassandra.password_file,
            &mut self.postgres.password_file,
        ];
        for file in files.into_iter().filter(|file| !is_none(file)) {
            *file = folder.join(&*file);
        }
    }

    /// Reads every file that the configuration names, except those of sources.
    ///
    /// # Errors
    /// The first that cannot be used, with its key.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let named = |key: &str, error: String| ConfigError::Relation(format!("{key}: {error}"));
        self.ingest.certificate()?;
        for (key, file) in [
            ("ingest.fetch_ca_file", &self.ingest.fetch_ca_file),
            ("rabbitmq.ca_file", &self.rabbitmq.ca_file),
            ("cassandra.ca_file", &self.cassandra.ca_file),
        ] {
            client_config(file).map_err(|error| named(key, error.to_string()))?;
        }
        for url in self.rabbitmq.urls() {
            self.rabbitmq.uri_of(&url).map_err(ConfigError::Relation)?;
        }
        self.cassandra.current_password().map_err(ConfigError::Relation)?;
        self.postgres.current_password().map_err(ConfigError::Relation)?;
        Ok(())
    }

    /// Relations between what names files and what they are for.
    pub(super) fn check_files_named(&self) -> Result<(), ConfigError> {
        let fail = |message: &str| Err(ConfigError::Relation(message.to_owned()));
        if is_none(&self.ingest.tls_certificate) != is_none(&self.ingest.tls_key) {
            return fail("ingest.tls_certificate and ingest.tls_key must be set together, or neither");
        }
        for (section, password, file) in [
            ("rabbitmq", &self.rabbitmq.password, &self.rabbitmq.password_file),
            ("cassandra", &self.cassandra.password, &self.cassandra.password_file),
            ("postgres", &self.postgres.password, &self.postgres.password_file),
        ] {
            if !password.expose().is_empty() && !is_none(file) {
                return fail(&format!("{section}.password and {section}.password_file: set only one of them"));
            }
        }
        if !is_none(&self.rabbitmq.ca_file) && !self.rabbitmq.url.expose().starts_with("amqps://") {
            return fail("rabbitmq.ca_file is for TLS: rabbitmq.url must begin with amqps://");
        }
        if !is_none(&self.cassandra.ca_file) && !self.cassandra.tls {
            return fail("cassandra.ca_file is for TLS: set cassandra.tls = true");
        }
        let has_password = !self.cassandra.password.expose().is_empty() || !is_none(&self.cassandra.password_file);
        if has_password && self.cassandra.user.is_empty() {
            return fail("cassandra.user must name whose password it is");
        }
        Ok(())
    }
}

/// A path that is not set.
fn is_none(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn password(key: &str, value: &Secret, file: &Path) -> Result<Option<Secret>, String> {
    if is_none(file) {
        return Ok((!value.expose().is_empty()).then(|| value.clone()));
    }
    let read = read_file(file).map_err(|error| format!("{key}: cannot read {}: {error}", file.display()))?;
    Ok(Some(Secret::new(read)))
}

impl RabbitMq {
    /// One node's address, with the password that is in force now.
    ///
    /// # Errors
    /// When it is no address or the password cannot be read.
    pub fn uri_of(&self, url: &str) -> Result<AMQPUri, String> {
        let no_address = |_| "rabbitmq.url must be like amqp://user:password@host:5672/%2f".to_owned();
        let mut uri: AMQPUri = url.parse().map_err(no_address)?;
        if let Some(password) = password("rabbitmq.password_file", &self.password, &self.password_file)? {
            uri.authority.userinfo.password = password.expose().to_owned();
        }
        Ok(uri)
    }
}

impl Cassandra {
    /// The password that is in force now.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn current_password(&self) -> Result<Secret, String> {
        let password = password("cassandra.password_file", &self.password, &self.password_file)?;
        Ok(password.unwrap_or_else(|| Secret::new("")))
    }
}

impl Postgres {
    /// The password that is in force now, unless that of the URL is.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn current_password(&self) -> Result<Option<Secret>, String> {
        password("postgres.password_file", &self.password, &self.password_file)
    }
}

impl Ingest {
    /// The public listener's certificate with its key, read now; none where it is plain HTTP.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn certificate(&self) -> Result<Option<tls::Certificate>, ConfigError> {
        let set = !is_none(&self.tls_certificate);
        let loaded = set.then(|| tls::Certificate::load(&self.tls_certificate, &self.tls_key)).transpose();
        loaded.map_err(|error| ConfigError::Relation(format!("ingest.tls_certificate or tls_key: {error}")))
    }
}
