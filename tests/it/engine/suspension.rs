//! S: who waits holds nothing, and is woken exactly once.

use futures::future::try_join_all;
use futures::stream::{StreamExt, TryStreamExt};
use sapwood::prelude::*;
use sapwood_core::journal::EntryKind;
use sapwood_core::store::{ListedTree, TreeFilter};
use sapwood_core::tree::{TreeRow, TreeState};
use sapwood_engine::TreeView;
use sapwood_tests::engine::{World, is_idle, is_suspended, node};
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::wait::within;

use super::{HOUR, Probed, Trouble, YEAR, leaf, quick};

sapwood_tests::on_every_engine!(crate::engine::suspension {
    ten_thousand_suspended_trees_hold_nothing_and_are_not_rewritten,
    a_function_with_a_step_in_flight_is_not_suspended,
    a_long_backoff_suspends,
    what_settles_while_the_tree_is_given_up_wakes_it,
    each_settlement_wakes_its_awaiter_once,
    a_suspended_function_resumes_on_another_worker,
    a_worker_with_one_slot_runs_parents_and_children,
    a_sleep_survives_restarts_and_fires_once,
    who_wakes_while_a_turn_is_full_is_not_left_asleep,
});

#[sapwood::function]
async fn hibernates(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.dependencies().mark("hibernates");
    cx.sleep(YEAR).await;
    cx.dependencies().mark("wakes");
    Ok(())
}

/// S1: no slot, no owner, no task; and neither a drain nor a takeover writes to them.
async fn ten_thousand_suspended_trees_hold_nothing_and_are_not_rewritten(world: &World) {
    const TREES: usize = 10_000;
    let app = Probe::new();
    let options = sapwood_engine::EngineOptions { concurrency: 4, ..world.options() };
    let engine = world.launch_with(&app, options).await;
    let starts = futures::stream::iter(0..TREES).map(|_| engine.start(hibernates())).buffer_unordered(1_000);
    let started: Vec<_> = starts.try_collect().await.expect("trees");
    assert_eq!(started.len(), TREES);
    let suspended = TreeFilter { state: Some(TreeState::Suspended), limit: TREES + 1, ..TreeFilter::default() };
    is_idle(&engine).await;
    let before = engine.list(&suspended).await.expect("a list");
    let before: Vec<TreeRow> = before.into_iter().filter_map(ListedTree::row).collect();
    assert_eq!(before.len(), TREES, "all are suspended");
    assert!(before.iter().all(|row| row.owner.is_none() && row.revision == 1), "one commit each, and no owner");

    engine.drain().await.expect("a drain");
    let second = world.launch(&app).await;
    let third = world.take_over(&second, &app).await;
    let after = third.list(&suspended).await.expect("a list");
    let after: Vec<TreeRow> = after.into_iter().filter_map(ListedTree::row).collect();
    assert!(before == after, "nothing was rewritten");
    assert_eq!(app.count("hibernates"), TREES);
}

#[sapwood::function]
async fn works_and_sleeps(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark("works_and_sleeps");
    let sleep = cx.sleep(HOUR);
    let step = cx.step("work", || async {
        app.mark("works");
        app.pass("work").await;
        Ok::<_, Trouble>(())
    });
    let ((), done) = tokio::join!(sleep, step);
    done
}

/// S2: no function suspends while one of its steps is in flight.
async fn a_function_with_a_step_in_flight_is_not_suspended(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(works_and_sleeps()).await.expect("a tree");
    app.reached("works", 1).await;
    world.advance(HOUR).await;
    let over = |view: &TreeView| view.nodes[0].timeline.iter().any(|(_, entry)| entry.kind == EntryKind::SleepEnded);
    let row = world.tree_until(&engine, tree.id(), over).await.row;
    assert_eq!((row.owner, row.state), (Some(engine.worker()), TreeState::Running));
    app.open("work", 1);
    tree.result().await.expect("a result");
    assert_eq!((app.count("works"), app.count("works_and_sleeps")), (1, 1), "never evicted, never run again");
}

#[sapwood::function]
async fn backs_off(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark("backs_off");
    let step = async || {
        app.mark("tries");
        if app.count("tries") < 3 { Err(Trouble::busy("it")) } else { Ok(()) }
    };
    cx.step("try", step).retry(RetryPolicy::new(3, YEAR, YEAR)).await
}

/// S2: between two attempts of a step none is in flight.
async fn a_long_backoff_suspends(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(backs_off()).await.expect("a tree");
    for tries in 1..3 {
        app.reached("tries", tries).await;
        let view = world.tree_suspended(&engine, tree.id()).await;
        assert_eq!(app.count("tries"), tries);
        assert_eq!(node(&view, "/").attempt, 1, "no attempt of the function is consumed");
        world.advance(YEAR).await;
    }
    tree.result().await.expect("a result");
    let activations = if world.evicts() { 3 } else { 1 };
    assert_eq!((app.count("tries"), app.count("backs_off")), (3, activations));
}

#[sapwood::function]
async fn naps(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.sleep(HOUR).await;
    cx.dependencies().mark("naps");
    Ok(())
}

/// S3: no lost wake-up. The sleep ends while the commit that gives the tree up is under way.
async fn what_settles_while_the_tree_is_given_up_wakes_it(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    faults.hold_all();
    let tree = engine.start(naps().id("nap")).await.expect("a tree");
    faults.held(1).await;
    world.advance(HOUR * 2).await;
    faults.hold_none();
    tree.result().await.expect("a result");
    assert_eq!(app.count("naps"), 1);
}

