//! What it costs to authenticate and normalise a request, of each provider, and what hostile requests cost beside it.
//!
//! `cargo bench -p domain --bench providers` runs it; words behind `--` pick hostile requests, by provider or name.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/hostile/bodies.rs"]
mod bodies;
#[allow(dead_code)]
#[path = "../tests/hostile/configured.rs"]
mod configured;
#[path = "../tests/hostile/xml.rs"]
mod xml;

use std::hint::black_box;
use std::time::Duration;

use bodies::Made;
use configured::Configured;
use domain::signature::Secret;

/// A body as providers send it, and the most that the gateway takes by default.
const BODY_BYTES: usize = 2048;
const LARGE_BYTES: usize = 1024 * 1024;
const ROUNDS: usize = 15;
/// The least time that a round takes.
const ROUND: Duration = Duration::from_millis(1);

/// µs of one run.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Of all rounds.
    median: f64,
    /// Of the round that was disturbed least.
    least: f64,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { median: self.median + other.median, least: self.least + other.least }
    }
}

/// CPU time of this thread: on a busy machine the clock on the wall tells of the others' work.
#[allow(unsafe_code)]
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the place that it is given, and to nothing else.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn cost_of(mut run: impl FnMut()) -> Cost {
    // The first runs warm caches and say how many make a round.
    let started = cpu_time();
    let mut runs = 0_u32;
    while cpu_time() - started < ROUND {
        run();
        runs += 1;
    }
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = cpu_time();
            (0..runs).for_each(|_| run());
            (cpu_time() - started).as_secs_f64() * 1e6 / f64::from(runs)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    Cost { median: rounds[ROUNDS / 2], least: rounds[0] }
}

/// What it costs to authenticate a request and, if it is let in, to normalise it.
fn costs(made: &Made) -> (Cost, Cost) {
    let (delivery, configured) = (made.delivery(), made.configured());
    let (provider, source, secrets) =
        (configured.provider, &configured.source, std::slice::from_ref(&configured.secret));
    let authenticate = || (provider.authenticate)(&delivery, source, secrets, made.now_unix);
    let checked = cost_of(|| {
        let _ = black_box(authenticate());
    });
    // Of a source whose key only its provider has, the signature is checked to its end and does not fit.
    if authenticate().is_err() && !bodies::only_provider_signs(made.which) {
        return (checked, Cost::default());
    }
    (checked, cost_of(|| drop(black_box((provider.normalise)(&delivery, source, made.now_unix * 1000)))))
}

/// What it costs to refuse a request that is signed with another secret.
fn forged(made: &Made) -> Cost {
    let (delivery, configured) = (made.delivery(), made.configured());
    // What only its provider could sign is not signed by it anyway.
    let signs = !bodies::only_provider_signs(made.which);
    let other = signs.then(|| another_secret(configured));
    let secrets = std::slice::from_ref(other.as_ref().unwrap_or(&configured.secret));
    let authenticate = || (configured.provider.authenticate)(&delivery, &configured.source, secrets, made.now_unix);
    assert!(authenticate().is_err(), "{} is let in", made.what);
    cost_of(|| {
        let _ = black_box(authenticate());
    })
}

/// A secret of the same form with one character changed, behind any prefix and public part.
fn another_secret(configured: &Configured) -> Secret {
    let mut text = configured.text.clone();
    let at = text.len() * 3 / 4;
    let other = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    text.replace_range(at..=at, other);
    Secret::of((configured.provider.prepare_secret)(&text, &configured.source).unwrap(), None, None)
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("µs of CPU, median of {ROUNDS} rounds, and in brackets the least");
    events();
    let plain: Vec<_> = bodies::sources().map(|(which, name)| plain(which, name)).collect();
    hostile(&wanted, &plain);
}

/// Events of 2 KB.
fn events() {
    println!("source             bytes    authenticate       normalise             sum");
    let show = |cost: Cost| format!("{:.2} ({:.2})", cost.median, cost.least);
    for (which, name) in bodies::sources() {
        let made = bodies::event(which, BODY_BYTES);
        let (checked, read) = costs(&made);
        let (bytes, sum) = (made.body.len(), show(checked + read));
        println!("{name:18} {bytes:5} {:>15} {:>15} {sum:>15}", show(checked), show(read));
    }
}

fn whole(cost: Cost) -> String {
    format!("{:.0} ({:.0})", cost.median, cost.least)
}

/// What a plain request of 1 MiB costs at least, and a forged one.
fn plain(which: usize, name: &str) -> (f64, f64) {
    let made = bodies::plain(which, LARGE_BYTES);
    let ((checked, read), forged) = (costs(&made), forged(&made));
    let bytes = made.body.len();
    println!("{name:18} plain, {bytes} bytes: {} + {}; forged: {}", whole(checked), whole(read), whole(forged));
    ((checked + read).least, forged.least)
}

/// What hostile requests cost beside a plain one, forged beside a forged plain one, and beside a quarter of themselves.
fn hostile(wanted: &[String], plain: &[(f64, f64)]) {
    println!("how many times as much as a plain request, and as one of a quarter of the size:");
    println!(
        "source             hostile request                            bytes  authenticate     normalise    plain   forged  quarter"
    );
    let (mut worst, mut worst_forged, mut is_linear) = ((0.0, "", ""), (0.0, "", ""), true);
    for (made, quarter) in bodies::hostile(LARGE_BYTES).iter().zip(bodies::hostile(LARGE_BYTES / 4)) {
        let name = bodies::sources().find_map(|(which, name)| (which == made.which).then_some(name)).unwrap();
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name == wanted || made.what == wanted) {
            continue;
        }
        let ((checked, read), (of_quarter, read_quarter)) = (costs(made), costs(&quarter));
        let least = (checked + read).least;
        let (of_plain, of_plain_forged) = plain[made.which];
        let (times, growth) = (least / of_plain, least / (of_quarter + read_quarter).least);
        let times_forged = forged(made).least / of_plain_forged;
        for (worst, times) in [(&mut worst, times), (&mut worst_forged, times_forged)] {
            if times > worst.0 {
                *worst = (times, name, made.what);
            }
        }
        // Four is linear, sixteen quadratic; what costs nearly nothing has no growth to speak of.
        is_linear &= growth < 8.0 || least < 100.0;
        let (what, bytes, checked, read) = (made.what, made.body.len(), whole(checked), whole(read));
        println!("{name:18} {what:39} {bytes:8} {checked:>13} {read:>13} {times:8.2} {times_forged:8.2} {growth:8.2}");
    }
    for (who, (times, name, what)) in [("with a secret", worst), ("forged", worst_forged)] {
        println!("the worst {who} is {times:.2} times a plain one: {name}, {what}");
    }
    assert!(is_linear, "something costs more than in proportion to its size");
}
