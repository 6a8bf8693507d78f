//! R7: completions are offered in the order of the record, whatever the body does with them.

use futures::stream::{FuturesUnordered, StreamExt};
use sapwood::prelude::*;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::probe::Probe;

use super::{HOUR, Trouble, leaf};

sapwood_tests::on_every_engine!(crate::engine::completions {
    completions_come_in_the_order_they_were_recorded_on_every_replay,
    of_two_settled_calls_the_one_that_settled_first_is_ready,
    the_loser_of_a_race_is_the_same_on_every_replay,
    a_body_that_wakes_itself_takes_the_same_branch_on_replay,
});

#[sapwood::function]
async fn races(cx: &mut Cx<Probe>) -> Result<Vec<usize>, Trouble> {
    let app = cx.dependencies();
    let mut order = Vec::new();
    {
        let steps = ["race 0", "race 1", "race 2", "race 3"].iter().enumerate().map(|(n, gate)| {
            let app = &app;
            cx.step("race", move || async move {
                app.mark(*gate);
                app.pass(gate).await;
                Ok::<_, Trouble>(n)
            })
        });
        let mut steps: FuturesUnordered<_> = steps.collect();
        while let Some(n) = steps.next().await {
            order.push(n?);
            app.mark(format!("raced {}", order.len()));
        }
    }
    app.mark(format!("races: {order:?}"));
    cx.sleep(HOUR).await;
    Ok(order)
}

/// R7: a combinator of the ecosystem sees the order of the record, however its own bookkeeping would order them.
async fn completions_come_in_the_order_they_were_recorded_on_every_replay(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(races()).await.expect("a tree").id();
    for (done, n) in [2, 0, 3, 1].into_iter().enumerate() {
        app.reached(&format!("race {n}"), 1).await;
        app.open(&format!("race {n}"), 1);
        app.reached(&format!("raced {}", done + 1), 1).await;
    }
    world.tree_suspended(&first, tree).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    assert_eq!(second.attach::<races>(tree).result().await.expect("a result"), [2, 0, 3, 1]);
    assert_eq!(app.marks("races: "), ["[2, 0, 3, 1]"; 2]);
    let view = second.tree(tree).await.expect("the store").expect("the tree");
    let numbers: Vec<_> = node(&view, "/").timeline.iter().filter_map(|(_, entry)| entry.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "without gaps");
}

#[sapwood::function]
async fn selects(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let mut picked = String::new();
    let pairs: Vec<_> =
        (0..8).map(|_| (cx.call(leaf("slow".to_owned(), 0)), cx.call(leaf("fast".to_owned(), 0)))).collect();
    cx.sleep(HOUR).await;
    for (mut slow, mut fast) in pairs {
        tokio::select! {
            result = &mut slow => { result?; picked.push('s'); }
            result = &mut fast => { result?; picked.push('f'); }
        }
    }
    Ok(picked)
}

/// R7: `select!` polls its branches in random order; the one that settled first is taken all the same.
async fn of_two_settled_calls_the_one_that_settled_first_is_ready(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(selects()).await.expect("a tree");
    for (gate, done) in [("fast 0", 8), ("slow 0", 16)] {
        app.reached(gate, 8).await;
        app.open(gate, 8);
        let settled = |view: &sapwood_engine::TreeView| {
            view.nodes.iter().filter(|node| node.promise == PromiseState::Resolved).count() == done
        };
        world.tree_until(&engine, tree.id(), settled).await;
    }
    world.advance(HOUR).await;
    assert_eq!(tree.result().await.expect("a result"), "ffffffff");
}

#[sapwood::function]
async fn races_a_step(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let mut won = Vec::new();
    for _ in 0..2 {
        let slow = cx.step("slow", || async {
            app.mark("slow");
            std::future::pending::<()>().await;
            Ok::<_, Trouble>("slow".to_owned())
        });
        let fast = cx.call(leaf("fast".to_owned(), won.len() as u32));
        won.push(tokio::select! {
            slow = slow => slow?,
            fast = fast => fast?.to_string(),
        });
    }
    app.mark(format!("races a step: {won:?}"));
    cx.sleep(HOUR).await;
    Ok(won.join(" "))
}

/// R7, N2: the step that lost was dropped with its handle; a replay drops it again and does not begin it.
async fn the_loser_of_a_race_is_the_same_on_every_replay(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(races_a_step()).await.expect("a tree").id();
    for n in 0..2 {
        app.reached("slow", n + 1).await;
        app.open(&format!("fast {n}"), 1);
    }
    world.tree_suspended(&first, tree).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    assert_eq!(second.attach::<races_a_step>(tree).result().await.expect("a result"), "0 1");
    assert_eq!(app.marks("races a step: "), [r#"["0", "1"]"#; 2]);
    assert_eq!((app.count("slow"), app.count("fast 0"), app.count("fast 1")), (2, 1, 1));
}

#[sapwood::function]
async fn tells_itself(cx: &mut Cx<Probe>, told_first: bool) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let (teller, mut other) = (cx.call(leaf("teller".to_owned(), 0)), cx.call(leaf("other".to_owned(), 0)));
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let listens = async {
        if told_first {
            tokio::select! {
                biased;
                what = told.recv() => what.unwrap_or("silence"),
                _ = &mut other => "settled",
            }
        } else {
            tokio::select! {
                biased;
                _ = &mut other => "settled",
                what = told.recv() => what.unwrap_or("silence"),
            }
        }
    };
    let tells = async {
        teller.await?;
        Ok::<_, Trouble>(tell.send("told").await.is_ok())
    };
    // The listener is polled first each time, so what is told is heard in a further poll.
    let (heard, was_told) = futures::future::join(listens, tells).await;
    drop(other);
    let heard = format!("{heard} {}", was_told?);
    app.mark(format!("heard: {heard}"));
    cx.sleep(HOUR).await;
    Ok(heard)
}

/// R7: what the body told itself comes before the next completion, the first time, when there was none yet, and on
/// replay, when it is recorded already.
async fn a_body_that_wakes_itself_takes_the_same_branch_on_replay(world: &World) {
    for told_first in [true, false] {
        let app = Probe::new();
        let first = world.launch(&app).await;
        let tree = first.start(tells_itself(told_first)).await.expect("a tree").id();
        app.reached("teller 0", 1).await;
        app.reached("other 0", 1).await;
        app.open("teller 0", 1);
        app.reached("heard: told true", 1).await;
        app.open("other 0", 1);
        world.tree_until(&first, tree, |view| promise(view, "/1") == Some(PromiseState::Cancelled)).await;
        world.tree_suspended(&first, tree).await;

        let second = world.take_over(&first, &app).await;
        world.advance(HOUR).await;
        let settled =
            world.tree_until(&second, tree, |view| view.row.state.is_settled() || node(view, "/").parked.is_some());
        let view = settled.await;
        assert_eq!(view.row.state, TreeState::Resolved, "told first: {told_first}; {:#?}", node(&view, "/"));
        assert_eq!(second.attach::<tells_itself>(tree).result().await.expect("a result"), "told true");
        let heard = app.marks("heard: ");
        assert!(heard.len() > 1 && heard.iter().all(|heard| heard == "told true"), "{heard:?}");
        world.crash(&second).await;
    }
}
