//! P1 to P4, P6, D3, S3, G2: external promises, which something outside of their function settles.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use sapwood::prelude::*;
use sapwood::{PromiseErrorKind, PromiseId};
use sapwood_core::failure::CallFailureKind;
use sapwood_core::journal::EntryKind;
use sapwood_core::store::{Hint, Settling, Store};
use sapwood_core::tree::{PromiseState, Settlement, TreeState};
use sapwood_core::{Path, TreeId};
use sapwood_engine::{
    Engine, OutcomeError, PromiseReadError, Rejection, RejectionKind, Settle, SettleError, TreeView, WaitsOn,
};
use sapwood_tests::engine::{World, is_suspended, node};
use sapwood_tests::faults::Fault;
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::wait::within;
use serde_json::Value;

use super::{HOUR, Trouble, one};

sapwood_tests::on_every_engine!(crate::engine::external {
    a_function_that_waits_goes_on_when_its_promise_is_resolved,
    a_rejection_is_an_error_of_its_function,
    what_settles_while_a_step_is_in_flight_is_given_at_once,
    what_settles_before_it_is_awaited_is_given_when_it_is,
    what_settles_as_its_tree_is_released_is_not_lost,
    a_settle_of_which_no_hint_came_is_found,
    the_loser_of_a_race_is_settled_by_nobody,
    a_run_with_a_crash_at_any_commit_ends_like_an_undisturbed_one,
    two_promises_of_one_name_park_their_function,
    of_two_processes_that_settle_one_wins_and_both_see_its_outcome,
    a_value_of_another_shape_is_refused_with_the_schema,
    what_is_not_there_or_not_awaited_is_told_so,
    a_name_that_several_functions_gave_takes_an_id,
    a_thousand_promises_of_one_tree_settle_at_once,
    a_promise_times_out_at_its_deadline,
    a_promise_times_out_beside_a_step_in_flight,
    no_reader_finds_a_promise_pending_past_its_deadline,
    what_settled_in_time_stands_whoever_hears_of_it_late,
    a_deadline_that_no_store_can_hold_is_a_limit,
});

/// What a person outside decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Approval {
    /// Who.
    by: String,
    /// At which level.
    level: u8,
}

fn anna(level: u8) -> Approval {
    Approval { by: "anna".to_owned(), level }
}

