//! D1 to D4, F8: until when functions go forward, and what becomes of them then.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use sapwood::prelude::*;
use sapwood_core::clock::Clock;
use sapwood_core::failure::CallFailureKind;
use sapwood_core::journal::EntryKind;
use sapwood_core::tree::{Closing, PromiseState, TreeState};
use sapwood_core::{CallError, TreeId};
use sapwood_engine::{
    Effect, Engine, EngineOptions, Environment, ResultError, StartError, SystemEnvironment, TreeView,
};
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::probe::Probe;

use super::{HOUR, Trouble, YEAR, dozes, leaf, once};

sapwood_tests::on_every_engine!(crate::engine::deadlines {
    a_tree_that_waits_times_out_and_who_awaits_it_is_told,
    a_child_that_times_out_gives_its_caller_an_error_and_the_caller_goes_on,
    no_deadline_is_later_than_the_callers,
    what_is_in_flight_ends_after_everybody_was_told,
    nothing_goes_forward_past_its_deadline_after_a_crash,
    a_worker_that_is_behind_the_stores_clock_commits_nothing_late,
    a_read_after_the_deadline_settles_first_though_no_worker_lives,
    no_attempt_begins_past_the_deadline,
    a_tree_that_times_out_undoes_what_it_did,
    an_undo_that_exceeds_its_grace_is_visible_and_ends,
    what_is_parked_times_out,
    what_ended_in_time_keeps_its_outcome,
    many_deadlines_at_once,
    a_deadline_that_cannot_be_is_refused,
    a_call_whose_deadline_has_passed_never_runs,
    a_tree_that_timed_out_can_be_killed,
    what_times_out_gives_its_slot_to_who_waits_for_it,
    a_sleep_below_what_a_reader_timed_out_ends_nothing,
});

const MINUTE: Duration = Duration::from_secs(60);

/// Calls one that dozes for an hour, with a deadline if there is one, and goes on after it.
#[sapwood::function(deadline = "2h")]
async fn waits_at_most(cx: &mut Cx<Probe>, minutes: Option<u64>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let call = calls_a_dozer("dozer".to_owned());
    let call = match minutes {
        Some(minutes) => call.deadline(MINUTE * u32::try_from(minutes).expect("a few")),
        None => call,
    };
    let kind = match cx.call(call).await {
        Ok(()) => return Ok("in time".to_owned()),
        Err(CallError::Ended(failure)) => failure.kind,
        Err(error) => return Ok(format!("{error}")),
    };
    assert_eq!(kind, CallFailureKind::TimedOut);
    app.mark("went on");
    Ok("after a child that timed out".to_owned())
}

#[sapwood::function]
async fn calls_a_dozer(cx: &mut Cx<Probe>, name: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    cx.call(dozes(name, 24)).await?;
    app.mark("went on after the sleep");
    Ok(())
}

async fn closes(world: &World, engine: &Engine, tree: TreeId) -> TreeView {
    world.tree_until(engine, tree, |view| view.row.state.is_closed()).await
}

fn timed_out<E: std::fmt::Debug + std::fmt::Display>(result: Result<impl Sized, ResultError<E>>) -> bool {
    let Err(ResultError::Call(CallError::Ended(failure))) = result else { return false };
    failure.kind == CallFailureKind::TimedOut
}

/// D1, D2: it has its outcome then, whatever it waits for, and everything below it is cancelled.
async fn a_tree_that_waits_times_out_and_who_awaits_it_is_told(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(waits_at_most(None)).await.expect("a tree");
    let view = world.tree_suspended(&engine, tree.id()).await;
    let deadline = view.row.deadline.expect("it has one");
    assert_eq!(view.nodes.iter().map(|node| node.deadline).collect::<Vec<_>>(), [Some(deadline); 3], "all inherit it");
    let awaits = tokio::spawn({
        let (engine, id) = (engine.clone(), tree.id());
        async move { engine.attach::<waits_at_most>(id).result().await }
    });
    world.advance(2 * HOUR).await;
    assert!(timed_out(awaits.await.expect("no panic")));
    let view = closes(world, &engine, tree.id()).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::TimedOut, Closing::None));
    let promises = ["/", "/0", "/0/0"].map(|path| promise(&view, path).expect("there"));
    assert_eq!(promises, [PromiseState::TimedOut, PromiseState::Cancelled, PromiseState::Cancelled]);
    assert!(view.nodes.iter().all(|node| node.waits_on.is_empty()));
    world.advance(YEAR).await;
    assert!(app.marks("").is_empty(), "no body went on: {:?}", app.marks(""));
    assert!(timed_out(tree.result().await));
}

