//! Starts, watches and ends the services of one stack.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::endpoints::{self, Endpoints};
use crate::layout::Layout;
use crate::ports::{self, Ports};
use crate::process::{self, Identity};
use crate::progress::Progress;
use crate::prometheus::ScrapeTargets;
use crate::start::{PORT_MAPPER, Starter};
use crate::state::State;
use crate::tls::Tls;
use crate::wait::{self, Deadline};
use crate::{Service, install, postgres, prometheus, rabbitmq, sys};

/// How long a service may take to become healthy: a cold start beside a compiler on two cores, or a long recovery.
const HEALTHY_WITHIN: Duration = Duration::from_secs(240);
/// How long a remembered port may still be in use before another one is taken.
const FREED_WITHIN: Duration = Duration::from_secs(5);

/// The programs that `demo` starts, in the order in which they are stopped.
pub(crate) const PROGRAMS: [&str; 3] = ["ingest", "writer", "reconciler"];

/// One service as `status` shows it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// Which one.
    pub service: Service,
    /// Its process, unless it does not run or is not ours.
    pub pid: Option<u32>,
    /// Whether its address comes from the environment.
    pub given: bool,
    /// Whether it answered.
    pub healthy: bool,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// Why it is not healthy.
    pub problem: Option<String>,
}

/// The services of one data folder. Values of this type hold nothing: all that lasts is in the folder, so any number
/// of programs may open the same stack.
#[derive(Clone, Debug)]
pub struct Stack {
    pub(crate) layout: Layout,
    pub(crate) progress: Progress,
    targets: ScrapeTargets,
    cluster: bool,
}

impl Stack {
    /// Opens the stack of the workspace around the current folder. Starts nothing.
    ///
    /// # Errors
    /// When there is no workspace around it.
    pub fn open() -> Result<Self> {
        Self::open_as(false)
    }

    /// Opens the stack of three RabbitMQ and three Cassandra nodes, whose data folder is another one. Starts nothing.
    ///
    /// # Errors
    /// When there is no workspace around it, or its folder holds a stack of single nodes.
    pub fn open_cluster() -> Result<Self> {
        Self::open_as(true)
    }

    fn open_as(cluster: bool) -> Result<Self> {
        let layout = Layout::discover(cluster)?;
        let started = State::load(&layout.state_file())?.ports.map(|ports| ports.cluster);
        ensure!(
            !cluster || started != Some(false),
            "{} holds a stack of single nodes; name another folder with TOLLGATE_STACK_DIR",
            layout.dir.display()
        );
        // What a folder was started as it stays.
        let cluster = cluster || started == Some(true);
        Ok(Self { layout, progress: Progress::default(), targets: ScrapeTargets::default(), cluster })
    }

