//! C: one owner at a time, atomic commits, and a crash at every boundary that changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sapwood::prelude::*;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::{Ownership, Store, Turn};
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_core::{ProcessId, TreeId};
use sapwood_engine::{Engine, EngineOptions};
use sapwood_tests::engine::World;
use sapwood_tests::environment::Machine;
use sapwood_tests::faults::Fault;
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::{LEASE, outbox};
use sapwood_tests::wait::within;
use uuid::Uuid;

use super::{HOUR, Probed, Trouble, dozes, once, quick};

sapwood_tests::on_every_engine!(crate::engine::claims {
    a_crash_before_any_commit_changes_nothing_but_repeats_what_was_not_recorded,
    a_crash_after_any_commit_changes_nothing_and_repeats_nothing,
    a_connection_lost_at_any_commit_changes_nothing_and_repeats_nothing,
    a_completion_its_promise_its_parent_s_wake_up_and_its_events_are_one_commit,
    a_survivor_takes_over_by_itself,
    a_worker_is_taken_over_from_at_once_when_its_process_has_ended,
    an_engine_that_was_killed_is_no_process_that_has_ended,
    a_stale_owner_is_refused_and_stops,
    a_drain_lets_a_step_in_flight_end_and_the_next_worker_goes_on,
    a_claim_whose_answer_is_lost_strands_no_tree,
});

/// Something of everything; its effects are counted by name.
#[sapwood::function(retry(attempts = 3, backoff = "1ms..1ms"))]
async fn journey(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    // A key that a crash may not change: it is drawn before everything else and used at the end.
    let drawn = cx.random();
    let first = step(cx, "first").await?;
    let drawn_first = step_with(cx, "drawn", drawn).await?;
    cx.emit(Probed { key: "begun".to_owned() });
    let leg = cx.call(travels("a".to_owned())).await?;
    cx.sleep(Duration::from_millis(1)).await;
    let lost = cx.call(gets_lost()).await.is_err();
    let legs = (cx.call(travels("b".to_owned())), cx.call(travels("c".to_owned())));
    let (b, c) = tokio::join!(legs.0, legs.1);
    let app = cx.dependencies();
    let retried = async || {
        app.mark("retried");
        if app.count("retried") < 2 { Err(Trouble::busy("it")) } else { Ok("retried".to_owned()) }
    };
    let retried = cx.step("retried", retried).retry(quick(5)).await?;
    // The rest is in the attempt that comes after a failed one.
    let attempt = async || {
        app.mark("attempted");
        if app.count("attempted") < 2 { Err(Trouble::busy("it")) } else { Ok(()) }
    };
    cx.step("attempted", attempt).retry(once()).await?;
    cx.emit(Probed { key: "done".to_owned() });
    assert_eq!(drawn, drawn_first, "what was drawn is what was recorded");
    Ok(format!("{first} {leg} {lost} {} {} {retried}", b?, c?))
}

#[sapwood::function]
async fn travels(cx: &mut Cx<Probe>, leg: String) -> Result<String, Trouble> {
    let done = step(cx, &format!("leg {leg}")).await?;
    cx.emit(Probed { key: done.clone() });
    Ok(done)
}

#[sapwood::function]
async fn gets_lost(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    step(cx, "lost").await?;
    Err(Trouble::broken("the way"))
}

async fn step(cx: &mut Cx<Probe>, name: &str) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.mark(name);
        Ok::<_, Trouble>(name.to_owned())
    };
    cx.step(name, step).await
}

async fn step_with(cx: &mut Cx<Probe>, name: &str, value: u64) -> Result<u64, Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.mark(name);
        Ok::<_, Trouble>(value)
    };
    cx.step(name, step).await
}

const RESULT: &str = "first leg a true leg b leg c retried";

/// What the undisturbed run does, and how often.
fn undisturbed() -> BTreeMap<String, usize> {
    let once = ["first", "drawn", "leg a", "leg b", "leg c", "lost"].map(|name| (name.to_owned(), 1));
    let twice = ["retried", "attempted"].map(|name| (name.to_owned(), 2));
    once.into_iter().chain(twice).collect()
}

fn effects(app: &Probe) -> BTreeMap<String, usize> {
    let mut effects = BTreeMap::new();
    app.marks("").into_iter().for_each(|mark| *effects.entry(mark).or_default() += 1);
    effects
}

