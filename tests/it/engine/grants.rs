//! R12, S2, S5: when the closure of a step begins, and who has a slot while it runs.

use std::sync::Arc;
use std::task::Poll;

use sapwood::prelude::*;
use sapwood_core::tree::TreeState;
use sapwood_engine::EngineOptions;
use sapwood_tests::engine::World;
use sapwood_tests::faults::Fault;
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::wait::within;

use super::{HOUR, Trouble, leaf};

sapwood_tests::on_every_engine!(crate::engine::grants {
    a_step_that_its_grant_does_not_poll_begins_only_when_all_before_it_is_durable,
    a_drain_does_not_wait_for_a_step_that_never_began,
    what_a_function_with_a_step_in_flight_waits_for_gets_its_slot,
    a_step_that_wakes_itself_without_end_holds_up_nothing,
    a_step_that_wakes_itself_gives_way_while_a_commit_is_under_way,
    a_body_that_wakes_itself_without_end_holds_up_nothing,
    what_a_poll_wrote_before_a_step_is_durable_before_the_step_begins,
    a_limit_in_one_body_is_durable_before_the_step_of_another_begins,
});

/// Polls a step once, then waits for a child, and comes back to the step.
#[sapwood::function]
async fn turns_to_its_child_first(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let late = cx.step("late", async || {
        app.mark("late begins");
        Ok::<_, Trouble>(1)
    });
    let mut late = std::pin::pin!(late);
    let is_over = futures::future::poll_fn(|task| Poll::Ready(late.as_mut().poll(task).is_ready())).await;
    assert!(!is_over, "a handle is never ready at its first poll");
    let child = cx.call(leaf("child".to_owned(), 0)).await?;
    app.mark("child is known");
    Ok(child + late.await?)
}

/// R12: the grant of the first commit lets the step begin, but the body waits for its child. It comes back to the step
/// in a later poll, when the result of the child is not durable.
async fn a_step_that_its_grant_does_not_poll_begins_only_when_all_before_it_is_durable(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    let tree = engine.start(turns_to_its_child_first()).await.expect("a tree");
    app.reached("child 0", 1).await;
    let so_far = faults.commits();
    faults.hold_all();
    app.open("child 0", 1);
    faults.held(1).await;
    assert_eq!(faults.commits(), so_far + 1, "the result of the child is under way");
    assert_eq!(app.count("late begins"), 0);
    faults.hold_none();
    assert_eq!(tree.result().await.expect("a result"), 1);
    assert_eq!(app.count("late begins"), 1);
}

#[sapwood::function]
async fn turns_to_its_sleep_first(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let late = cx.step("late", async || {
        app.mark("late begins");
        Ok::<_, Trouble>(1)
    });
    let mut late = std::pin::pin!(late);
    futures::future::poll_fn(|task| Poll::Ready(late.as_mut().poll(task).is_ready())).await;
    cx.sleep(HOUR).await;
    late.await
}

/// S1, S2: a step that never began is not in flight: its function leaves memory, and a drain ends.
async fn a_drain_does_not_wait_for_a_step_that_never_began(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(turns_to_its_sleep_first()).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    within("a drain", first.drain()).await.expect("a drain");
    let second = world.launch(&app).await;
    world.advance(HOUR).await;
    assert_eq!(second.attach::<turns_to_its_sleep_first>(tree).result().await.expect("a result"), 1);
    assert_eq!(app.count("late begins"), 1);
}

#[sapwood::function]
async fn works_beside_its_child(cx: &mut Cx<Probe>, n: u32) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let step = cx.step("work", async || {
        app.mark("at work");
        app.pass("work").await;
        Ok::<_, Trouble>(n)
    });
    let (step, child) = (step, cx.call(does_a_step(n)));
    let (step, child) = tokio::join!(step, child);
    Ok(step? + child?)
}

#[sapwood::function]
async fn does_a_step(cx: &mut Cx<Probe>, n: u32) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    cx.step("work", async || {
        app.mark("child done");
        Ok::<_, Trouble>(n)
    })
    .await
}

/// S5: with one slot, several parents have steps in flight at once, and a child is done beside them. The parent that has
/// its child's result waits for its step alone, and keeps the slot until that ends.
async fn what_a_function_with_a_step_in_flight_waits_for_gets_its_slot(world: &World) {
    let app = Probe::new();
    let options = EngineOptions { concurrency: 1, ..world.options() };
    let engine = world.launch_with(&app, options).await;
    // The slot is taken until all three are there: a parent that was alone with its child would keep it for its step.
    let first = engine.start(leaf("first".to_owned(), 0)).await.expect("a tree");
    app.reached("first 0", 1).await;
    let starts = (0..3).map(|n| engine.start(works_beside_its_child(n)));
    let trees = futures::future::try_join_all(starts).await.expect("trees");
    app.open("first 0", 1);
    first.result().await.expect("a result");
    app.reached("at work", 3).await;
    app.reached("child done", 1).await;
    app.open("work", 3);
    for (n, tree) in trees.into_iter().enumerate() {
        assert_eq!(tree.result().await.expect("a result"), 2 * n as u32);
    }
    assert_eq!((app.count("at work"), app.count("child done")), (3, 3));
}