/// How the store keeps that Anna approved.
fn by_anna() -> Settlement {
    let outcome = Bytes::from_static(br#"{"resolved":{"by":"anna","level":3}}"#);
    Settlement { state: PromiseState::Resolved, outcome }
}

/// Makes a promise and waits for it.
#[sapwood::function]
async fn awaits_approval(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    app.mark("begins");
    let approval = cx.promise::<Approval>("approval");
    app.mark(format!("id {}", approval.id()));
    let Approval { by, level } = approval.await?;
    app.mark("approved");
    Ok(format!("{by} {level}"))
}

/// The number of entries of a kind that the root has.
fn entries(view: &TreeView, kind: EntryKind) -> usize {
    node(view, "/").timeline.iter().filter(|(_, entry)| entry.kind == kind).count()
}

fn rejection(view: &TreeView, at: &str) -> Rejection {
    Rejection::read(node(view, at).outcome.as_ref().expect("an outcome")).expect("a rejection")
}

/// P2, S1, G2: it holds nothing meanwhile, says what it waits on, and goes on with the value, in memory if it is there.
async fn a_function_that_waits_goes_on_when_its_promise_is_resolved(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(awaits_approval()).await.expect("a tree");
    let view = world.tree_suspended(&engine, tree.id()).await;
    let id: PromiseId = app.marks("id ")[0].parse().expect("an id");
    assert_eq!(id, PromiseId { tree: tree.id(), path: Path::root(), name: "approval".to_owned() });
    assert_eq!(node(&view, "/").waits_on, [WaitsOn::Promise { position: 0, id: id.clone(), until: None }]);
    let [promise] = &node(&view, "/").promises[..] else { panic!("one: {view:?}") };
    assert_eq!((promise.state, promise.settled_at), (PromiseState::Pending, None));
    let schema: Value = serde_json::from_slice(&promise.schema).expect("a schema");
    assert_eq!(schema["properties"]["level"]["maximum"], 255, "{schema}");

    assert_eq!(engine.promise(id.clone()).resolve(anna(3)).await.expect("it is pending"), Settle::Stored);
    assert_eq!(tree.result().await.expect("a result"), "anna 3");
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    assert_eq!((entries(&view, EntryKind::PromiseMade), entries(&view, EntryKind::PromiseSettled)), (1, 1));
    assert_eq!((view.row.inbox, view.row.number), (1, 1), "it took one number");
    assert_eq!((app.count("begins"), app.count("approved")), (if world.evicts() { 2 } else { 1 }, 1));
    let [promise] = &node(&view, "/").promises[..] else { panic!("one: {view:?}") };
    assert_eq!((promise.state, promise.settled_at.is_some()), (PromiseState::Resolved, true));
    // P2, P6: later, and after its function has ended, the outcome is the same.
    assert_eq!(engine.promise::<Approval>(id).outcome().await.expect("a value"), anna(3));
    assert_eq!(tree.promise("approval").resolve(anna(3)).await.expect("it is the same"), Settle::Already);
}

/// P2, F5: it says which promise and why, `?` lifts it, and no attempt follows.
async fn a_rejection_is_an_error_of_its_function(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(awaits_approval()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    let promise = tree.promise::<Approval>("approval");
    for message in ["", " ", "a\0b", &"m".repeat(2_001)] {
        let error = promise.reject(message).await.expect_err("no message");
        assert_eq!(error.code(), "invalid_request", "{message:?}");
    }
    assert_eq!(promise.reject("the customer left").await.expect("it is pending"), Settle::Stored);
    let error = within("a result", tree.result()).await.expect_err("it is rejected");
    assert!(error.to_string().contains("failed"), "{error}");
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    let Rejection { kind, message, error } = rejection(&view, "/");
    assert_eq!(
        (kind, &*message),
        (RejectionKind::Failed, "promise approval at / was rejected: the customer left (attempt 1)")
    );
    let error: Trouble = serde_json::from_str(error.expect("an error").get()).expect("trouble");
    let Trouble::Call(failure) = error else { panic!("{error}") };
    assert_eq!(failure.kind, CallFailureKind::Rejected { message: "the customer left".to_owned() });
    let OutcomeError::Ended(error) = promise.outcome().await.expect_err("no value") else { panic!("it has ended") };
    assert_eq!(error.kind, PromiseErrorKind::Rejected { message: "the customer left".to_owned() });
    assert_eq!(promise.reject("the customer left").await.expect("the same"), Settle::Already);
}

/// Waits for a promise, and beside it in two steps.
#[sapwood::function]
async fn works_beside(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let step = async |gate: &'static str| {
        app.comes_to(gate).await;
        Ok::<_, Trouble>(app.count(gate))
    };
    let approval = cx.promise::<Approval>("approval");
    let (first, second) = (cx.step("first", || step("first")), cx.step("second", || step("second")));
    let approved = async {
        let approval = approval.await;
        app.mark("approved");
        approval
    };
    let (approval, first, second) = tokio::join!(approved, first, second);
    Ok(format!("{} {} {}", approval?.level, first?, second?))
}

/// S2, S3: the tree is owned, and is not loaded again: what is in flight goes on, and the settle need not wait for it.
async fn what_settles_while_a_step_is_in_flight_is_given_at_once(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_beside()).await.expect("a tree");
    app.reached("first", 1).await;
    app.reached("second", 1).await;
    let other = world.store().another().await;
    settles_by_hand(other.as_ref(), tree.id(), 1).await;
    app.reached("approved", 1).await;
    app.open("first", 1);
    app.open("second", 1);
    assert_eq!(tree.result().await.expect("a result"), "3 1 1", "each step ran once");
}