/// What a run with a fault left behind.
struct Run {
    app: Arc<Probe>,
    /// What the process that died would have committed.
    lost: Vec<Turn>,
    /// What it committed.
    turns: Vec<Turn>,
}

/// A run with a fault at its `commit`-th commit; `None` once the run has fewer.
async fn run_with(world: &World, commit: usize, fault: Fault) -> Option<Run> {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().store());
    let first = world.launch_on(&app, store, world.options()).await;
    faults.kills(&first);
    faults.plan(commit, fault);
    let tree = first.start(journey().id(format!("{fault:?}-{commit}"))).await.expect("a tree").id();
    let watched = first.attach::<journey>(tree);
    let result = tokio::select! {
        _ = first.stopped() => {
            world.crash(&first).await;
            is_consistent(first.store().as_ref(), tree).await;
            let second = world.launch_on(&app, world.store().store(), world.options()).await;
            let result = within("a result", second.attach::<journey>(tree).result()).await;
            world.crash(&second).await;
            result
        }
        result = within("a result", watched.result()) => result,
    };
    assert_eq!(result.expect("a result"), RESULT, "{fault:?} at commit {commit}");
    is_consistent(world.store().store().as_ref(), tree).await;
    let events = outbox(world.store().store().as_ref()).await;
    let mut events: Vec<_> = events.into_iter().filter(|row| row.event.tree == tree).map(|row| row.event.key).collect();
    events.sort_unstable();
    let expected = ["begun", "done", "leg a", "leg b", "leg c"];
    assert_eq!(events, expected, "{fault:?} at commit {commit}: each event once");
    let was_reached = faults.commits() >= commit;
    world.crash(&first).await;
    was_reached.then(|| Run { app, lost: faults.lost(), turns: faults.turns() })
}

/// What is always true of a tree while no commit is under way.
async fn is_consistent(store: &dyn Store, tree: TreeId) {
    let Some(record) = store.tree_read(tree).await.expect("the store") else { return };
    let entries: Vec<&Entry> = record.entries.iter().map(|(_, _, entry)| entry).collect();
    let children = record.invocations.iter().filter_map(|node| node.invocation.state.number);
    let mut numbers: Vec<u32> = entries.iter().filter_map(|entry| entry.number).chain(children).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=record.row.number).collect::<Vec<_>>(), "completion numbers are gapless");
    let emitted = entries.iter().filter(|entry| entry.kind == EntryKind::Emitted).count();
    let events = outbox(store).await.into_iter().filter(|row| row.event.tree == tree).count();
    assert_eq!(events, emitted, "no event row without the record it committed with");
    for node in &record.invocations {
        let (promise, created, settled) = (node.invocation.state.promise, node.created_at, node.settled_at);
        assert_eq!(promise.is_settled(), settled.is_some());
        assert!(settled.is_none_or(|settled| created <= settled), "created ≤ settled");
    }
    let image = store.tree_load(tree).await.expect("the store").expect("the tree");
    let has_news = image.open.iter().any(|open| {
        open.state.promise == PromiseState::Pending
            && open.state.parked.is_none()
            && open.state.seen.is_none_or(|seen| open.latest > seen)
    });
    if image.row.owner.is_none() && (has_news || !image.timers.is_empty()) {
        assert!(image.row.ready_at.is_some(), "what is runnable, or will be, is waiting to be claimed");
    }
}

/// How often a step's result, or a failed attempt of it, was in a turn that was lost.
fn lost_results(lost: &[Turn]) -> BTreeMap<String, usize> {
    let mut results = BTreeMap::new();
    for (_, entry) in lost.iter().flat_map(|turn| &turn.entries) {
        if matches!(entry.kind, EntryKind::StepResolved) {
            *results.entry(entry.name.clone()).or_default() += 1;
        }
    }
    results
}

/// R3, R12, E2, and the outcome of a run with crashes equals the outcome of an undisturbed one: the process dies before
/// each commit in turn. What that commit would have recorded is done once more, nothing else is.
async fn a_crash_before_any_commit_changes_nothing_but_repeats_what_was_not_recorded(world: &World) {
    let mut commit = 1;
    while let Some(run) = run_with(world, commit, Fault::DiesBefore).await {
        let mut expected = undisturbed();
        for (step, times) in lost_results(&run.lost) {
            *expected.entry(step).or_default() += times;
        }
        assert_eq!(effects(&run.app), expected, "at commit {commit}, which would have said {:#?}", run.lost);
        commit += 1;
    }
    assert!(commit > 8, "there were only {commit} commits");
}

