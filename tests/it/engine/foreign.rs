//! R10: a body awaits what `cx` gives. What else it awaits, or holds and never awaits, is found and named.

use std::sync::Arc;

use futures::future::FutureExt;
use parking_lot::Mutex;
use sapwood::prelude::*;
use sapwood_core::tree::TreeState;
use sapwood_engine::EngineOptions;
use sapwood_tests::engine::{World, node};
use sapwood_tests::probe::Probe;
use serde_json::Value;

use super::{HOUR, Probed, Trouble, leaf};

sapwood_tests::on_every_engine!(crate::engine::foreign {
    a_body_that_waits_for_what_nobody_runs_parks,
    what_wakes_a_body_from_outside_parks_it,
    a_handle_that_another_body_polls_parks_both_and_nobody_else,
    a_wake_from_outside_beside_a_step_in_flight_is_no_violation,
    a_body_that_goes_by_the_count_of_its_polls_is_found_by_the_test_mode,
});

#[sapwood::function]
async fn waits_for_nothing(cx: &mut Cx<Probe>, how: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let step = cx.step("never polled", async || Ok::<_, Trouble>(()));
    let call = cx.call(leaf("never awaited".to_owned(), 0));
    app.open("never awaited 0", 1);
    match how.as_str() {
        "a step" => {
            drop(call);
            std::future::pending::<()>().await;
            step.await
        }
        "a call" => {
            drop(step);
            std::future::pending::<()>().await;
            Ok(call.await.map(drop)?)
        }
        "a spawned handle" => {
            drop(step);
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(call);
            let joined = tasks.join_next().await;
            app.mark(format!("joined {}", joined.is_some()));
            Ok(())
        }
        other => unreachable!("{other}"),
    }
}

/// Why the root of a tree is parked, as JSON.
async fn parked(world: &World, engine: &sapwood_engine::Engine, tree: sapwood_core::TreeId) -> Value {
    let view = world.tree_until(engine, tree, |view| view.row.state == TreeState::Parked).await;
    let root = node(&view, "/");
    assert_eq!(root.attempt, 1, "no attempt is consumed");
    serde_json::from_slice(root.parked.as_ref().expect("parked")).expect("JSON")
}

/// R10, S3: a step or a call that was never polled wakes nobody, and neither does a handle that another task polls.
async fn a_body_that_waits_for_what_nobody_runs_parks(world: &World) {
    // The other task may poll the handle before the body waits, or after it.
    let cases: [(&str, &[&str]); 3] = [
        ("a step", &["foreign_await"]),
        ("a call", &["foreign_await"]),
        ("a spawned handle", &["foreign_await", "misuse"]),
    ];
    for (how, codes) in cases {
        let app = Probe::new();
        let engine = world.launch(&app).await;
        let tree = engine.start(waits_for_nothing(how.to_owned())).await.expect("a tree").id();
        let why = parked(world, &engine, tree).await;
        assert!(why["code"].as_str().is_some_and(|code| codes.contains(&code)), "{how}: {why}");
        assert!(why["location"].as_str().is_some_and(|place| place.contains("engine/foreign.rs:")), "{how}: {why}");
        assert!(app.marks("joined ").is_empty(), "the body is not polled on");
    }
}

#[sapwood::function]
async fn times_its_child_out(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let child = cx.call(leaf("child".to_owned(), 0));
    Ok(tokio::select! {
        biased;
        child = child => child?.to_string(),
        () = app.pass("a timer of the runtime") => "too late".to_owned(),
    })
}

/// R10: a timer of the runtime would give one result to a body in memory, and another one to a replay.
async fn what_wakes_a_body_from_outside_parks_it(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(times_its_child_out()).await.expect("a tree");
    app.reached("child 0", 1).await;
    if world.evicts() {
        // It would wait for the timer no longer: that left memory with its body.
        app.open("child 0", 1);
        assert_eq!(tree.result().await.expect("a result"), "0");
        return;
    }
    app.open("a timer of the runtime", 1);
    let is_parked = |view: &sapwood_engine::TreeView| node(view, "/").parked.is_some();
    world.tree_until(&engine, tree.id(), is_parked).await;
    app.open("child 0", 1);
    let why = parked(world, &engine, tree.id()).await;
    assert_eq!(why["code"], "foreign_await");
    assert!(why["message"].as_str().is_some_and(|why| why.contains("something woke the body")), "{why}");
}

/// A place in which one body leaves a handle for another.
static LEFT: Mutex<Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>> = Mutex::new(None);

