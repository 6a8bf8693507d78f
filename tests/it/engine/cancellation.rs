//! K3 to K8, N2: cancelling a tree, a part of it, and what a body no longer waits for.

use std::sync::Arc;

use sapwood::prelude::*;
use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::failure::CallFailureKind;
use sapwood_core::journal::EntryKind;
use sapwood_core::store::{Hint, NoEffect, Ruling};
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_core::{CallError, Path, TreeId};
use sapwood_engine::{Effect, Engine, GovernError, Rejection, RejectionKind, TreeView};
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::outbox;

use super::{HOUR, Probed, Trouble, dozes, leaf, once, one, quick};

sapwood_tests::on_every_engine!(crate::engine::cancellation {
    a_tree_that_waits_is_cancelled_from_the_leaves_up,
    a_step_in_flight_ends_and_is_recorded_and_its_body_is_not_resumed,
    a_step_that_may_be_interrupted_is_not_waited_for,
    a_child_cancelled_on_its_own_gives_its_parent_an_error_and_nobody_else_notices,
    a_step_that_ended_while_the_request_was_made_is_not_done_again,
    what_the_owner_had_not_committed_when_the_request_was_made_never_happened,
    a_result_that_was_committed_before_the_request_stands,
    any_process_may_ask_and_asking_again_changes_nothing,
    a_request_outlives_every_process,
    a_request_ends_no_sleep_of_another,
    a_kill_waits_for_nothing,
    the_loser_of_a_race_is_cancelled,
    a_final_return_cancels_what_is_pending,
    a_retry_finds_the_children_running,
    what_is_parked_or_backs_off_is_cancelled,
    a_request_for_what_is_not_there_is_told_so,
    a_request_ends_no_sleep_before_its_time,
    a_step_in_flight_beside_what_is_cancelled_is_tried_again,
});

fn path(text: &str) -> Path {
    text.parse().expect("a path")
}

fn request(text: &str, verb: ControlVerb) -> ControlRequest {
    ControlRequest { path: path(text), verb, actor: "anna".to_owned(), reason: "the customer left".to_owned() }
}

async fn cancels(engine: &Engine, tree: TreeId, at: &str) -> Effect {
    engine.govern(tree, &request(at, ControlVerb::Cancel)).await.expect("the request is taken")
}

/// Waits until the tree has its outcome.
async fn settles(world: &World, engine: &Engine, tree: TreeId) -> TreeView {
    world.tree_until(engine, tree, |view| view.row.state.is_settled()).await
}

fn rejection(view: &TreeView, at: &str) -> Rejection {
    Rejection::read(node(view, at).outcome.as_ref().expect("an outcome")).expect("a rejection")
}

/// Calls one that dozes and one that waits at a gate, and tells what became of the first while the second goes on.
#[sapwood::function]
async fn governed_parent(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let (sleeper, worker) = (cx.call(calls_a_sleeper("sleeper".to_owned())), cx.call(leaf("gate".to_owned(), 1)));
    let sleeper = sleeper.await;
    app.mark(format!("sleeper: {}", sleeper.is_ok()));
    let kind = match sleeper {
        Err(CallError::Ended(failure)) => failure.kind,
        other => return Ok(format!("{other:?}")),
    };
    assert_eq!(kind, CallFailureKind::Cancelled);
    Ok(format!("{} after a cancelled one", worker.await?))
}

/// A function between: what it calls dozes.
#[sapwood::function]
async fn calls_a_sleeper(cx: &mut Cx<Probe>, name: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    cx.call(dozes(name, 1)).await?;
    app.mark("went on after the sleep");
    Ok(())
}

/// K3, K4, K5: every invocation closes, the leaves first, no body is resumed, and who asked is kept.
async fn a_tree_that_waits_is_cancelled_from_the_leaves_up(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_a_sleeper("sleeper".to_owned())).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    let effect = tree.cancel("the customer left").by("anna").await.expect("the request is taken");
    assert_eq!(effect, Effect::Accepted);
    let error = tree.result().await.expect_err("it is cancelled").to_string();
    assert!(error.contains("cancelled"), "{error}");
    let view = settles(world, &engine, tree.id()).await;
    assert_eq!(view.row.state, TreeState::Cancelled);
    assert_eq!(["/", "/0"].map(|path| promise(&view, path)), [Some(PromiseState::Cancelled); 2]);
    let settled = ["/0", "/"].map(|path| node(&view, path).settled_at.expect("settled"));
    assert!(settled.is_sorted(), "{settled:?}");
    let [made] = &view.requests[..] else { panic!("one request: {:?}", view.requests) };
    assert_eq!(made.request, request("/", ControlVerb::Cancel));
    let Rejection { kind, message, .. } = rejection(&view, "/0");
    assert_eq!((kind, &*message), (RejectionKind::Cancelled, "cancelled: by anna: the customer left"));
    world.advance(HOUR).await;
    assert!(app.marks("").is_empty(), "no body went on: {:?}", app.marks(""));
}