/// R3, E2: the process dies after each commit in turn. Nothing is done twice.
async fn a_crash_after_any_commit_changes_nothing_and_repeats_nothing(world: &World) {
    let mut commit = 1;
    while let Some(run) = run_with(world, commit, Fault::DiesAfter).await {
        assert_eq!(effects(&run.app), undisturbed(), "at commit {commit}");
        commit += 1;
    }
    assert!(commit > 8, "there were only {commit} commits");
}

/// C5: neither lost nor applied twice, whether or not it was applied.
async fn a_connection_lost_at_any_commit_changes_nothing_and_repeats_nothing(world: &World) {
    for fault in [Fault::LostBefore, Fault::LostAfter] {
        let mut commit = 1;
        while let Some(run) = run_with(world, commit, fault).await {
            assert_eq!(effects(&run.app), undisturbed(), "{fault:?} at commit {commit}");
            commit += 1;
        }
        assert!(commit > 8, "there were only {commit} commits");
    }
}

/// C3: what a turn says is applied whole, and one turn says all of it.
async fn a_completion_its_promise_its_parent_s_wake_up_and_its_events_are_one_commit(world: &World) {
    let Some(run) = run_with(world, 1, Fault::LostBefore).await else { panic!("a run") };
    let mut settled = 0;
    for turn in &run.turns {
        let born = turn.invocations.iter().map(|node| (&node.path, &node.state));
        let changed = turn.changes.iter().map(|change| (&change.path, &change.state));
        for (path, state) in born.chain(changed).filter(|(_, state)| state.promise == PromiseState::Resolved) {
            settled += 1;
            assert!(state.outcome.is_some(), "completion and promise");
            let entries = turn.entries.iter().filter(|(of, entry)| of == path && entry.kind == EntryKind::Emitted);
            assert_eq!(entries.count(), 1, "each emits in its last poll");
            let is_of = |event: &sapwood_core::store::OutboxEvent| event.causation.ends_with(&format!(":{path}"));
            assert_eq!(turn.events.iter().filter(|event| is_of(event)).count(), 1, "events");
            if path.parent().is_none() {
                assert_eq!(turn.next.state, TreeState::Resolved);
                assert!(matches!(turn.next.ownership, Ownership::Release { .. }), "no worker owns what is settled");
            } else {
                // The number is what makes the parent runnable, here or wherever the tree is loaded.
                assert!(state.number.is_some_and(|number| number <= turn.next.number), "the parent's wake-up");
            }
        }
    }
    assert_eq!(settled, 4, "the root and its three legs");
}

fn short_lease(world: &World) -> EngineOptions {
    let (lease, heartbeat) = (Duration::from_millis(1_000), Duration::from_millis(50));
    EngineOptions { lease, heartbeat, ..world.options() }
}

#[sapwood::function]
async fn waits_at_the_gate(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.mark("waits");
        app.pass("gate").await;
        Ok::<_, Trouble>(())
    };
    cx.step("wait", step).await
}

/// C2: without an operator. The survivor is the only one alive, so that no pause of this machine kills the wrong one.
async fn a_survivor_takes_over_by_itself(world: &World) {
    let app = Probe::new();
    let first = world.launch_with(&app, short_lease(world)).await;
    let tree = first.start(waits_at_the_gate()).await.expect("a tree").id();
    app.reached("waits", 1).await;
    world.kill(&first).await;
    let second = world.launch_with(&app, short_lease(world)).await;
    app.reached("waits", 2).await;
    app.open("gate", 1);
    second.attach::<waits_at_the_gate>(tree).result().await.expect("a result");
    assert_eq!(app.count("waits"), 2);
}

/// C2: before its lease is over, and not before its process has ended. Who watches has a process of its own, which has
/// ended as little.
async fn a_worker_is_taken_over_from_at_once_when_its_process_has_ended(world: &World) {
    let (app, machine) = (Probe::new(), Machine::default());
    let processes = [1, 2].map(|n| ProcessId(Uuid::from_u128(n)));
    let [first, second] = processes.map(|process| {
        let environment = machine.environment(process, world.store().clock());
        world.launch_with(&app, EngineOptions { environment, ..world.options() })
    });
    let first = first.await;
    let tree = first.start(waits_at_the_gate()).await.expect("a tree").id();
    app.reached("waits", 1).await;
    world.kill(&first).await;
    let second = second.await;
    assert!(is_watched(&second, &first).await, "its lease is as long as any test");
    machine.ends(processes[0]);
    second.poke().await;
    app.reached("waits", 2).await;
    assert!(!is_watched(&second, &first).await);
    app.open("gate", 1);
    second.attach::<waits_at_the_gate>(tree).result().await.expect("a result");
}

