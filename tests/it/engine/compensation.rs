//! K1, K2, K5, K7: undoing what was done.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use sapwood::prelude::*;
use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::store::NoEffect;
use sapwood_core::tree::{Closing, PromiseState, TreeState};
use sapwood_core::{Path, TreeId};
use sapwood_engine::{Effect, Engine, StartError, TreeView};
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::probe::Probe;

use super::{HOUR, Trouble, once};

sapwood_tests::on_every_engine!(crate::engine::compensation {
    a_function_that_fails_undoes_in_reverse_what_it_did,
    a_function_that_resolves_drops_its_compensations,
    what_did_not_resolve_is_not_undone,
    a_cancelled_tree_is_undone_from_the_leaves_up,
    an_undo_that_fails_is_visible_and_the_others_are_tried,
    a_compensation_goes_on_after_a_crash_at_the_first_that_has_not_ended,
    a_failure_that_is_caught_is_undone_all_the_same,
    nothing_but_a_kill_stops_a_compensation,
    what_was_declared_before_a_step_that_never_began_is_undone,
    a_closure_in_place_of_the_undo_is_found,
    an_undo_that_cannot_take_the_result_waits_for_an_operator,
    an_undo_that_could_not_take_the_result_is_resumed,
    a_root_has_no_undo,
});

/// Does something that can be undone: it tells what it did.
#[sapwood::function]
async fn does(cx: &mut Cx<Probe>, what: String) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let work = async || {
        app.works(&what).await;
        if app.is_on(&format!("{what} is broken")) { Err(Trouble::broken(&what)) } else { Ok(()) }
    };
    cx.step("work", work).retry(once()).await?;
    Ok(format!("{what} 1"))
}

/// Undoes what [`does`] did.
#[sapwood::function(retry(attempts = 2, backoff = "1ms..1ms"))]
async fn undoes(cx: &mut Cx<Probe>, done: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let what = format!("undo {done}");
    let work = async || {
        app.works(&what).await;
        if app.is_on(&format!("{what} is broken")) { Err(Trouble::broken(&what)) } else { Ok(()) }
    };
    cx.step("work", work).retry(once()).await
}

/// Two at once, one after the other, and a step of its own; then it ends as it is told.
#[sapwood::function]
async fn saga(cx: &mut Cx<Probe>, ends: String) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let (first, second) = (cx.call(does("a".to_owned()).undo(undoes)), cx.call(does("b".to_owned()).undo(undoes)));
    tokio::try_join!(first, second)?;
    cx.call(does("not undone".to_owned())).await?;
    cx.compensate("own step", undoes("own".to_owned()));
    let own = async || {
        app.works("own").await;
        Ok::<_, Trouble>(())
    };
    cx.step("own step", own).await?;
    cx.call(does("c".to_owned()).undo(undoes)).await?;
    match ends.as_str() {
        "well" => Ok(ends),
        "waiting" => {
            app.mark("waits");
            cx.sleep(HOUR).await;
            Ok(ends)
        }
        _ => Err(Trouble::broken("the saga")),
    }
}

async fn settles(world: &World, engine: &Engine, tree: TreeId) -> TreeView {
    world.tree_until(engine, tree, |view| view.row.state.is_settled()).await
}

fn request(at: &str, verb: ControlVerb) -> ControlRequest {
    let path = at.parse().expect("a path");
    ControlRequest { path, verb, actor: "anna".to_owned(), reason: "the customer left".to_owned() }
}

/// What was undone so far, in order.
fn undone(app: &Probe) -> Vec<String> {
    app.marks("done undo ")
}

const ALL: [&str; 4] = ["c 1", "own", "b 1", "a 1"];

