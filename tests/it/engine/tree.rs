//! G: the tree as one entity that can be seen.

use std::time::Duration;

use sapwood::prelude::*;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_engine::{TreeView, WaitsOn};
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use serde_json::{Value, json};

use super::{Probed, Trouble, YEAR, once, quick};

sapwood_tests::on_every_engine!(crate::engine::tree {
    one_query_returns_the_whole_tree,
    every_open_node_says_what_it_waits_on,
    every_open_node_says_what_it_waits_on_at_any_commit,
});

#[sapwood::function]
async fn is_seen(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    cx.emit(Probed { key: "seen".to_owned() });
    let resolved = cx.call(is_seen_child(1)).await?;
    let rejected = cx.call(is_seen_child(2)).await.is_err();
    Ok(resolved + u32::from(rejected))
}

#[sapwood::function(retry(attempts = 2, backoff = "1ms..1ms"))]
async fn is_seen_child(cx: &mut Cx<Probe>, n: u32) -> Result<u32, Trouble> {
    let step = async || if n == 1 { Ok(n) } else { Err(Trouble::busy("the child")) };
    cx.step("work", step).retry(once()).await
}

/// G1: each node's function, version, outcome, attempt, error and events; its journal besides.
async fn one_query_returns_the_whole_tree(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(is_seen()).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), 2);
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!((view.row.id, view.row.state, view.row.owner), (tree.id(), TreeState::Resolved, None));
    let nodes: Vec<_> = view
        .nodes
        .iter()
        .map(|node| (node.path.to_string(), node.function.as_str(), node.version, node.promise, node.attempt))
        .collect();
    let expected = [
        ("/".to_owned(), "is_seen", 1, PromiseState::Resolved, 1),
        ("/1".to_owned(), "is_seen_child", 1, PromiseState::Resolved, 1),
        ("/2".to_owned(), "is_seen_child", 1, PromiseState::Rejected, 2),
    ];
    assert_eq!(nodes, expected);
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    let outcome = |path| json(node(&view, path).outcome.as_ref().expect("an outcome"));
    assert_eq!((outcome("/"), outcome("/1")), (json!(2), json!(1)));
    assert_eq!(outcome("/2")["error"], json!({"Busy": {"what": "the child"}}));
    assert_eq!(json(&node(&view, "/2").input), json!({"n": 2}));
    let events: Vec<_> = node(&view, "/").events.iter().map(|event| event.cloud_type.as_str()).collect();
    assert_eq!(events, ["probing.probed.v1"]);
    let timeline: Vec<_> = node(&view, "/2").timeline.iter().map(|(_, entry)| entry.kind.name()).collect();
    assert_eq!(timeline, ["step_rejected", "retried", "step_rejected"]);
    assert!(view.nodes.iter().all(|node| node.waits_on.is_empty() && node.settled_at >= Some(node.created_at)));
    assert!(engine.tree(TreeId::fresh()).await.expect("the store").is_none());
}

#[sapwood::function]
async fn waits_for_all(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let calls = (cx.call(waits_for_a_retry()), cx.call(waits_for_its_retry()), cx.call(works()), cx.call(closes()));
    let parked = cx.call(parks());
    let all = futures::future::join(cx.sleep(YEAR), parked);
    let (retry, own, works, closes, all) = tokio::join!(calls.0, calls.1, calls.2, calls.3, all);
    retry?;
    own?;
    works?;
    closes?;
    Ok(all.1?)
}

#[sapwood::function]
async fn waits_for_a_retry(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let step = async || Err::<(), _>(Trouble::busy("the outside"));
    cx.step("ask", step).retry(RetryPolicy::new(2, YEAR, YEAR)).await
}

#[sapwood::function(retry(attempts = 2, backoff = "365d..365d"))]
async fn waits_for_its_retry(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let step = async || Err::<(), _>(Trouble::busy("itself"));
    cx.step("ask", step).retry(once()).await
}

#[sapwood::function]
async fn works(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.comes_to("works").await;
        Ok::<_, Trouble>(())
    };
    cx.step("work", step).await
}

#[sapwood::function]
async fn closes(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let left_behind = cx.call(works());
    cx.step("wait", async || Ok::<_, Trouble>(())).await?;
    drop(left_behind);
    Ok(())
}

