//! F: every function and every step is a boundary that failures are retried within.

use sapwood::prelude::*;
use sapwood_core::tree::PromiseState;
use sapwood_engine::ResultError;
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::probe::Probe;
use sapwood_tests::store::outbox;

use super::{HOUR, Probed, Trouble, once, quick};

sapwood_tests::on_every_engine!(crate::engine::boundaries {
    if_func3_fails_beside_func4_only_func3_runs_again,
    if_func3_fails_above_func4_only_func3_runs_again,
    if_func3_panics_only_func3_runs_again,
    if_the_worker_dies_in_func3_only_func3_runs_again,
    a_terminal_error_settles_at_once,
    a_transient_error_is_tried_as_often_as_its_policy_says,
    an_error_keeps_its_class_whatever_wraps_it,
    a_retry_keeps_what_succeeded_and_runs_what_failed,
    a_retry_forgets_the_events_of_its_last_poll,
    an_error_of_a_settled_child_is_never_retried,
    attempts_do_not_multiply_with_depth,
    an_error_made_of_a_recorded_value_is_never_retried,
    a_failed_step_after_which_something_was_recorded_is_not_forgotten,
    a_retry_finds_the_children_of_the_attempt_before,
});

// ---- F1: func1 → func2 → {func3, func4} -----------------------------------------------------------------------------

#[sapwood::function]
async fn ta_func1(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    cx.dependencies().mark("func1");
    Ok(format!("1({})", cx.call(ta_func2()).await?))
}

#[sapwood::function]
async fn ta_func2(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    cx.dependencies().mark("func2");
    let (three, four) = (cx.call(ta_func3()), cx.call(func4()));
    let (three, four) = tokio::join!(three, four);
    Ok(format!("2({},{})", three?, four?))
}

#[sapwood::function(retry(attempts = 5, backoff = "1ms..2ms"))]
async fn ta_func3(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    cx.dependencies().mark("func3");
    func3_work(cx).await
}

#[sapwood::function]
async fn tb_func1(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    cx.dependencies().mark("func1");
    Ok(format!("1({})", cx.call(tb_func2()).await?))
}

#[sapwood::function]
async fn tb_func2(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    cx.dependencies().mark("func2");
    Ok(format!("2({})", cx.call(tb_func3()).await?))
}

#[sapwood::function(retry(attempts = 5, backoff = "1ms..2ms"))]
async fn tb_func3(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    cx.dependencies().mark("func3");
    let four = cx.call(func4()).await?;
    Ok(format!("{}({four})", func3_work(cx).await?))
}

#[sapwood::function]
async fn func4(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    app.mark("func4");
    cx.step("work", async || {
        app.mark("func4 works");
        Ok("4".to_owned())
    })
    .await
}

/// Waits at the gate in a step, and fails or panics if it is told to.
async fn func3_work(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let work = async || {
        app.mark("func3 works");
        app.pass("func3").await;
        if app.is_on("func3 fails") { Err(Trouble::busy("func3")) } else { Ok("3".to_owned()) }
    };
    let done = cx.step("work", work).retry(once()).await?;
    assert!(!app.is_on("func3 panics"), "func3 panics on purpose");
    Ok(done)
}

/// How often each function of the fixture was activated, and how often the work of func3 and func4 was done.
fn activations(app: &Probe) -> [usize; 6] {
    ["func1", "func2", "func3", "func4", "func3 works", "func4 works"].map(|what| app.count(what))
}