#[sapwood::function]
async fn works_on(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let n = cx.call(leaf("gate".to_owned(), 1)).await?;
    app.mark("root went on");
    Ok(n)
}

/// K4, S2: what is in flight ends first, its result is kept, and nothing of the body runs after it.
async fn a_step_in_flight_ends_and_is_recorded_and_its_body_is_not_resumed(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_on()).await.expect("a tree");
    app.reached("gate 1", 1).await;
    assert_eq!(cancels(&engine, tree.id(), "/").await, Effect::Accepted);
    let cancelling = |view: &TreeView| promise(view, "/0") == Some(PromiseState::Cancelling);
    let view = world.tree_until(&engine, tree.id(), cancelling).await;
    assert!(view.row.owner.is_some() && !node(&view, "/0").waits_on.is_empty(), "it is visible what it waits on");
    app.open("gate 1", 1);
    let view = settles(world, &engine, tree.id()).await;
    assert_eq!(view.row.state, TreeState::Cancelled);
    let kinds: Vec<_> = node(&view, "/0").timeline.iter().map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::StepResolved]);
    assert_eq!((app.count("gate 1"), app.count("root went on")), (1, 0));
}

/// Waits in a step for what never comes, beside one that ends.
#[sapwood::function]
async fn waits_interruptibly(cx: &mut Cx<Probe>, both: bool) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let hangs = async || {
        app.mark("hangs");
        std::future::pending::<Result<u32, Trouble>>().await
    };
    let hangs = cx.step("hangs", hangs).interruptible();
    let works = cx.step("works", async || {
        if both {
            app.comes_to("works").await;
        }
        Ok::<_, Trouble>(1)
    });
    let (hung, worked) = tokio::try_join!(hangs, works)?;
    Ok(hung + worked)
}

/// K4: a step that opted in is dropped, and one beside it that did not is waited for.
async fn a_step_that_may_be_interrupted_is_not_waited_for(world: &World) {
    for both in [false, true] {
        let app = Probe::new();
        let engine = world.launch(&app).await;
        let tree = engine.start(waits_interruptibly(both)).await.expect("a tree").id();
        app.reached("hangs", 1).await;
        if both {
            app.reached("works", 1).await;
        } else {
            world.tree_until(&engine, tree, |view| node(view, "/").timeline.len() == 1).await;
        }
        assert_eq!(cancels(&engine, tree, "/").await, Effect::Accepted);
        if both {
            let cancelling = |view: &TreeView| promise(view, "/") == Some(PromiseState::Cancelling);
            world.tree_until(&engine, tree, cancelling).await;
            app.open("works", 1);
        }
        let view = settles(world, &engine, tree).await;
        let names: Vec<_> = node(&view, "/").timeline.iter().map(|(_, entry)| entry.name.as_str()).collect();
        assert_eq!((view.row.state, names), (TreeState::Cancelled, vec!["works"]));
        world.crash(&engine).await;
    }
}

/// K3, K8: a sibling's step is neither stopped nor done again, though the tree's commits were refused meanwhile, and the
/// parent goes on.
async fn a_child_cancelled_on_its_own_gives_its_parent_an_error_and_nobody_else_notices(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(governed_parent()).await.expect("a tree");
    app.reached("gate 1", 1).await;
    world.tree_until(&engine, tree.id(), |view| promise(view, "/0/0").is_some()).await;
    assert_eq!(cancels(&engine, tree.id(), "/0").await, Effect::Accepted);
    app.reached("sleeper: false", 1).await;
    app.open("gate 1", 1);
    assert_eq!(tree.result().await.expect("a result"), "1 after a cancelled one");
    let view = settles(world, &engine, tree.id()).await;
    let promises = ["/0/0", "/0", "/1"].map(|path| promise(&view, path).expect("there"));
    assert_eq!(promises, [PromiseState::Cancelled, PromiseState::Cancelled, PromiseState::Resolved]);
    assert_eq!(app.count("gate 1"), 1, "the step of its sibling ran once");
}