#[sapwood::function]
async fn awaits_three(cx: &mut Cx<Probe>) -> Result<Vec<u32>, Trouble> {
    let app = cx.dependencies();
    app.mark("awaits_three");
    let mut calls: futures::stream::FuturesUnordered<_> = (0..3).map(|n| cx.call(leaf("gate".to_owned(), n))).collect();
    let mut seen = Vec::new();
    while let Some(n) = calls.next().await {
        seen.push(n?);
    }
    Ok(seen)
}

/// S3: three settlements one after the other are three wake-ups, each offered once.
async fn each_settlement_wakes_its_awaiter_once(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(awaits_three()).await.expect("a tree");
    for (settled, n) in [2, 0].into_iter().enumerate() {
        app.reached(&format!("gate {n}"), 1).await;
        app.open(&format!("gate {n}"), 1);
        // Each child takes two numbers: its step's and its own.
        world.has_seen(&engine, tree.id(), "/", 2 * (settled as u32 + 1)).await;
        let activations = if world.evicts() { settled + 2 } else { 1 };
        assert_eq!(app.count("awaits_three"), activations);
    }
    app.open("gate 1", 1);
    assert_eq!(tree.result().await.expect("a result"), [2, 0, 1]);
    assert_eq!(app.count("awaits_three"), if world.evicts() { 4 } else { 1 });
}

/// S4: on any worker of the context, without an error.
async fn a_suspended_function_resumes_on_another_worker(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(naps()).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    first.drain().await.expect("a drain");
    let second = world.launch(&app).await;
    world.advance(HOUR).await;
    second.attach::<naps>(tree).result().await.expect("a result");
    let view = second.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!((app.count("naps"), node(&view, "/").attempt), (1, 1));
}

#[sapwood::function]
async fn nests(cx: &mut Cx<Probe>, depth: u32) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    if depth == 0 {
        let step = async || {
            app.mark("bottom");
            Ok(1)
        };
        return cx.step("work", step).retry(quick(1)).await;
    }
    let (left, right) = (cx.call(nests(depth - 1)), cx.call(nests(depth - 1)));
    let (left, right) = tokio::join!(left, right);
    Ok(left? + right?)
}

/// S5: who waits holds no slot.
async fn a_worker_with_one_slot_runs_parents_and_children(world: &World) {
    let app = Probe::new();
    let options = sapwood_engine::EngineOptions { concurrency: 1, ..world.options() };
    let engine = world.launch_with(&app, options).await;
    let trees = futures::future::try_join_all((0..3).map(|_| engine.start(nests(3)))).await.expect("trees");
    for tree in trees {
        assert_eq!(tree.result().await.expect("a result"), 8);
    }
    assert_eq!(app.count("bottom"), 24);
}

#[sapwood::function]
async fn sleeps_twice(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.dependencies().mark("sleeps_twice");
    cx.sleep(YEAR).await;
    cx.dependencies().mark("wakes");
    cx.sleep(YEAR).await;
    Ok(())
}

/// S6: of any length. Restarts neither lose its end nor bring it about, before it and after it.
async fn a_sleep_survives_restarts_and_fires_once(world: &World) {
    let app = Probe::new();
    let ends = |view: &TreeView| {
        node(view, "/").timeline.iter().filter(|(_, entry)| entry.kind == EntryKind::SleepEnded).count()
    };
    let mut engine = world.launch(&app).await;
    let tree = engine.start(sleeps_twice()).await.expect("a tree").id();
    for slept in 0..2 {
        for _ in 0..2 {
            let view = world.tree_until(&engine, tree, |view| is_suspended(view) && ends(view) == slept).await;
            assert_eq!(node(&view, "/").waits_on.len(), 1, "one sleep at a time");
            engine = world.take_over(&engine, &app).await;
        }
        world.advance(YEAR).await;
    }
    engine.attach::<sleeps_twice>(tree).result().await.expect("a result");
    let view = engine.tree(tree).await.expect("the store").expect("the tree");
    // Begun once, and once more on the worker that saw each end.
    assert_eq!((app.count("sleeps_twice"), app.count("wakes"), ends(&view)), (3, 2, 2));
}

/// Sleeps, then tells more than a three-hundredth of what one turn takes.
#[sapwood::function]
async fn wakes_and_tells(cx: &mut Cx<Probe>, n: u32) -> Result<(), Trouble> {
    cx.sleep(HOUR).await;
    cx.emit(Probed { key: format!("{n:020000}") });
    Ok(())
}

#[sapwood::function]
async fn has_many_that_wake(cx: &mut Cx<Probe>, children: u32) -> Result<(), Trouble> {
    let children: Vec<_> = (0..children).map(|n| cx.call(wakes_and_tells(n))).collect();
    try_join_all(children).await?;
    Ok(())
}

/// S3: the turn is full before all have been polled whose sleep is over. Nothing else of the tree runs then; they have the
/// end of their sleep only, and nothing would bring them back to a tree that is released.
async fn who_wakes_while_a_turn_is_full_is_not_left_asleep(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(has_many_that_wake(400)).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    world.advance(HOUR).await;
    within("the end of the tree", tree.result()).await.expect("a result");
}
