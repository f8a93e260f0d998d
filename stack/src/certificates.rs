//! Throw-away certificates, made by the `openssl` command, which Debian's Postgres brings along: for tests and for a stack
//! whose services speak TLS. Nobody else should trust them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// An authority that nobody knows but who is given its file.
#[derive(Clone, Debug)]
pub struct Authority {
    folder: PathBuf,
}

/// A certificate of an [`Authority`] and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, without a password.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one in `folder`, or takes the one that is there.
    ///
    /// # Errors
    /// When `openssl` is not installed or the folder cannot be written.
    pub fn open(folder: &Path) -> Result<Self> {
        let authority = Self { folder: folder.to_owned() };
        if !authority.certificate().exists() {
            std::fs::create_dir_all(folder)?;
            let issued = authority.paths("ca");
            new_certificate(&issued, "Tollgate's throw-away authority", 365, &[])?;
        }
        Ok(authority)
    }

    /// What those who are to believe it need.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.paths("ca").certificate
    }

    /// Makes a certificate of this machine's loopback addresses, in the place of an earlier one of that name.
    ///
    /// # Errors
    /// When `openssl` fails.
    pub fn issue(&self, name: &str, days: u32) -> Result<Issued> {
        let (issued, own) = (self.paths(name), self.paths("ca"));
        let (certificate, key) = (own.certificate.display().to_string(), own.key.display().to_string());
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1";
        let arguments =
            ["-CA", &certificate, "-CAkey", &key, "-addext", names, "-addext", "extendedKeyUsage=serverAuth"];
        new_certificate(
            &issued,
            "localhost",
            days,
            &[&arguments[..], &["-addext", "basicConstraints=CA:FALSE"]].concat(),
        )?;
        Ok(issued)
    }

    fn paths(&self, name: &str) -> Issued {
        let file = |extension: &str| self.folder.join(format!("{name}.{extension}"));
        Issued { certificate: file("pem"), key: file("key") }
    }
}

fn new_certificate(to: &Issued, name: &str, days: u32, more: &[&str]) -> Result<()> {
    let mut command = Command::new("openssl");
    // Without the system's configuration, whose extensions would be added too.
    command.args(["req", "-x509", "-config", "/dev/null", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(["-nodes", "-sha256", "-subj", &format!("/CN={name}"), "-days", &days.to_string()]);
    if more.is_empty() {
        command.args(["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign"]);
    }
    command.args(more).arg("-keyout").arg(&to.key).arg("-out").arg(&to.certificate);
    let output = command.output().context("cannot run `openssl`; install the package openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
