//! R9, F6, C4: an operator lets what is parked run again.

use std::sync::Arc;

use sapwood::{Dependencies, prelude::*};
use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::store::{NoEffect, Ruling};
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_core::{Path, TreeId};
use sapwood_engine::{Effect, Engine, GovernError, TreeView};
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::faults::Fault;
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::{Probe, Probing};

use super::{HOUR, Trouble, dozes, leaf, one};

sapwood_tests::on_every_engine!(crate::engine::resuming {
    what_a_build_could_not_go_on_with_is_resumed_by_one_that_can,
    a_panic_that_was_mended_is_resumed_with_the_attempt_that_it_had,
    a_request_to_resume_outlives_every_process,
    a_sibling_s_step_in_flight_runs_on_while_a_parked_function_is_resumed,
    of_two_who_resume_at_once_one_is_heard,
    a_tree_that_killed_its_workers_is_resumed,
    what_backs_off_in_a_parked_tree_backs_off_again,
    what_is_not_parked_is_not_resumed,
});

fn path(text: &str) -> Path {
    text.parse().expect("a path")
}

fn request(at: &str, verb: ControlVerb) -> ControlRequest {
    ControlRequest { path: path(at), verb, actor: "anna".to_owned(), reason: "it is mended".to_owned() }
}

/// Waits until the invocation is parked, and no worker has its tree.
async fn parks(world: &World, engine: &Engine, tree: TreeId, at: &str) -> TreeView {
    world.tree_until(engine, tree, |view| node(view, at).parked.is_some() && view.row.owner.is_none()).await
}

// ---- another build --------------------------------------------------------------------------------------------------

/// The same context, whose code was changed by mistake.
struct Mistaken(Arc<Probe>);

impl Dependencies for Mistaken {
    type Context = Probing;
}

/// Sleeps for two hours, beside a child that sleeps for one.
#[sapwood::function]
async fn resumed_sleeper(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let charged = cx.step("charge", async || one(&app, "charge")).await?;
    let (long, child) = (cx.sleep(2 * HOUR), cx.call(dozes("child".to_owned(), 1)));
    let ((), child) = tokio::join!(long, child);
    child?;
    Ok(format!("charged {charged} time"))
}

#[sapwood::function(name = "resumed_sleeper")]
async fn mistaken_sleeper(cx: &mut Cx<Mistaken>) -> Result<String, Trouble> {
    let app = Arc::clone(&cx.dependencies().0);
    cx.step("bill", async || one(&app, "bill")).await?;
    Ok("billed".to_owned())
}

#[sapwood::function(name = "dozes")]
async fn mistaken_dozes(cx: &mut Cx<Mistaken>, name: String, hours: u32) -> Result<(), Trouble> {
    cx.sleep(HOUR * hours).await;
    cx.dependencies().0.mark(format!("{name} wakes"));
    Ok(())
}

/// R9: after the code is fixed it goes on from its record, with the same attempt, and its timers fire again; while it is
/// parked they do not.
async fn what_a_build_could_not_go_on_with_is_resumed_by_one_that_can(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(resumed_sleeper()).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    first.drain().await.expect("a drain");
    let mistaken = world.launch(&Arc::new(Mistaken(Arc::clone(&app)))).await;
    world.advance(HOUR).await;
    let view = parks(world, &mistaken, tree, "/").await;
    assert_eq!(view.row.state, TreeState::Parked, "the sleep that is left does not count");
    mistaken.drain().await.expect("a drain");

    let mended = world.launch(&app).await;
    let handle = mended.attach::<resumed_sleeper>(tree);
    assert_eq!(handle.resume("it is mended").by("anna").await.expect("the request is taken"), Effect::Accepted);
    let view = world.tree_suspended(&mended, tree).await;
    assert_eq!((&node(&view, "/").parked, promise(&view, "/")), (&None, Some(PromiseState::Pending)));
    world.advance(HOUR).await;
    assert_eq!(handle.result().await.expect("a result"), "charged 1 time");
    let view = mended.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!((node(&view, "/").attempt, app.count("charge"), app.count("bill")), (1, 1, 0));
    assert_eq!(view.requests[0].request, request("/", ControlVerb::Resume));
}