/// D2, F4: the error says which child, and that it timed out; everything below the child is cancelled.
async fn a_child_that_times_out_gives_its_caller_an_error_and_the_caller_goes_on(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(waits_at_most(Some(30))).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    world.advance(30 * MINUTE).await;
    assert_eq!(tree.result().await.expect("a result"), "after a child that timed out");
    let view = closes(world, &engine, tree.id()).await;
    let promises = ["/", "/0", "/0/0"].map(|path| promise(&view, path).expect("there"));
    assert_eq!(promises, [PromiseState::Resolved, PromiseState::TimedOut, PromiseState::Cancelled]);
    assert_eq!((app.count("went on"), app.count("went on after the sleep")), (1, 0));
    assert_eq!(tree.result().await.expect("the same"), "after a child that timed out");
}

/// In microseconds.
#[sapwood::function(deadline = "1h")]
async fn tells_its_deadline(cx: &mut Cx<Probe>, deeper: Vec<u64>) -> Result<Vec<Option<i64>>, Trouble> {
    let mut told = vec![cx.deadline().map(Timestamp::as_microsecond)];
    if let Some((minutes, rest)) = deeper.split_first() {
        let call = tells_its_deadline(rest.to_vec()).deadline(Duration::from_secs(minutes * 60));
        told.extend(cx.call(call).await?);
    }
    cx.sleep(Duration::from_millis(1)).await;
    told.push(cx.deadline().map(Timestamp::as_microsecond));
    Ok(told)
}

/// D1: a call's own deadline takes the place of the one that its function declares, and is at most the caller's; a body
/// sees the same one on every replay.
async fn no_deadline_is_later_than_the_callers(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(tells_its_deadline(vec![30, 90, 10]).deadline(2 * HOUR)).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    world.advance(MINUTE).await;
    let told = tree.result().await.expect("a result");
    let view = closes(world, &engine, tree.id()).await;
    let deadlines: Vec<_> = ["/", "/0", "/0/0", "/0/0/0"].map(|path| node(&view, path).deadline).to_vec();
    let minutes: Vec<_> = deadlines
        .iter()
        .map(|deadline| deadline.expect("each has one").duration_since(view.row.created_at).as_secs() / 60)
        .collect();
    assert!(matches!(minutes[..], [119..=120, 29..=30, 29..=30, 9..=11]), "{minutes:?}");
    assert_eq!(deadlines[1], deadlines[2], "an hour and a half would be later than the caller's");
    let seen = deadlines.iter().chain(deadlines.iter().rev());
    let seen: Vec<_> = seen.map(|deadline| deadline.map(Timestamp::as_microsecond)).collect();
    assert_eq!(told, seen);
    let free = engine.start(leaf("free".to_owned(), 0)).await.expect("a tree");
    app.open("free 0", 1);
    free.result().await.expect("a result");
    assert_eq!(closes(world, &engine, free.id()).await.row.deadline, None, "without a deadline there is none");
}

#[sapwood::function(deadline = "1h")]
async fn works_past_its_deadline(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let work = async || {
        app.comes_to("gate").await;
        Ok::<_, Trouble>(7)
    };
    let n = cx.step("work", work).await?;
    app.mark("went on");
    let next = async || {
        app.mark("next");
        Ok::<_, Trouble>(())
    };
    cx.step("next", next).await?;
    Ok(n)
}

/// D2, K4: who awaits it does not wait for what is in flight; that ends, is recorded, and changes nothing. Until then the
/// tree is not closed.
async fn what_is_in_flight_ends_after_everybody_was_told(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_past_its_deadline()).await.expect("a tree");
    app.reached("gate", 1).await;
    world.advance(HOUR).await;
    assert!(timed_out(tree.result().await));
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    assert_eq!((view.row.state, promise(&view, "/")), (TreeState::TimingOut, Some(PromiseState::TimingOut)));
    assert!(!node(&view, "/").waits_on.is_empty(), "it is visible that it is not closed");
    app.open("gate", 1);
    let view = closes(world, &engine, tree.id()).await;
    assert_eq!((view.row.state, promise(&view, "/")), (TreeState::TimedOut, Some(PromiseState::TimedOut)));
    let kinds: Vec<_> = node(&view, "/").timeline.iter().map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::StepResolved]);
    assert_eq!((app.count("gate"), app.count("went on"), app.count("next")), (1, 0, 0));
    assert!(timed_out(tree.result().await), "and it stays so");
}