/// C1: what an engine began may still run as long as its process does.
async fn an_engine_that_was_killed_is_no_process_that_has_ended(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    world.kill(&first).await;
    let second = world.launch(&app).await;
    assert_eq!(first.environment().process(), second.environment().process());
    assert!(is_watched(&second, &first).await);
}

/// Whether the one sees the other as alive, after it has looked often enough to bury who is not.
async fn is_watched(watcher: &Engine, other: &Engine) -> bool {
    let mut lease = watcher.store().lease(watcher.worker());
    for _ in 0..3 {
        watcher.poke().await;
        let renewal = lease.renew(LEASE).await.expect("the watcher is alive");
        if !renewal.others.iter().any(|beat| beat.worker == other.worker()) {
            return false;
        }
    }
    true
}

/// C1: it is declared dead while it works on; its result is refused, it stops, and the tree has one outcome.
async fn a_stale_owner_is_refused_and_stops(world: &World) {
    let app = Probe::new();
    let stale = world.launch(&app).await;
    let tree = stale.start(waits_at_the_gate()).await.expect("a tree").id();
    app.reached("waits", 1).await;
    let fresh = world.launch(&app).await;
    world.bury(&stale, &fresh).await;
    app.reached("waits", 2).await;
    app.open("gate", 2);
    fresh.attach::<waits_at_the_gate>(tree).result().await.expect("a result");
    within("the stale owner stops", stale.stopped()).await;
    let view = fresh.tree(tree).await.expect("the store").expect("the tree");
    let results = view.nodes[0].timeline.iter().filter(|(_, entry)| entry.kind == EntryKind::StepResolved).count();
    assert_eq!((results, view.nodes[0].attempt, app.count("waits")), (1, 1, 2));
}

#[sapwood::function]
async fn is_drained(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let beside = cx.call(travels("beside".to_owned()));
    cx.call(waits_at_the_gate()).await?;
    beside.await?;
    step(cx, "after").await.map(drop)
}

/// C4: what is in flight is recorded, nothing new begins, and no attempt is consumed.
async fn a_drain_lets_a_step_in_flight_end_and_the_next_worker_goes_on(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(is_drained()).await.expect("a tree").id();
    app.reached("waits", 1).await;
    let mut draining = std::pin::pin!(first.drain());
    assert!(futures::poll!(draining.as_mut()).is_pending(), "a step is in flight");
    assert!(first.health().is_draining);
    app.open("gate", 1);
    within("the drain", draining).await.expect("a drain");
    assert_eq!((app.count("waits"), app.count("after")), (1, 0));
    let view = first.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!((view.row.owner, view.row.state), (None, TreeState::Running));

    let second = world.launch(&app).await;
    second.attach::<is_drained>(tree).result().await.expect("a result");
    assert_eq!(["waits", "leg beside", "after"].map(|what| app.count(what)), [1, 1, 1]);
    let view = second.tree(tree).await.expect("the store").expect("the tree");
    assert!(view.nodes.iter().all(|node| node.attempt == 1));
}

/// S3, C5: the claim was made, and the worker that made it never heard of it. Its trees are its own and cannot be
/// claimed by others, so it goes on with them itself, once.
async fn a_claim_whose_answer_is_lost_strands_no_tree(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    let mut trees = Vec::new();
    for n in 0..3 {
        let tree = engine.start(dozes(format!("sleeper {n}"), 1)).await.expect("a tree");
        world.tree_suspended(&engine, tree.id()).await;
        trees.push(tree);
    }
    faults.lose_claim();
    world.advance(HOUR).await;
    for (n, tree) in trees.into_iter().enumerate() {
        within("a sleeper that goes on", tree.result()).await.expect("a result");
        assert_eq!(app.count(&format!("sleeper {n} wakes")), 1);
    }
    assert!(!faults.has_claim_to_lose(), "an answer was lost");
}
