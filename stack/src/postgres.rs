//! Postgres: one server with its own data folder, run by a user that is not root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::certificates::Issued;
use crate::install::{run, which};
use crate::layout::{Layout, last_lines};
use crate::ports::Ports;
use crate::tls::Tls;
use crate::wait::{self, Deadline};
use crate::{Service, health, process, sys};

/// The name of the user and of the database.
pub const NAME: &str = "tollgate";
/// Longer socket paths do not fit in the system's address structure.
const SOCKET_PATH_BYTES_MAX: usize = 107;

const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// One of the server's programs, of the newest version installed: Debian keeps them out of the search path.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .filter(|(_, program)| program.is_file())
        .collect();
    versions.sort();
    versions.pop().map(|(_, program)| program).or_else(|| which(name))
}

/// The account that runs the server: Postgres refuses to run as root.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

fn account() -> Result<Option<Account>> {
    if !sys::is_root() {
        return Ok(None);
    }
    let id = |flag: &str| -> Result<u32> {
        let output = Command::new("id").args([flag, "postgres"]).output().context("cannot run `id`")?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().context("there is no user `postgres`; reinstall the package postgresql")
    };
    Ok(Some(Account { uid: id("-u")?, gid: id("-g")? }))
}

fn as_account(program: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Where the data goes: the data folder, or, where the server's user cannot reach that (a checkout under a private
/// home), a folder for it under `/var/tmp`.
///
/// # Errors
/// When it cannot be made.
pub fn choose_dir(layout: &Layout) -> Result<PathBuf> {
    let account = account()?;
    let mut reach = as_account(Path::new("test"), account);
    let reachable = reach.arg("-x").arg(&layout.dir).status().context("cannot run `test`")?.success();
    if reachable {
        return Ok(layout.data("postgres"));
    }
    Ok(private_dir(layout).join("postgres"))
}

/// The folder outside the data folder, one for each stack.
fn private_dir(layout: &Layout) -> PathBuf {
    PathBuf::from(format!("/var/tmp/tollgate-{:016x}", fnv1a(layout.dir.as_os_str().as_encoded_bytes())))
}

/// Names the folder; it must stay the same over versions of Rust, which the standard hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Deletes the data, wherever it is.
///
/// # Errors
/// When it cannot be deleted.
pub fn delete(layout: &Layout) -> Result<()> {
    for dir in [layout.data("postgres"), private_dir(layout)] {
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
        }
    }
    Ok(())
}

/// The command that starts the server, after its data folder exists.
///
/// # Errors
/// When the database cannot be created; the reason is in the log.
pub fn command(layout: &Layout, ports: &Ports, dir: &Path) -> Result<Command> {
    let postgres = program("postgres").context("Postgres is not installed; install the package postgresql")?;
    let account = account()?;
    let data = dir.join("data");
    if !data.exists() {
        create(layout, account, dir, &postgres)?;
    }
    settle(dir)?;
    let configuration = data.join("postgresql.conf");
    let mut text = settings(ports, &dir.join("run"));
    if let Some(tls) = Tls::of(layout) {
        text += Tls::POSTGRES;
        encrypt(&tls, &data, account)?;
    }
    fs::write(&configuration, text)?;
    own(&configuration, account)?;
    let mut command = as_account(&postgres, account);
    command.arg("-D").arg(&data);
    Ok(command)
}