/// F1, siblings: func3 is run again; func2 gets no new activation, func4's work is kept, func1 sees nothing.
async fn if_func3_fails_beside_func4_only_func3_runs_again(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(ta_func1()).await.expect("a tree");
    // Number 1 is func4's step, number 2 is func4; func2 has been told.
    world.has_seen(&engine, tree.id(), "/0", 2).await;
    app.reached("func3 works", 1).await;
    let func2_so_far = if world.evicts() { 2 } else { 1 };
    assert_eq!(activations(&app), [1, func2_so_far, 1, 1, 1, 1]);

    app.turn_on("func3 fails");
    app.open("func3", 3);
    app.reached("func3 works", 4).await;
    assert_eq!(activations(&app), [1, func2_so_far, 4, 1, 4, 1], "only func3 is run again");

    app.turn_off("func3 fails");
    app.open("func3", 1);
    assert_eq!(tree.result().await.expect("a result"), "1(2(3,4))");
    let resumed = if world.evicts() { [2, 3] } else { [1, 1] };
    assert_eq!(activations(&app), [resumed[0], resumed[1], 4, 1, 4, 1]);
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!(node(&view, "/0/0").attempt, 4);
    assert_eq!(["/", "/0", "/0/1"].map(|path| node(&view, path).attempt), [1, 1, 1]);
}

/// F1, func4 below func3: func3 is run again, func4's completed work is preserved, func1 and func2 see nothing.
async fn if_func3_fails_above_func4_only_func3_runs_again(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(tb_func1()).await.expect("a tree");
    app.reached("func3 works", 1).await;
    let func3_so_far = if world.evicts() { 2 } else { 1 };
    assert_eq!(activations(&app), [1, 1, func3_so_far, 1, 1, 1]);

    app.turn_on("func3 fails");
    app.open("func3", 3);
    app.reached("func3 works", 4).await;
    assert_eq!(activations(&app), [1, 1, func3_so_far + 3, 1, 4, 1], "only func3 is run again");

    app.turn_off("func3 fails");
    app.open("func3", 1);
    assert_eq!(tree.result().await.expect("a result"), "1(2(3(4)))");
    let resumed = if world.evicts() { 2 } else { 1 };
    assert_eq!(activations(&app), [resumed, resumed, func3_so_far + 3, 1, 4, 1]);
}

/// F1, F6: a panic of func3 is func3's alone, and what it had done stays.
async fn if_func3_panics_only_func3_runs_again(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    app.turn_on("func3 panics");
    let tree = engine.start(ta_func1()).await.expect("a tree");
    world.has_seen(&engine, tree.id(), "/0", 2).await;
    app.reached("func3 works", 1).await;
    let func2_so_far = if world.evicts() { 2 } else { 1 };

    app.open("func3", 1);
    app.reached("func3", 3).await;
    let [func1, func2, _, func4, func3_works, func4_works] = activations(&app);
    assert_eq!([func1, func2, func4, func3_works, func4_works], [1, func2_so_far, 1, 1, 1]);

    app.turn_off("func3 panics");
    assert_eq!(tree.result().await.expect("a result"), "1(2(3,4))");
    assert_eq!(app.count("func3 works"), 1, "its step had succeeded");
    assert_eq!(app.count("func4 works"), 1);
}

/// F1, C4: the worker dies while func3 works. On the next worker only func3 runs, and no attempt is consumed.
async fn if_the_worker_dies_in_func3_only_func3_runs_again(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(ta_func1()).await.expect("a tree").id();
    world.has_seen(&engine, tree, "/0", 2).await;
    app.reached("func3 works", 1).await;
    let [func1, func2, ..] = activations(&app);

    let survivor = world.take_over(&engine, &app).await;
    app.reached("func3 works", 2).await;
    assert_eq!(activations(&app), [func1, func2, 2, 1, 2, 1], "only func3 is run again");

    app.open("func3", 1);
    let result = survivor.attach::<ta_func1>(tree).result().await;
    assert_eq!(result.expect("a result"), "1(2(3,4))");
    assert_eq!(activations(&app), [func1 + 1, func2 + 1, 2, 1, 2, 1]);
    let view = survivor.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!(["/", "/0", "/0/0", "/0/1"].map(|path| node(&view, path).attempt), [1, 1, 1, 1]);
}

// ---- F3: transient and terminal -------------------------------------------------------------------------------------