/// Calls one that dozes, and one that has effects; waits for both.
#[sapwood::function]
async fn two_branches(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let (sleeper, effects) = (cx.call(dozes("sleeper".to_owned(), 1)), cx.call(has_effects()));
    let (sleeper, effects) = tokio::join!(sleeper, effects);
    Ok(format!("{} {:?}", sleeper.is_ok(), effects.ok()))
}

#[sapwood::function]
async fn has_effects(cx: &mut Cx<Probe>) -> Result<usize, Trouble> {
    let app = cx.dependencies();
    let first = async || {
        app.comes_to("first").await;
        Ok::<_, Trouble>(app.count("first"))
    };
    let first = cx.step("first", first).await?;
    cx.emit(Probed { key: format!("after {first}") });
    let second = cx.step("second", async || one(&app, "second")).await?;
    Ok(first + second)
}

/// A tree of [`two_branches`] whose first effect has happened; the commit that records it is refused, because meanwhile a
/// request was made for the invocation at `at`.
async fn with_a_refused_commit(world: &World, app: &Arc<Probe>, at: &str) -> (Engine, TreeId) {
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(app, store, world.options()).await;
    let tree = engine.start(two_branches()).await.expect("a tree").id();
    app.reached("first", 1).await;
    world.tree_until(&engine, tree, |view| node(view, "/0").timeline.len() == 1).await;
    faults.hold_all();
    app.open("first", 1);
    faults.held(1).await;
    let other = world.store().another().await;
    let ruling = other.tree_govern(tree, &request(at, ControlVerb::Cancel)).await.expect("the store");
    assert_eq!(ruling, Some(Ruling::Accepted { control: 1 }));
    faults.hold_none();
    (engine, tree)
}

/// K4, R3: the owner's commit is refused, and with it the end of a step; it is recorded all the same.
async fn a_step_that_ended_while_the_request_was_made_is_not_done_again(world: &World) {
    let app = Probe::new();
    let (engine, tree) = with_a_refused_commit(world, &app, "/0").await;
    let result = engine.attach::<two_branches>(tree).result().await.expect("a result");
    assert_eq!(result, "false Some(2)");
    assert_eq!((app.count("first"), app.count("second")), (1, 1));
    assert_eq!(outbox(engine.store().as_ref()).await.len(), 1, "it was emitted once");
}

/// K3: after the request nothing of what it reaches goes on, not even what the owner had done and not committed; only the
/// end of a step is recorded.
async fn what_the_owner_had_not_committed_when_the_request_was_made_never_happened(world: &World) {
    let app = Probe::new();
    let (engine, tree) = with_a_refused_commit(world, &app, "/1").await;
    let cancelled = |view: &TreeView| promise(view, "/1") == Some(PromiseState::Cancelled);
    let view = world.tree_until(&engine, tree, cancelled).await;
    let kinds: Vec<_> = node(&view, "/1").timeline.iter().map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::StepResolved]);
    assert_eq!((app.count("first"), app.count("second")), (1, 0));
    assert!(outbox(engine.store().as_ref()).await.is_empty(), "its event never happened");
    world.advance(HOUR).await;
    let result = engine.attach::<two_branches>(tree).result().await.expect("a result");
    assert_eq!(result, "true None");
}

/// Returns while what it called still works.
#[sapwood::function]
async fn returns_early(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let _worker = cx.call(leaf("gate".to_owned(), 1));
    let app = cx.dependencies();
    let begun = async || {
        app.reached("gate 1", 1).await;
        Ok::<_, Trouble>(())
    };
    cx.step("begun", begun).await?;
    Ok(7)
}

#[sapwood::function]
async fn asks_early(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    Ok(cx.call(returns_early()).await?)
}