/// Another process, which is no worker, settles the promise of a tree and tells the others.
async fn settles_by_hand(store: &dyn Store, tree: TreeId, inbox: u32) {
    let settling = store.promise_settle(tree, &Path::root(), "approval", &by_anna()).await.expect("the store");
    assert_eq!(settling, Some(Settling::Stored { inbox }));
    store.hint(&[Hint::Inbox(tree, inbox)]).await.expect("a hint");
}

/// S3: a hint may be lost. Once the store answers again after it did not, what a worker owns is looked through.
async fn a_settle_of_which_no_hint_came_is_found(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    let tree = engine.start(works_beside()).await.expect("a tree");
    app.reached("first", 1).await;
    app.reached("second", 1).await;
    let other = world.store().another().await;
    let settling = other.promise_settle(tree.id(), &Path::root(), "approval", &by_anna()).await.expect("the store");
    assert_eq!(settling, Some(Settling::Stored { inbox: 1 }));
    faults.plan_next(Fault::LostBefore);
    app.open("first", 1);
    app.reached("approved", 1).await;
    app.open("second", 1);
    assert_eq!(tree.result().await.expect("a result"), "3 1 1");
    // And one that no worker owns is due at once, which a claim finds without a hint.
    let tree = engine.start(awaits_approval()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    let settling = other.promise_settle(tree.id(), &Path::root(), "approval", &by_anna()).await.expect("the store");
    assert_eq!(settling, Some(Settling::Stored { inbox: 1 }));
    engine.poke().await;
    assert_eq!(tree.result().await.expect("a result"), "anna 3");
}

/// Makes a promise, works, and only then awaits it.
#[sapwood::function]
async fn works_first(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let approval = cx.promise::<Approval>("approval");
    let step = async || {
        app.comes_to("work").await;
        Ok::<_, Trouble>(app.count("work"))
    };
    let worked = cx.step("work", step).await?;
    app.mark("worked");
    Ok(format!("{} {worked}", approval.await?.level))
}

/// S3, R7: nothing awaits it yet; it is recorded, and is ready at the second poll of the handle.
async fn what_settles_before_it_is_awaited_is_given_when_it_is(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_first()).await.expect("a tree");
    app.reached("work", 1).await;
    assert_eq!(tree.promise("approval").resolve(anna(3)).await.expect("it is pending"), Settle::Stored);
    world.tree_until(&engine, tree.id(), |view| entries(view, EntryKind::PromiseSettled) == 1).await;
    app.open("work", 1);
    assert_eq!(tree.result().await.expect("a result"), "3 1");
}

/// S3: the turn that releases the tree is on its way, and names an inbox in which the settle is not yet.
async fn what_settles_as_its_tree_is_released_is_not_lost(world: &World) {
    for is_hinted in [false, true] {
        let app = Probe::new();
        let (store, faults) = with_faults(world.store().another().await);
        let engine = world.launch_on(&app, store, world.options()).await;
        let tree = engine.start(works_first()).await.expect("a tree");
        app.reached("work", 1).await;
        faults.hold_all();
        app.open("work", 1);
        app.reached("worked", 1).await;
        faults.held(1).await;
        let other = world.store().another().await;
        let settling = other.promise_settle(tree.id(), &Path::root(), "approval", &by_anna()).await;
        assert_eq!(settling.expect("the store"), Some(Settling::Stored { inbox: 1 }));
        if is_hinted {
            other.hint(&[Hint::Inbox(tree.id(), 1)]).await.expect("a hint");
        }
        faults.hold_none();
        assert_eq!(within("a result", tree.result()).await.expect("a result"), "3 1", "the step ran once");
        world.crash(&engine).await;
    }
}

/// A promise against a sleep; the loser is dropped, and the function goes on for a while.
#[sapwood::function]
async fn races_approval(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    app.mark("races");
    let (mut approval, sleep) = (cx.promise::<Approval>("approval"), cx.sleep(HOUR));
    let winner = tokio::select! {
        approval = &mut approval => format!("approved {}", approval?.level),
        () = sleep => "overdue".to_owned(),
    };
    drop(approval);
    app.mark(&*winner);
    let again = cx.promise::<Approval>("second");
    Ok(format!("{winner} {}", again.await?.level))
}

