//! F4: what a parent is told of a child that gave no result: which one, after how many attempts, and how it ended.

use sapwood::prelude::*;
use sapwood_core::Path;
use sapwood_core::failure::CallFailureKind;
use sapwood_engine::ResultError;
use sapwood_tests::engine::{World, promise};
use sapwood_tests::probe::Probe;

use super::{Trouble, dozes, once};

sapwood_tests::on_every_engine!(crate::engine::call_errors {
    a_child_that_failed_is_told_from_one_that_was_exhausted,
    a_child_that_was_cancelled_is_told,
});

/// Fails as it is told.
#[sapwood::function(retry(attempts = 2, backoff = "1ms..1ms"))]
async fn ends_badly(cx: &mut Cx<Probe>, how: String) -> Result<(), Trouble> {
    let work = async || if how == "failed" { Err(Trouble::broken("it")) } else { Err::<(), _>(Trouble::busy("it")) };
    cx.step("work", work).retry(once()).await
}

/// What a parent can tell of an error of a child.
fn told<E: std::fmt::Debug>(error: &CallError<E>) -> String {
    let kind = match error {
        CallError::Failed { error, .. } => format!("failed with {error:?}"),
        CallError::Exhausted { error, .. } => format!("exhausted with {error:?}"),
        CallError::Ended(CallFailure { kind: CallFailureKind::Cancelled, .. }) => "cancelled".to_owned(),
        CallError::Ended(other) => format!("{other:?}"),
    };
    format!("{} at {} after {}: {kind}", error.function(), error.path(), error.attempts())
}

#[sapwood::function]
async fn tells_of(cx: &mut Cx<Probe>, how: String) -> Result<String, Trouble> {
    Ok(match cx.call(ends_badly(how)).await {
        Ok(()) => "nothing".to_owned(),
        Err(error) => {
            assert!(error.error().is_some(), "its own error");
            told(&error)
        }
    })
}

/// F4: by the type of its last error; and so is a root, to who awaits it.
async fn a_child_that_failed_is_told_from_one_that_was_exhausted(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    for (how, attempts, expected) in [
        ("failed", 1, r#"failed with Broken { what: "it" }"#),
        ("exhausted", 2, r#"exhausted with Busy { what: "it" }"#),
    ] {
        let result = engine.start(tells_of(how.to_owned())).await.expect("a tree").result().await;
        assert_eq!(result.expect("a result"), format!("ends_badly@1 at /0 after {attempts}: {expected}"));
        let root = engine.start(ends_badly(how.to_owned())).await.expect("a tree").result().await;
        let Err(ResultError::Call(error)) = root else { panic!("it ends badly: {root:?}") };
        assert_eq!(told(&error), format!("ends_badly@1 at / after {attempts}: {expected}"));
    }
}

#[sapwood::function]
async fn tells_of_a_sleeper(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    Ok(match cx.call(dozes("sleeper".to_owned(), 1)).await {
        Ok(()) => "nothing".to_owned(),
        Err(error) => {
            assert_eq!(error.error(), None);
            told(&error)
        }
    })
}

/// F4, K8: it has no error of its own.
async fn a_child_that_was_cancelled_is_told(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(tells_of_a_sleeper()).await.expect("a tree");
    world.tree_until(&engine, tree.id(), |view| promise(view, "/0").is_some()).await;
    tree.at(Path::root().child(0)).cancel("it sleeps too long").await.expect("the request is taken");
    assert_eq!(tree.result().await.expect("a result"), "dozes@1 at /0 after 1: cancelled");
}
