//! P: promises, their identity, and who may wait for them.

use sapwood::prelude::*;
use sapwood_core::json::canonical;
use sapwood_core::store::{Intake, KeyScope, NewTree, Start, StartKey, Started};
use sapwood_core::tree::{Cause, TreeState};
use sapwood_core::{CallerId, EventId};
use sapwood_engine::{Engine, StartError, StartOptions};
use sapwood_tests::engine::World;
use sapwood_tests::probe::Probe;
use sapwood_tests::wait::within;

use super::{Probed, Trouble, dozes};

sapwood_tests::on_every_engine!(crate::engine::promises {
    the_same_start_again_is_the_same_tree_and_runs_once,
    starts_of_one_id_from_two_processes_at_once_give_one_tree,
    an_id_with_another_input_or_function_is_a_conflict,
    inputs_of_starts_are_compared_as_values,
    a_settled_outcome_never_changes,
    a_client_attaches_by_id_later_from_another_process,
    a_start_with_an_id_that_is_none_is_refused_and_not_waited_for,
});

fn caller_id(text: &str) -> CallerId {
    text.parse().expect("an id")
}

#[sapwood::function]
async fn adds(cx: &mut Cx<Probe>, a: u64, b: u64, #[serde(default)] note: Option<String>) -> Result<u64, Trouble> {
    let app = cx.dependencies();
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
    let again = here
        .start_json(
            "adds",
            br#"{"a":1,"b":2,"note":null}"#,
            StartOptions { id: Some(caller_id("sum")), ..StartOptions::default() },
        )
        .await;
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

/// P5: the order of keys and a default that is left out do not matter; a field that was added since is its default.
async fn inputs_of_starts_are_compared_as_values(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let id = || Some(caller_id("sum"));
    let old = engine
        .start_json("adds", br#"{"a":1,"b":2}"#, StartOptions { id: id(), ..StartOptions::default() })
        .await
        .expect("a tree");
    let new = engine
        .start_json("adds", br#"{"note":null,"b":2,"a":1}"#, StartOptions { id: id(), ..StartOptions::default() })
        .await
        .expect("it");
    assert_eq!((new.tree, new.created), (old.tree, false));
    for other in [r#"{"a":2,"b":2}"#, r#"{"note":"more","b":2,"a":1}"#] {
        engine
            .start_json("adds", other.as_bytes(), StartOptions { id: id(), ..StartOptions::default() })
            .await
            .expect_err("another input");
    }
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
    let found = there.find(&caller_id("sum")).await.expect("the store").expect("the tree");
    assert_eq!(found, tree);
    let (early, ()) = tokio::join!(async { there.attach::<adds>(found).result().await.expect("a result") }, async {
        app.open("adds", 1)
    });
    let late = within("a late client", there.attach::<adds>(found).result()).await.expect("a result");
    assert_eq!((early, late), (3, 3));
    assert!(there.find(&caller_id("nobody's")).await.expect("the store").is_none());
}

#[sapwood::consumer(group = "promises")]
async fn starts_by_id(cx: &mut ConsumerCx<Probe>, event: Delivered<Probed>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    match cx.start(dozes("started".to_owned(), 1).id(event.key.clone())).await {
        Ok(tree) => app.mark(format!("started: {tree}")),
        Err(failure) => app.mark(format!("refused: {failure}")),
    }
    Ok(())
}

/// Takes in an event whose key is the id of the tree that its consumer starts; gives the consumer's tree.
async fn take_in(engine: &Engine, id: &str) -> TreeId {
    let tree = TreeId::fresh();
    let content = Probed { key: id.to_owned() };
    let digest = canonical::digest(serde_json::json!(content).to_string().as_bytes());
    let event = Delivered {
        id: EventId::from(tree.to_string()),
        source: "/elsewhere".to_owned(),
        key: id.to_owned(),
        time: None,
        content,
    };
    let start = Start {
        key: StartKey {
            scope: KeyScope::Group("promises".to_owned()),
            key: format!("/elsewhere {}", event.id),
            digest,
        },
        tree: NewTree {
            id: tree,
            function: "starts_by_id".to_owned(),
            version: 1,
            input: serde_json::json!(event).to_string().into(),
            cause: Cause::default(),
            deadline: None,
        },
    };
    let intake = Intake { group: "promises".to_owned(), offsets: Vec::new(), starts: vec![start] };
    assert_eq!(engine.intake(intake).await.expect("taken in"), [Started::Created]);
    tree
}

/// H9, P5: a malformed id can never be started, so the consumer is told and goes on; a well-formed one starts.
async fn a_start_with_an_id_that_is_none_is_refused_and_not_waited_for(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    for (refused, id) in ["", "with a space", &"x".repeat(2_000)].into_iter().enumerate() {
        let tree = take_in(&engine, id).await;
        world.tree_until(&engine, tree, |view| view.row.state == TreeState::Resolved).await;
        app.reached_any("refused: ", refused + 1).await;
    }
    let refusals = app.marks("refused: ");
    assert!(refusals.iter().all(|refusal| refusal.contains("dozes@1 at /0 was not started: ")), "{refusals:?}");
    assert!(app.marks("started: ").is_empty());

    let tree = take_in(&engine, "an-id").await;
    world.tree_until(&engine, tree, |view| view.row.state == TreeState::Resolved).await;
    let started = engine.find(&caller_id("an-id")).await.expect("the store").expect("a tree");
    assert_eq!(app.marks("started: "), [started.to_string()]);
}