/// R7, N2, P2: the same branch on every replay; and a promise whose handle is dropped is cancelled.
async fn the_loser_of_a_race_is_settled_by_nobody(world: &World) {
    for wins in [true, false] {
        let app = Probe::new();
        let mut engine = world.launch(&app).await;
        let tree = engine.start(races_approval()).await.expect("a tree").id();
        world.tree_suspended(&engine, tree).await;
        let winner = if wins { "approved 1" } else { "overdue" };
        if wins {
            engine.attach::<races_approval>(tree).promise("approval").resolve(anna(1)).await.expect("it is pending");
        } else {
            world.advance(HOUR).await;
        }
        app.reached(winner, 1).await;
        let second = |view: &TreeView| is_suspended(view) && entries(view, EntryKind::PromiseMade) == 2;
        world.tree_until(&engine, tree, second).await;
        engine = world.take_over(&engine, &app).await;
        let handle = engine.attach::<races_approval>(tree);
        if !wins {
            let late = handle.promise::<Approval>("approval");
            let error = late.resolve(anna(2)).await.expect_err("nobody awaits it");
            assert_eq!(error.code(), "promise_closed", "{error}");
            let Err(OutcomeError::Ended(error)) = late.outcome().await else { panic!("it has no value") };
            assert_eq!(error.kind, PromiseErrorKind::Cancelled);
        }
        handle.promise("second").resolve(anna(2)).await.expect("it is pending");
        assert_eq!(handle.result().await.expect("a result"), format!("{winner} 2"));
        world.crash(&engine).await;
    }
}

/// Works before and after it is approved.
#[sapwood::function]
async fn is_approved_between(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let approval = cx.promise::<Approval>("approval");
    let before = cx.step("before", async || one(&app, "before")).await?;
    let level = approval.await?.level;
    let after = cx.step("after", async || one(&app, "after")).await?;
    app.mark(format!("{before} {after}"));
    Ok(format!("approved {level}"))
}

/// C1, S3, R2: whatever commit a process dies at, the settle is heard once, and nothing is done without it.
async fn a_run_with_a_crash_at_any_commit_ends_like_an_undisturbed_one(world: &World) {
    for fault in [Fault::DiesBefore, Fault::DiesAfter] {
        let mut commit = 1;
        while dies_at(world, commit, fault).await {
            commit += 1;
        }
        assert!(commit > 3, "there were only {commit} commits");
    }
}

/// A run that is settled as soon as it can be; whether it came to its `commit`-th commit, at which its process dies.
async fn dies_at(world: &World, commit: usize, fault: Fault) -> bool {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().store());
    let first = world.launch_on(&app, store, world.options()).await;
    faults.kills(&first);
    faults.plan(commit, fault);
    let started = first.start(is_approved_between().id(format!("{fault:?}-{commit}"))).await;
    let tree = started.expect("a tree").id();
    let settles = async {
        let store = world.store().store();
        let is_made = async || {
            let found = store.promise_find(tree, None, None).await.expect("the store");
            found.is_some_and(|found| !found.is_empty())
        };
        world.store().changes().until("a promise", is_made).await;
        settles_by_hand(store.as_ref(), tree, 1).await;
    };
    let runs = async {
        let watched = first.attach::<is_approved_between>(tree);
        tokio::select! {
            _ = first.stopped() => {
                world.crash(&first).await;
                let second = world.launch_on(&app, world.store().store(), world.options()).await;
                let result = within("a result", second.attach::<is_approved_between>(tree).result()).await;
                world.crash(&second).await;
                result
            }
            result = within("a result", watched.result()) => result,
        }
    };
    let ((), result) = tokio::join!(settles, runs);
    assert_eq!(result.expect("a result"), "approved 3", "{fault:?} at commit {commit}");
    let record = world.store().store().tree_read(tree).await.expect("the store").expect("the tree");
    let settled = record.entries.iter().filter(|(_, _, entry)| entry.kind == EntryKind::PromiseSettled).count();
    let mut numbers: Vec<u32> = record.entries.iter().filter_map(|(_, _, entry)| entry.number).collect();
    numbers.sort_unstable();
    assert_eq!((settled, numbers), (1, vec![1, 2, 3]), "{fault:?} at commit {commit}");
    let was_reached = faults.commits() >= commit;
    world.crash(&first).await;
    was_reached
}