#[sapwood::function(retry(attempts = 1))]
async fn panics_until_mended(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    cx.step("work", async || one(&app, "work").map(drop)).await?;
    app.mark("activated");
    if !app.is_on("mended") {
        std::panic::panic_any("a panic of the test")
    }
    Ok(7)
}

#[sapwood::function]
async fn calls_one_that_panics(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let (panics, works) = (cx.call(panics_until_mended()), cx.call(leaf("gate".to_owned(), 1)));
    let (panics, works) = tokio::join!(panics, works);
    Ok(panics? + works?)
}

/// R9, F6: and before it is mended, it is only parked again.
async fn a_panic_that_was_mended_is_resumed_with_the_attempt_that_it_had(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(panics_until_mended()).await.expect("a tree");
    parks(world, &engine, tree.id(), "/").await;
    let before = app.count("activated");
    assert_eq!(tree.resume("perhaps").await.expect("the request is taken"), Effect::Accepted);
    app.reached("activated", before + 1).await;
    parks(world, &engine, tree.id(), "/").await;
    app.turn_on("mended");
    assert_eq!(tree.resume("it is mended").await.expect("the request is taken"), Effect::Accepted);
    assert_eq!(tree.result().await.expect("a result"), 7);
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!((node(&view, "/").attempt, app.count("work")), (1, 1), "what succeeded stays");
}

/// R9: whether the process dies before it hears of the request, before the commit that carries it out, or after that.
async fn a_request_to_resume_outlives_every_process(world: &World) {
    for fault in [None, Some(Fault::DiesBefore), Some(Fault::DiesAfter)] {
        let app = Probe::new();
        let mut worker = world.launch(&app).await;
        let tree = worker.start(panics_until_mended()).await.expect("a tree").id();
        parks(world, &worker, tree, "/").await;
        app.turn_on("mended");
        world.crash(&worker).await;
        let (store, faults) = with_faults(world.store().another().await);
        if let Some(fault) = fault {
            worker = world.launch_on(&app, store, world.options()).await;
            faults.kills(&worker);
            faults.plan_next(fault);
            let asked = worker.attach::<panics_until_mended>(tree).resume("it is mended").await;
            assert_eq!(asked.expect("the request is taken"), Effect::Accepted);
            worker.stopped().await;
            worker = world.take_over(&worker, &app).await;
        } else {
            let ruling = store.tree_govern(tree, &request("/", ControlVerb::Resume)).await.expect("the store");
            assert_eq!(ruling, Some(Ruling::Accepted { control: 1 }));
            worker = world.launch(&app).await;
        }
        let result = worker.attach::<panics_until_mended>(tree).result().await;
        assert_eq!(result.expect("a result"), 7, "{fault:?}");
        assert_eq!(app.count("work"), 1);
        world.crash(&worker).await;
    }
}

/// R9, K4: its owner's commits are refused until the request is read; the step is neither stopped nor done again.
async fn a_sibling_s_step_in_flight_runs_on_while_a_parked_function_is_resumed(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_one_that_panics()).await.expect("a tree");
    app.reached("gate 1", 1).await;
    world.tree_until(&engine, tree.id(), |view| node(view, "/0").parked.is_some()).await;
    app.turn_on("mended");
    let effect = tree.at(path("/0")).resume("it is mended").await.expect("the request is taken");
    assert_eq!(effect, Effect::Accepted);
    let resolved = |view: &TreeView| promise(view, "/0") == Some(PromiseState::Resolved);
    world.tree_until(&engine, tree.id(), resolved).await;
    app.open("gate 1", 1);
    assert_eq!(tree.result().await.expect("a result"), 8);
    assert_eq!((app.count("gate 1"), app.count("work")), (1, 1));
}

/// K6: at two processes; it runs once more.
async fn of_two_who_resume_at_once_one_is_heard(world: &World) {
    let app = Probe::new();
    let (first, second) = (world.launch(&app).await, world.launch(&app).await);
    let tree = first.start(panics_until_mended()).await.expect("a tree").id();
    parks(world, &first, tree, "/").await;
    app.turn_on("mended");
    let asks = |engine: &Engine| engine.attach::<panics_until_mended>(tree).resume("it is mended").into_future();
    let effects = futures::future::join_all([asks(&first), asks(&second), asks(&first)]).await;
    let accepted = effects.iter().filter(|effect| matches!(effect, Ok(Effect::Accepted))).count();
    assert_eq!(accepted, 1, "{effects:?}");
    assert!(effects.iter().all(Result::is_ok), "{effects:?}");
    assert_eq!(second.attach::<panics_until_mended>(tree).result().await.expect("a result"), 7);
    let view = first.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!(view.requests.len(), 1);
}