/// K1, K2, N1: in the reverse of program order, once each, before it settles; each undo is a node.
async fn a_function_that_fails_undoes_in_reverse_what_it_did(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(saga("badly".to_owned())).await.expect("a tree");
    let error = tree.result().await.expect_err("it fails").to_string();
    assert!(error.contains("saga@1 at / failed"), "{error}");
    assert_eq!(undone(&app), ALL);
    let view = settles(world, &engine, tree.id()).await;
    let root = node(&view, "/");
    assert_eq!(
        (view.row.state, view.row.closing, root.closing),
        (TreeState::Rejected, Closing::Compensated, Closing::Compensated)
    );
    let undo = node(&view, "/~0");
    assert_eq!((&*undo.function, undo.undoes, undo.promise), ("undoes", Some(0), PromiseState::Resolved));
    assert_eq!(undo.input, r#"{"done":"a 1"}"#.as_bytes());
    assert_eq!(node(&view, "/0").undo.as_ref().map(ToString::to_string).as_deref(), Some("undoes@1"));
    assert!(undo.settled_at.expect("settled") <= root.settled_at.expect("settled"));
    let numbers: Vec<u32> = (1..=view.row.number).collect();
    let children = view.nodes.iter().flat_map(|node| node.timeline.iter().filter_map(|(_, entry)| entry.number));
    assert!(children.count() < numbers.len(), "every undo took a number: {}", view.row.number);
}

/// K1: nothing is undone, and nothing is left to be undone.
async fn a_function_that_resolves_drops_its_compensations(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(saga("well".to_owned())).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), "well");
    let view = settles(world, &engine, tree.id()).await;
    assert!(undone(&app).is_empty());
    assert_eq!((view.row.closing, node(&view, "/").closing, view.nodes.len()), (Closing::None, Closing::None, 5));
}

/// K1: a call counts from the moment it has resolved; a step from the line before it.
async fn what_did_not_resolve_is_not_undone(world: &World) {
    for (broken, expected) in [("a", vec!["b 1"]), ("c", vec!["own", "b 1", "a 1"])] {
        let app = Probe::new();
        app.turn_on(&format!("{broken} is broken"));
        if broken == "a" {
            // The other one has resolved before.
            app.hold("a");
        }
        let engine = world.launch(&app).await;
        let tree = engine.start(saga("well".to_owned())).await.expect("a tree");
        if broken == "a" {
            world.tree_until(&engine, tree.id(), |view| promise(view, "/1") == Some(PromiseState::Resolved)).await;
            app.hold_none();
        }
        tree.result().await.expect_err("it fails");
        assert_eq!(undone(&app), expected);
        world.crash(&engine).await;
    }
}

/// Calls a saga, and something of its own before it.
#[sapwood::function]
async fn calls_a_saga(cx: &mut Cx<Probe>, ends: String) -> Result<String, Trouble> {
    cx.call(does("first".to_owned()).undo(undoes)).await?;
    Ok(cx.call(saga(ends)).await?)
}

/// K5, K4: children are closed, compensation included, before their parent's begins.
async fn a_cancelled_tree_is_undone_from_the_leaves_up(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_a_saga("waiting".to_owned())).await.expect("a tree").id();
    app.reached("waits", 1).await;
    world.tree_suspended(&engine, tree).await;
    engine.govern(tree, &request("/", ControlVerb::Cancel)).await.expect("the request is taken");
    let view = settles(world, &engine, tree).await;
    assert_eq!(undone(&app), [&ALL[..], &["first 1"]].concat());
    assert_eq!((view.row.state, view.row.closing), (TreeState::Cancelled, Closing::Compensated));
    assert_eq!(["/", "/1"].map(|at| node(&view, at).closing), [Closing::Compensated; 2]);
    assert_eq!(app.count("waits"), 1, "no body was resumed");
}

/// K2: the tree says so, and its outcome stands.
async fn an_undo_that_fails_is_visible_and_the_others_are_tried(world: &World) {
    let app = Probe::new();
    app.turn_on("undo own is broken");
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_a_saga("badly".to_owned())).await.expect("a tree").id();
    let view = settles(world, &engine, tree).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::Rejected, Closing::CompensationFailed));
    let closing = ["/1", "/"].map(|at| node(&view, at).closing);
    assert_eq!(closing, [Closing::CompensationFailed, Closing::Compensated]);
    assert_eq!(undone(&app), [&ALL[..], &["first 1"]].concat(), "each was tried, the broken one as well");
    assert_eq!(promise(&view, "/1/~3"), Some(PromiseState::Rejected));
}

