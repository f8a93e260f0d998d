//! What can happen to whom.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What is harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A program.
    Ingest,
    /// A program.
    Writer,
    /// A program.
    Reconciler,
    /// A service.
    Rabbitmq,
    /// A service.
    Cassandra,
    /// A service.
    Postgres,
    /// The network between providers and ingest.
    ProvidersLink,
    /// The network between the programs and a service.
    RabbitmqLink,
    /// The same.
    CassandraLink,
    /// The same.
    PostgresLink,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL, and started again after the hold.
    Kill,
    /// SIGSTOP, and SIGCONT after the hold.
    Freeze,
    /// Stopped in good order, and started again after the hold.
    Restart,
    /// All connections closed at once.
    Cut,
    /// Nobody listens.
    Refuse,
    /// Connections stay, nothing is passed on.
    Stall,
    /// Little is passed on, and late.
    Slow,
    /// Requests vanish, and the service knows nothing of the connection afterwards.
    LoseRequests,
    /// Answers vanish, and the service knows nothing of the connection afterwards.
    LoseAnswers,
    /// Connections are reset in the middle of a frame.
    Reset,
}

pub const PROGRAMS: [Target; 3] = [Target::Ingest, Target::Writer, Target::Reconciler];
const SERVICES: [Target; 3] = [Target::Rabbitmq, Target::Cassandra, Target::Postgres];
const LINKS: [Target; 4] = [Target::ProvidersLink, Target::RabbitmqLink, Target::CassandraLink, Target::PostgresLink];
const OF_PROCESSES: [Kind; 3] = [Kind::Kill, Kind::Freeze, Kind::Restart];
const OF_LINKS: [Kind; 7] =
    [Kind::Cut, Kind::Refuse, Kind::Stall, Kind::Slow, Kind::LoseRequests, Kind::LoseAnswers, Kind::Reset];

impl Target {
    /// The name in reports, and of the process.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Writer => "writer",
            Self::Reconciler => "reconciler",
            Self::Rabbitmq => "rabbitmq",
            Self::Cassandra => "cassandra",
            Self::Postgres => "postgres",
            Self::ProvidersLink => "providers-link",
            Self::RabbitmqLink => "rabbitmq-link",
            Self::CassandraLink => "cassandra-link",
            Self::PostgresLink => "postgres-link",
        }
    }
}

impl Kind {
    /// The name in reports and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Restart => "restart",
            Self::Cut => "cut",
            Self::Refuse => "refuse",
            Self::Stall => "stall",
            Self::Slow => "slow",
            Self::LoseRequests => "lose-requests",
            Self::LoseAnswers => "lose-answers",
            Self::Reset => "reset",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// To whom.
    pub target: Target,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.target.as_str())
    }
}

/// Kinds and targets that faults are restricted to; without any of them, all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Only(Vec<&'static str>);

impl Only {
    fn allows(&self, fault: Fault) -> bool {
        let named =
            |names: Vec<&str>, name: &str| !names.iter().any(|one| self.0.contains(one)) || self.0.contains(&name);
        named(kinds().map(Kind::as_str).collect(), fault.kind.as_str())
            && named(targets().map(Target::as_str).collect(), fault.target.as_str())
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = kinds().map(Kind::as_str).chain(targets().map(Target::as_str)).collect();
        let known = |part: &str| {
            let found = names.iter().find(|name| **name == part.trim()).copied();
            found.ok_or_else(|| format!("{part:?} is no kind or target; there are {}", names.join(", ")))
        };
        let only = Self(text.split(',').map(known).collect::<Result<_, _>>()?);
        match singles(&only).is_empty() {
            true => Err("no fault is of these kinds at these targets".to_owned()),
            false => Ok(only),
        }
    }
}

fn kinds() -> impl Iterator<Item = Kind> {
    OF_PROCESSES.into_iter().chain(OF_LINKS)
}

fn targets() -> impl Iterator<Item = Target> {
    PROGRAMS.into_iter().chain(SERVICES).chain(LINKS)
}

/// One of each, but programs are killed twice: that is cheap, and a service's restart is not.
pub fn singles(only: &Only) -> Vec<Fault> {
    let of = |targets: &'static [Target], kinds: &'static [Kind]| {
        targets.iter().flat_map(move |target| kinds.iter().map(move |kind| Fault { kind: *kind, target: *target }))
    };
    let all = of(&PROGRAMS, &OF_PROCESSES).chain(of(&PROGRAMS, &[Kind::Kill]));
    let all = all.chain(of(&SERVICES, &OF_PROCESSES)).chain(of(&LINKS, &OF_LINKS));
    all.filter(|fault| only.allows(*fault)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_can_be_restricted() {
        let only: Only = "kill,cut,writer,postgres-link".parse().unwrap_or_default();
        let all: Vec<Fault> = singles(&only);
        let allowed = [
            Fault { kind: Kind::Kill, target: Target::Writer },
            Fault { kind: Kind::Cut, target: Target::PostgresLink },
        ];
        assert!(all.len() == 3 && all.iter().all(|fault| allowed.contains(fault)), "{all:?}");
        assert!("kill,rabbitmq-link".parse::<Only>().is_err_and(|error| error.contains("no fault")));
        assert!("Kill".parse::<Only>().is_err_and(|error| error.contains("there are kill, freeze")));
    }
}
