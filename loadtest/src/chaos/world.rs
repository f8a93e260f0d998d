//! What is harmed: services, programs and the proxies between them, all of this run's own.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use platform::config::{Config, environment, parse};
use stack::{Endpoints, Service, Stack, host_port};

use super::ChaosError;
use super::faults::{Fault, Kind, Target};
use super::proxy::{Link, Proxy, Towards};

/// The folder of the services, in that of the usual ones.
const FOLDER: &str = "chaos";
const SERVICES: [Service; 3] = [Service::Rabbitmq, Service::Cassandra, Service::Postgres];
/// In the order in which they are started: who consumes is there before anything is accepted.
pub const PROGRAMS: [Target; 3] = [Target::Writer, Target::Reconciler, Target::Ingest];
/// Where free ports are looked for: below those that outgoing connections take.
const FIRST_PORT: u16 = 18_080;
/// How long a program may take upon SIGTERM: 10 s to finish what it has, and time to close.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// Of a slow link.
const LATENCY: Duration = Duration::from_millis(50);

/// Everything that was started for one run.
pub struct World {
    stack: Stack,
    binaries: PathBuf,
    file: PathBuf,
    variables: BTreeMap<String, String>,
    endpoints: Endpoints,
    proxies: BTreeMap<Target, Proxy>,
    /// The configuration without the proxies: for the load, which is not to be harmed, and the audit.
    pub config: Config,
    /// Only one run at a time; freed with it.
    _lock: File,
}

impl World {
    /// Starts fresh services, proxies in front of them, and the programs.
    pub async fn start(configuration: Option<&Path>) -> Result<Self, ChaosError> {
        let stack = Stack::open().and_then(|outer| outer.inside(FOLDER)).map_err(failed)?;
        stack.ensure_own(&SERVICES).map_err(failed)?;
        let lock = lock(&stack)?;
        let binaries = binaries()?;
        let endpoints = blocking(&stack, |stack| {
            stack.reset()?;
            // What came up is not left behind when the rest does not.
            stack.up(&SERVICES).inspect_err(|_| drop(stack.down()))
        })
        .await?;
        let file = match configuration {
            Some(file) => file.to_owned(),
            None => stack.write_demo_configuration().map_err(failed)?,
        };
        let mut port = FIRST_PORT;
        let mut free = || {
            let found = Stack::free_port(port).map_err(failed)?;
            port = found + 1;
            Ok::<u16, ChaosError>(found)
        };
        let mut variables = environment()?;
        let own = [
            ("INGEST_LISTEN", format!("127.0.0.1:{}", free()?)),
            ("INGEST_INTERNAL_LISTEN", format!("127.0.0.1:{}", free()?)),
            ("WRITER_INTERNAL_LISTEN", format!("127.0.0.1:{}", free()?)),
            ("RECONCILER_INTERNAL_LISTEN", format!("127.0.0.1:{}", free()?)),
            ("TRACE_ENDPOINT", String::new()),
            // It would heal what the pipeline has lost.
            ("SWEEP_ENABLED", "false".to_owned()),
        ];
        variables.extend(own.map(|(key, value)| (format!("TOLLGATE_{key}"), value)));
        variables.extend(endpoints.env());
        let text = std::fs::read_to_string(&file)?;
        let config = parse(&file.display().to_string(), &text, &variables)?;

        let mut proxies = BTreeMap::new();
        let mut ports = BTreeMap::new();
        for (target, service, server) in [
            (Target::ProvidersLink, None, config.ingest.listen),
            (Target::RabbitmqLink, Some(Service::Rabbitmq), address(&endpoints, Service::Rabbitmq)?),
            (Target::CassandraLink, Some(Service::Cassandra), address(&endpoints, Service::Cassandra)?),
            (Target::PostgresLink, Some(Service::Postgres), address(&endpoints, Service::Postgres)?),
        ] {
            let port = free()?;
            proxies.insert(target, Proxy::start(port, server).await?);
            ports.extend(service.map(|service| (service, port)));
        }
        variables.extend(endpoints.behind(&ports).env());
        let world = Self { stack, binaries, file, variables, endpoints, proxies, config, _lock: lock };
        for program in PROGRAMS {
            world.start_program(program)?;
        }
        Ok(world)
    }

    /// Where providers send.
    pub fn front(&self) -> Option<SocketAddr> {
        self.proxies.get(&Target::ProvidersLink).map(Proxy::address)
    }

