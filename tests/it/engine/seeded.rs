//! A run that is repeated from its seed: ids, chance and tasks come from one value that the engine is given.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sapwood::RetryPolicy;
use sapwood::prelude::*;
use sapwood_core::clock::Clock;
use sapwood_core::store::{Membership as _, Store, StoreErrorKind};
use sapwood_core::tree::{TreeRecord, TreeState};
use sapwood_engine::{Engine, EngineOptions, Environment};
use sapwood_memory::MemoryStore;
use sapwood_tests::environment::SeededEnvironment;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::{LEASE, TestStore, outbox};
use sapwood_tests::wait::in_time;
use tokio::time::{Instant, sleep};

use super::{Probed, Trouble};

/// Again at once: what fails here is not waited for.
const AT_ONCE: RetryPolicy = RetryPolicy::new(3, Duration::ZERO, Duration::ZERO);

#[sapwood::function]
async fn chances(cx: &mut Cx<Probe>, depth: u32) -> Result<u64, Trouble> {
    let (number, _, at) = (cx.random(), cx.uuid(), cx.now());
    let mut sum = number ^ at.as_millisecond() as u64;
    // Concurrent, so that the order in which children run and complete is repeated as well.
    let children: Vec<_> = (0..depth).map(|_| cx.call(chances(depth - 1))).collect();
    for child in futures::future::try_join_all(children).await? {
        sum ^= child;
    }
    let (probe, key) = (cx.dependencies(), cx.idempotency_key());
    // Each fails once.
    let flaky = || async {
        probe.mark(&*key);
        if probe.count(&key) > 1 { Ok(number) } else { Err(Trouble::Busy { what: "it".into() }) }
    };
    cx.step("flaky", flaky).retry(AT_ONCE).await.map(|step| step ^ sum)
}

/// A time of day that stands still, so that recorded times repeat too.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::constant(1_800_000_000, 0)
    }
}

/// Everything that a few trees recorded, on a store, a clock and a runtime of their own.
fn run(seed: u64) -> Vec<TreeRecord> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let test = TestStore::sqlite().await;
        let environment: Arc<dyn Environment> = Arc::new(SeededEnvironment::new(seed, Arc::new(Still)));
        let options = EngineOptions { lease: LEASE, environment, ..EngineOptions::default() };
        let engine = Engine::launch(Probe::new(), test.store(), options).await.expect("the engine launches");
        let mut records = Vec::new();
        let trees = async {
            for depth in 0..3 {
                let tree = engine.start(chances(depth)).await.expect("a tree");
                tree.result().await.expect("a result");
                let record = engine.store().tree_read(tree.id()).await.expect("the store").expect("the tree");
                assert_eq!(record.row.state, TreeState::Resolved);
                records.push(record);
            }
        };
        in_time(trees).await;
        engine.drain().await.expect("it leaves");
        test.store().close().await;
        records
    })
}

/// R1, R5: two runs from one seed record the same trees, byte for byte; a run from another seed records others.
#[test]
fn a_run_is_repeated_from_its_seed() {
    let (first, again, other) = (run(7), run(7), run(8));
    let said = |records: &[TreeRecord]| -> Vec<String> {
        let lines = records.iter().flat_map(|record| {
            let rows = record.invocations.iter().map(|row| format!("{} {:?}", record.row.id, row.invocation));
            let entries = record.entries.iter().map(|(path, _, entry)| format!("{path} {entry:?}"));
            rows.chain(entries).collect::<Vec<_>>()
        });
        lines.collect()
    };
    let (first, again, other) = (said(&first), said(&again), said(&other));
    assert!(first.len() > 30, "{first:#?}");
    assert_eq!(first, again);
    assert_ne!(first, other);
}

/// Waits, works for a while, calls, and emits, each for as long as chance says.
#[sapwood::function]
async fn wanders(cx: &mut Cx<Probe>, depth: u32) -> Result<u64, Trouble> {
    let (rest, work) = (Duration::from_millis(cx.random() % 3_000), Duration::from_millis(cx.random() % 700));
    cx.sleep(rest).await;
    let step = async || {
        sleep(work).await;
        Ok::<_, Trouble>(work.as_millis() as u64)
    };
    let mut sum = cx.step("work", step).await?;
    let children: Vec<_> = (0..depth).map(|_| cx.call(wanders(depth - 1))).collect();
    for child in futures::future::try_join_all(children).await? {
        sum += child;
    }
    cx.emit(Probed { key: (sum % 3).to_string() });
    Ok(sum)
}

/// The time of day by a runtime whose clock stands still while there is something to do, and jumps when there is not.
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Still.now() + self.0.elapsed()
    }
}

/// All that two workers leave in a store in memory: the first dies half-way, the second finds that out and takes over.
fn run_of_two(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let clock = Arc::new(Paused(Instant::now()));
        let store = MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let probe = Probe::new();
        let launch = async |seed| {
            let environment: Arc<dyn Environment> = Arc::new(SeededEnvironment::new(seed, Arc::clone(&clock) as _));
            let options = EngineOptions { environment, ..EngineOptions::default() };
            Engine::launch(Arc::clone(&probe), Arc::new(store.clone()), options).await.expect("the engine launches")
        };
        let (first, second) = (launch(seed).await, launch(!seed).await);
        let mut trees = Vec::new();
        for depth in [0, 1, 2, 3, 2, 1, 0] {
            trees.push(first.start(wanders(depth)).await.expect("a tree").id());
        }
        sleep(Duration::from_secs(4)).await;
        first.kill();
        let mut said = Vec::new();
        for tree in trees {
            second
                .outcome(tree, Duration::from_secs(600))
                .await
                .expect("the store answers")
                .expect("the tree has settled");
            said.push(format!("{:#?}", second.store().tree_read(tree).await.expect("the store answers")));
        }
        let buried = store.lease(first.worker()).renew(LEASE).await.expect_err("it was declared dead");
        assert_eq!(buried.kind(), StoreErrorKind::Fenced);
        said.extend(outbox(second.store().as_ref()).await.iter().map(|row| format!("{row:?}")));
        second.drain().await.expect("it leaves");
        store.close().await;
        said
    })
}

/// R1, R5, C2: also with two workers on one store, of which one dies: the same rows, stamps and revisions in the same order.
#[test]
fn a_run_of_two_workers_on_a_store_in_memory_is_repeated_from_its_seed() {
    let runs: Vec<_> = (0..12).map(|seed| (run_of_two(seed), run_of_two(seed))).collect();
    for (seed, (first, again)) in runs.iter().enumerate() {
        assert!(first.len() > 20, "{first:#?}");
        for (said, same) in first.iter().zip(again) {
            assert_eq!(said, same, "seed {seed}");
        }
        assert_eq!(first.len(), again.len(), "seed {seed}");
    }
    assert_ne!(runs[0], runs[1]);
}
