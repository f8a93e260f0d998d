//! Reading `/proc`: processes, their CPU time, and who listens on a port.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

/// Ticks of CPU time a second. Linux has shown user space 100 of them, whatever the kernel's own, for decades.
const TICKS_PER_SECOND: u64 = 100;
/// The state LISTEN in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A process as `/proc/PID/stat` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Its own time and that of its children that have ended.
    pub cpu: Duration,
    /// Tells a process from a later one with the same number.
    pub started: u64,
}

/// Reads `/proc/PID/stat`.
pub fn parse_stat(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(' ')?;
    // The name stands in brackets and may hold anything, brackets too.
    let fields: Vec<&str> = rest.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // utime, stime, cutime, cstime
    let ticks: u64 = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Process {
        pid: pid.parse().ok()?,
        parent: u32::try_from(number(1)?).ok()?,
        cpu: ticks_to_duration(ticks),
        started: number(19)?,
    })
}

fn ticks_to_duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// The inodes of sockets that listen on a port, from `/proc/net/tcp` or `tcp6`.
pub fn parse_listeners(table: &str, port: u16) -> HashSet<u64> {
    let port = format!(":{port:04X}");
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let found = fields.get(1)?.ends_with(&port) && *fields.get(3)? == LISTEN;
        if found { fields.get(9)?.parse().ok() } else { None }
    });
    listening.collect()
}

/// All busy time of the machine since it started, from `/proc/stat`.
pub fn parse_busy(text: &str) -> Option<Duration> {
    let fields: Vec<u64> =
        text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|f| f.parse().ok()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq
    Some(ticks_to_duration(fields.get(..3)?.iter().sum::<u64>() + fields.get(5..7)?.iter().sum::<u64>()))
}

/// All busy time of the machine.
pub fn busy() -> Duration {
    fs::read_to_string("/proc/stat").ok().and_then(|text| parse_busy(&text)).unwrap_or_default()
}

/// One process.
pub fn process(pid: u32) -> Option<Process> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes.
pub fn processes() -> HashMap<u32, Process> {
    pids().filter_map(process).map(|process| (process.pid, process)).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process that listens on a port of this machine, if it can be seen.
pub fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let inodes: HashSet<u64> = tables.flat_map(|table| parse_listeners(&table, port)).collect();
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| {
            let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            inode.is_some_and(|inode: u64| inodes.contains(&inode))
        })
    };
    if inodes.is_empty() {
        return None;
    }
    // A listening socket is passed on to children (Postgres): the oldest holder is the one that opened it.
    let holders: Vec<Process> = pids().filter(holds).filter_map(process).collect();
    holders.iter().min_by_key(|holder| (holder.started, holder.pid)).map(|holder| holder.pid)
}

/// The time of a process and all its descendants, ended ones too.
pub fn tree_cpu(root: u32, all: &HashMap<u32, Process>) -> Option<Duration> {
    let mut sum = all.get(&root)?.cpu;
    let mut family = HashSet::from([root]);
    let mut grown = true;
    while grown {
        grown = false;
        for process in all.values() {
            if family.contains(&process.parent) && family.insert(process.pid) {
                sum += process.cpu;
                grown = true;
            }
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stat_lines_are_read_behind_any_name() {
        let text = "4242 (beam) smp (x) S 17 4242 4242 0 -1 4194560 9 8 7 6 150 50 25 75 20 0 30 0 98765 1 2 3";
        let process = parse_stat(text).unwrap();
        assert_eq!(process, Process { pid: 4242, parent: 17, cpu: Duration::from_secs(3), started: 98_765 });
        assert_eq!(parse_stat("4242 (cut"), None);
        assert_eq!(parse_stat("1 (a) S 0"), None);
    }

    #[test]
    fn only_listeners_of_the_port_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n\
            2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n";
        assert_eq!(parse_listeners(table, 8080), HashSet::from([111]));
        assert!(parse_listeners(table, 80).is_empty());
    }

    #[test]
    fn waiting_is_not_busy() {
        assert_eq!(parse_busy("cpu  100 0 100 5000 400 50 50 0 0 0\ncpu0 1"), Some(Duration::from_secs(3)));
        assert_eq!(parse_busy("intr 1"), None);
    }

    #[test]
    fn a_tree_counts_each_process_once() {
        let seconds = |pid, parent, s| (pid, Process { pid, parent, cpu: Duration::from_secs(s), started: 0 });
        let all = HashMap::from([seconds(1, 0, 1), seconds(2, 1, 10), seconds(3, 2, 100), seconds(9, 8, 1000)]);
        assert_eq!(tree_cpu(1, &all), Some(Duration::from_secs(111)));
        assert_eq!(tree_cpu(2, &all), Some(Duration::from_secs(110)));
        assert_eq!(tree_cpu(7, &all), None);
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let listener_socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener_socket.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
        assert!(process(std::process::id()).is_some());
    }
}