#[sapwood::function]
async fn promises_twice(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let first = cx.promise::<Approval>("approval");
    first.await?;
    let app = cx.dependencies();
    app.mark("again");
    let name = if app.is_on("mended") { "second" } else { "approval" };
    let second = cx.promise::<Approval>(name);
    second.await?;
    Ok(())
}

/// P1: the name is the identity, so a second promise would be the first one. It parks with a code of its own, at each replay
/// too, and a deploy mends it.
async fn two_promises_of_one_name_park_their_function(world: &World) {
    let app = Probe::new();
    let mut engine = world.launch(&app).await;
    let tree = engine.start(promises_twice()).await.expect("a tree").id();
    world.tree_suspended(&engine, tree).await;
    engine.attach::<promises_twice>(tree).promise("approval").resolve(anna(1)).await.expect("it is pending");
    let parked = |view: &TreeView| view.row.state == TreeState::Parked;
    let view = world.tree_until(&engine, tree, parked).await;
    let reason: Value = serde_json::from_slice(node(&view, "/").parked.as_ref().expect("parked")).expect("JSON");
    assert_eq!((&reason["code"], &reason["position"]), (&"duplicate_promise".into(), &1.into()));
    let message = reason["message"].as_str().expect("words");
    assert!(message.contains("`approval` at position 0"), "{message}");
    assert!(reason["location"].as_str().is_some_and(|location| location.contains("external.rs")), "{reason}");
    assert_eq!(entries(&view, EntryKind::PromiseMade), 1);
    engine = world.take_over(&engine, &app).await;
    let view = world.tree_until(&engine, tree, parked).await;
    assert_eq!(entries(&view, EntryKind::PromiseMade), 1);
}

/// P2, P3, P6: the loser is told the winner's outcome; whoever waits, here and there, sees that one.
async fn of_two_processes_that_settle_one_wins_and_both_see_its_outcome(world: &World) {
    let app = Probe::new();
    let (here, there) = (world.launch(&app).await, world.launch(&app).await);
    let tree = here.start(awaits_approval()).await.expect("a tree").id();
    world.tree_suspended(&here, tree).await;
    let id = PromiseId { tree, path: Path::root(), name: "approval".to_owned() };
    let of = |engine: &Engine| engine.promise::<Approval>(id.clone());
    let (one, other) = (of(&here), of(&there));
    let settles = async { tokio::join!(one.resolve(anna(1)), other.resolve(anna(2))) };
    let waits = async { tokio::join!(one.outcome(), other.outcome()) };
    let (settled, (seen, seen_there)) = within("the outcome", async { tokio::join!(settles, waits) }).await;
    let (level, loser) = match settled {
        (Ok(Settle::Stored), Err(loser)) => (1, loser),
        (Err(loser), Ok(Settle::Stored)) => (2, loser),
        other => panic!("one wins: {other:?}"),
    };
    assert_eq!((seen.expect("a value"), seen_there.expect("the same")), (anna(level), anna(level)));
    assert_eq!(loser.code(), "promise_settled", "{loser}");
    let SettleError::Settled(winner) = loser else { panic!("{loser}") };
    let outcome: Value = serde_json::from_slice(winner.outcome.as_ref().expect("its outcome")).expect("JSON");
    assert_eq!((&outcome["resolved"]["level"], winner.state), (&level.into(), PromiseState::Resolved));
    assert!(winner.settled_at.is_some_and(|at| at >= winner.made_at));
    assert_eq!(here.attach::<awaits_approval>(tree).result().await.expect("a result"), format!("anna {level}"));
    for engine in [&here, &there] {
        assert_eq!(of(engine).resolve(anna(level)).await.expect("the same"), Settle::Already);
        assert_eq!(of(engine).resolve(anna(9)).await.expect_err("another").code(), "promise_settled");
        assert_eq!(of(engine).reject("no").await.expect_err("another").code(), "promise_settled");
    }
}