    /// Whether RabbitMQ and Cassandra have three nodes each.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// The services that this stack consists of.
    #[must_use]
    pub fn services(&self) -> &'static [Service] {
        if self.cluster { &Service::CLUSTER } else { &Service::ALL }
    }

    /// Makes Prometheus scrape the programs at other addresses than the usual ones.
    #[must_use]
    pub fn with_scrape_targets(mut self, targets: ScrapeTargets) -> Self {
        self.targets = targets;
        self
    }

    /// Starts those of `services` that do not run, installs what they need, and waits until all are healthy.
    ///
    /// # Errors
    /// When one cannot be installed or started or does not become healthy, with the end of its log.
    pub fn up(&self, services: &[Service]) -> Result<Endpoints> {
        if let Some(foreign) = services.iter().find(|service| !self.services().contains(service)) {
            bail!("{foreign} is a node of a cluster: `cargo stack --cluster up`");
        }
        let _lock = self.layout.lock()?;
        let mut state = self.load()?;
        let ports = self.choose_ports(&state, &self.clear_remains(&state, services)?)?;
        state.ports = Some(ports.clone());
        let endpoints = self.endpoints_of(Some(&ports))?;
        let ours: Vec<Service> =
            services.iter().copied().filter(|service| self.given(*service, &state).is_none()).collect();
        install::packages(&self.layout, &self.progress, &ours)?;
        if ours.contains(&Service::Postgres) && state.postgres_dir.is_none() {
            state.postgres_dir = Some(postgres::choose_dir(&self.layout)?);
        }
        state.save(&self.layout.state_file())?;

        let starter = Starter {
            layout: &self.layout,
            progress: &self.progress,
            targets: &self.targets,
            endpoints: &endpoints,
            ports: &ports,
            state: Mutex::new(state),
            deadline: Deadline::within(HEALTHY_WITHIN),
        };
        starter.prepare(&ours)?;
        let failures: Vec<String> = thread::scope(|scope| {
            let starter = &starter;
            let threads: Vec<_> =
                services.iter().map(|service| (service, scope.spawn(move || self.up_one(starter, *service)))).collect();
            let results = threads.into_iter().map(|(service, thread)| {
                let result = thread.join().unwrap_or_else(|_| Err(anyhow!("a bug in `stack`: its thread panicked")));
                result.err().map(|error| format!("{service}: {error:#}"))
            });
            results.flatten().collect()
        });
        if sys::interrupted() {
            bail!("interrupted");
        }
        if failures.is_empty() { Ok(endpoints) } else { bail!("{}", failures.join("\n")) }
    }

    /// Those of `services` that do not run, after what is left of them is gone: where only the first process of a
    /// service died, the others hold its ports and its data.
    fn clear_remains(&self, state: &State, services: &[Service]) -> Result<Vec<Service>> {
        let runs = |service: &Service| self.find(state, service.name()).is_some();
        let starting: Vec<Service> = services.iter().copied().filter(|service| !runs(service)).collect();
        for name in starting.iter().flat_map(|service| service.processes(self.cluster)) {
            process::kill_family(&self.layout, name, state.processes.get(*name))?;
        }
        Ok(starting)
    }

    /// The remembered ports; those of services that are starting move away from whoever has taken them.
    fn choose_ports(&self, state: &State, starting: &[Service]) -> Result<Ports> {
        let fresh = self.cluster.then(|| Ports::USUAL.clustered());
        let remembered = state.ports.as_ref();
        // The nodes of a cluster share it: it listens while one of them starts.
        let mapper = self.cluster && self.find(state, PORT_MAPPER).is_some();
        let starting = if remembered.is_some() { starting } else { self.services() };
        let chosen = Ports::choose(remembered.or(fresh.as_ref()), starting, |port| {
            if mapper && remembered.is_some_and(|ports| ports.epmd == port) {
                return true;
            }
            let ours = remembered.is_some_and(|ports| ports.contain(port));
            // One of ours may be free in a moment; its users count on its staying the same.
            let patience = if ours { FREED_WITHIN } else { Duration::ZERO };
            let check = if self.cluster && !ours { ports::check_free_for_cluster } else { ports::check_free };
            wait::until(&Deadline::within(patience), || check(port)).is_ok()
        })?;
        let moved = remembered.map(|old| chosen.moved(old)).unwrap_or_default();
        if let Some((service, old, _)) = moved.first().filter(|_| self.cluster) {
            bail!("{service}: port {old} was taken by another program; a cluster keeps its ports, so end that program");
        }
        for (service, old, new) in moved {
            self.progress.say(service.name(), &format!("port {old} was taken by another program; now {new}"));
        }
        Ok(chosen)
    }

    fn up_one(&self, starter: &Starter, service: Service) -> Result<()> {
        let given = self.given(service, &starter.state.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(address) = given else { return starter.start(service) };
        wait::answers(service, &address).with_context(|| {
            format!(
                "{} is set, and what it names does not answer; unset it to let the stack start its own",
                service.variable()
            )
        })?;
        self.progress.say(service.name(), &format!("used as given by {}", service.variable()));
        Ok(())
    }

    /// Brings one service back, with its data and on its ports, and waits until it is healthy.
    ///
    /// # Errors
    /// As [`Stack::up`].
    pub fn start(&self, service: Service) -> Result<()> {
        self.up(&[service]).map(drop)
    }

    /// Tells RabbitMQ what to do, as `rabbitmqctl` does.
    ///
    /// # Errors
    /// When it is not ours, or refuses; with what it says.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> Result<()> {
        let state = self.load()?;
        if let Some(address) = self.given(Service::Rabbitmq, &state) {
            bail!("RabbitMQ at {address} is given by {}: not ours to command", Service::Rabbitmq.variable());
        }
        let ports = state.ports.as_ref().ok_or_else(never_started)?;
        let output =
            rabbitmq::control(&self.layout, ports).args(arguments).output().context("cannot run rabbitmqctl")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "rabbitmqctl {}: {said}", arguments.join(" "));
        Ok(())
    }

    /// The configuration with which a Prometheus scrapes this stack's services, and the programs at
    /// [`Stack::with_scrape_targets`].
    ///
    /// # Errors
    /// When nothing was ever started here.
    pub fn prometheus_configuration(&self) -> Result<String> {
        let state = self.load()?;
        let ports = state.ports.as_ref().ok_or_else(never_started)?;
        let endpoints = self.endpoints_of(Some(ports))?;
        Ok(prometheus::configuration(&self.layout.workspace, ports, &endpoints.rabbitmq_metrics, &self.targets))
    }

    /// Waits until a service is healthy, however it was started.
    ///
    /// # Errors
    /// When it does not become so in time.
    pub fn wait_healthy(&self, service: Service) -> Result<()> {
        let state = self.load()?;
        let ports = state.ports.as_ref();
        let deadline = Deadline::within(HEALTHY_WITHIN);
        wait::until(&deadline, || match (self.given(service, &state), ports) {
            (Some(address), _) => wait::answers(service, &address),
            (None, Some(ports)) => wait::healthy(service, &self.layout, ports),
            (None, None) => Err(never_started()),
        })
    }

    /// The process of a service, if it runs here.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn pid(&self, service: Service) -> Result<Option<u32>> {
        Ok(self.find(&self.load()?, service.name()).map(|identity| identity.pid))
    }

    /// The services that run here, healthy or not.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn running(&self) -> Result<Vec<Service>> {
        let state = self.load()?;
        let runs = |service: &Service| self.find(&state, service.name()).is_some();
        Ok(self.services().iter().copied().filter(runs).collect())
    }

    /// Where the services are reached; the same over restarts.
    ///
    /// # Errors
    /// When nothing was ever started here and not every address is given.
    pub fn endpoints(&self) -> Result<Endpoints> {
        self.endpoints_of(self.load()?.ports.as_ref())
    }

    fn endpoints_of(&self, ports: Option<&Ports>) -> Result<Endpoints> {
        let own = ports.map(|ports| self.own_endpoints(ports));
        let given = Service::ALL.map(|service| (service, endpoints::given(service, own.as_ref())));
        let all_given = given.iter().all(|(_, address)| address.is_some());
        let mut endpoints =
            own.or_else(|| all_given.then(|| Endpoints::of(&Ports::USUAL))).ok_or_else(never_started)?;
        for (service, address) in given {
            if let Some(address) = address {
                endpoints.replace(service, &address);
            }
        }
        Ok(endpoints)
    }

    fn own_endpoints(&self, ports: &Ports) -> Endpoints {
        let plain = Endpoints::of(ports);
        match Tls::of(&self.layout) {
            Some(tls) => tls.secure(plain),
            None => plain,
        }
    }

    /// What `service` is given as by the environment, if it is not our own.
    pub(crate) fn given(&self, service: Service, state: &State) -> Option<String> {
        endpoints::given(service, state.ports.as_ref().map(|ports| self.own_endpoints(ports)).as_ref())
    }

    /// How each service is now.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn status(&self) -> Result<Vec<Status>> {
        let state = self.load()?;
        let endpoints = self.endpoints_of(state.ports.as_ref()).ok();
        let one = |service: Service| {
            let given = self.given(service, &state);
            let pid = self.find(&state, service.name()).map(|identity| identity.pid);
            let health = match (&given, &state.ports, pid) {
                (Some(address), ..) => wait::answers(service, address),
                (None, Some(ports), Some(_)) => wait::healthy(service, &self.layout, ports),
                _ => Err(anyhow!("does not run")),
            };
            Status {
                service,
                pid,
                given: given.is_some(),
                healthy: health.is_ok(),
                address: endpoints.as_ref().map(|endpoints| endpoints.address_of_node(service)),
                problem: health.err().map(|error| format!("{error:#}")),
            }
        };
        Ok(self.services().iter().copied().map(one).collect())
    }

    /// The folders of this stack.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Notes a program that was started beside the services, so that `down` ends it too.
    pub(crate) fn remember(&self, name: &str, identity: Identity) -> Result<()> {
        let _lock = self.layout.lock()?;
        let mut state = self.load()?;
        state.processes.insert(name.to_owned(), identity);
        state.save(&self.layout.state_file())
    }

    /// The programs of a demo that run here, with their processes.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn programs(&self) -> Result<Vec<(&'static str, u32)>> {
        let state = self.load()?;
        Ok(PROGRAMS.iter().filter_map(|name| Some((*name, self.find(&state, name)?.pid))).collect())
    }

    /// Whether a service or program runs here.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn runs(&self, name: &str) -> Result<bool> {
        Ok(self.find(&self.load()?, name).is_some())
    }

    pub(crate) fn load(&self) -> Result<State> {
        State::load(&self.layout.state_file())
    }

    pub(crate) fn find(&self, state: &State, name: &str) -> Option<Identity> {
        process::find(&self.layout, name, state.processes.get(name))
    }
}

fn never_started() -> anyhow::Error {
    anyhow!("nothing was started here yet, so there are no addresses; run `cargo stack up`")
}
