//! The model test: random trees and random faults, compared with what their plans say.
//!
//! | room | what is there |
//! |---|---|
//! | [`chance`], [`plan`] | what is drawn from a seed: what each tree is to do |
//! | [`bodies`] | the functions that do it, and the world outside of them |
//! | [`world`] | one run: workers on a store in memory, what is injected, and the end in peace |
//! | [`always_true`] | what holds after every operation |
//! | [`databases`] | a few seeds on every store |
//! | [`promises`] | external promises: how they are settled, and what everybody is told of that |
//! | [`requests`] | what operators ask for, and what they are told |
//! | [`oracle`], [`undone`] | what each invocation must have come to, and what it must have undone |
//!
//! A run is on one thread, with time that stands still while there is something to do, so a seed repeats it exactly.

pub(crate) mod always_true;
mod bodies;
pub(crate) mod chance;
mod databases;
mod oracle;
mod plan;
mod promises;
mod requests;
mod undone;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use world::Ran;

/// Seeds of every run of the tests.
const SEEDS: u64 = 2_500;

/// A number that the environment gives.
fn given(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    Some(given.parse().unwrap_or_else(|_| panic!("{name} is no number: {given}")))
}

/// P2, P3, P4, R2, R3, R4, R7, R9, S3, C1, C2, C3, C5, F3, F5, F8, K1, K2, K3, K5, K6, K7, D2, D3, N1, N2, G2, V1: whatever
/// is injected, every tree comes to what its plan says, and the list *Always true* holds after every operation.
#[test]
fn every_tree_comes_to_what_its_plan_says() {
    if let Some(seed) = given("SAPWOOD_TEST_MODEL_SEED") {
        world::run(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
        return;
    }
    let first = given("SAPWOOD_TEST_MODEL_FIRST").unwrap_or(0);
    let seeds = given("SAPWOOD_TEST_MODEL").unwrap_or(SEEDS);
    let (next, wrong, all) = (AtomicU64::new(first), Mutex::new(Vec::new()), Mutex::new(Ran::default()));
    let begun = std::time::Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while wrong.lock().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    match world::run(seed) {
                        Ok(ran) => *all.lock() += ran,
                        Err(told) => wrong.lock().push((seed, told)),
                    }
                }
            });
        }
    });
    let (mut wrong, all, took) = (wrong.into_inner(), all.into_inner(), begun.elapsed());
    wrong.sort();
    if let Some((_, told)) = wrong.first() {
        panic!("{told}");
    }
    let rate = all.trees as f64 / took.as_secs_f64();
    println!("{seeds} seeds, {all:?} in {took:?}: {rate:.0} trees a second");
}