/// K2: once each, whatever crashes come between; the one that was under way is begun again.
async fn a_compensation_goes_on_after_a_crash_at_the_first_that_has_not_ended(world: &World) {
    let app = Probe::new();
    app.hold("undo b");
    let first = world.launch(&app).await;
    let tree = first.start(saga("badly".to_owned())).await.expect("a tree").id();
    app.reached("begun undo b 1", 1).await;
    let view = first.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!((view.row.closing, node(&view, "/").closing), (Closing::Compensating, Closing::Compensating));
    assert!(!node(&view, "/").waits_on.is_empty());
    let second = world.take_over(&first, &app).await;
    app.reached("begun undo b 1", 2).await;
    app.hold_none();
    let view = settles(world, &second, tree).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::Rejected, Closing::Compensated));
    let undone = undone(&app);
    assert_eq!(undone.iter().filter(|undone| *undone == "b 1").count(), if undone.len() == 5 { 2 } else { 1 });
    assert_eq!(
        (&undone[..2], undone.last().map(String::as_str)),
        (&["c 1".to_owned(), "own".to_owned()][..], Some("a 1"))
    );
}

#[sapwood::function]
async fn catches_a_saga(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    match cx.call(saga("badly".to_owned())).await {
        Ok(done) => Ok(done),
        Err(error) => Ok(format!("caught: {error}")),
    }
}

/// K2, F4, N1: before its caller is told; and the tree says that something in it was undone.
async fn a_failure_that_is_caught_is_undone_all_the_same(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(catches_a_saga()).await.expect("a tree");
    let result = tree.result().await.expect("a result");
    assert!(result.starts_with("caught: saga@1 at /0 failed"), "{result}");
    assert_eq!(undone(&app), ALL);
    let view = settles(world, &engine, tree.id()).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::Resolved, Closing::Compensated));
    assert_eq!(["/", "/0"].map(|at| node(&view, at).closing), [Closing::None, Closing::Compensated]);
}

/// K6, K7: a cancellation of what compensates changes nothing, neither here nor above; a kill stops it.
async fn nothing_but_a_kill_stops_a_compensation(world: &World) {
    for verb in [ControlVerb::Cancel, ControlVerb::Kill] {
        let app = Probe::new();
        app.hold("undo b");
        let engine = world.launch(&app).await;
        let tree = engine.start(calls_a_saga("badly".to_owned())).await.expect("a tree").id();
        app.reached("begun undo b 1", 1).await;
        let effect = engine.govern(tree, &request("/1", ControlVerb::Cancel)).await.expect("an answer");
        assert_eq!(effect, Effect::None(NoEffect::Decided(PromiseState::ReturnedErr)));
        let effect = engine.govern(tree, &request("/", verb)).await.expect("an answer");
        assert_eq!(effect, Effect::Accepted);
        let is_cancelling = |view: &TreeView| promise(view, "/").is_none_or(|root| root != PromiseState::Pending);
        let view = world.tree_until(&engine, tree, is_cancelling).await;
        app.hold_none();
        let settled = settles(world, &engine, tree).await;
        assert_eq!(settled.row.state, TreeState::Cancelled);
        let closing = ["/1", "/"].map(|at| node(&settled, at).closing);
        if verb == ControlVerb::Kill {
            assert_eq!(closing, [Closing::CompensationFailed, Closing::None], "{view:?}");
            assert_eq!(undone(&app).iter().filter(|undone| *undone == "a 1" || *undone == "first 1").count(), 0);
        } else {
            assert_eq!(closing, [Closing::Compensated; 2]);
            assert_eq!(undone(&app), [&ALL[..], &["first 1"]].concat());
        }
        world.crash(&engine).await;
    }
}

#[sapwood::function]
async fn declares(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    cx.compensate("later", undoes("later".to_owned()));
    app.mark("declared");
    cx.sleep(HOUR).await;
    Err(Trouble::broken("it"))
}

/// K1: an undo tolerates that nothing happened.
async fn what_was_declared_before_a_step_that_never_began_is_undone(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(declares()).await.expect("a tree").id();
    app.reached("declared", 1).await;
    world.tree_suspended(&engine, tree).await;
    world.advance(HOUR).await;
    let view = settles(world, &engine, tree).await;
    assert_eq!((view.row.closing, undone(&app)), (Closing::Compensated, vec!["later".to_owned()]));
}

#[sapwood::function]
async fn undoes_something_else(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    Ok(cx.call(does("a".to_owned()).undo(|_| undoes("something else".to_owned()))).await?)
}