/// D1, D2: the deadline comes while nobody lives; whoever takes over dispatches nothing.
async fn nothing_goes_forward_past_its_deadline_after_a_crash(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(works_past_its_deadline()).await.expect("a tree").id();
    app.reached("gate", 1).await;
    world.crash(&first).await;
    world.advance(2 * HOUR).await;
    app.open("gate", 9);
    let second = world.take_over(&first, &app).await;
    let view = closes(world, &second, tree).await;
    assert_eq!(view.row.state, TreeState::TimedOut);
    assert_eq!((app.count("gate"), app.count("next"), node(&view, "/").timeline.len()), (1, 0, 0));
}

/// D3: the store's clock is set, and the worker has not heard of it: what it records is refused, and no step begins. It asks
/// for the time, instead of trying again and again.
async fn a_worker_that_is_behind_the_stores_clock_commits_nothing_late(world: &World) {
    let app = Probe::new();
    let engine = world.launch_with(&app, EngineOptions { heartbeat: HOUR, ..world.options() }).await;
    let tree = engine.start(works_past_its_deadline()).await.expect("a tree");
    app.reached("gate", 1).await;
    world.store().advance(2 * HOUR).await;
    app.open("gate", 1);
    assert!(timed_out(tree.result().await));
    let view = closes(world, &engine, tree.id()).await;
    assert_eq!((view.row.state, app.count("gate"), app.count("next")), (TreeState::TimedOut, 1, 0));
    let kinds: Vec<_> = node(&view, "/").timeline.iter().map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::StepResolved], "it was recorded once");
}

/// D3: a reader finds it settled, and the settling of a reader is all there is: the next worker closes the tree.
async fn a_read_after_the_deadline_settles_first_though_no_worker_lives(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(waits_at_most(Some(30))).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    world.crash(&first).await;
    let store = world.store().another().await;
    world.advance(2 * HOUR).await;
    let outcome = store.outcome_read(tree).await.expect("read").expect("there");
    assert_eq!(outcome.state, TreeState::TimingOut);
    let record = store.tree_read(tree).await.expect("read").expect("there");
    let promises: Vec<_> = record.invocations.iter().map(|row| row.invocation.state.promise).collect();
    assert_eq!(promises, [PromiseState::TimingOut, PromiseState::TimingOut, PromiseState::Pending]);
    let settled_at = record.row.settled_at;
    let second = world.take_over(&first, &app).await;
    let view = closes(world, &second, tree).await;
    assert_eq!((view.row.state, view.row.settled_at), (TreeState::TimedOut, settled_at), "it settled once");
    let promises = ["/", "/0", "/0/0"].map(|path| promise(&view, path).expect("there"));
    assert_eq!(promises, [PromiseState::TimedOut, PromiseState::TimedOut, PromiseState::Cancelled]);
    assert_eq!(app.count("went on"), 0);
}

/// An environment in which each wait is as long as it may be.
#[derive(Default)]
struct Unlucky(SystemEnvironment);

impl Environment for Unlucky {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn random(&self) -> u64 {
        u64::MAX
    }

