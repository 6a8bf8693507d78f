//! C2, F2, S4: how a worker ends, and how an attempt of a step that would never end does.

use std::sync::Arc;
use std::time::Duration;

use sapwood::prelude::*;
use sapwood_core::failure::CallFailureKind;
use sapwood_core::journal::EntryKind;
use sapwood_engine::{EngineOptions, ResultError, Stopped};
use sapwood_tests::engine::{World, node};
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::wait::within;

use super::{Trouble, leaf, quick};

sapwood_tests::on_every_engine!(crate::engine::drains {
    a_drain_ends_in_time_and_leaves_the_rest_to_the_next_worker,
    a_drain_ends_in_time_while_the_store_is_away,
    a_clean_drain_logs_no_error_and_leaves_nothing_owned,
    who_was_declared_dead_says_so_to_its_callers,
    an_attempt_of_a_step_that_takes_too_long_is_ended_and_retried,
    a_step_that_times_out_for_good_gives_its_error_or_ends_its_function,
});

/// S2: a step that takes longer than the drain runs again at the next worker; its tree is taken over at once.
async fn a_drain_ends_in_time_and_leaves_the_rest_to_the_next_worker(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(leaf("gate".to_owned(), 0)).await.expect("a tree").id();
    app.reached("gate 0", 1).await;
    within("a drain", first.drain_within(Duration::from_millis(50))).await.expect("it leaves");
    let second = world.launch(&app).await;
    app.reached("gate 0", 2).await;
    app.open("gate 0", 1);
    assert_eq!(second.attach::<leaf>(tree).result().await.expect("a result"), 0);
}

/// A process that is told to end does, whatever its store does.
async fn a_drain_ends_in_time_while_the_store_is_away(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    faults.hold_all();
    let start = tokio::spawn({
        let engine = engine.clone();
        async move { engine.start(leaf("gate".to_owned(), 0)).await.map(|tree| tree.id()) }
    });
    faults.held(1).await;
    let _ = within("a drain", engine.drain_within(Duration::from_millis(50))).await;
    assert!(engine.health().is_stopped);
    assert_eq!(within("an answer", start).await.expect("no panic").expect_err("it was not made").code(), "draining");
    faults.hold_none();
}

/// C4: what a leaving worker started is owned by no worker, and its end is no trouble.
async fn a_clean_drain_logs_no_error_and_leaves_nothing_owned(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let worker = first.worker();
    app.open("gate 0", 1_000);
    let starts = (0..200).map(|n| {
        let engine = first.clone();
        tokio::spawn(async move { engine.start(leaf("gate".to_owned(), 0).id(format!("start-{n}"))).await })
    });
    let starts: Vec<_> = starts.collect();
    within("a drain", first.drain()).await.expect("it leaves");
    let second = world.launch(&app).await;
    for start in starts {
        match start.await.expect("no panic") {
            Ok(tree) => {
                second.attach::<leaf>(tree.id()).result().await.expect("a result");
            }
            Err(error) => assert_eq!(error.code(), "draining", "{error}"),
        }
    }
    let owned = second.store().tree_owned(worker, None, 1_000).await.expect("the store");
    assert_eq!(owned, [], "owned by the one that left");
    // What is logged of a worker that is declared dead is its reason.
    assert_eq!(first.stopped().await, None);
}

/// The reason told to clients is the true one: nobody drains here.
async fn who_was_declared_dead_says_so_to_its_callers(world: &World) {
    let app = Probe::new();
    let dead = world.launch(&app).await;
    let living = world.launch(&app).await;
    world.bury(&dead, &living).await;
    assert_eq!(within("it hears of it", dead.stopped()).await, Some(Stopped::DeclaredDead));
    let error = dead.start(leaf("gate".to_owned(), 0)).await.map(|tree| tree.id()).expect_err("it is dead");
    assert_eq!(error.code(), "worker_stopped", "{error}");
    assert!(error.to_string().contains("declared it dead"), "{error}");
    assert_eq!(dead.health().stopped, Some(Stopped::DeclaredDead));
}

#[sapwood::function]
async fn takes_too_long(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.mark("tries");
        if app.count("tries") < 3 {
            std::future::pending::<()>().await;
        }
        Ok::<_, Trouble>(7)
    };
    cx.step("slow", step).retry(quick(3)).timeout(Duration::from_millis(20)).await
}

/// F2: an attempt that takes too long counts like a transient error.
async fn an_attempt_of_a_step_that_takes_too_long_is_ended_and_retried(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(takes_too_long()).await.expect("a tree");
    assert_eq!(tree.result().await.expect("the third attempt is quick"), 7);
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    let retried = node(&view, "/").timeline.iter().filter(|(_, entry)| entry.kind == EntryKind::StepRetried);
    let messages: Vec<_> = retried.map(|(_, entry)| String::from_utf8_lossy(&entry.payload).into_owned()).collect();
    assert_eq!(messages, [r#"{"message":"step slow timed out after 20ms"}"#; 2]);
}

/// Has no variant for what a call can end with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
#[error("bare")]
pub(crate) struct Bare;

#[sapwood::function]
async fn never_ends(cx: &mut Cx<Probe>, how: String) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let pending = async || {
        app.mark("tries");
        std::future::pending::<()>().await;
        Ok::<_, Trouble>(())
    };
    match cx.step("stuck", pending).retry(quick(2)).timeout(Duration::from_millis(10)).await {
        Err(Trouble::Call(failure)) if how == "catches" => Ok(format!("{} {}", failure.function, failure.kind)),
        Err(error) => Err(error),
        Ok(()) => Ok("never".to_owned()),
    }
}

#[sapwood::function]
async fn never_ends_barely(cx: &mut Cx<Probe>) -> Result<(), Bare> {
    let app = cx.dependencies();
    let pending = async || {
        app.mark("bare tries");
        std::future::pending::<()>().await;
        Ok::<_, Bare>(())
    };
    cx.step("stuck", pending).retry(quick(2)).await
}

/// F2, F3, F4: caught, it is an error value; where the type has none, the function ends, and its caller is told which step
/// it was. The context's own timeout counts for steps that say nothing.
async fn a_step_that_times_out_for_good_gives_its_error_or_ends_its_function(world: &World) {
    let app: Arc<Probe> = Probe::new();
    let options = EngineOptions { step_timeout: Some(Duration::from_millis(15)), ..world.options() };
    let engine = world.launch_with(&app, options).await;
    let caught = engine.start(never_ends("catches".to_owned())).await.expect("a tree").result().await;
    assert_eq!(caught.expect("caught"), "step stuck timed out");
    let passed = engine.start(never_ends("passes on".to_owned())).await.expect("a tree").result().await;
    let Err(ResultError::Call(CallError::Failed { error: Trouble::Call(failure), .. })) = passed else {
        panic!("its own error: {passed:?}")
    };
    assert_eq!(failure.kind, CallFailureKind::TimedOut);
    assert_eq!(app.count("tries"), 4, "and the function is not retried");
    let ended = engine.start(never_ends_barely()).await.expect("a tree").result().await;
    let Err(ResultError::Call(CallError::Ended(failure))) = ended else { panic!("it ended: {ended:?}") };
    let message = "step stuck timed out after 15ms".to_owned();
    assert_eq!(failure.kind, CallFailureKind::StepTimedOut { message });
    assert_eq!(app.count("bare tries"), 2);
}