/// K1: the engine would call the undo with the result, whatever a closure makes of it; so that is misuse, by name.
async fn a_closure_in_place_of_the_undo_is_found(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(undoes_something_else()).await.expect("a tree").id();
    let view = world.tree_until(&engine, tree, |view| node(view, "/").parked.is_some()).await;
    let parked = String::from_utf8_lossy(node(&view, "/").parked.as_ref().expect("it is parked")).into_owned();
    assert!(parked.contains("misuse") && parked.contains(".undo(undoes)"), "{parked}");
}

/// Values of [`Fragile`] that panic as they are read.
static BROKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What a build made whose reading another build got wrong.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct Fragile(String);

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        assert!(!BROKEN.lock().contains(&name), "{name} is broken");
        Ok(Self(name))
    }
}

#[sapwood::function]
async fn makes_fragile(_: &mut Cx<Probe>, name: String) -> Result<Fragile, Trouble> {
    Ok(Fragile(name))
}

#[sapwood::function]
async fn unmakes_fragile(_: &mut Cx<Probe>, made: Fragile) -> Result<(), Trouble> {
    drop(made);
    Ok(())
}

#[sapwood::function]
async fn fails_after_fragile(cx: &mut Cx<Probe>, name: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    cx.call(makes_fragile(name).undo(unmakes_fragile)).await?;
    let gate = async || {
        app.comes_to("gate").await;
        Err(Trouble::broken("the step"))
    };
    cx.step("gate", gate).retry(once()).await
}

/// A tree of [`fails_after_fragile`] that fails, and cannot undo what this name was made of.
async fn with_an_undo_that_takes_nothing(world: &World, app: &Arc<Probe>, name: &str) -> (Engine, TreeId) {
    let engine = world.launch(app).await;
    let tree = engine.start(fails_after_fragile(name.to_owned())).await.expect("a tree").id();
    app.reached("gate", 1).await;
    BROKEN.lock().insert(name.to_owned());
    app.open("gate", 1);
    world.tree_until(&engine, tree, |view| node(view, "/").parked.is_some() && view.row.owner.is_none()).await;
    (engine, tree)
}

/// R9, K2: once another build can take it, it is undone.
async fn an_undo_that_could_not_take_the_result_is_resumed(world: &World) {
    let (app, name) = (Probe::new(), TreeId::fresh().to_string());
    let (engine, tree) = with_an_undo_that_takes_nothing(world, &app, &name).await;
    BROKEN.lock().remove(&name);
    let effect = engine.govern(tree, &request("/", ControlVerb::Resume)).await.expect("the request is taken");
    assert_eq!(effect, Effect::Accepted);
    let view = settles(world, &engine, tree).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::Rejected, Closing::Compensated));
    assert_eq!(promise(&view, "/~0"), Some(PromiseState::Resolved));
}

/// K2, R9: what it would undo stays as it is, named, and nothing else stops; a kill ends it all the same.
async fn an_undo_that_cannot_take_the_result_waits_for_an_operator(world: &World) {
    let (app, name) = (Probe::new(), TreeId::fresh().to_string());
    let (engine, tree) = with_an_undo_that_takes_nothing(world, &app, &name).await;
    let view = engine.tree(tree).await.expect("the store").expect("the tree");
    let parked = String::from_utf8_lossy(node(&view, "/").parked.as_ref().expect("it is parked")).into_owned();
    assert!(parked.contains("unmakes_fragile@1") && parked.contains("is broken"), "{parked}");
    assert_eq!(promise(&view, "/"), Some(PromiseState::ReturnedErr));
    let effect = engine.govern(tree, &request("/", ControlVerb::Kill)).await.expect("the request is taken");
    assert_eq!(effect, Effect::Accepted);
    let view = settles(world, &engine, tree).await;
    assert_eq!((view.row.state, &node(&view, "/").parked), (TreeState::Rejected, &None), "its outcome stands");
}

/// K1: it has no caller.
async fn a_root_has_no_undo(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let started = engine.start(does("a".to_owned()).undo(undoes)).await.map(|tree| tree.id());
    assert!(matches!(started, Err(StartError::InvalidInput { .. })), "{started:?}");
    assert!(Path::root().undoes().is_none());
}
