//! Processes that outlive the one who started them: how they are started, recognised and found again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::sys::{self, Signal};
use crate::wait::{self, Deadline};

/// Tells in a process's environment which stack started it, and as what. It finds again what a crashed command left
/// without having noted it.
const MARKER: &str = "TOLLGATE_STACK_PROCESS";
/// A log file above this size is put aside when its service starts.
const LOG_BYTES_MAX: u64 = 32 * 1024 * 1024;
const KILLED_WITHIN: Duration = Duration::from_secs(30);

/// One process of one boot. A pid alone may name another process by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    start_ticks: u64,
    /// The boot in which that time counts.
    boot_id: String,
}

impl Identity {
    /// The identity of a process that runs now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        Some(Self { pid, start_ticks: stat.start_ticks, boot_id: boot_id() })
    }

    /// Whether this very process still runs. One that has ended but was not collected by its parent does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let Some(stat) = Stat::of(self.pid) else { return false };
        if stat.start_ticks != self.start_ticks || boot_id() != self.boot_id {
            return false;
        }
        if stat.is_dead() {
            sys::reap(self.pid);
            return false;
        }
        true
    }

    /// Sends a signal, unless the pid belongs to another process by now.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            sys::signal(self.pid, signal);
        }
    }
}

/// Whether no process of that pid runs: there is none, or one that has ended and was not collected.
#[must_use]
pub fn has_ended(pid: u32) -> bool {
    Stat::of(pid).is_none_or(Stat::is_dead)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: u32,
    threads: u32,
    start_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let threads = fields.nth(15)?.parse().ok()?;
        let start_ticks = fields.nth(1)?.parse().ok()?;
        Some(Self { state, parent, threads, start_ticks })
    }

    /// Ended, whether its parent has noticed or not. While other threads than the first still end, its memory and its
    /// ports are not free yet.
    fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x') && self.threads <= 1
    }
}

/// Starts `command` in a session of its own with its output in the log file of `name`.
///
/// # Errors
/// When the program or the log file cannot be opened.
pub fn spawn(layout: &Layout, name: &str, mut command: Command) -> Result<Identity> {
    let path = layout.log(name);
    put_large_log_aside(&path);
    let log = File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot open {}", path.display()))?;
    command.env(MARKER, marker(layout, name));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    sys::in_own_session(&mut command);
    let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Identity::of(child.id()).with_context(|| format!("{name} ended at once; see {}", path.display()))
}

fn put_large_log_aside(path: &Path) {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
        // A log that cannot be moved is only longer than wanted.
        let _ = fs::rename(path, path.with_extension("log.1"));
    }
}

fn marker(layout: &Layout, name: &str) -> String {
    format!("{}#{name}", layout.dir.display())
}

struct Entry {
    pid: u32,
    stat: Stat,
    marked: bool,
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes of that program whose current folder is `dir`.
#[must_use]
pub fn working_in(dir: &Path, program: &str) -> Vec<u32> {
    let is_one = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir)
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == program)
            && !has_ended(*pid)
    };
    pids().filter(is_one).collect()
}

/// All processes that run now, each with whether it carries the marker of `name`.
fn table(layout: &Layout, name: &str) -> Vec<Entry> {
    let wanted = format!("{MARKER}={}", marker(layout, name));
    let entry = |pid| {
        let stat = Stat::of(pid).filter(|stat| !stat.is_dead())?;
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let marked = environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
        Some(Entry { pid, stat, marked })
    };
    pids().filter_map(entry).collect()
}

/// The process of that name: the one remembered if it still runs, else one that carries the marker.
#[must_use]
pub fn find(layout: &Layout, name: &str, remembered: Option<&Identity>) -> Option<Identity> {
    if let Some(identity) = remembered.filter(|identity| identity.is_alive()) {
        return Some(identity.clone());
    }
    let table = table(layout, name);
    let marked: BTreeSet<u32> = table.iter().filter(|entry| entry.marked).map(|entry| entry.pid).collect();
    let top = table.iter().find(|entry| entry.marked && !marked.contains(&entry.stat.parent))?;
    Identity::of(top.pid)
}