/// Waits without an end of its own, and asks to be polled again at each poll, until a switch is on.
async fn spins_until(app: &Arc<Probe>, switch: &'static str) {
    futures::future::poll_fn(|task| {
        if app.is_on(switch) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[sapwood::function]
async fn spins_in_a_step(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let step = cx.step("spin", async || {
        app.mark("spins");
        spins_until(&app, "enough").await;
        Ok::<_, Trouble>(())
    });
    let sleeps = {
        let (sleep, app) = (cx.sleep(HOUR), Arc::clone(&app));
        async move {
            sleep.await;
            app.mark("slept");
        }
    };
    let second = {
        let app = &app;
        cx.step("second", move || async move {
            app.mark("second begins");
            Ok::<_, Trouble>(())
        })
    };
    let (spun, (), second) = tokio::join!(step, sleeps, second);
    spun?;
    second
}

/// R7: what is due is delivered beside the step, and other steps begin.
async fn a_step_that_wakes_itself_without_end_holds_up_nothing(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(spins_in_a_step()).await.expect("a tree");
    app.reached("spins", 1).await;
    app.reached("second begins", 1).await;
    world.advance(HOUR).await;
    app.reached("slept", 1).await;
    app.turn_on("enough");
    tree.result().await.expect("a result");
    assert_eq!(app.count("spins"), 1);
}

#[sapwood::function]
async fn spins_beside_two_steps(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let spins = cx.step("spin", async || {
        app.mark("spins");
        spins_until(&app, "enough").await;
        Ok::<_, Trouble>(())
    });
    let first = cx.step("first", async || {
        app.comes_to("first").await;
        Ok::<_, Trouble>(())
    });
    let others = async {
        first.await?;
        cx.step("second", async || Ok::<_, Trouble>(())).await
    };
    let (spun, others) = tokio::join!(spins, others);
    spun?;
    others
}

/// The loop gives way during a hold too: other trees of its threads go on. Here more trees than there are threads have a
/// commit under way that a step waits for.
async fn a_step_that_wakes_itself_gives_way_while_a_commit_is_under_way(world: &World) {
    const SPINNING: usize = 4;
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    let starts = (0..SPINNING).map(|_| engine.start(spins_beside_two_steps()));
    let spinning = futures::future::try_join_all(starts).await.expect("trees");
    app.reached("spins", SPINNING).await;
    app.reached("first", SPINNING).await;
    faults.hold_all();
    app.open("first", SPINNING);
    faults.held(1).await;

    let other = world.launch(&app).await;
    let tree = other.start(dozes_in_a_step()).await.expect("a tree");
    within("a tree on the same threads", tree.result()).await.expect("a result");

    faults.hold_none();
    app.turn_on("enough");
    for tree in spinning {
        tree.result().await.expect("a result");
    }
}

#[sapwood::function]
async fn dozes_in_a_step(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.step("doze", async || Ok::<_, Trouble>(())).await
}

#[sapwood::function]
async fn spins_in_its_body(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let first = cx.step("first", async || {
        app.mark("first begins");
        Ok::<_, Trouble>(())
    });
    tokio::select! {
        first = first => first,
        () = spins_until(&app, "never") => Ok(()),
    }
}

/// R7: deliveries and grants do not wait for a body to stop waking itself.
async fn a_body_that_wakes_itself_without_end_holds_up_nothing(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(spins_in_its_body()).await.expect("a tree");
    tree.result().await.expect("a result");
    assert_eq!(app.count("first begins"), 1);
}

#[sapwood::function]
async fn writes_as_its_step_ends(cx: &mut Cx<Probe>) -> Result<u64, Trouble> {
    let app = cx.dependencies();
    let (tell, mut told) = tokio::sync::watch::channel(false);
    let drawn = std::sync::Mutex::new(0_u64);
    let first = cx.step("first", async || {
        // Its end is heard by another branch in the same poll.
        tell.send_replace(true);
        Ok::<_, Trouble>(())
    });
    let second = cx.step("second", async || {
        app.mark(format!("second with {}", *drawn.lock().expect("no panic") != 0));
        Ok::<_, Trouble>(())
    });
    let draws = async {
        told.wait_for(|told| *told).await.expect("it is kept");
        *drawn.lock().expect("no panic") = cx.random() | 1;
    };
    let (first, (), second) = futures::future::join3(first, draws, second).await;
    first?;
    second?;
    Ok(*drawn.lock().expect("no panic"))
}

/// R12: both steps may begin in one poll, but between them the body draws a number, which the second would carry out into
/// the world before it is durable.
async fn what_a_poll_wrote_before_a_step_is_durable_before_the_step_begins(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    faults.plan(2, Fault::Held);
    let tree = engine.start(writes_as_its_step_ends()).await.expect("a tree");
    faults.held(1).await;
    assert!(app.marks("second with ").is_empty(), "the number is under way, and not durable");
    faults.release();
    tree.result().await.expect("a result");
    assert_eq!(app.marks("second with "), ["true"]);
}

#[sapwood::function]
async fn has_one_that_meets_a_limit(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let (over, other) = (cx.call(meets_a_limit()), cx.call(works_after_it()));
    let (over, other) = tokio::join!(over, other);
    assert!(over.is_err(), "it met a limit");
    Ok(other?)
}

#[sapwood::function]
async fn meets_a_limit(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    cx.step("too large", async || Ok::<_, Trouble>("x".repeat(2 * 1024 * 1024))).await?;
    Ok(0)
}

#[sapwood::function]
async fn works_after_it(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    cx.step("work", async || {
        app.mark("other begins");
        Ok::<_, Trouble>(1)
    })
    .await
}

/// R12: the first commit lets the steps of both children begin. The first child meets a limit as its step ends; the
/// second's step begins once that is durable.
async fn a_limit_in_one_body_is_durable_before_the_step_of_another_begins(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    faults.plan(2, Fault::Held);
    let tree = engine.start(has_one_that_meets_a_limit()).await.expect("a tree");
    faults.held(1).await;
    assert_eq!(app.count("other begins"), 0);
    faults.release();
    assert_eq!(tree.result().await.expect("a result"), 1);
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!((view.row.state, app.count("other begins")), (TreeState::Resolved, 1));
}