    fn tree_id(&self) -> TreeId {
        self.0.tree_id()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn spawn_apart(&self, name: String, task: BoxFuture<'static, ()>) -> std::io::Result<()> {
        self.0.spawn_apart(name, task)
    }
}

#[sapwood::function(retry(attempts = 5, backoff = "20m..20m"), deadline = "30m")]
async fn would_try_again(cx: &mut Cx<Probe>, step: bool) -> Result<(), Trouble> {
    let app = cx.dependencies();
    if step {
        let retry = RetryPolicy::new(5, 20 * MINUTE, 20 * MINUTE);
        cx.step("work", async || {
            app.mark("tries");
            Err::<(), _>(Trouble::busy("it"))
        })
        .retry(retry)
        .await
    } else {
        let _ = cx.random();
        app.mark("tries");
        Err(Trouble::busy("it"))
    }
}

/// F8: neither of a step nor of a function: the last error comes at once, and is not waited for in vain.
async fn no_attempt_begins_past_the_deadline(world: &World) {
    for step in [true, false] {
        let app = Probe::new();
        let options = EngineOptions { environment: Arc::new(Unlucky::default()), ..world.options() };
        let engine = world.launch_with(&app, options).await;
        let tree = engine.start(would_try_again(step)).await.expect("a tree");
        app.reached("tries", 1).await;
        world.tree_suspended(&engine, tree.id()).await;
        world.advance(20 * MINUTE).await;
        // After twenty minutes of thirty, the next wait of twenty would be too long.
        tree.result().await.expect_err("it has no time");
        let view = closes(world, &engine, tree.id()).await;
        assert_eq!((view.row.state, app.count("tries")), (TreeState::Rejected, 2));
        world.crash(&engine).await;
    }
}

/// Does something that can be undone.
#[sapwood::function]
async fn does_for_a_while(cx: &mut Cx<Probe>, what: String) -> Result<String, Trouble> {
    cx.step("work", async || Ok::<_, Trouble>(())).retry(once()).await?;
    Ok(what)
}

/// Undoes it, and may take long.
#[sapwood::function]
async fn undoes_in_time(cx: &mut Cx<Probe>, what: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark(format!("deadline of undo {what}: {}", cx.deadline().is_some()));
    if app.is_on(&format!("{what} hangs")) {
        cx.sleep(YEAR).await;
    }
    let undo = async || {
        app.mark(format!("undone {what}"));
        Ok::<_, Trouble>(())
    };
    cx.step("undo", undo).retry(once()).await
}

#[sapwood::function(deadline = "1h", grace = "10m")]
async fn does_and_waits(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    for what in ["a", "b", "c"] {
        cx.call(does_for_a_while(what.to_owned()).undo(undoes_in_time)).await?;
    }
    cx.sleep(YEAR).await;
    Ok(())
}

/// D2, D4, K2: the outcome comes first, and the tree is closing until all is undone.
async fn a_tree_that_times_out_undoes_what_it_did(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(does_and_waits()).await.expect("a tree");
    world.tree_until(&engine, tree.id(), |view| view.nodes.len() == 4 && view.row.owner.is_none()).await;
    world.advance(HOUR).await;
    assert!(timed_out(tree.result().await));
    let view = closes(world, &engine, tree.id()).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::TimedOut, Closing::Compensated));
    assert_eq!(app.marks("undone "), ["c", "b", "a"]);
    assert_eq!(app.marks("deadline of undo "), ["c: true", "b: true", "a: true"]);
    let of_undo: Vec<_> = view.nodes.iter().filter(|node| node.undoes.is_some()).map(|node| node.deadline).collect();
    assert_eq!(of_undo, vec![of_undo[0]; 3], "all of it has one grace together");
    assert!(of_undo[0] > view.row.deadline, "beyond the deadline, and visible");
}

/// D4, K2: what is not undone by then has failed, also what had not begun, and the tree closes. A crash gives no more time.
async fn an_undo_that_exceeds_its_grace_is_visible_and_ends(world: &World) {
    let app = Probe::new();
    app.turn_on("b hangs");
    let first = world.launch(&app).await;
    let tree = first.start(does_and_waits()).await.expect("a tree").id();
    world.tree_until(&first, tree, |view| view.nodes.len() == 4 && view.row.owner.is_none()).await;
    world.advance(HOUR).await;
    app.reached("deadline of undo b: true", 1).await;
    let undoing = |view: &TreeView| view.row.closing == Closing::Compensating && view.row.owner.is_none();
    let view = world.tree_until(&first, tree, undoing).await;
    assert_eq!(view.row.state, TreeState::TimingOut);
    let until = view.nodes.iter().find_map(|node| node.deadline.filter(|_| node.undoes.is_some()));
    let engine = world.take_over(&first, &app).await;
    world.advance(10 * MINUTE).await;
    let view = closes(world, &engine, tree).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::TimedOut, Closing::CompensationFailed));
    assert_eq!(app.marks("undone "), ["c"], "a has no time left");
    let of_undo: Vec<_> = view.nodes.iter().filter(|node| node.undoes.is_some()).collect();
    assert_eq!(of_undo.iter().map(|node| node.deadline).collect::<Vec<_>>(), [until; 3]);
    let states: Vec<_> = of_undo.iter().map(|node| (node.undoes.expect("an undo"), node.promise)).collect();
    assert_eq!(states, [(0, PromiseState::TimedOut), (1, PromiseState::TimedOut), (2, PromiseState::Resolved)]);
}

