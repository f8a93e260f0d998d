//! Schedules that must keep the contract, and bugs that must be found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use simulation::{Planted, run};

/// Schedules of every `cargo test`; `simulation run` has no bound.
const SCHEDULES: u64 = 10_000;
/// The seeds in which every planted bug must be found.
const SEEDS_TO_FIND: u64 = 300;

#[test]
fn the_contract_holds_in_ten_thousand_schedules() {
    let mut events = 0;
    for seed in 0..SCHEDULES {
        let outcome = run(seed, None, false).unwrap();
        events += outcome.events;
        assert_eq!(outcome.violation, None, "simulation replay {seed}");
    }
    // Short schedules, but no empty ones.
    assert!(events > 20 * 10_000, "{events} events");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..50 {
        let [first, second] = [(); 2].map(|()| run(seed, None, true).unwrap());
        assert!(first.trace.len() > 100, "seed {seed}: {} lines", first.trace.len());
        if let Some(line) = (0..first.trace.len()).find(|line| first.trace.get(*line) != second.trace.get(*line)) {
            panic!("seed {seed}, line {line}: {:?} then {:?}", first.trace.get(line), second.trace.get(line));
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert_ne!(first.trace, run(seed + 1000, None, true).unwrap().trace, "seed {seed}");
    }
}

/// Finds a planted bug, and sees that the seed finds nothing without it.
fn finds(bug: Planted, what: &[&str]) {
    for seed in 0..SEEDS_TO_FIND {
        if let Some(violation) = run(seed, Some(bug), false).unwrap().violation {
            println!("{bug:?} is found by seed {seed}: {violation}");
            assert!(what.iter().any(|what| violation.contains(what)), "seed {seed}: {violation}");
            assert_eq!(run(seed, None, false).unwrap().violation, None, "without it, seed {seed}");
            return;
        }
    }
    panic!("{bug:?} is not found in {SEEDS_TO_FIND} seeds");
}

#[test]
fn finds_an_ack_before_the_store() {
    finds(Planted::AckBeforeStore, &["acknowledged whose record is nowhere else"]);
}

#[test]
fn finds_an_ack_before_the_confirm() {
    finds(Planted::AckBeforeConfirm, &["acknowledged whose record is nowhere else"]);
}

#[test]
fn finds_an_answer_before_the_confirm() {
    finds(Planted::AnswerBeforeConfirm, &["2xx for a request whose records are not durable"]);
}

#[test]
fn finds_a_return_that_is_taken_for_a_confirm() {
    let lost = ["2xx for a request whose records are not durable", "acknowledged whose record is nowhere else"];
    finds(Planted::ReturnIsConfirm, &lost);
}

#[test]
fn finds_days_by_arrival() {
    finds(Planted::DayByArrival, &["lies in", "is stored 2 times", "is stored 3 times"]);
}

#[test]
fn finds_increments_in_place_of_the_fold() {
    finds(Planted::Increments, &["must be"]);
}