#[sapwood::function(retry(attempts = 1, backoff = "1ms..1ms"))]
async fn parks(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let _ = cx.now();
    panic!("parked on purpose")
}

/// G2: calls, sleeps, retries of steps and functions, work in progress, children still open, an operator.
async fn every_open_node_says_what_it_waits_on(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(waits_for_all()).await.expect("a tree").id();
    app.reached("works", 2).await;
    let settled_down = |view: &TreeView| {
        let waits = |path: &str, found: fn(&WaitsOn) -> bool| {
            view.nodes.iter().any(|node| node.path.to_string() == path && node.waits_on.iter().any(found))
        };
        waits("/0", |waits| matches!(waits, WaitsOn::StepRetry { .. }))
            && waits("/1", |waits| matches!(waits, WaitsOn::FunctionRetry { .. }))
            && promise(view, "/3") == Some(PromiseState::ReturnedOk)
            && waits("/4", |waits| matches!(waits, WaitsOn::Operator { .. }))
            && waits("/", |waits| matches!(waits, WaitsOn::Sleep { .. }))
    };
    let view = world.tree_until(&engine, tree, settled_down).await;
    let waits = |path: &str| node(&view, path).waits_on.clone();
    let calls: Vec<_> = waits("/")
        .into_iter()
        .filter_map(|waits| match waits {
            WaitsOn::Call { path, function, version } => Some(format!("{path} {function}@{version}")),
            _ => None,
        })
        .collect();
    let expected = ["/0 waits_for_a_retry@1", "/1 waits_for_its_retry@1", "/2 works@1", "/3 closes@1", "/4 parks@1"];
    assert_eq!(calls, expected);
    assert!(waits("/").iter().any(|waits| matches!(waits, WaitsOn::Sleep { position: 5, .. })));
    let [WaitsOn::StepRetry { position: 0, name, attempt: 1, error, .. }] = &waits("/0")[..] else {
        panic!("{:?}", waits("/0"))
    };
    assert_eq!((name.as_str(), error.as_str()), ("ask", "the outside is busy"));
    let [WaitsOn::FunctionRetry { attempt: 1, error, .. }] = &waits("/1")[..] else { panic!("{:?}", waits("/1")) };
    assert_eq!(error, "itself is busy");
    assert_eq!(waits("/2"), [WaitsOn::Running { worker: engine.worker() }]);
    assert_eq!(waits("/3"), [WaitsOn::Children { open: 1 }]);
    let [WaitsOn::Operator { reason }] = &waits("/4")[..] else { panic!("{:?}", waits("/4")) };
    assert!(reason.contains("parked on purpose"), "{reason}");

    app.open("works", 2);
    let view = world.tree_suspended(&engine, tree).await;
    assert!(view.nodes.iter().all(|node| node.waits_on.is_empty() == node.promise.is_settled()));
}

#[sapwood::function]
async fn goes_along(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let flaky = async || {
        app.mark("tries");
        if app.count("tries") < 2 { Err(Trouble::busy("it")) } else { Ok(1) }
    };
    let first = cx.step("flaky", flaky).retry(quick(2)).await?;
    cx.sleep(Duration::from_millis(1)).await;
    let (left, right) = (cx.call(is_seen_child(1)), cx.call(is_seen_child(1)));
    let (left, right) = tokio::join!(left, right);
    Ok(first + left? + right?)
}

/// G2: at any time. Every commit is held, and the store is asked before it and after it.
async fn every_open_node_says_what_it_waits_on_at_any_commit(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    faults.hold_all();
    let handle = engine.start(goes_along().id("along")).await.expect("a tree");
    let tree = handle.id();
    let (mut held, mut looks) = (0, 0);
    loop {
        let view = engine.tree(tree).await.expect("the store").expect("the tree");
        looks += 1;
        for node in &view.nodes {
            let says = !node.waits_on.is_empty();
            assert_eq!(says, !node.promise.is_settled(), "{node} after {held} commits: {:?}", node.waits_on);
        }
        if view.row.state.is_settled() {
            break;
        }
        tokio::select! {
            () = faults.held(held + 1) => {
                held += 1;
                faults.release();
            }
            result = handle.result() => {
                assert_eq!(result.expect("a result"), 3);
            }
        }
    }
    assert!(looks > 5, "{looks} looks");
}