#[sapwood::function(deadline = "1h", retry(attempts = 1))]
async fn panics_at_once(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let _ = cx.random();
    panic!("on purpose")
}

/// D1: what needs an operator waits for one no longer than it may.
async fn what_is_parked_times_out(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(panics_at_once()).await.expect("a tree");
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state == TreeState::Parked).await;
    assert!(view.row.owner.is_none() && view.row.ready_at == view.row.deadline, "it is due then: {:?}", view.row);
    world.advance(HOUR).await;
    assert!(timed_out(tree.result().await));
    let view = closes(world, &engine, tree.id()).await;
    assert_eq!((view.row.state, node(&view, "/").parked.is_some()), (TreeState::TimedOut, false));
}

#[sapwood::function(deadline = "1h")]
async fn returns_before_its_child(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let child = cx.call(leaf("gate".to_owned(), 1));
    let waits = async || {
        app.pass("returns").await;
        Ok::<_, Trouble>(())
    };
    cx.step("waits", waits).await?;
    drop(child);
    Ok(7)
}

/// D2, K6: its outcome was decided in time, and closing is no going forward.
async fn what_ended_in_time_keeps_its_outcome(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(returns_before_its_child()).await.expect("a tree");
    app.reached("gate 1", 1).await;
    app.open("returns", 1);
    world.tree_until(&engine, tree.id(), |view| promise(view, "/") == Some(PromiseState::ReturnedOk)).await;
    world.advance(HOUR).await;
    let view = engine.tree(tree.id()).await.expect("read").expect("there");
    assert_eq!(view.row.state, TreeState::Running, "it settles when its child is closed");
    app.open("gate 1", 1);
    assert_eq!(tree.result().await.expect("a result"), 7);
}

#[sapwood::function]
async fn fans_out_with_deadlines(cx: &mut Cx<Probe>, many: u32) -> Result<u32, Trouble> {
    let calls: Vec<_> = (0..many)
        .map(|n| cx.call(dozes("one of many".to_owned(), 24).deadline(HOUR + Duration::from_micros(n.into()))))
        .collect();
    let ended = futures::future::join_all(calls).await;
    let is_timed_out = |ended: &&Result<_, CallError<Trouble>>| match ended {
        Err(CallError::Ended(failure)) => failure.kind == CallFailureKind::TimedOut,
        _ => false,
    };
    Ok(u32::try_from(ended.iter().filter(is_timed_out).count()).expect("a few"))
}

/// D2: however many come at once, in one tree and in many, each is told once.
async fn many_deadlines_at_once(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let wide = engine.start(fans_out_with_deadlines(600)).await.expect("a tree");
    let mut trees = Vec::new();
    for _ in 0..100 {
        trees.push(engine.start(waits_at_most(Some(30))).await.expect("a tree"));
    }
    for tree in &trees {
        world.tree_suspended(&engine, tree.id()).await;
    }
    world.tree_until(&engine, wide.id(), |view| view.nodes.len() == 601 && view.row.owner.is_none()).await;
    world.advance(HOUR + MINUTE).await;
    assert_eq!(wide.result().await.expect("a result"), 600);
    for tree in &trees {
        assert_eq!(tree.result().await.expect("a result"), "after a child that timed out");
    }
    assert_eq!(app.count("went on"), 100);
}

#[sapwood::function]
async fn calls_with_no_end(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.call(calls_a_dozer("never".to_owned()).deadline(Duration::MAX)).await?;
    Ok(())
}

