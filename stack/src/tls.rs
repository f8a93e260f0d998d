//! A stack whose services speak TLS alone and ask for passwords: its authority, certificates and the administrators'
//! password lie in a folder, and that it is there says that the stack is such a one.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::certificates::{Authority, Issued};
use crate::endpoints::Endpoints;
use crate::layout::Layout;
use crate::postgres::NAME;
use crate::{Service, install};

/// Far longer than anybody keeps such a stack.
const DAYS: u32 = 365;

/// The secrets of a stack with TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    folder: PathBuf,
}

impl Tls {
    /// Those of this stack, if it is one with TLS.
    #[must_use]
    pub fn of(layout: &Layout) -> Option<Self> {
        let folder = layout.data("tls");
        folder.join("password").exists().then_some(Self { folder })
    }

    /// Makes this stack one with TLS, unless it is already.
    ///
    /// # Errors
    /// When its services have data already: their accounts were made without passwords.
    pub fn make(layout: &Layout) -> Result<()> {
        if Self::of(layout).is_some() {
            return Ok(());
        }
        let services = [Service::Rabbitmq, Service::Cassandra, Service::Postgres];
        let has_data = services.iter().any(|service| layout.data(service.name()).exists());
        ensure!(!has_data, "this stack was made without TLS: `cargo stack reset` first, which deletes its data");
        ensure!(install::which("openssl").is_some(), "`openssl` is missing; install the package openssl");
        let folder = layout.data("tls");
        let authority = Authority::open(&folder)?;
        for service in services {
            authority.issue(service.name(), DAYS)?;
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let mut random = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Written last: it says that all is there.
        Ok(fs::write(folder.join("password"), password)?)
    }

    /// The authority that signed every service's certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A service's certificate and key.
    #[must_use]
    pub fn issued(&self, service: Service) -> Issued {
        let file = |extension: &str| self.folder.join(format!("{}.{extension}", service.name()));
        Issued { certificate: file("pem"), key: file("key") }
    }

    /// The password of the administrators of RabbitMQ and Postgres, both called [`NAME`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn password(&self) -> Result<String> {
        let path = self.folder.join("password");
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The header with which RabbitMQ's management knows its administrator.
    pub(crate) fn authorization(&self) -> Result<String> {
        Ok(format!("Basic {}", STANDARD.encode(format!("{NAME}:{}", self.password()?))))
    }

    /// RabbitMQ's settings in the place of its plain listener.
    pub(crate) fn rabbitmq(&self, port: u16) -> Result<String> {
        let Issued { certificate, key } = self.issued(Service::Rabbitmq);
        Ok(format!(
            "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\nssl_options.keyfile = {}\nssl_options.verify = verify_none\n\
             ssl_options.fail_if_no_peer_cert = false\nssl_options.versions.1 = tlsv1.3\nssl_options.versions.2 = tlsv1.2\n\
             default_user = {NAME}\ndefault_pass = {}\n",
            self.ca_file().display(),
            certificate.display(),
            key.display(),
            self.password()?
        ))
    }

    /// Cassandra's settings: nobody without TLS, a password and a permission. Its first administrator is `cassandra`.
    pub(crate) fn cassandra(&self) -> Result<String> {
        let Issued { certificate, key } = self.issued(Service::Cassandra);
        let both = certificate.with_extension("both.pem");
        fs::write(&both, fs::read_to_string(key)? + &fs::read_to_string(certificate)?)?;
        fs::set_permissions(&both, fs::Permissions::from_mode(0o600))?;
        Ok(format!(
            "\nauthenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\nrole_manager: CassandraRoleManager\n\
             client_encryption_options:\n  enabled: true\n  optional: false\n  require_client_auth: false\n\
             \x20 ssl_context_factory:\n    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n\
             \x20 keystore: {}\n  truststore: {}\n",
            both.display(),
            self.ca_file().display()
        ))
    }

    /// Postgres's settings; certificate and key lie beside them, since its user may not read ours.
    pub(crate) const POSTGRES: &str =
        "\nssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\nssl_min_protocol_version = 'TLSv1.2'\n";

    /// Who may connect to Postgres: nobody without TLS and a password.
    pub(crate) const POSTGRES_CLIENTS: &str = "hostssl all all 127.0.0.1/32 scram-sha-256\n";

    /// Addresses with TLS, and what programs need beside them.
    pub(crate) fn secure(&self, mut endpoints: Endpoints) -> Endpoints {
        let ca = self.ca_file().display().to_string();
        let port = |url: &str| crate::endpoints::host_port(url, 0);
        endpoints.rabbitmq_url = format!("amqps://{NAME}@{}/%2f", port(&endpoints.rabbitmq_url));
        endpoints.postgres_url =
            format!("postgres://{NAME}@{}/{NAME}?sslmode=verify-full&sslrootcert={ca}", port(&endpoints.postgres_url));
        // Who asks for addresses gets them also when the password is gone.
        let password = self.password().unwrap_or_default();
        let more = [
            ("RABBITMQ_PASSWORD", password.as_str()),
            ("RABBITMQ_CA_FILE", &ca),
            ("CASSANDRA_TLS", "true"),
            ("CASSANDRA_CA_FILE", &ca),
            ("CASSANDRA_USER", "cassandra"),
            ("CASSANDRA_PASSWORD", "cassandra"),
            ("POSTGRES_PASSWORD", &password),
        ];
        endpoints.credentials = more.map(|(name, value)| (format!("TOLLGATE_{name}"), value.to_owned())).into();
        endpoints
    }
}

/// Deletes the secrets, with the data that they protect.
///
/// # Errors
/// When they cannot be deleted.
pub fn delete(layout: &Layout) -> Result<()> {
    let folder: &Path = &layout.data("tls");
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot delete {}", folder.display()))?;
    }
    Ok(())
}