/// P2: in any process; and nothing is settled by it.
async fn a_value_of_another_shape_is_refused_with_the_schema(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(awaits_approval()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    let (text, name) = (tree.promise::<String>("approval"), tree.promise::<Approval>("approval"));
    let error = text.resolve("yes".to_owned()).await.expect_err("another type");
    assert_eq!(error.code(), "invalid_promise_value");
    let SettleError::InvalidValue { message, schema } = error else { panic!("{error}") };
    assert!(message.contains("object"), "{message}");
    let schema: Value = serde_json::from_slice(&schema).expect("a schema");
    assert_eq!(schema["required"], serde_json::json!(["by", "level"]));
    let huge = tree.promise::<Approval>("approval");
    let huge = huge.resolve(Approval { by: "a".repeat(1024 * 1024), level: 1 }).await.expect_err("too large");
    assert_eq!(huge.code(), "payload_too_large");
    assert_eq!(name.resolve(anna(7)).await.expect("it fits"), Settle::Stored);
    assert_eq!(tree.result().await.expect("a result"), "anna 7");
    let error = text.outcome().await.expect_err("an approval is no text");
    assert!(matches!(error, OutcomeError::Unreadable(_)), "{error}");
}

/// P2, K3: a promise that was never made, and one whose function was cancelled.
async fn what_is_not_there_or_not_awaited_is_told_so(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(awaits_approval()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    let code = async |engine: &Engine, tree: TreeId, name: &str| {
        let promise = engine.attach::<awaits_approval>(tree).promise::<Approval>(name);
        promise.resolve(anna(1)).await.expect_err("it cannot be settled").code()
    };
    assert_eq!(code(&engine, tree.id(), "none").await, "unknown_promise");
    assert_eq!(code(&engine, TreeId::fresh(), "approval").await, "unknown_tree");
    let waits = tree.promise::<Approval>("approval");
    let cancelled = async {
        tree.cancel("the customer left").await.expect("it is taken");
        world.tree_until(&engine, tree.id(), |view| view.row.state == TreeState::Cancelled).await
    };
    let (outcome, view) = within("the end", async { tokio::join!(waits.outcome(), cancelled) }).await;
    let Err(OutcomeError::Ended(error)) = outcome else { panic!("it has no value: {outcome:?}") };
    assert_eq!(error.kind, PromiseErrorKind::Cancelled);
    assert_eq!(code(&engine, tree.id(), "approval").await, "promise_closed");
    assert_eq!((view.row.inbox, node(&view, "/").promises[0].state), (0, PromiseState::Cancelled));
    assert_eq!((app.count("approved"), node(&view, "/").waits_on.len()), (0, 0));
}

/// Calls two that are to be approved.
#[sapwood::function]
async fn calls_two(cx: &mut Cx<Probe>) -> Result<Vec<String>, Trouble> {
    let calls = [cx.call(awaits_approval()), cx.call(awaits_approval())];
    Ok(try_join_all(calls).await?)
}

/// P3: a name alone could settle the wrong one; each has an id of its own.
async fn a_name_that_several_functions_gave_takes_an_id(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_two()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    let error = tree.promise("approval").resolve(anna(1)).await.expect_err("which?");
    assert_eq!(error.code(), "ambiguous_promise");
    let SettleError::Read(PromiseReadError::Ambiguous { paths, .. }) = error else { panic!("{error}") };
    assert_eq!(paths, ["/0", "/1"].map(|path| path.parse::<Path>().expect("a path")));
    let promises = engine.promises(tree.id()).await.expect("the tree is there");
    for (promise, level) in promises.iter().zip(1..) {
        engine.promise(promise.id.clone()).resolve(anna(level)).await.expect("it is pending");
    }
    assert_eq!(tree.result().await.expect("a result"), ["anna 1", "anna 2"]);
}

/// Waits for many promises, each of a name of its own.
#[sapwood::function]
async fn awaits_many(cx: &mut Cx<Probe>, many: u32) -> Result<u32, Trouble> {
    let promises: Vec<_> = (0..many).map(|n| cx.promise::<u32>(&format!("part-{n}"))).collect();
    Ok(try_join_all(promises).await?.iter().sum())
}

/// S3, P2: each is heard once, whatever commits and settles meet.
async fn a_thousand_promises_of_one_tree_settle_at_once(world: &World) {
    const MANY: u32 = 1_000;
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = Arc::new(engine.start(awaits_many(MANY)).await.expect("a tree"));
    world.tree_suspended(&engine, tree.id()).await;
    let settles = futures::stream::iter(0..MANY).for_each_concurrent(50, |n| {
        let tree = Arc::clone(&tree);
        async move {
            let settle = tree.promise(format!("part-{n}")).resolve(n).await;
            assert_eq!(settle.expect("it is pending"), Settle::Stored);
        }
    });
    settles.await;
    assert_eq!(within("a result", tree.result()).await.expect("a result"), (0..MANY).sum::<u32>());
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    assert_eq!((view.row.inbox, view.row.number), (MANY, MANY));
    assert_eq!(entries(&view, EntryKind::PromiseSettled), MANY as usize);
}

/// Waits an hour for a decision, and says what it came to.
#[sapwood::function]
async fn awaits_an_hour(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let approval = cx.promise_until::<Approval>("approval", HOUR);
    let approved = approval.await;
    app.mark("heard");
    Ok(approved.map_or_else(|error| error.to_string(), |approval| approval.by))
}

const TIMED_OUT: &str = "promise approval of / timed out";

/// P4, P2, D3: at its deadline and not before it, for its function, for who waits outside, and for who comes too late.
async fn a_promise_times_out_at_its_deadline(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(awaits_an_hour()).await.expect("a tree");
    let view = world.tree_suspended(&engine, tree.id()).await;
    let [promise] = &node(&view, "/").promises[..] else { panic!("one: {view:?}") };
    let deadline = promise.deadline.expect("it has one");
    let waits = WaitsOn::Promise { position: 0, id: promise.id.clone(), until: Some(deadline) };
    assert_eq!(node(&view, "/").waits_on, [waits], "it waits for its promise alone");
    world.advance(HOUR / 2).await;
    let id = promise.id.clone();
    let outside = engine.promise::<Approval>(id.clone());
    let waiter = tokio::spawn(async move { outside.outcome().await });
    assert_eq!(app.count("heard"), 0);
    world.advance(HOUR / 2).await;
    app.reached("heard", 1).await;
    let error = within("an outcome", waiter).await.expect("a task").expect_err("it timed out");
    assert!(matches!(&error, OutcomeError::Ended(error) if error.kind == PromiseErrorKind::TimedOut), "{error}");

    let error = tree.promise("approval").resolve(anna(3)).await.expect_err("too late");
    let SettleError::Settled(winner) = &error else { panic!("it was settled: {error}") };
    assert_eq!((winner.state, error.code()), (PromiseState::TimedOut, "promise_settled"));
    assert!(winner.settled_at.expect("when") >= deadline);
    let error = tree.promise::<Approval>("approval").reject("no").await.expect_err("too late");
    assert_eq!(error.code(), "promise_settled");
    assert_eq!(tree.result().await.expect("a result"), TIMED_OUT);
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    assert_eq!((entries(&view, EntryKind::PromiseSettled), view.row.inbox), (1, 1));
    let [promise] = &node(&view, "/").promises[..] else { panic!("one: {view:?}") };
    assert_eq!((promise.state, promise.settled_at), (PromiseState::TimedOut, winner.settled_at));
}

/// Waits an hour for a decision while a step is in flight.
#[sapwood::function]
async fn works_for_an_hour(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.comes_to("work").await;
        Ok::<_, Trouble>(app.count("work"))
    };
    let approval = cx.promise_until::<Approval>("approval", HOUR);
    let work = cx.step("work", step);
    let heard = async {
        let approved = approval.await;
        app.mark("heard");
        approved.map_or_else(|error| error.to_string(), |approval| approval.by)
    };
    let (heard, worked) = tokio::join!(heard, work);
    Ok(format!("{heard}, {}", worked?))
}

/// P4, S2: of a tree that is owned, too; nothing of it is loaded again, and no step runs twice.
async fn a_promise_times_out_beside_a_step_in_flight(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_for_an_hour()).await.expect("a tree");
    app.reached("work", 1).await;
    world.advance(HOUR).await;
    app.reached("heard", 1).await;
    app.open("work", 1);
    assert_eq!(tree.result().await.expect("a result"), format!("{TIMED_OUT}, 1"));
}

