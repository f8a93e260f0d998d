//! What fault injection needs of a stack: one inside another's folder, programs of its own, and processes that stand
//! still.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::layout::Layout;
use crate::ports::Ports;
use crate::sys::Signal;
use crate::wait::{self, Deadline};
use crate::{Endpoints, Service, Stack, demo, endpoints, ports, process};

impl Stack {
    /// A stack of its own in the folder `name` of this one's, which shares only what was downloaded, on ports that other
    /// stacks do not come near to.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn inside(&self, name: &str) -> Result<Self> {
        let outer = self.layout();
        let layout = Layout { dir: outer.dir.join(name), ..outer.clone() };
        fs::create_dir_all(layout.logs()).with_context(|| format!("cannot create {}", layout.dir.display()))?;
        let mut inside = self.clone();
        inside.layout = layout;
        // A service that is away for a while must find its ports free again.
        let mut state = inside.load()?;
        if state.ports.is_none() {
            state.ports = Some(Ports::apart());
            state.save(&inside.layout.state_file())?;
        }
        Ok(inside)
    }

    /// Refuses to go on if the environment names one of these services: what is not ours is not to be harmed.
    ///
    /// # Errors
    /// When one is given.
    pub fn ensure_own(&self, services: &[Service]) -> Result<()> {
        let state = self.load()?;
        for service in services {
            ensure!(
                self.given(*service, &state).is_none(),
                "{} is set, and only services of its own may be harmed: unset it",
                service.variable()
            );
        }
        Ok(())
    }

    /// A loopback port from `first` on that is free now, and below those that outgoing connections take.
    ///
    /// # Errors
    /// When there is none.
    pub fn free_port(first: u16) -> Result<u16> {
        let mut candidates = first..first.saturating_add(500);
        candidates.find(|port| ports::check_free(*port).is_ok()).with_context(|| format!("no free port from {first}"))
    }

    /// The configuration of `cargo demo` in this stack's folder, with secrets that are drawn once; its path.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write_demo_configuration(&self) -> Result<PathBuf> {
        demo::write_configuration(self)
    }

    /// Starts a program beside the services, its output in the log of that name; `down` ends it too if it is one of the
    /// three.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_program(&self, name: &str, command: Command) -> Result<()> {
        let identity = process::spawn(self.layout(), name, command)?;
        self.remember(name, identity)
    }

    /// Ends a program as SIGTERM does; whether it did so by itself within that time. If not, it was killed.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn stop_program(&self, name: &str, within: Duration) -> Result<bool> {
        let state = self.load()?;
        let Some(program) = self.find(&state, name) else { return Ok(true) };
        program.signal(Signal::Terminate);
        let stopped = wait::until(&Deadline::deaf(within), || match program.is_alive() {
            true => Err(anyhow!("it still runs")),
            false => Ok(()),
        });
        process::kill_family(self.layout(), name, Some(&program))?;
        Ok(stopped.is_ok())
    }

    /// Kills a program as SIGKILL does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_program(&self, name: &str) -> Result<()> {
        process::kill_family(self.layout(), name, self.load()?.processes.get(name))
    }

    /// Lets a service or program stand still with all its processes, as SIGSTOP does.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self, name: &str) -> Result<()> {
        // The first process first, so that it has no new children while the others are looked for.
        let state = self.load()?;
        let top = self.find(&state, name).with_context(|| format!("{name} does not run"))?;
        top.signal(Signal::Freeze);
        self.signal_family(&state.processes, name, Signal::Freeze);
        Ok(())
    }

    /// Lets it go on, as SIGCONT does.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn thaw(&self, name: &str) -> Result<()> {
        self.signal_family(&self.load()?.processes, name, Signal::Continue);
        Ok(())
    }

    fn signal_family(&self, processes: &BTreeMap<String, process::Identity>, name: &str, signal: Signal) {
        process::family(self.layout(), name, processes.get(name)).iter().for_each(|member| member.signal(signal));
    }
}

impl Endpoints {
    /// The same with services at other ports of loopback: behind proxies.
    #[must_use]
    pub fn behind(&self, ports: &BTreeMap<Service, u16>) -> Self {
        let mut behind = self.clone();
        for (service, port) in ports {
            match service.first_node() {
                Service::Rabbitmq => behind.rabbitmq_url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
                Service::Cassandra => behind.cassandra_nodes = vec![format!("127.0.0.1:{port}")],
                Service::Postgres => behind.postgres_url = endpoints::own_postgres_url(*port),
                _ => behind.prometheus_url = format!("http://127.0.0.1:{port}"),
            }
        }
        behind
    }
}