    /// Where the configuration's relative paths start from.
    pub fn config_folder(&self) -> PathBuf {
        self.file.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// The folder with the logs.
    pub fn logs(&self) -> PathBuf {
        self.stack.layout().logs()
    }

    /// The internal listeners, by program.
    pub fn listeners(&self) -> [(Target, SocketAddr); 3] {
        let listener = |program| match program {
            Target::Writer => self.config.writer.internal_listen,
            Target::Reconciler => self.config.reconciler.internal_listen,
            _ => self.config.ingest.internal_listen,
        };
        PROGRAMS.map(|program| (program, listener(program)))
    }

    /// Whether a program runs.
    pub fn runs(&self, program: Target) -> bool {
        self.stack.runs(program.as_str()).unwrap_or(false)
    }

    fn start_program(&self, program: Target) -> Result<(), ChaosError> {
        let mut command = Command::new(self.binaries.join(program.as_str()));
        command.arg("--config").arg(&self.file).envs(&self.variables);
        self.stack.start_program(program.as_str(), command).map_err(failed)
    }

    /// Does the harm.
    pub async fn begin(&self, fault: Fault) -> Result<(), ChaosError> {
        let name = fault.target.as_str();
        match (fault.kind, service(fault.target)) {
            (Kind::Kill, Some(service)) => blocking(&self.stack, move |stack| stack.kill(service)).await,
            (Kind::Kill, None) => blocking(&self.stack, move |stack| stack.kill_program(name)).await,
            (Kind::Freeze, _) => blocking(&self.stack, move |stack| stack.freeze(name)).await,
            (Kind::Restart, Some(service)) => blocking(&self.stack, move |stack| stack.stop(&[service])).await,
            (Kind::Restart, None) => self.stop_program(fault.target).await,
            (Kind::Cut, _) => self.link(fault.target, Proxy::cut),
            (Kind::Refuse, _) => self.link(fault.target, |proxy| proxy.set(Link::Refused)),
            (Kind::Stall, _) => self.link(fault.target, |proxy| proxy.set(Link::Stalled)),
            (Kind::Slow, _) => self.link(fault.target, |proxy| proxy.set(Link::Slow(LATENCY))),
            (Kind::LoseRequests, _) => self.link(fault.target, |proxy| proxy.set(Link::HalfOpen(Towards::Server))),
            (Kind::LoseAnswers, _) => self.link(fault.target, |proxy| proxy.set(Link::HalfOpen(Towards::Client))),
            (Kind::Reset, _) => self.link(fault.target, |proxy| proxy.set(Link::Resetting)),
        }
    }

    /// Undoes it. Services come last: they take long, and what needs them must wait for them.
    pub async fn end(&self, faults: &[Fault]) -> Result<(), ChaosError> {
        let mut services = Vec::new();
        for fault in faults {
            match (fault.kind, service(fault.target)) {
                (Kind::Kill | Kind::Restart, Some(service)) => services.push(service),
                (Kind::Kill | Kind::Restart, None) => self.start_program(fault.target)?,
                (Kind::Freeze, _) => {
                    let name = fault.target.as_str();
                    blocking(&self.stack, move |stack| stack.thaw(name)).await?;
                }
                _ => self.link(fault.target, |proxy| proxy.set(Link::Whole))?,
            }
        }
        if services.is_empty() {
            return Ok(());
        }
        // A port that was free a moment ago may have been taken by another stack on this machine: then it moves.
        let up = move |stack: &Stack| stack.up(&services).or_else(|_| stack.up(&services));
        let endpoints = blocking(&self.stack, up).await?;
        match endpoints == self.endpoints {
            true => Ok(()),
            false => Err(ChaosError::Failed("a service came back at another address: its port was taken".to_owned())),
        }
    }

    /// Ends a program in good order.
    pub async fn stop_program(&self, program: Target) -> Result<(), ChaosError> {
        let name = program.as_str();
        match blocking(&self.stack, move |stack| stack.stop_program(name, STOPPED_WITHIN)).await? {
            true => Ok(()),
            false => {
                Err(ChaosError::Failed(format!("{name} did not stop within {} s of SIGTERM", STOPPED_WITHIN.as_secs())))
            }
        }
    }

    fn link(&self, target: Target, harm: impl FnOnce(&Proxy)) -> Result<(), ChaosError> {
        let proxy = self.proxies.get(&target);
        proxy.map(harm).ok_or_else(|| ChaosError::Failed(format!("{} is no link", target.as_str())))
    }

    /// Stops everything; deletes the data unless it is to be looked at.
    pub async fn end_all(&self, keep: bool) -> Result<(), ChaosError> {
        blocking(&self.stack, move |stack| if keep { stack.down() } else { stack.reset() }).await
    }
}

fn service(target: Target) -> Option<Service> {
    match target {
        Target::Rabbitmq => Some(Service::Rabbitmq),
        Target::Cassandra => Some(Service::Cassandra),
        Target::Postgres => Some(Service::Postgres),
        _ => None,
    }
}

fn address(endpoints: &Endpoints, service: Service) -> Result<SocketAddr, ChaosError> {
    let address = host_port(&endpoints.address(service), 0);
    address.parse().map_err(|_| ChaosError::Failed(format!("{service} has no address on loopback: {address}")))
}

fn lock(stack: &Stack) -> Result<File, ChaosError> {
    let file = File::create(stack.layout().dir.join("chaos.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(ChaosError::Failed("another chaos run uses this stack: wait for its end".to_owned())),
    }
}

/// The folder of the programs: that of this one, so that all are of the same build.
fn binaries() -> Result<PathBuf, ChaosError> {
    let own = std::env::current_exe()?;
    // A test's own binary is one folder further down.
    let folders = own.ancestors().skip(1).take(2);
    let mut whole = folders.filter(|folder| PROGRAMS.iter().all(|program| folder.join(program.as_str()).is_file()));
    let missing = || ChaosError::Failed("build the programs first: cargo build --release --workspace".to_owned());
    whole.next().map(Path::to_owned).ok_or_else(missing)
}

fn failed(error: impl std::fmt::Display) -> ChaosError {
    ChaosError::Failed(format!("{error:#}"))
}

/// Runs what blocks on a thread of its own, so that the proxies go on.
async fn blocking<T, E>(
    stack: &Stack,
    work: impl FnOnce(&Stack) -> Result<T, E> + Send + 'static,
) -> Result<T, ChaosError>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let stack = stack.clone();
    tokio::task::spawn_blocking(move || work(&stack)).await.map_err(failed)?.map_err(failed)
}
