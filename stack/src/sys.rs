//! The few system calls that the standard library does not offer, behind safe functions.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A signal that this crate sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Read the configuration again.
    Hangup,
    /// Postgres: end all sessions and stop.
    Interrupt,
    /// Stop in good order.
    Terminate,
    /// Die at once.
    Kill,
    /// Stop running until killed, so that no new child can appear meanwhile.
    Freeze,
    /// Run on after that.
    Continue,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Hangup => libc::SIGHUP,
            Self::Interrupt => libc::SIGINT,
            Self::Terminate => libc::SIGTERM,
            Self::Kill => libc::SIGKILL,
            Self::Freeze => libc::SIGSTOP,
            Self::Continue => libc::SIGCONT,
        }
    }
}

/// Sends `signal` to one process. A process that is gone already is no error: the caller watches whether it is.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 1
    {
        // SAFETY: `kill` takes no pointers; a pid above 1 names one process, never a group or everything.
        unsafe { libc::kill(pid, signal.number()) };
    }
}

/// Sends `signal` to the process group led by `pid`.
pub fn signal_group(pid: u32, signal: Signal) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 1
    {
        // SAFETY: `kill` takes no pointers; a group below -1 names one group, never everything.
        unsafe { libc::kill(-pid, signal.number()) };
    }
}

/// Takes the exit status of a child of this very process, if it is one and has ended, so that no zombie stays.
pub fn reap(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 1
    {
        // SAFETY: a null status pointer is allowed, and WNOHANG never blocks.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    }
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: `geteuid` has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes the command start in a session of its own, so that it outlives the terminal and the one who started it.
pub fn in_own_session(command: &mut Command) {
    // SAFETY: `setsid` is async-signal-safe, and nothing is allocated between fork and exec.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() == -1 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

extern "C" fn remember_interrupt(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// From now on Ctrl-C, SIGTERM and SIGHUP only set what [`interrupted`] returns, so that there is time to clean up.
pub fn catch_interrupts() {
    let handler: extern "C" fn(libc::c_int) = remember_interrupt;
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(number, handler as libc::sighandler_t) };
    }
}

/// Whether a signal that [`catch_interrupts`] caught has arrived.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