/// Bad input: each has a code, and nothing is begun.
async fn a_deadline_that_cannot_be_is_refused(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let past = Clock::now(world.store().clock().as_ref()) - MINUTE;
    for call in [
        leaf("never".to_owned(), 1).deadline(past),
        leaf("never".to_owned(), 1).deadline(Duration::ZERO),
        leaf("never".to_owned(), 1).deadline(Duration::MAX),
        leaf("never".to_owned(), 1).deadline(Timestamp::MAX).id("an-id"),
    ] {
        let error = engine.start(call).await.map(|tree| tree.id()).expect_err("no such deadline");
        assert!(matches!(error, StartError::InvalidDeadline { .. }), "{error:?}");
        assert_eq!(error.code(), "invalid_deadline");
    }
    let tree = engine.start(calls_with_no_end()).await.expect("a tree");
    let error = tree.result().await.expect_err("the call is refused by name").to_string();
    assert!(error.contains("call calls_a_dozer: seconds until the deadline"), "{error}");
    assert_eq!(closes(world, &engine, tree.id()).await.nodes.len(), 1, "nothing was called");
    assert_eq!(app.count("never 1"), 0);
}

#[sapwood::function]
async fn calls_what_is_late(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let late = cx.call(leaf("late".to_owned(), 1).deadline(Duration::ZERO));
    match late.await {
        Err(CallError::Ended(failure)) => Ok(format!("{:?} {}", failure.kind, failure.path)),
        other => Ok(format!("{other:?}")),
    }
}

/// D2: not started, it settles without running.
async fn a_call_whose_deadline_has_passed_never_runs(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_what_is_late()).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), "TimedOut /0");
    let view = closes(world, &engine, tree.id()).await;
    assert_eq!(promise(&view, "/0"), Some(PromiseState::TimedOut));
    assert!(app.marks("").is_empty(), "{:?}", app.marks(""));
}

/// K7: what is left to do of it is stopped; its outcome stays.
async fn a_tree_that_timed_out_can_be_killed(world: &World) {
    let app = Probe::new();
    app.turn_on("c hangs");
    let engine = world.launch(&app).await;
    let tree = engine.start(does_and_waits()).await.expect("a tree");
    world.tree_until(&engine, tree.id(), |view| view.nodes.len() == 4 && view.row.owner.is_none()).await;
    world.advance(HOUR).await;
    app.reached("deadline of undo c: true", 1).await;
    world.tree_until(&engine, tree.id(), |view| view.row.closing == Closing::Compensating).await;
    assert!(matches!(tree.cancel("too late").await.expect("asked"), Effect::None(_)), "it goes no further anyway");
    assert_eq!(tree.kill("nobody waits").by("anna").await.expect("asked"), Effect::Accepted);
    let view = closes(world, &engine, tree.id()).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::TimedOut, Closing::CompensationFailed));
    assert!(timed_out(tree.result().await));
    assert_eq!(app.marks("undone "), Vec::<String>::new());
}

#[sapwood::function]
async fn never_comes_back(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let work = async || {
        app.mark("never comes back");
        std::future::pending::<Result<(), Trouble>>().await
    };
    cx.step("work", work).interruptible().await
}

#[sapwood::function]
async fn calls_two_for_one_slot(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let first = cx.call(never_comes_back().deadline(MINUTE));
    let second = cx.call(leaf("gate".to_owned(), 1)).await;
    drop(first);
    Ok(second?)
}

/// D2, S5: on a worker with one slot, what waits for it begins as soon as the one that has it times out.
async fn what_times_out_gives_its_slot_to_who_waits_for_it(world: &World) {
    let app = Probe::new();
    let engine = world.launch_with(&app, EngineOptions { concurrency: 1, ..world.options() }).await;
    let tree = engine.start(calls_two_for_one_slot()).await.expect("a tree");
    app.reached("never comes back", 1).await;
    world.advance(MINUTE).await;
    app.reached("gate 1", 1).await;
    app.open("gate 1", 1);
    assert_eq!(tree.result().await.expect("a result"), 1);
}

/// D2, D3: while no worker lived the deadline of the root passed, and the end of a sleep below it; the reader came first.
async fn a_sleep_below_what_a_reader_timed_out_ends_nothing(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(waits_at_most(None)).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    world.crash(&first).await;
    world.advance(25 * HOUR).await;
    let outcome = world.store().store().outcome_read(tree).await.expect("the store").expect("the tree");
    assert_eq!(outcome.state, TreeState::TimingOut);
    let second = world.launch(&app).await;
    let view = closes(world, &second, tree).await;
    assert_eq!(["/0", "/0/0"].map(|path| promise(&view, path)), [Some(PromiseState::Cancelled); 2]);
    assert!(app.marks("").is_empty(), "no body went on: {:?}", app.marks(""));
}
