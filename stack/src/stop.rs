//! Ends the services of a stack, in good order or as a crash would.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::stack::PROGRAMS;
use crate::start::PORT_MAPPER;
use crate::state::State;
use crate::sys::Signal;
use crate::wait::{self, Deadline};
use crate::{Service, Stack, postgres, process, tls};

/// How long a service may take to stop before it is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
/// How long a program that `demo --keep` left may take to drain.
const DRAINED_WITHIN: Duration = Duration::from_secs(20);

impl Stack {
    /// Kills a service the hard way, with all its processes, as `kill -9` does. Its data stays.
    ///
    /// # Errors
    /// When it does not run here.
    pub fn kill(&self, service: Service) -> Result<()> {
        // Without the lock: a fault comes when it comes, also in the middle of another command.
        let state = self.load()?;
        if self.find(&state, service.name()).is_none() {
            match self.given(service, &state) {
                Some(_) => bail!("{service} is given by {}: it is not ours to kill", service.variable()),
                None => bail!("{service} does not run; start it with `cargo stack up {service}`"),
            }
        }
        for name in service.processes(self.is_cluster()).iter().rev() {
            process::kill_family(&self.layout, name, state.processes.get(*name))?;
        }
        Ok(())
    }

    /// Stops everything that was started here: the programs of a demo that was kept first, then the services.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn down(&self) -> Result<()> {
        self.stop_programs()?;
        self.stop(self.services())
    }

    /// Stops the programs of a demo, if they run.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn stop_programs(&self) -> Result<()> {
        let state = self.load()?;
        for name in PROGRAMS {
            self.stop_process(&state, name, Signal::Terminate, DRAINED_WITHIN)?;
        }
        Ok(())
    }

    /// Stops `services` in good order, and kills what does not stop. Their data stays.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn stop(&self, services: &[Service]) -> Result<()> {
        let _lock = self.layout.lock()?;
        let mut state = self.load()?;
        let results: Vec<Result<()>> = thread::scope(|scope| {
            let state = &state;
            let threads: Vec<_> =
                services.iter().map(|service| scope.spawn(move || self.stop_one(state, *service))).collect();
            let panicked = || Err(anyhow!("a bug in `stack`: its thread panicked"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        let runs = |service: &Service| self.find(&state, service.name()).is_some();
        if self.is_cluster() && !Service::RABBITMQ.iter().any(runs) {
            self.stop_process(&state, PORT_MAPPER, Signal::Terminate, STOPPED_WITHIN)?;
        }
        state.processes.retain(|_, identity| identity.is_alive());
        state.save(&self.layout.state_file())?;
        results.into_iter().collect()
    }

    fn stop_one(&self, state: &State, service: Service) -> Result<()> {
        for name in service.processes(self.is_cluster()).iter().rev() {
            self.stop_process(state, name, service.stop_signal(), STOPPED_WITHIN)?;
        }
        Ok(())
    }

    fn stop_process(&self, state: &State, name: &str, signal: Signal, within: Duration) -> Result<()> {
        let remembered = state.processes.get(name);
        if let Some(top) = self.find(state, name) {
            top.signal(signal);
            let stopped = wait::until(&Deadline::deaf(within), || match top.is_alive() {
                true => Err(anyhow!("it still runs")),
                false => Ok(()),
            });
            match stopped {
                Ok(()) => self.progress.say(name, "stopped"),
                Err(_) => self.progress.say(name, &format!("did not stop within {} s; killed", within.as_secs())),
            }
        }
        process::kill_family(&self.layout, name, remembered)
    }

    /// Stops everything and deletes all data. Ports, logs and downloads stay.
    ///
    /// # Errors
    /// When something cannot be deleted.
    pub fn reset(&self) -> Result<()> {
        self.down()?;
        let _lock = self.layout.lock()?;
        let mut state = self.load()?;
        for service in self.services().iter().filter(|service| **service != Service::Postgres) {
            let dir = self.layout.data(service.name());
            if dir.exists() {
                fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
            }
        }
        postgres::delete(&self.layout)?;
        tls::delete(&self.layout)?;
        state.postgres_dir = None;
        state.save(&self.layout.state_file())
    }
}