#[sapwood::function(retry(attempts = 5, backoff = "1ms..2ms"))]
async fn breaks(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark("breaks");
    let step = async || {
        app.mark("breaks tries");
        Err::<(), _>(Trouble::broken("it"))
    };
    cx.step("try", step).retry(quick(5)).await
}

/// F3: a terminal error is not tried again, neither by its step nor by its function.
async fn a_terminal_error_settles_at_once(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let result = engine.start(breaks()).await.expect("a tree").result().await;
    let Err(ResultError::Call(CallError::Failed { function, path, attempts, error })) = result else {
        panic!("the function's own error: {result:?}")
    };
    assert_eq!((function.as_str(), path.as_str(), attempts), ("breaks@1", "/", 1));
    assert_eq!(error, Trouble::broken("it"));
    assert_eq!((app.count("breaks"), app.count("breaks tries")), (1, 1));
}

#[sapwood::function]
async fn catches(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.mark("catches tries");
        Err::<(), _>(Trouble::busy("the gateway"))
    };
    match cx.step("try", step).retry(quick(4)).await {
        Ok(()) => Ok("nothing to catch".to_owned()),
        Err(error) => Ok(error.to_string()),
    }
}

/// F3: a step that exhausts its policy gives an error value at its await, and the body may go on.
async fn a_transient_error_is_tried_as_often_as_its_policy_says(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let result = engine.start(catches()).await.expect("a tree").result().await;
    assert_eq!(result.expect("it was caught"), "the gateway is busy");
    assert_eq!(app.count("catches tries"), 4);
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn wraps(cx: &mut Cx<Probe>, transient: bool) -> Result<(), sapwood::Error> {
    let app = cx.dependencies();
    app.mark(format!("wraps {transient}"));
    let error = if transient { Trouble::busy("it") } else { Trouble::broken("it") };
    // The last poll draws a value, so that another attempt can end otherwise.
    let _ = cx.random();
    Err(error.into())
}

/// F3: the class is the type's, however it is wrapped.
async fn an_error_keeps_its_class_whatever_wraps_it(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    engine.start(wraps(false)).await.expect("a tree").result().await.expect_err("it is terminal");
    engine.start(wraps(true)).await.expect("a tree").result().await.expect_err("it is transient");
    assert_eq!((app.count("wraps false"), app.count("wraps true")), (1, 3));
}

// ---- F5: what a retry forgets ---------------------------------------------------------------------------------------

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn half_done(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    app.mark("half_done");
    let first = async || {
        app.mark("first");
        Ok::<_, Trouble>(app.count("first"))
    };
    let first = cx.step("first", first).await?;
    let second = async || {
        app.mark("second");
        if app.count("second") < 3 { Err(Trouble::busy("second")) } else { Ok(app.count("second")) }
    };
    let second = cx.step("second", second).retry(once()).await?;
    Ok(format!("{first} {second}"))
}

/// F5: successes stay, the failed step runs again.
async fn a_retry_keeps_what_succeeded_and_runs_what_failed(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(half_done()).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), "1 3");
    assert_eq!((app.count("half_done"), app.count("first"), app.count("second")), (3, 1, 3));
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!(node(&view, "/").attempt, 3);
}

#[sapwood::function(retry(attempts = 4, backoff = "1ms..2ms"))]
async fn emits_then_fails(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark("emits_then_fails");
    let attempt = app.count("emits_then_fails");
    cx.step("before", async || Ok::<_, Trouble>(())).await?;
    cx.emit(Probed { key: format!("of attempt {}", app.count("emits_then_fails")) });
    let _ = cx.uuid();
    if attempt < 3 { Err(Trouble::busy("it")) } else { Ok(()) }
}

