//! Brings one service from whatever it is in now to healthy.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use crate::endpoints::Endpoints;
use crate::layout::{Layout, last_lines};
use crate::ports::Ports;
use crate::process::{self, Identity};
use crate::progress::Progress;
use crate::prometheus::ScrapeTargets;
use crate::state::State;
use crate::sys::Signal;
use crate::tls::Tls;
use crate::wait::{self, Deadline};
use crate::{Service, cassandra, install, postgres, prometheus, rabbitmq, sys};

/// How much of a log an error shows.
const LOG_LINES: usize = 25;
const LOG_LINE_CHARS: usize = 240;
/// The process through which Erlang's nodes find each other.
pub(crate) const PORT_MAPPER: &str = "epmd";

/// What the starts of several services share.
pub(crate) struct Starter<'a> {
    pub layout: &'a Layout,
    pub progress: &'a Progress,
    pub targets: &'a ScrapeTargets,
    pub endpoints: &'a Endpoints,
    pub ports: &'a Ports,
    pub state: Mutex<State>,
    pub deadline: Deadline,
}

impl Starter<'_> {
    /// Leaves a healthy service alone, waits for one that is on its way, starts one that is not there.
    pub fn start(&self, service: Service) -> Result<()> {
        let reconfigured = self.configure(service)?;
        let say = |what: &str| self.progress.say(service.name(), what);
        if let Some(running) = self.find(service.name()) {
            self.remember(service.name(), &running)?;
            if wait::healthy(service, self.layout, self.ports).is_ok() {
                if reconfigured {
                    running.signal(Signal::Hangup);
                }
                say(&format!("runs already (pid {})", running.pid));
                return Ok(());
            }
            say(&format!("runs (pid {}) but does not answer; waiting", running.pid));
            if self.becomes_healthy(service, &running)? {
                return Ok(());
            }
            say("has ended; starting it again");
            for name in service.processes(self.ports.cluster) {
                process::kill_family(self.layout, name, None)?;
            }
        }
        let process = self.launch(service)?;
        if !self.becomes_healthy(service, &process)? {
            bail!("it ended while it started. {}", self.end_of_log(service));
        }
        Ok(())
    }

    /// Whether a file that a running service must read again has changed.
    fn configure(&self, service: Service) -> Result<bool> {
        match service {
            Service::Prometheus => {
                prometheus::configure(self.layout, self.ports, &self.endpoints.rabbitmq_metrics, self.targets)
            }
            _ => Ok(false),
        }
    }

    fn launch(&self, service: Service) -> Result<Identity> {
        let mut last = None;
        for (name, command) in self.commands(service)? {
            let identity = process::spawn(self.layout, name, command)?;
            self.remember(name, &identity)?;
            last = Some(identity);
        }
        self.progress.say(service.name(), "starting");
        last.with_context(|| format!("{service} has nothing to start"))
    }

    /// What the nodes of a cluster share, before any of them starts.
    pub fn prepare(&self, services: &[Service]) -> Result<()> {
        let has = |first: Service| services.iter().any(|service| service.first_node() == first);
        if has(Service::Cassandra) {
            install::jars(self.layout, self.progress)?;
        }
        if self.ports.cluster && has(Service::Rabbitmq) && self.find(PORT_MAPPER).is_none() {
            let command = rabbitmq::port_mapper(self.layout, self.ports)?;
            self.remember(PORT_MAPPER, &process::spawn(self.layout, PORT_MAPPER, command)?)?;
        }
        Ok(())
    }

    fn commands(&self, service: Service) -> Result<Vec<(&'static str, Command)>> {
        let name = service.name();
        Ok(match service.first_node() {
            Service::Rabbitmq => {
                let mapper = match self.ports.cluster {
                    false => Some((PORT_MAPPER, rabbitmq::port_mapper(self.layout, self.ports)?)),
                    true => None,
                };
                let server = (name, rabbitmq::command(self.layout, self.ports, service)?);
                mapper.into_iter().chain([server]).collect()
            }
            Service::Cassandra => vec![(name, cassandra::command(self.layout, self.ports, service)?)],
            Service::Postgres => {
                let dir = self.state().postgres_dir.clone().unwrap_or_else(|| self.layout.data(name));
                vec![(name, postgres::command(self.layout, self.ports, &dir)?)]
            }
            _ => {
                let mut exporter = prometheus::exporter_command(self.ports, &self.endpoints.postgres_url)?;
                if let Some(tls) = Tls::of(self.layout) {
                    exporter.env("PGPASSWORD", tls.password()?);
                }
                vec![("postgres_exporter", exporter), (name, prometheus::command(self.layout, self.ports)?)]
            }
        })
    }

    /// Waits for health; not so if the process ends first.
    fn becomes_healthy(&self, service: Service, process: &Identity) -> Result<bool> {
        let mut alive = true;
        let healthy = wait::until(&self.deadline, || {
            alive = process.is_alive();
            if alive { wait::healthy(service, self.layout, self.ports) } else { Ok(()) }
        });
        if sys::interrupted() {
            bail!("interrupted");
        }
        healthy.with_context(|| {
            let way_out = format!("if it hangs: `cargo stack kill {service}`, then `cargo stack up {service}`");
            format!("{way_out}. {}", self.end_of_log(service))
        })?;
        if alive {
            let address = self.endpoints.address_of_node(service);
            self.progress.say(service.name(), &format!("ready at {address} (pid {})", process.pid));
        }
        Ok(alive)
    }

    fn end_of_log(&self, service: Service) -> String {
        let log = self.layout.log(service.name());
        let lines = last_lines(&log, LOG_LINES);
        let lines: Vec<String> = lines.lines().map(|line| line.chars().take(LOG_LINE_CHARS).collect()).collect();
        format!("The end of {}:\n{}\n", log.display(), lines.join("\n"))
    }

    fn find(&self, name: &str) -> Option<Identity> {
        let remembered = self.state().processes.get(name).cloned();
        process::find(self.layout, name, remembered.as_ref())
    }

    /// Saved at once, so that a crash of this command loses nothing.
    fn remember(&self, name: &str, identity: &Identity) -> Result<()> {
        let mut state = self.state();
        if state.processes.get(name) == Some(identity) {
            return Ok(());
        }
        state.processes.insert(name.to_owned(), identity.clone());
        state.save(&self.layout.state_file())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
