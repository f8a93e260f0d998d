//! The command line.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::layout::last_lines;
use crate::{Service, Stack, demo, sys, verify};

/// Exit status of `status` when not every service is healthy.
const NOT_ALL_HEALTHY: u8 = 3;
/// What a shell shows for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Starts, stops, inspects and kills the services that Tollgate needs, as ordinary processes on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo stack", bin_name = "cargo stack", version, after_help = AFTER_HELP)]
struct Arguments {
    /// Three RabbitMQ and three Cassandra nodes in a data folder of their own, .tollgate-cluster
    #[arg(long, global = true)]
    cluster: bool,
    #[command(subcommand)]
    command: Action,
}

const AFTER_HELP: &str = "\
Examples:
  cargo stack up                      start all services, install what is missing
  cargo stack up postgres cassandra   start only these
  TOLLGATE_STACK_DIR=.tollgate/tls cargo stack up --tls   a second stack, with TLS
  eval \"$(cargo stack env)\"           let programs started by hand find them
  cargo stack logs cassandra --lines 100
  cargo stack kill rabbitmq && cargo stack start rabbitmq
  cargo stack --cluster up            three nodes each of RabbitMQ and Cassandra, and the rest
  cargo stack --cluster kill rabbitmq-2 && cargo stack --cluster start rabbitmq-2
  cargo stack reset                   stop everything and delete all data

Services are used instead of started where an address is given by TOLLGATE_RABBITMQ_URL,
TOLLGATE_CASSANDRA_NODES, TOLLGATE_POSTGRES_URL or TOLLGATE_PROMETHEUS_URL.
Everything lies under .tollgate in the workspace, of a cluster under .tollgate-cluster; TOLLGATE_STACK_DIR names
another folder. Nodes of a cluster listen on 127.0.0.1, 127.0.0.2 and 127.0.0.3, with the same ports.

Exit status: 0 done, 1 failed, 2 wrong arguments, 3 (status only) not every service is healthy,
130 interrupted; demo and verify hand on the status of what failed.";

#[derive(Debug, Subcommand)]
enum Action {
    /// Start services and wait until they are healthy; those that run are left alone
    Up {
        /// Make a stack whose services speak TLS alone and ask for passwords, with an authority of its own
        #[arg(long)]
        tls: bool,
        /// Which ones [default: all]
        services: Vec<Service>,
    },
    /// Stop services in good order, and programs that a demo left; data stays
    Down {
        /// Which ones [default: all, and the programs]
        services: Vec<Service>,
    },
    /// Show whether each service runs and answers
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop everything and delete all data; downloads stay
    Reset,
    /// Print the end of a log
    Logs {
        /// A service, or a program of the demo
        name: String,
        /// How many lines
        #[arg(long, default_value_t = 50)]
        lines: usize,
    },
    /// Kill a service with all its processes at once, as a crash would
    Kill {
        /// Which one
        service: Service,
    },
    /// Bring one service back with its data, on the same ports
    Start {
        /// Which one
        service: Service,
    },
    /// Run the whole system under load on this machine (`cargo demo`)
    Demo(demo::Options),
    /// Check formatting and lints and run all tests against real services (`cargo verify`)
    Verify,
    /// Print the addresses as `export` lines for a shell
    Env,
}

/// Reads the command line, does what it says, and prints what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if sys::interrupted() { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let stack = if arguments.cluster { Stack::open_cluster()? } else { Stack::open()? };
    match arguments.command {
        Action::Up { tls, services } => {
            if tls {
                ensure!(!arguments.cluster, "a cluster speaks without TLS: take one of --tls and --cluster");
                crate::tls::Tls::make(stack.layout())?;
            }
            stack.up(if services.is_empty() { stack.services() } else { &services })?;
            let which = if arguments.cluster { "--cluster " } else { "" };
            let folder = std::env::var("TOLLGATE_STACK_DIR")
                .map_or(String::new(), |folder| format!("TOLLGATE_STACK_DIR={folder} "));
            eprintln!("\nFor programs started by hand: eval \"$({folder}cargo stack {which}env)\"");
        }
        Action::Down { services } if services.is_empty() => stack.down()?,
        Action::Down { services } => stack.stop(&services)?,
        Action::Status { json } => return status(&stack, json),
        Action::Reset => stack.reset()?,
        Action::Logs { name, lines } => logs(&stack, &name, lines)?,
        Action::Kill { service } => stack.kill(service)?,
        Action::Start { service } => stack.start(service)?,
        Action::Demo(options) => return demo::run(&stack, options),
        Action::Verify if stack.is_cluster() => {
            bail!("tests run against single nodes: `cargo verify` without --cluster")
        }
        Action::Verify => return verify::run(&stack),
        Action::Env => {
            for (name, value) in stack.endpoints()?.env() {
                println!("export {name}='{}'", value.replace('\'', r"'\''"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(stack: &Stack, json: bool) -> Result<ExitCode> {
    let all = stack.status()?;
    let programs = stack.programs()?;
    if json {
        let programs: BTreeMap<_, _> = programs.iter().copied().collect();
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({"services": all, "programs": programs}))?);
    } else {
        for one in &all {
            let health = if one.healthy { "healthy" } else { one.problem.as_deref().unwrap_or("not healthy") };
            let whose = match (one.pid, one.given) {
                (_, true) => "given".to_owned(),
                (Some(pid), false) => format!("pid {pid}"),
                (None, false) => "-".to_owned(),
            };
            println!("{:<11} {whose:<12} {:<44} {health}", one.service.name(), one.address.as_deref().unwrap_or("-"));
        }
        for (name, pid) in programs {
            println!("{name:<11} pid {pid:<8} left by a demo");
        }
    }
    let healthy = all.iter().all(|one| one.healthy);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL_HEALTHY) })
}

fn logs(stack: &Stack, name: &str, lines: usize) -> Result<()> {
    let path = stack.layout().log(name);
    if !path.is_file() {
        let known = std::fs::read_dir(stack.layout().logs())?.flatten().map(|entry| entry.path());
        let mut known: Vec<String> = known.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        known.sort();
        bail!("there is no log of {name}; there are: {}", known.join(", "));
    }
    println!("{}", last_lines(&path, lines));
    Ok(())
}