#[sapwood::function]
async fn gives_a_handle_away(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let sleep = cx.sleep(HOUR);
    *LEFT.lock() = Some(Box::pin(sleep));
    app.mark("given");
    let other = cx.sleep(HOUR);
    other.await;
    Ok(())
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn takes_a_handle(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark("takes");
    let taken = LEFT.lock().take();
    if let Some(taken) = taken {
        taken.await;
    }
    Ok(())
}

/// R8: the body that used the handle is named, without an attempt; so is the one whose handle it was, although it was not
/// polled at that time.
async fn a_handle_that_another_body_polls_parks_both_and_nobody_else(world: &World) {
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ONE_AT_A_TIME.lock().await;
    if world.evicts() {
        // Nobody has the handle of a body that has left memory.
        return;
    }
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let giver = engine.start(gives_a_handle_away()).await.expect("a tree").id();
    app.reached("given", 1).await;
    world.tree_suspended(&engine, giver).await;
    let taker = engine.start(takes_a_handle()).await.expect("a tree").id();
    let why = parked(world, &engine, taker).await;
    assert_eq!(why["code"], "misuse", "{why}");
    assert_eq!(app.count("takes"), 1);
    world.advance(HOUR).await;
    let why = parked(world, &engine, giver).await;
    assert_eq!(why["code"], "misuse", "{why}");
}

#[sapwood::function]
async fn has_a_task_beside_its_step(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let (tell, told) = tokio::sync::oneshot::channel();
    let told = told.shared();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let step = cx.step("work", || {
        let (app, tell) = (Arc::clone(&app), Arc::clone(&tell));
        async move {
            app.pass("step").await;
            tokio::spawn(async move { tell.lock().take().map(|tell| tell.send(())) }).await.expect("no panic");
            app.pass("step").await;
            Ok::<_, Trouble>(())
        }
    });
    let (step, _) = futures::future::join(step, told).await;
    step
}

/// R10, S2: beside a step in flight, it may have been the step.
async fn a_wake_from_outside_beside_a_step_in_flight_is_no_violation(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(has_a_task_beside_its_step()).await.expect("a tree");
    app.open("step", 2);
    tree.result().await.expect("a result");
    let view = engine.tree(tree.id()).await.expect("read").expect("there");
    let found: Vec<_> = view.nodes[0].findings.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(found, ["foreign_await"], "it is reported in the tree, once");
}

#[sapwood::function]
async fn goes_by_its_polls(cx: &mut Cx<Probe>, rounds: u32) -> Result<(), Trouble> {
    for _ in 0..rounds {
        let sleep = cx.sleep(HOUR);
        let (bell, order) = (tokio::sync::Notify::new(), Mutex::new(String::new()));
        let rings = async {
            sleep.await;
            bell.notify_waiters();
        };
        let hears = async |who: &str| {
            bell.notified().await;
            order.lock().push_str(who);
        };
        // `tokio::join!` begins with another branch at each poll.
        tokio::join!(hears("a"), hears("b"), rings);
        cx.emit(Probed { key: order.into_inner() });
    }
    Ok(())
}

/// R10: two branches that one channel of the body wakes change places with the count of polls. With bodies in memory
/// nothing of it is seen before a crash; where each suspension is a replay, it is a divergence.
async fn a_body_that_goes_by_the_count_of_its_polls_is_found_by_the_test_mode(world: &World) {
    const ROUNDS: u32 = 12;
    if !world.evicts() {
        return;
    }
    let app = Probe::new();
    let engine = world.launch_with(&app, EngineOptions { ..world.options() }).await;
    let tree = engine.start(goes_by_its_polls(ROUNDS)).await.expect("a tree").id();
    for _ in 0..ROUNDS {
        let waits = |view: &sapwood_engine::TreeView| {
            sapwood_tests::engine::is_suspended(view) || view.row.state == TreeState::Parked
        };
        let view = world.tree_until(&engine, tree, waits).await;
        if view.row.state == TreeState::Parked {
            break;
        }
        world.advance(HOUR).await;
        let seen = view.nodes[0].timeline.len();
        let goes_on = |view: &sapwood_engine::TreeView| {
            view.nodes[0].timeline.len() > seen + 2 || view.row.state == TreeState::Parked
        };
        world.tree_until(&engine, tree, goes_on).await;
    }
    let why = parked(world, &engine, tree).await;
    assert_eq!(why["code"], "divergence", "{why}");
}