/// F5: the last poll of a failed attempt, its events included, never happened.
async fn a_retry_forgets_the_events_of_its_last_poll(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    engine.start(emits_then_fails()).await.expect("a tree").result().await.expect("a result");
    assert_eq!(app.count("emits_then_fails"), 3);
    let keys: Vec<_> = outbox(engine.store().as_ref()).await.into_iter().map(|row| row.event.key).collect();
    assert_eq!(keys, ["of attempt 3"]);
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn depth2(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.dependencies().mark("depth2");
    Ok(cx.call(depth1()).await?)
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn depth1(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.dependencies().mark("depth1");
    Ok(cx.call(depth0()).await?)
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn depth0(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.mark("depth0 tries");
        Err::<(), _>(Trouble::busy("depth0"))
    };
    cx.step("try", step).retry(once()).await
}

/// F5: an error that came from a settled child, although transient by its type, is passed on at once.
async fn an_error_of_a_settled_child_is_never_retried(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(depth1()).await.expect("a tree");
    let Err(ResultError::Call(CallError::Exhausted { attempts, error, .. })) = tree.result().await else {
        panic!("it fails")
    };
    assert_eq!((attempts, error), (1, Trouble::busy("depth0")));
    assert_eq!(app.count("depth0 tries"), 3);
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!((node(&view, "/").attempt, node(&view, "/0").attempt), (1, 3));
}

/// F5: three attempts at each of three levels are three attempts of the step at the bottom.
async fn attempts_do_not_multiply_with_depth(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    engine.start(depth2()).await.expect("a tree").result().await.expect_err("it fails");
    let resumed = if world.evicts() { 2 } else { 1 };
    assert_eq!(["depth2", "depth1", "depth0 tries"].map(|what| app.count(what)), [resumed, resumed, 3]);
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn dislikes_its_number(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let number = cx.random();
    cx.sleep(HOUR).await;
    cx.dependencies().mark("dislikes_its_number");
    Err(Trouble::busy(&format!("number {number}")))
}

/// F5: there is nothing to forget, so the function rejects at once.
async fn an_error_made_of_a_recorded_value_is_never_retried(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(dislikes_its_number()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    world.advance(HOUR).await;
    tree.result().await.expect_err("it fails");
    assert_eq!(app.count("dislikes_its_number"), 1);
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn fails_late(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let step = || async {
        app.mark("fails_late tries");
        Err::<(), _>(Trouble::busy("it"))
    };
    let step = cx.step("try", step).retry(once());
    let sleep = cx.sleep(HOUR);
    let (tried, ()) = tokio::join!(step, sleep);
    tried
}

/// F5: the end of the sleep was recorded after the step's failure was delivered; nothing is forgotten, whether the
/// body that saw it is in memory still or is read again from the journal.
async fn a_failed_step_after_which_something_was_recorded_is_not_forgotten(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(fails_late()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    world.advance(HOUR).await;
    let Err(ResultError::Call(CallError::Exhausted { attempts, .. })) = tree.result().await else { panic!("it fails") };
    assert_eq!((attempts, app.count("fails_late tries")), (1, 1));
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn loses_its_child(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let child = cx.call(func4_at_the_gate());
    let step = async || {
        app.mark("loses_its_child tries");
        if app.count("loses_its_child tries") < 3 { Err(Trouble::busy("it")) } else { Ok(()) }
    };
    cx.step("try", step).retry(once()).await?;
    Ok(child.await?)
}

#[sapwood::function]
async fn func4_at_the_gate(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.mark("child works");
        app.pass("child").await;
        Ok("4".to_owned())
    };
    cx.step("work", step).await
}

/// F5, N2: the attempt that ends drops its child's handle, and that does not count: the next attempt finds the child
/// running.
async fn a_retry_finds_the_children_of_the_attempt_before(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(loses_its_child()).await.expect("a tree");
    app.reached("loses_its_child tries", 3).await;
    app.open("child", 1);
    assert_eq!(tree.result().await.expect("a result"), "4");
    assert_eq!(app.count("child works"), 1);
    let view = world.tree_until(&engine, tree.id(), |view| promise(view, "/0") == Some(PromiseState::Resolved)).await;
    assert_eq!(view.nodes.len(), 2, "the child was called once");
}
