//! RabbitMQ: one node under its own name, folders, cookie, port mapper and ports.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::health;
use crate::layout::Layout;
use crate::ports::Ports;
use crate::tls::Tls;

/// The wrapper of the same name in the search path would switch to another user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
const NODE: &str = "tollgate@localhost";
/// `guest:guest`, RabbitMQ's account out of the box, which it accepts from loopback only.
const AUTHORIZATION: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";
const PLUGINS: &str = "[rabbitmq_management,rabbitmq_prometheus].\n";
/// Erlang's schedulers would spin while idle and take the cores from everything else on the machine; and the
/// distribution port would listen on every interface.
const ERLANG_ARGUMENTS: &str = "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}";

/// Whether the package is there.
#[must_use]
pub fn is_installed() -> bool {
    Path::new(SERVER).exists()
}

/// The commands that start the port mapper and the node, after their files are written.
///
/// # Errors
/// When the files cannot be written.
pub fn commands(layout: &Layout, ports: &Ports) -> Result<[(&'static str, Command); 2]> {
    let home = layout.data("rabbitmq");
    fs::create_dir_all(home.join("mnesia"))?;
    write_cookie(&home.join(".erlang.cookie"))?;
    fs::write(home.join("enabled_plugins"), PLUGINS)?;
    fs::write(home.join("rabbitmq-env.conf"), "")?;
    fs::write(home.join("rabbitmq.conf"), configuration(layout, ports)?)?;

    // Started here rather than by Erlang, which would detach it from everything that could stop it again.
    let mut epmd = Command::new("epmd");
    erlang_environment(&mut epmd, &home, ports);
    let mut server = Command::new(SERVER);
    erlang_environment(&mut server, &home, ports);
    server
        .env("RABBITMQ_NODENAME", NODE)
        .env("RABBITMQ_DIST_PORT", ports.erlang_distribution.to_string())
        .env("RABBITMQ_CONF_ENV_FILE", home.join("rabbitmq-env.conf"))
        .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", home.join("advanced.config"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", home.join("generated"))
        .env("RABBITMQ_LOG_BASE", home.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_PID_FILE", home.join("pid"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG_ARGUMENTS)
        // The start script then becomes the node instead of watching over it: one process to signal.
        .env("RUNNING_UNDER_SYSTEMD", "true");
    Ok([("epmd", epmd), ("rabbitmq", server)])
}

/// The command that tells the running node what to do, `rabbitmqctl`.
#[must_use]
pub fn control(layout: &Layout, ports: &Ports) -> Command {
    let home = layout.data("rabbitmq");
    let mut command = Command::new(CONTROL);
    erlang_environment(&mut command, &home, ports);
    command.env("RABBITMQ_NODENAME", NODE).env("RABBITMQ_CONF_ENV_FILE", home.join("rabbitmq-env.conf"));
    command
}

/// What every Erlang program of this node needs, `rabbitmqctl` too.
fn erlang_environment(command: &mut Command, home: &PathBuf, ports: &Ports) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("RABBITMQ_") || name.starts_with("ERL_")) {
            command.env_remove(name);
        }
    }
    command
        .current_dir(home)
        .env("HOME", home)
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_CRASH_DUMP_SECONDS", "0");
}

fn configuration(layout: &Layout, ports: &Ports) -> Result<String> {
    const PLAIN: &str = "listeners.tcp.1 = 127.0.0.1:@AMQP_PORT@\n";
    let mut text = include_str!("../assets/rabbitmq.conf").to_owned();
    if let Some(tls) = Tls::of(layout) {
        text = text.replace(PLAIN, &tls.rabbitmq(ports.amqp)?);
    }
    Ok(text
        .replace("@AMQP_PORT@", &ports.amqp.to_string())
        .replace("@MANAGEMENT_PORT@", &ports.rabbitmq_management.to_string())
        .replace("@METRICS_PORT@", &ports.rabbitmq_metrics.to_string()))
}

/// Whoever knows the cookie commands the node: random, and readable by its owner alone.
fn write_cookie(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut random = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let cookie: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o400).open(&fresh)?;
    std::io::Write::write_all(&mut file, cookie.as_bytes())?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o400))?;
    fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}

/// AMQP is answered, and every virtual host runs.
///
/// # Errors
/// When not.
pub fn health(ports: &Ports) -> Result<()> {
    health::amqp(&format!("127.0.0.1:{}", ports.amqp))?;
    let management = format!("127.0.0.1:{}", ports.rabbitmq_management);
    health::http(&management, "/api/health/checks/virtual-hosts", Some(AUTHORIZATION))
}
