//! RabbitMQ: one node under its own name, folders, cookie, port mapper and ports; or three that form a cluster.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::Service;
use crate::health;
use crate::layout::Layout;
use crate::ports::Ports;
use crate::tls::Tls;

/// The wrapper of the same name in the search path would switch to another user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
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

/// The Erlang name of a node; all have the host's name in it, and so one port mapper.
fn node(service: Service) -> &'static str {
    match service {
        Service::Rabbitmq2 => "tollgate-2@localhost",
        Service::Rabbitmq3 => "tollgate-3@localhost",
        _ => "tollgate@localhost",
    }
}

/// The command that starts the port mapper, after the cookie that all nodes share is written.
///
/// # Errors
/// When it cannot be written.
pub fn port_mapper(layout: &Layout, ports: &Ports) -> Result<Command> {
    let home = layout.data("rabbitmq");
    fs::create_dir_all(&home)?;
    write_cookie(&home.join(".erlang.cookie"))?;
    // Started here rather than by Erlang, which would detach it from everything that could stop it again.
    let mut epmd = Command::new("epmd");
    erlang_environment(&mut epmd, layout, ports);
    Ok(epmd)
}

/// The command that starts a node, after its files are written.
///
/// # Errors
/// When the files cannot be written.
pub fn command(layout: &Layout, ports: &Ports, service: Service) -> Result<Command> {
    let home = layout.data(service.name());
    fs::create_dir_all(home.join("mnesia"))?;
    fs::write(home.join("enabled_plugins"), PLUGINS)?;
    fs::write(home.join("rabbitmq-env.conf"), "")?;
    fs::write(home.join("rabbitmq.conf"), configuration(layout, ports, service)?)?;

    let distribution = match service {
        Service::Rabbitmq2 => ports.erlang_distribution_2,
        Service::Rabbitmq3 => ports.erlang_distribution_3,
        _ => ports.erlang_distribution,
    };
    let mut server = Command::new(SERVER);
    erlang_environment(&mut server, layout, ports);
    server
        .current_dir(&home)
        .env("RABBITMQ_NODENAME", node(service))
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
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
    Ok(server)
}

/// The command that tells the (first) running node what to do, `rabbitmqctl`.
#[must_use]
pub fn control(layout: &Layout, ports: &Ports) -> Command {
    let home = layout.data("rabbitmq");
    let mut command = Command::new(CONTROL);
    erlang_environment(&mut command, layout, ports);
    command
        .env("RABBITMQ_NODENAME", node(Service::Rabbitmq))
        .env("RABBITMQ_CONF_ENV_FILE", home.join("rabbitmq-env.conf"));
    command
}

/// What every Erlang program here needs, `rabbitmqctl` too.
fn erlang_environment(command: &mut Command, layout: &Layout, ports: &Ports) {
    let home = layout.data("rabbitmq");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("RABBITMQ_") || name.starts_with("ERL_")) {
            command.env_remove(name);
        }
    }
    command
        .current_dir(&home)
        .env("HOME", &home)
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_CRASH_DUMP_SECONDS", "0");
}

fn configuration(layout: &Layout, ports: &Ports, service: Service) -> Result<String> {
    const PLAIN: &str = "listeners.tcp.1 = @HOST@:@AMQP_PORT@\n";
    let mut one = include_str!("../assets/rabbitmq.conf").to_owned();
    if let Some(tls) = Tls::of(layout) {
        one = one.replace(PLAIN, &tls.rabbitmq(ports.amqp)?);
    }
    let one = one
        .replace("@HOST@", service.host())
        .replace("@AMQP_PORT@", &ports.amqp.to_string())
        .replace("@MANAGEMENT_PORT@", &ports.rabbitmq_management.to_string())
        .replace("@METRICS_PORT@", &ports.rabbitmq_metrics.to_string());
    if !ports.cluster {
        return Ok(one);
    }
    let nodes = Service::RABBITMQ.iter().zip(1..);
    let nodes: Vec<String> = nodes
        .map(|(service, number)| format!("cluster_formation.classic_config.nodes.{number} = {}\n", node(*service)))
        .collect();
    // A node that is cut off from the majority closes its listeners, so that programs go to the others.
    let together =
        "cluster_partition_handling = pause_minority\ncluster_formation.peer_discovery_backend = classic_config";
    Ok(format!("{one}\n{together}\n{}", nodes.concat()))
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
pub fn health(ports: &Ports, service: Service) -> Result<()> {
    health::amqp(&format!("{}:{}", service.host(), ports.amqp))?;
    let management = format!("{}:{}", service.host(), ports.rabbitmq_management);
    health::http(&management, "/api/health/checks/virtual-hosts", Some(AUTHORIZATION))
}
