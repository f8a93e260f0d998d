//! What it costs to authenticate and normalise a request, of each provider, and what hostile requests cost beside it.
//!
//! `cargo bench -p domain --bench providers` runs it; a word behind `--` picks the hostile requests of a provider.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/hostile/bodies.rs"]
mod bodies;
#[allow(dead_code)]
#[path = "../tests/hostile/configured.rs"]
mod configured;
#[path = "../tests/hostile/xml.rs"]
mod xml;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bodies::Made;

/// A body as providers send it, and the most that the gateway takes by default.
const BODY_BYTES: usize = 2048;
const LARGE_BYTES: usize = 1024 * 1024;
/// Rounds of which the median is shown; each is at least this long.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(2);

/// Median µs of one run.
fn median_us(mut run: impl FnMut()) -> f64 {
    // The first runs warm caches and say how many make a round.
    let started = Instant::now();
    let mut runs = 0_u32;
    while started.elapsed() < ROUND {
        run();
        runs += 1;
    }
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            (0..runs).for_each(|_| run());
            started.elapsed().as_secs_f64() * 1e6 / f64::from(runs)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// µs to authenticate and to normalise.
fn cost_us(made: &Made) -> (f64, f64) {
    let (delivery, configured) = (made.delivery(), made.configured());
    let (source, secrets) = (&configured.source, std::slice::from_ref(&configured.secret));
    let authenticate = || {
        let _ = black_box((configured.provider.authenticate)(&delivery, source, secrets, made.now_unix));
    };
    let normalise = || drop(black_box((configured.provider.normalise)(&delivery, source, made.now_unix * 1000)));
    (median_us(authenticate), median_us(normalise))
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("provider           bytes  authenticate  normalise    sum, µs (median of {ROUNDS} rounds)");
    for (which, name) in bodies::sources() {
        let made = bodies::event(which, BODY_BYTES);
        let (authenticate, normalise) = cost_us(&made);
        let sum = authenticate + normalise;
        println!("{name:18} {:5} {authenticate:13.2} {normalise:10.2} {sum:6.2}", made.body.len());
    }
    let plain: Vec<f64> = bodies::sources()
        .map(|(which, name)| {
            let made = bodies::plain(which, LARGE_BYTES);
            let (authenticate, normalise) = cost_us(&made);
            println!("{name:18} plain, {} bytes: {authenticate:.0} + {normalise:.0} µs", made.body.len());
            authenticate + normalise
        })
        .collect();
    println!(
        "provider           hostile request                           bytes  authenticate  normalise, µs   times a plain one"
    );
    let mut worst: f64 = 0.0;
    for made in bodies::hostile(LARGE_BYTES) {
        let name = bodies::sources().find_map(|(which, name)| (which == made.which).then_some(name)).unwrap();
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let (authenticate, normalise) = cost_us(&made);
        let ratio = (authenticate + normalise) / plain[made.which];
        worst = worst.max(ratio);
        println!("{name:18} {:38} {:8} {authenticate:12.0} {normalise:12.0} {ratio:12.2}", made.what, made.body.len());
    }
    println!("the worst costs {worst:.2} times a plain one");
}