/// D3: though no worker lives, whichever way it is read.
async fn no_reader_finds_a_promise_pending_past_its_deadline(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let mut trees = Vec::new();
    for _ in 0..4 {
        let tree = engine.start(awaits_an_hour()).await.expect("a tree");
        world.tree_suspended(&engine, tree.id()).await;
        trees.push(tree.id());
    }
    engine.drain().await.expect("a drain");
    world.store().advance(HOUR).await;
    let store = world.store().another().await;
    let found = store.promise_find(trees[0], None, None).await.expect("the store").expect("the tree");
    assert_eq!(found.iter().map(|row| row.state()).collect::<Vec<_>>(), [PromiseState::TimedOut]);
    let record = store.tree_read(trees[1]).await.expect("the store").expect("the tree");
    assert_eq!(record.settled.iter().map(|row| row.state).collect::<Vec<_>>(), [PromiseState::TimedOut]);
    let settling = store.promise_settle(trees[2], &Path::root(), "approval", &by_anna()).await.expect("the store");
    let Some(Settling::Settled(winner)) = settling else { panic!("it timed out: {settling:?}") };
    assert_eq!((winner.state, winner.inbox), (PromiseState::TimedOut, 1));
    let heard = store.promise_inbox(trees[3], 0).await.expect("the store");
    assert_eq!(heard.iter().map(|row| row.state).collect::<Vec<_>>(), [PromiseState::TimedOut]);

    let engine = world.launch(&app).await;
    app.reached("heard", 4).await;
    for tree in trees {
        let tree = engine.attach::<awaits_an_hour>(tree);
        assert_eq!(within("a result", tree.result()).await.expect("a result"), TIMED_OUT);
    }
}

