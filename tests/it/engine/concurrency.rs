//! N: structured concurrency.

use sapwood::prelude::*;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_engine::TreeView;
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::probe::Probe;

use super::{Trouble, dozes, leaf, once, quick};

sapwood_tests::on_every_engine!(crate::engine::concurrency {
    a_promise_settles_after_all_children_are_closed,
    a_failing_child_neither_stops_nor_restarts_its_siblings,
    fan_out_runs_concurrently_each_child_in_its_own_boundary,
    a_call_whose_result_is_never_used_is_reported_once,
});

/// Returns once it is let go, and drops what it called then.
#[sapwood::function]
async fn outlived(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let middle = cx.call(outlived_too());
    let app = cx.dependencies();
    cx.step("wait", || async {
        app.pass("root").await;
        Ok::<_, Trouble>(())
    })
    .await?;
    drop(middle);
    Ok(1)
}

/// Returns once what it called has begun its work, and drops it then.
#[sapwood::function]
async fn outlived_too(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let last = cx.call(grandchild());
    let app = cx.dependencies();
    cx.step("wait", || async {
        app.reached("grandchild", 1).await;
        Ok::<_, Trouble>(())
    })
    .await?;
    drop(last);
    Ok(2)
}

#[sapwood::function]
async fn grandchild(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.comes_to("grandchild").await;
        Ok::<_, Trouble>(3)
    };
    cx.step("work", step).await
}

/// N1: two levels return while the third still works; all settle, leaf first, when it is done.
async fn a_promise_settles_after_all_children_are_closed(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(outlived()).await.expect("a tree");
    let returned = |path| move |view: &TreeView| promise(view, path) == Some(PromiseState::ReturnedOk);
    world.tree_until(&engine, tree.id(), returned("/0")).await;
    app.open("root", 1);
    let view = world.tree_until(&engine, tree.id(), returned("/")).await;
    assert_eq!(promise(&view, "/0/0"), Some(PromiseState::Cancelling), "its step is in flight");
    assert_eq!((view.row.state, view.row.settled_at), (TreeState::Running, None));
    let pending = engine.outcome(tree.id(), std::time::Duration::ZERO).await.expect("the tree");
    assert!(pending.is_none(), "no caller is told before");

    app.open("grandchild", 1);
    assert_eq!(tree.result().await.expect("a result"), 1);
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state == TreeState::Resolved).await;
    let settled = ["/0/0", "/0", "/"].map(|path| node(&view, path).settled_at.expect("settled"));
    assert!(settled.is_sorted(), "leaf first: {settled:?}");
    assert_eq!(app.count("grandchild"), 1);
    let promises = ["/0/0", "/0"].map(|path| promise(&view, path));
    assert_eq!(promises, [Some(PromiseState::Cancelled), Some(PromiseState::Resolved)]);
}

#[sapwood::function]
async fn has_a_bad_child(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let (bad, good) = (cx.call(worker(0)), cx.call(worker(1)));
    let bad = bad.await;
    cx.dependencies().mark("bad is known");
    Ok(format!("{} {}", bad.is_err(), good.await?))
}

#[sapwood::function]
async fn worker(cx: &mut Cx<Probe>, n: u32) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let what = format!("worker {n}");
    let step = async || {
        app.comes_to(&what).await;
        if app.is_on(&format!("{what} fails")) { Err(Trouble::broken(&what)) } else { Ok(n) }
    };
    cx.step("work", step).retry(once()).await
}

/// F7: unless the parent decides so.
async fn a_failing_child_neither_stops_nor_restarts_its_siblings(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    app.turn_on("worker 0 fails");
    let tree = engine.start(has_a_bad_child()).await.expect("a tree");
    app.reached("worker 1", 1).await;
    app.open("worker 0", 1);
    app.reached("bad is known", 1).await;
    app.open("worker 1", 1);
    assert_eq!(tree.result().await.expect("a result"), "true 1");
    assert_eq!(["worker 0", "worker 1"].map(|what| app.count(what)), [1, 1]);
}

#[sapwood::function]
async fn has_many(cx: &mut Cx<Probe>, many: u32) -> Result<u32, Trouble> {
    let calls: Vec<_> = (0..many).map(|n| cx.call(one_of_many(n))).collect();
    Ok(futures::future::try_join_all(calls).await?.into_iter().sum())
}

#[sapwood::function]
async fn one_of_many(cx: &mut Cx<Probe>, n: u32) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let own = format!("try of {n}");
    let step = async || {
        app.mark(&own);
        app.mark("at work");
        app.pass("work").await;
        // One of them fails twice.
        if n == 3 && app.count(&own) < 3 { Err(Trouble::busy(&own)) } else { Ok(n) }
    };
    cx.step("work", step).retry(quick(3)).await
}

/// N4: all are at work at once, and the retries of one are its own.
async fn fan_out_runs_concurrently_each_child_in_its_own_boundary(world: &World) {
    const MANY: usize = 20;
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(has_many(MANY as u32)).await.expect("a tree");
    app.reached("at work", MANY).await;
    app.open("work", MANY + 2);
    assert_eq!(tree.result().await.expect("a result"), 190);
    for n in 0..MANY {
        assert_eq!(app.count(&format!("try of {n}")), if n == 3 { 3 } else { 1 });
    }
}

/// Calls what nobody awaits, at each of so many rounds, and something whose handle it awaits at least once.
#[sapwood::function]
async fn forgets_its_calls(cx: &mut Cx<Probe>, rounds: u32) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    for round in 0..rounds {
        drop(cx.call(leaf("forgotten".to_owned(), round)));
        let raced = cx.call(dozes("raced".to_owned(), 1));
        let begins = async || {
            app.comes_to("round").await;
            Ok::<_, Trouble>(round)
        };
        tokio::select! {
            biased;
            raced = raced => drop(raced?),
            round = cx.step("round", begins) => drop(round?),
        }
    }
    Ok(rounds)
}

/// N3: however often it does so, and whatever crashes come; one that lost a race was awaited, and is not reported.
async fn a_call_whose_result_is_never_used_is_reported_once(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(forgets_its_calls(3)).await.expect("a tree").id();
    app.reached("round", 1).await;
    app.open("round", 1);
    app.reached("round", 2).await;
    let second = world.take_over(&first, &app).await;
    app.reached("round", 3).await;
    app.open("round", 9);
    second.attach::<forgets_its_calls>(tree).result().await.expect("a result");
    let view = second.tree(tree).await.expect("read").expect("there");
    let found: Vec<_> = node(&view, "/").findings.iter().map(|found| (found.code.as_str(), &*found.message)).collect();
    let [("unused_call", message)] = found[..] else { panic!("one: {found:?}") };
    assert!(message.contains("call leaf is never awaited") && message.contains("emit an event"), "{message}");
    assert!(app.marks("forgotten").is_empty(), "what was forgotten at once never began");
}
