//! C4: a tree that kills its workers is found and parked; those that only happened to be there go on.

use sapwood::prelude::*;
use sapwood_core::TreeId;
use sapwood_core::tree::TreeState;
use sapwood_engine::Engine;
use sapwood_tests::engine::{World, node};
use sapwood_tests::probe::Probe;

use super::Trouble;

sapwood_tests::on_every_engine!(crate::engine::quarantine {
    a_tree_that_kills_its_workers_is_parked_and_the_others_go_on,
});

/// Its step kills the process; the test does it, when it hears of it.
#[sapwood::function]
async fn kills(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    cx.step("kill", async || {
        app.mark("kills");
        std::future::pending::<()>().await;
        Ok::<_, Trouble>(())
    })
    .await
}

#[sapwood::function]
async fn is_there(cx: &mut Cx<Probe>, n: u32) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    cx.step("work", async || {
        app.mark("works");
        app.pass("gate").await;
        Ok::<_, Trouble>(n)
    })
    .await
}

/// The step of the tree kills each worker at once. With it two hundred others have a step in flight each time, until the
/// workers live long enough for those to end.
async fn a_tree_that_kills_its_workers_is_parked_and_the_others_go_on(world: &World) {
    const OTHERS: usize = 200;
    let app = Probe::new();
    let mut worker = world.launch(&app).await;
    let killer = worker.start(kills()).await.expect("a tree").id();
    let starts = (0..OTHERS as u32).map(|n| worker.start(is_there(n)));
    let others = futures::future::try_join_all(starts).await.expect("trees");
    let others: Vec<TreeId> = others.iter().map(|tree| tree.id()).collect();
    app.reached("kills", 1).await;
    app.reached("works", OTHERS).await;
    // The first takeover has them all at work again, and is killed; from the second on they are suspects.
    worker = world.take_over(&worker, &app).await;
    app.reached("kills", 2).await;
    app.reached("works", 2 * OTHERS).await;
    app.open("gate", 100 * OTHERS);
    for kill in 3..=5 {
        worker = world.take_over(&worker, &app).await;
        app.reached("kills", kill).await;
    }
    worker = world.take_over(&worker, &app).await;
    let is_parked = |view: &sapwood_engine::TreeView| view.row.state == TreeState::Parked;
    let view = world.tree_until(&worker, killer, is_parked).await;
    let why = String::from_utf8_lossy(node(&view, "/").parked.as_ref().expect("parked")).into_owned();
    assert!(why.contains("\"quarantine\"") && why.contains("5 times"), "{why}");
    assert_eq!(app.count("kills"), 5, "it is not run again");
    for (n, tree) in others.into_iter().enumerate() {
        assert_eq!(result(&worker, tree).await, n as u32);
    }
}

async fn result(worker: &Engine, tree: TreeId) -> u32 {
    worker.attach::<is_there>(tree).result().await.expect("an innocent tree has its result")
}
