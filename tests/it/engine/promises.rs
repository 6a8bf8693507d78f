//! P: promises, their identity, and who may wait for them.

use sapwood::prelude::*;
use sapwood_core::tree::TreeState;
use sapwood_engine::StartError;
use sapwood_tests::engine::{Probe, World, within};
use serde_json::json;

use super::Trouble;

sapwood_tests::on_every_engine!(crate::engine::promises {
    the_same_start_again_is_the_same_tree_and_runs_once,
    starts_of_one_id_from_two_processes_at_once_give_one_tree,
    an_id_with_another_input_or_function_is_a_conflict,
    inputs_of_starts_are_compared_as_values,
    a_settled_outcome_never_changes,
    a_client_attaches_by_id_later_from_another_process,
});

#[sapwood::function]
async fn adds(cx: &mut Cx<Probe>, a: u64, b: u64, #[serde(default)] note: Option<String>) -> Result<u64, Trouble> {
    let app = cx.app();
    let step = async || {
        app.mark("adds");
        if app.is_on("slow") {
            app.pass("adds").await;
        }
        Ok::<_, Trouble>(a + b + note.iter().count() as u64)
    };
    cx.step("add", step).await
}

#[sapwood::function]
async fn adds_nothing(_: &mut Cx<Probe>, a: u64, b: u64) -> Result<u64, Trouble> {
    Ok(a + b)
}

/// P1, P5: while it runs and after it has settled, in this process and in another.
async fn the_same_start_again_is_the_same_tree_and_runs_once(world: &World) {
    let app = Probe::new();
    app.turn_on("slow");
    let (here, there) = (world.launch(&app).await, world.launch(&app).await);
    let first = here.start(adds(1, 2, None).id("sum")).await.expect("a tree");
    app.reached("adds", 1).await;
    let second = there.start(adds(1, 2, None).id("sum")).await.expect("the same tree");
    app.open("adds", 1);
    let results = (first.result().await.expect("a result"), second.result().await.expect("the same"));
    let third = here.start(adds(1, 2, None).id("sum")).await.expect("the same tree");
    assert_eq!((results, third.result().await.expect("the same")), ((3, 3), 3));
    assert_eq!([first.id(); 2], [second.id(), third.id()]);
    assert_eq!(app.count("adds"), 1);
    let again = here.start_json("adds", json!({"a": 1, "b": 2, "note": null}), Some("sum".to_owned()), None).await;
    assert!(!again.expect("the same tree").created);
}

/// P5: both callers get the one promise.
async fn starts_of_one_id_from_two_processes_at_once_give_one_tree(world: &World) {
    let app = Probe::new();
    let (here, there) = (world.launch(&app).await, world.launch(&app).await);
    let starts = (0..40).map(|n| {
        let engine = if n % 2 == 0 { &here } else { &there };
        engine.start(adds(n / 4, 1, None).id(format!("sum-of-{}", n / 4)))
    });
    let trees = futures::future::try_join_all(starts).await.expect("trees");
    for (n, four) in trees.chunks(4).enumerate() {
        assert!(four.iter().all(|tree| tree.id() == four[0].id()), "one tree an id");
        for tree in four {
            assert_eq!(tree.result().await.expect("a result"), n as u64 + 1);
        }
    }
    assert_eq!(app.count("adds"), 10, "each ran once");
}

/// P5: never silent, and nothing runs.
async fn an_id_with_another_input_or_function_is_a_conflict(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(adds(1, 2, None).id("sum")).await.expect("a tree");
    tree.result().await.expect("a result");
    let input = engine.start(adds(1, 3, None).id("sum")).await.err();
    let function = engine.start(adds_nothing(1, 2).id("sum")).await.err();
    for error in [input, function] {
        let Some(StartError::Conflict { tree: holder, .. }) = error else { panic!("a conflict: {error:?}") };
        assert_eq!(holder, tree.id());
    }
    assert_eq!(app.count("adds"), 1);
}

/// P5, R8: the order of keys and a field that was added since do not matter; a field that is gone does.
async fn inputs_of_starts_are_compared_as_values(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let id = || Some("sum".to_owned());
    let old = engine.start_json("adds", json!({"a": 1, "b": 2}), id(), None).await.expect("a tree");
    let new = engine.start_json("adds", json!({"note": "more", "b": 2, "a": 1}), id(), None).await.expect("it");
    assert_eq!((new.tree, new.created), (old.tree, false));
    engine.start_json("adds", json!({"a": 2, "b": 2}), id(), None).await.expect_err("another input");
}

/// P2: not by time, not by another start, not by a restart.
async fn a_settled_outcome_never_changes(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(adds(1, 2, None).id("sum")).await.expect("a tree");
    tree.result().await.expect("a result");
    let before = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!(before.row.state, TreeState::Resolved);
    assert!(before.row.settled_at.is_some());

    let survivor = world.take_over(&engine, &app).await;
    survivor.start(adds(1, 2, None).id("sum")).await.expect("the same tree");
    let other = survivor.start(adds(5, 5, None)).await.expect("another tree");
    assert_eq!(other.result().await.expect("a result"), 10);
    let after = survivor.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!(before, after);
}

/// P6: starting and awaiting are separate.
async fn a_client_attaches_by_id_later_from_another_process(world: &World) {
    let app = Probe::new();
    app.turn_on("slow");
    let (here, there) = (world.launch(&app).await, world.launch(&app).await);
    let tree = here.start(adds(1, 2, None).id("sum")).await.expect("a tree").id();
    app.reached("adds", 1).await;
    let found = there.find("sum").await.expect("the store").expect("the tree");
    assert_eq!(found, tree);
    let (early, ()) = tokio::join!(async { there.attach::<adds>(found).result().await.expect("a result") }, async {
        app.open("adds", 1)
    });
    let late = within("a late client", there.attach::<adds>(found).result()).await.expect("a result");
    assert_eq!((early, late), (3, 3));
    assert!(there.find("nobody's").await.expect("the store").is_none());
}