/// P2, P4: the deadline passes between the settle and the moment in which its worker hears of it.
async fn what_settled_in_time_stands_whoever_hears_of_it_late(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(awaits_an_hour()).await.expect("a tree");
    world.tree_suspended(&first, tree.id()).await;
    first.drain().await.expect("a drain");
    let store = world.store().another().await;
    settles_by_hand(store.as_ref(), tree.id(), 1).await;
    world.store().advance(HOUR * 2).await;
    let second = world.launch(&app).await;
    app.reached("heard", 1).await;
    let tree = second.attach::<awaits_an_hour>(tree.id());
    assert_eq!(within("a result", tree.result()).await.expect("a result"), "anna");
    let view = second.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!((entries(&view, EntryKind::PromiseSettled), view.row.inbox), (1, 1));
}

/// Gives its promise a deadline that no store can hold.
#[sapwood::function]
async fn waits_for_ever(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.promise_until::<Approval>("approval", std::time::Duration::MAX).await?;
    Ok(())
}

/// P4, D1: what cannot be recorded is refused by name; a deadline that has passed is one.
async fn a_deadline_that_no_store_can_hold_is_a_limit(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(waits_for_ever()).await.expect("a tree");
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    let rejection = rejection(&view, "/");
    assert_eq!(rejection.kind, RejectionKind::Limit, "{}", rejection.message);
    assert!(rejection.message.contains("promise approval"), "{}", rejection.message);

    let tree = engine.start(waits_for_the_past()).await.expect("a tree");
    assert_eq!(within("a result", tree.result()).await.expect("a result"), TIMED_OUT);
}

/// Gives its promise a deadline that has passed.
#[sapwood::function]
async fn waits_for_the_past(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let approval = cx.promise_until::<Approval>("approval", jiff::Timestamp::UNIX_EPOCH).await;
    Ok(approval.map_or_else(|error| error.to_string(), |approval| approval.by))
}