/// K6: what was committed before stands, and the answer says so.
async fn a_result_that_was_committed_before_the_request_stands(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(asks_early()).await.expect("a tree");
    let returned = |view: &TreeView| promise(view, "/0") == Some(PromiseState::ReturnedOk);
    world.tree_until(&engine, tree.id(), returned).await;
    let effect = cancels(&engine, tree.id(), "/0").await;
    assert_eq!(effect, Effect::None(NoEffect::Decided(PromiseState::ReturnedOk)));
    app.open("gate 1", 1);
    assert_eq!(tree.result().await.expect("a result"), 7);
    let view = settles(world, &engine, tree.id()).await;
    assert_eq!(promise(&view, "/0/0"), Some(PromiseState::Cancelled), "the return cancelled what was pending");
    assert!(view.requests.is_empty());
    let effect = cancels(&engine, tree.id(), "/").await;
    assert_eq!(effect, Effect::None(NoEffect::Settled(PromiseState::Resolved)));
}

/// K3, K6: the owner, who has nothing to commit, hears of it; asking again, from anywhere, changes nothing.
async fn any_process_may_ask_and_asking_again_changes_nothing(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_on()).await.expect("a tree").id();
    app.reached("gate 1", 1).await;
    let other = world.store().another().await;
    let ruling = other.tree_govern(tree, &request("/", ControlVerb::Cancel)).await.expect("the store");
    assert_eq!(ruling, Some(Ruling::Accepted { control: 1 }));
    other.hint(&[Hint::Governed(tree, 1)]).await.expect("a hint");
    world.tree_until(&engine, tree, |view| promise(view, "/") == Some(PromiseState::Cancelling)).await;
    for at in ["/", "/0"] {
        let effect = cancels(&engine, tree, at).await;
        assert!(matches!(effect, Effect::None(NoEffect::Decided(PromiseState::Cancelling))), "{effect:?}");
    }
    app.open("gate 1", 1);
    let view = settles(world, &engine, tree).await;
    assert_eq!((view.row.state, view.requests.len()), (TreeState::Cancelled, 1));
}

/// Calls two that doze, and says who slept to the end.
#[sapwood::function]
async fn calls_two_sleepers(cx: &mut Cx<Probe>) -> Result<[bool; 2], Trouble> {
    let (first, second) = (cx.call(dozes("first".to_owned(), 1)), cx.call(dozes("second".to_owned(), 2)));
    let (first, second) = tokio::join!(first, second);
    Ok([first.is_ok(), second.is_ok()])
}

/// K3, S6: the tree is due because of the request, and not because of its next timer.
async fn a_request_ends_no_sleep_of_another(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_two_sleepers()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    assert_eq!(cancels(&engine, tree.id(), "/1").await, Effect::Accepted);
    let cancelled = |view: &TreeView| promise(view, "/1") == Some(PromiseState::Cancelled) && view.row.owner.is_none();
    let view = world.tree_until(&engine, tree.id(), cancelled).await;
    assert_eq!((promise(&view, "/0"), app.count("first wakes")), (Some(PromiseState::Pending), 0));
    world.advance(HOUR).await;
    assert_eq!(tree.result().await.expect("a result"), [true, false]);
}

/// K3: the request is durable, and whoever claims the tree next carries it out.
async fn a_request_outlives_every_process(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(calls_a_sleeper("sleeper".to_owned())).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    world.crash(&first).await;
    let store = world.store().another().await;
    let ruling = store.tree_govern(tree, &request("/0", ControlVerb::Cancel)).await.expect("the store");
    assert_eq!(ruling, Some(Ruling::Accepted { control: 1 }));
    let second = world.launch(&app).await;
    let view = settles(world, &second, tree).await;
    assert_eq!(view.row.state, TreeState::Rejected, "the root got the error, and passed it on");
    assert_eq!(promise(&view, "/0"), Some(PromiseState::Cancelled));
}

/// K7: not even for a step that never ends; and it is recorded as what it was.
async fn a_kill_waits_for_nothing(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_on()).await.expect("a tree");
    app.reached("gate 1", 1).await;
    assert_eq!(tree.kill("it hangs").by("anna").await.expect("the request is taken"), Effect::Accepted);
    let view = settles(world, &engine, tree.id()).await;
    assert_eq!(view.row.state, TreeState::Cancelled);
    assert_eq!(rejection(&view, "/").kind, RejectionKind::Killed);
    assert!(node(&view, "/0").timeline.is_empty(), "how its step would have ended is not known");
    assert_eq!(view.requests[0].request.verb, ControlVerb::Kill);
}