#[sapwood::function]
async fn kills_until_mended(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    cx.step("kill", async || {
        app.mark("kills");
        if !app.is_on("mended") {
            std::future::pending::<()>().await;
        }
        Ok::<_, Trouble>(9)
    })
    .await
}

/// C4, R9: and counts as new: it is not parked again at its next takeover.
async fn a_tree_that_killed_its_workers_is_resumed(world: &World) {
    let app = Probe::new();
    let mut worker = world.launch(&app).await;
    let tree = worker.start(kills_until_mended()).await.expect("a tree").id();
    for kill in 1..=5 {
        app.reached("kills", kill).await;
        worker = world.take_over(&worker, &app).await;
    }
    let view = parks(world, &worker, tree, "/").await;
    assert_eq!((view.row.state, app.count("kills")), (TreeState::Parked, 5));
    let handle = worker.attach::<kills_until_mended>(tree);
    assert_eq!(handle.resume("not mended yet").await.expect("the request is taken"), Effect::Accepted);
    app.reached("kills", 6).await;
    app.turn_on("mended");
    let worker = world.take_over(&worker, &app).await;
    assert_eq!(worker.attach::<kills_until_mended>(tree).result().await.expect("a result"), 9);
    assert_eq!(app.count("kills"), 7);
}

#[sapwood::function(retry(attempts = 2, backoff = "1h..1h"))]
async fn backs_off_once(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let _ = cx.random();
    app.mark("tried");
    if app.count("tried") > 1 { Ok(3) } else { Err(Trouble::busy("it")) }
}

#[sapwood::function]
async fn backs_off_beside_a_killer(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let (backs_off, kills) = (cx.call(backs_off_once()), cx.call(kills_until_mended()));
    let (backs_off, kills) = tokio::join!(backs_off, kills);
    Ok(backs_off? + kills?)
}

/// R9: the timer of the next attempt was withheld, and fires when it is due.
async fn what_backs_off_in_a_parked_tree_backs_off_again(world: &World) {
    let app = Probe::new();
    let mut worker = world.launch(&app).await;
    let tree = worker.start(backs_off_beside_a_killer()).await.expect("a tree").id();
    world.tree_until(&worker, tree, |view| node(view, "/0").attempt == 2).await;
    for kill in 1..=5 {
        app.reached("kills", kill).await;
        worker = world.take_over(&worker, &app).await;
    }
    parks(world, &worker, tree, "/0").await;
    app.turn_on("mended");
    let handle = worker.attach::<backs_off_beside_a_killer>(tree);
    assert_eq!(handle.resume("it is mended").await.expect("the request is taken"), Effect::Accepted);
    world.advance(HOUR).await;
    assert_eq!(handle.result().await.expect("a result"), 12);
    assert_eq!(app.count("tried"), 2);
}

/// K6, P2: a request that changes nothing says why, and leaves nothing behind.
async fn what_is_not_parked_is_not_resumed(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_one_that_panics()).await.expect("a tree");
    world
        .tree_until(&engine, tree.id(), |view| promise(view, "/0").is_some_and(|_| node(view, "/0").parked.is_some()))
        .await;
    app.reached("gate 1", 1).await;
    let runs = tree.at(path("/1")).resume("why not").await.expect("an answer");
    assert_eq!(runs, Effect::None(NoEffect::NotParked));
    let unknown = tree.at(path("/7")).resume("why not").await;
    assert!(matches!(unknown, Err(GovernError::UnknownNode { .. })), "{unknown:?}");
    let unknown = engine.govern(TreeId::fresh(), &request("/", ControlVerb::Resume)).await;
    assert!(matches!(unknown, Err(GovernError::UnknownTree(_))), "{unknown:?}");
    app.turn_on("mended");
    tree.resume("it is mended").await.expect("an answer");
    app.open("gate 1", 1);
    assert_eq!(tree.result().await.expect("a result"), 8);
    world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    let over = tree.resume("why not").await.expect("an answer");
    assert_eq!(over, Effect::None(NoEffect::Settled(PromiseState::Resolved)));
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!(view.requests.len(), 1);
}
