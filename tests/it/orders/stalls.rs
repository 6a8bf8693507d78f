//! The 1,000 orders, while their process stands still for longer than its lease.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use sapwood_tests::process::Program;
use sapwood_tests::wait::until_asked;

use super::place::{Place, Query};
use super::{EFFECTS, TOTALS, noted, program, totals};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Returns once the workers of orders are in these states, the oldest first, by the processes that they are of.
async fn workers_are(place: &Place, expected: &[(u32, &str)]) {
    let workers = "select name, state from worker order by id";
    let query = Query { sqlite: workers, postgres: workers };
    let expected: Vec<_> = expected.iter().map(|(process, state)| (process.to_string(), (*state).to_owned())).collect();
    let are = async || {
        let mut workers = place.rows::<(String, String)>("orders", &query).await;
        for (name, _) in &mut workers {
            *name = name.rsplit('-').next().unwrap_or_default().to_owned();
        }
        if workers == expected { Ok(()) } else { Err(workers) }
    };
    until_asked(&format!("the workers {expected:?}"), LOOK_EVERY, are).await;
}

/// C1, C2, R3: the orders that a run had not fed yet are started by the worker that it is afterwards, and the totals
/// are those of a run that nothing disturbed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL and Kafka: ./test provides them")]
async fn a_run_that_stood_still_goes_on_as_a_new_worker_to_the_same_totals() {
    let place = Place::services().await;
    std::fs::write(place.directory().join("none.jsonl"), "").expect("no orders are written");
    let mut run = program(&place).start();
    noted(&place.directory().join(EFFECTS), 300, &mut run).await;
    let other = Program::new("orders", place.directory())
        .arguments(["--listen", "127.0.0.1:0", "--only", "orders", "--orders", "none.jsonl"])
        .environment(place.settings())
        .start();
    workers_are(&place, &[(run.id(), "alive"), (other.id(), "alive")]).await;

    run.stand_still();
    workers_are(&place, &[(run.id(), "dead"), (other.id(), "alive")]).await;
    run.go_on();
    let again = [(run.id(), "dead"), (other.id(), "alive"), (run.id(), "alive")];
    if let Err(panic) = AssertUnwindSafe(workers_are(&place, &again)).catch_unwind().await {
        // What it said is the only trace of what it waits for.
        println!("{:?}", run.kill());
        std::panic::resume_unwind(panic);
    }
    // The lanes that it publishes are counted by the run itself, so the run has to have them all.
    other.terminate();
    let _ = other.ended().well();

    let out = run.ended().well();
    assert_eq!(totals(&out), TOTALS, "{out}");
}