/// The process of that name with all its descendants and everything else that carries its marker.
#[must_use]
pub fn family(layout: &Layout, name: &str, remembered: Option<&Identity>) -> Vec<Identity> {
    let table = table(layout, name);
    let mut members: BTreeSet<u32> = table.iter().filter(|entry| entry.marked).map(|entry| entry.pid).collect();
    members.extend(remembered.filter(|identity| identity.is_alive()).map(|identity| identity.pid));
    loop {
        let before = members.len();
        for entry in &table {
            if members.contains(&entry.stat.parent) {
                members.insert(entry.pid);
            }
        }
        if members.len() == before {
            break;
        }
    }
    members.into_iter().filter(|pid| *pid != std::process::id()).filter_map(Identity::of).collect()
}

/// Kills the whole family of that name at once. The top is frozen first, so that nothing is born while we look.
///
/// # Errors
/// When processes are left after a while.
pub fn kill_family(layout: &Layout, name: &str, remembered: Option<&Identity>) -> Result<()> {
    if let Some(top) = find(layout, name, remembered) {
        top.signal(Signal::Freeze);
    }
    wait::until(&Deadline::deaf(KILLED_WITHIN), || {
        let family = family(layout, name, remembered);
        family.iter().for_each(|member| member.signal(Signal::Kill));
        let pids: Vec<u32> = family.iter().map(|member| member.pid).collect();
        ensure!(pids.is_empty(), "cannot kill {name}, processes {pids:?}; were they started by another user?");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stat_is_parsed_whatever_the_program_is_called() {
        let rest = "S 41 42 43 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 987654 1 2 3";
        let stat = Stat::parse(&format!("42 (a) b (c) {rest}")).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 41, threads: 9, start_ticks: 987_654 });
        assert_eq!(Stat::parse("42 (cut off"), None);
    }

    #[test]
    fn a_process_is_dead_only_when_its_last_thread_is() {
        let first_thread_ended = Stat { state: 'Z', parent: 1, threads: 40, start_ticks: 1 };
        assert!(!first_thread_ended.is_dead());
        assert!(Stat { threads: 1, ..first_thread_ended }.is_dead());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let earlier = Identity { start_ticks: me.start_ticks - 1, ..me.clone() };
        assert!(!earlier.is_alive());
        let other_boot = Identity { boot_id: "another".to_owned(), ..me };
        assert!(!other_boot.is_alive());
    }

    #[test]
    fn an_ended_child_is_dead_before_it_is_collected() {
        #[expect(clippy::zombie_processes, reason = "the zombie is what is tested")]
        let child = Command::new("true").spawn().unwrap();
        let path = format!("/proc/{}/stat", child.id());
        let identity = Identity::of(child.id()).unwrap();
        while fs::read_to_string(&path).is_ok_and(|text| Stat::parse(&text).is_some_and(|stat| !stat.is_dead())) {
            std::thread::yield_now();
        }
        assert!(!identity.is_alive());
    }

    #[test]
    fn a_family_is_found_by_its_marker_and_killed_with_its_children() {
        let dir = std::env::temp_dir().join(format!("tollgate-process-{}", std::process::id()));
        fs::create_dir_all(dir.join("logs")).unwrap();
        let layout = Layout { workspace: dir.clone(), downloads: dir.join("downloads"), dir: dir.clone() };
        let mut command = Command::new("sh");
        // One child carries the marker, the other is known by its parent alone, as Postgres's are.
        command.args(["-c", "sleep 600 & env -i sleep 600 & wait"]);
        let shell = spawn(&layout, "family", command).unwrap();
        // Nobody remembers it, as after a crash; it has its children as soon as they are born.
        wait::until(&Deadline::deaf(Duration::from_secs(20)), || {
            let found = family(&layout, "family", None).len();
            ensure!(found == 3, "{found} processes");
            Ok(())
        })
        .unwrap();
        assert_eq!(find(&layout, "family", None), Some(shell.clone()));
        assert_eq!(find(&layout, "another", None), None);
        kill_family(&layout, "family", None).unwrap();
        assert!(!shell.is_alive());
        assert!(family(&layout, "family", Some(&shell)).is_empty());
        fs::remove_dir_all(dir).unwrap();
    }
}