/// Gives the server its certificate and key, and lets in nobody without TLS and a password.
fn encrypt(tls: &Tls, data: &Path, account: Option<Account>) -> Result<()> {
    let Issued { certificate, key } = tls.issued(Service::Postgres);
    for (from, to) in [(certificate, "server.pem"), (key, "server.key")] {
        fs::copy(from, data.join(to))?;
    }
    fs::write(data.join("pg_hba.conf"), Tls::POSTGRES_CLIENTS)?;
    for name in ["server.pem", "server.key", "pg_hba.conf"] {
        let path = data.join(name);
        own(&path, account)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// After a crash: waits for the last processes of the earlier server, which end by themselves, and removes its lock
/// files if it is dead. Postgres does so too, but takes a dead process that nobody has collected yet for a live one.
fn settle(dir: &Path) -> Result<()> {
    let data = dir.join("data");
    wait::until(&Deadline::within(SETTLED_WITHIN), || {
        let left = process::working_in(&data, "postgres");
        ensure!(left.is_empty(), "processes of an earlier server still run in {}: {left:?}", data.display());
        Ok(())
    })?;
    let sockets = fs::read_dir(dir.join("run"))?.flatten().map(|entry| entry.path());
    let locks = sockets.filter(|path| path.extension().is_some_and(|extension| extension == "lock"));
    for lock in locks.chain([data.join("postmaster.pid")]) {
        let text = fs::read_to_string(&lock).unwrap_or_default();
        let owner: Option<u32> = text.lines().next().and_then(|line| line.trim().parse().ok());
        if owner.is_some_and(process::has_ended) {
            fs::remove_file(&lock).with_context(|| format!("cannot delete {}", lock.display()))?;
        }
    }
    Ok(())
}

/// Makes the database in a folder beside and renames it, so that a half-made one is never taken for whole.
fn create(layout: &Layout, account: Option<Account>, dir: &Path, postgres: &Path) -> Result<()> {
    let fresh = dir.join("data.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(dir.join("run"))?;
    for path in [dir, &dir.join("run")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        own(path, account)?;
    }
    let log = layout.log("postgres");
    let initdb = program("initdb").context("`initdb` is missing; install the package postgresql")?;
    let mut command = as_account(&initdb, account);
    command.args(["--encoding=UTF8", "--locale=C.UTF-8", "--username", NAME, "-D"]).arg(&fresh);
    let password = dir.join("password");
    match Tls::of(layout) {
        None => command.arg("--auth=trust"),
        Some(tls) => {
            fs::write(&password, tls.password()?)?;
            own(&password, account)?;
            command.arg("--auth=scram-sha-256").arg("--pwfile").arg(&password)
        }
    };
    let made = run(&mut command, &log);
    // It is in the database now, and nowhere else that its user reads.
    let _absent = fs::remove_file(&password);
    made?;
    create_database(account, postgres, &fresh)
        .with_context(|| format!("the end of the log:\n{}", last_lines(&log, 20)))?;
    fs::rename(&fresh, dir.join("data"))?;
    Ok(())
}

/// In single-user mode, before anybody can connect: whoever sees the server sees the database too.
fn create_database(account: Option<Account>, postgres: &Path, data: &Path) -> Result<()> {
    let mut command = as_account(postgres, account);
    command.args(["--single", "-D"]).arg(data).arg("postgres");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start postgres")?;
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, format!("CREATE DATABASE {NAME}\n").as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("ERROR:") {
        bail!("cannot create the database: {said}");
    }
    Ok(())
}

fn own(path: &Path, account: Option<Account>) -> Result<()> {
    if let Some(account) = account {
        chown(path, Some(account.uid), Some(account.gid))
            .with_context(|| format!("cannot chown {}", path.display()))?;
    }
    Ok(())
}

fn settings(ports: &Ports, sockets: &Path) -> String {
    let socket = sockets.join(format!(".s.PGSQL.{}", ports.postgres));
    let fits = socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
    let sockets = if fits { sockets.display().to_string() } else { String::new() };
    include_str!("../assets/postgresql.conf")
        .replace("@PORT@", &ports.postgres.to_string())
        .replace("@SOCKETS@", &sockets.replace('\'', "''"))
}

/// A session can be opened; a server that still recovers says no.
///
/// # Errors
/// When not.
pub fn health(ports: &Ports) -> Result<()> {
    health::postgres(&format!("127.0.0.1:{}", ports.postgres), NAME, NAME)
}

/// The server takes connections, which one that recovers does not; for servers that want a password.
///
/// # Errors
/// When it does not.
pub fn accepts(ports: &Ports) -> Result<()> {
    let asks = program("pg_isready").context("`pg_isready` is missing; install the package postgresql")?;
    let mut command = Command::new(asks);
    command.args(["-q", "-h", "127.0.0.1", "-U", NAME, "-d", NAME, "-p"]).arg(ports.postgres.to_string());
    let status = command.status().context("cannot run `pg_isready`")?;
    ensure!(status.success(), "the server does not take connections yet");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_does_not_fit_is_left_out() {
        let near = settings(&Ports::USUAL, Path::new("/data/run"));
        assert!(near.contains("unix_socket_directories = '/data/run'"));
        let far = settings(&Ports::USUAL, Path::new(&format!("/{}", "d".repeat(100))));
        assert!(far.contains("unix_socket_directories = ''"));
    }

    #[test]
    fn what_is_committed_stays_committed() {
        let text = settings(&Ports::USUAL, Path::new("/run"));
        for line in ["fsync = on", "full_page_writes = on", "synchronous_commit = on"] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        assert!(!text.contains('@'));
    }
}