#[sapwood::function]
async fn loses_one(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let sleeper = cx.call(calls_a_sleeper("loser".to_owned()));
    let begun = cx.step("wins", async || {
        app.pass("wins").await;
        Ok::<_, Trouble>(())
    });
    let winner = tokio::select! {
        _ = sleeper => "the sleeper",
        _ = begun => "the step",
    };
    app.mark("raced");
    cx.sleep(HOUR).await;
    Ok(winner.to_owned())
}

/// N2: as soon as its handle is dropped, while the body goes on; and a replay takes the same branch.
async fn the_loser_of_a_race_is_cancelled(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(loses_one()).await.expect("a tree").id();
    world.tree_until(&first, tree, |view| promise(view, "/0/0").is_some()).await;
    app.open("wins", 1);
    let lost = |view: &TreeView| promise(view, "/0") == Some(PromiseState::Cancelled);
    let view = world.tree_until(&first, tree, lost).await;
    assert_eq!(promise(&view, "/0/0"), Some(PromiseState::Cancelled));
    assert_eq!(promise(&view, "/"), Some(PromiseState::Pending));
    world.tree_suspended(&first, tree).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    assert_eq!(second.attach::<loses_one>(tree).result().await.expect("a result"), "the step");
    assert_eq!(app.count("loser wakes"), 0);
    assert!(
        rejection(&second.tree(tree).await.expect("the store").expect("the tree"), "/0").message.contains("dropped")
    );
}

#[sapwood::function]
async fn leaves_one_behind(cx: &mut Cx<Probe>, succeeds: bool) -> Result<u32, Trouble> {
    let _pending = cx.call(calls_a_sleeper("left".to_owned()));
    cx.sleep(std::time::Duration::from_millis(1)).await;
    if succeeds { Ok(1) } else { Err(Trouble::broken("the root")) }
}

/// N2, N1: a return, of a result or of an error, cancels what is pending, and settles after it.
async fn a_final_return_cancels_what_is_pending(world: &World) {
    for (succeeds, state) in [(true, TreeState::Resolved), (false, TreeState::Rejected)] {
        let app = Probe::new();
        let engine = world.launch(&app).await;
        let tree = engine.start(leaves_one_behind(succeeds)).await.expect("a tree").id();
        world.tree_until(&engine, tree, |view| promise(view, "/0/0").is_some()).await;
        world.advance(std::time::Duration::from_secs(1)).await;
        let view = settles(world, &engine, tree).await;
        assert_eq!(view.row.state, state);
        assert_eq!(["/0", "/0/0"].map(|path| promise(&view, path)), [Some(PromiseState::Cancelled); 2]);
        assert!(rejection(&view, "/0/0").message.contains("its caller has ended"));
        world.crash(&engine).await;
    }
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..1ms"))]
async fn fails_beside_a_child(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let child = cx.call(leaf("gate".to_owned(), 1));
    let work = async || {
        app.reached("gate 1", 1).await;
        let times = one(&app, "tried")?;
        if times < 3 { Err(Trouble::busy("the work")) } else { Ok(()) }
    };
    cx.step("work", work).retry(once()).await?;
    app.mark("worked");
    Ok(child.await?)
}

/// N2, F5: the drops of an attempt that another one follows do not count.
async fn a_retry_finds_the_children_running(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(fails_beside_a_child()).await.expect("a tree");
    for _ in 0..500 {
        if app.count("worked") > 0 {
            break;
        }
        world.advance(std::time::Duration::from_millis(1)).await;
    }
    app.reached("worked", 1).await;
    app.open("gate 1", 1);
    assert_eq!(tree.result().await.expect("a result"), 1);
    assert_eq!((app.count("gate 1"), app.count("tried")), (1, 3));
}

#[sapwood::function(retry(attempts = 2, backoff = "1h..1h"))]
async fn goes_wrong(cx: &mut Cx<Probe>, how: String) -> Result<u32, Trouble> {
    let _ = cx.random();
    if how == "panics" {
        std::panic::panic_any("a panic of the test")
    }
    Err(Trouble::busy("the function"))
}

/// K4, R9: and none of it runs again.
async fn what_is_parked_or_backs_off_is_cancelled(world: &World) {
    for how in ["panics", "backs off"] {
        let app = Probe::new();
        let engine = world.launch(&app).await;
        let tree = engine.start(goes_wrong(how.to_owned())).await.expect("a tree").id();
        let backs_off = |view: &TreeView| node(view, "/").attempt == 2;
        world.tree_until(&engine, tree, backs_off).await;
        world.tree_suspended(&engine, tree).await;
        if how == "panics" {
            world.advance(2 * HOUR).await;
            world.tree_until(&engine, tree, |view| node(view, "/").parked.is_some()).await;
        }
        assert_eq!(cancels(&engine, tree, "/").await, Effect::Accepted);
        let view = settles(world, &engine, tree).await;
        assert_eq!((view.row.state, &node(&view, "/").parked), (TreeState::Cancelled, &None), "{how}");
        world.advance(2 * HOUR).await;
        world.crash(&engine).await;
    }
}

/// Sleeps beside a child that sleeps as well.
#[sapwood::function]
async fn sleeps_beside_a_sleeper(cx: &mut Cx<Probe>) -> Result<bool, Trouble> {
    let (sleep, child) = (cx.sleep(HOUR), cx.call(dozes("child".to_owned(), 2)));
    let ((), child) = tokio::join!(sleep, child);
    Ok(child.is_ok())
}

/// S6, K3: the tree is claimed before anything in it is due, and only the request is carried out.
async fn a_request_ends_no_sleep_before_its_time(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(sleeps_beside_a_sleeper()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    assert_eq!(cancels(&engine, tree.id(), "/1").await, Effect::Accepted);
    let cancelled = |view: &TreeView| promise(view, "/1") == Some(PromiseState::Cancelled) && view.row.owner.is_none();
    let view = world.tree_until(&engine, tree.id(), cancelled).await;
    let kinds: Vec<_> = node(&view, "/").timeline.iter().map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::SleepBegun]);
    world.advance(HOUR).await;
    assert!(!tree.result().await.expect("a result"));
}

/// K6: bad requests are told by what is wrong with them, and leave nothing behind.
async fn a_request_for_what_is_not_there_is_told_so(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_a_sleeper("sleeper".to_owned())).await.expect("a tree");
    let unknown = engine.govern(TreeId::fresh(), &request("/", ControlVerb::Cancel)).await;
    assert!(matches!(unknown, Err(GovernError::UnknownTree(_))), "{unknown:?}");
    let unknown = tree.at(path("/7")).cancel("no reason").await;
    assert!(matches!(unknown, Err(GovernError::UnknownNode { .. })), "{unknown:?}");
    for (actor, reason) in [("", "why"), ("  ", "why"), ("anna", ""), ("an\0na", "why"), ("anna", &*"y".repeat(2_001))]
    {
        let invalid = tree.cancel(reason).by(actor).await;
        assert!(matches!(invalid, Err(GovernError::Invalid { .. })), "{actor:?} {invalid:?}");
    }
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!((view.row.control, view.requests.len()), (0, 0));
}

#[sapwood::function(retry(attempts = 1))]
async fn fails_at_the_gate_once(cx: &mut Cx<Probe>) -> Result<usize, Trouble> {
    let app = cx.dependencies();
    let work = async || {
        let tries = one(&app, "tries")?;
        if tries == 1 {
            app.comes_to("gate").await;
            return Err(Trouble::busy("the gate"));
        }
        Ok(tries)
    };
    cx.step("work", work).retry(quick(2)).await
}

#[sapwood::function]
async fn works_beside_a_sleeper(cx: &mut Cx<Probe>) -> Result<usize, Trouble> {
    let sleeper = cx.call(dozes("sleeper".to_owned(), 1));
    let works = cx.call(fails_at_the_gate_once()).await?;
    let _ = sleeper.await;
    Ok(works)
}

/// K3, F2: a sibling that has a step in flight goes on as if nothing had been asked.
async fn a_step_in_flight_beside_what_is_cancelled_is_tried_again(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_beside_a_sleeper()).await.expect("a tree");
    app.reached("gate", 1).await;
    assert_eq!(cancels(&engine, tree.id(), "/0").await, Effect::Accepted);
    let is_cancelled = |view: &TreeView| promise(view, "/0") == Some(PromiseState::Cancelled);
    world.tree_until(&engine, tree.id(), is_cancelled).await;
    app.open("gate", 1);
    assert_eq!(tree.result().await.expect("the second attempt does it"), 2);
}
