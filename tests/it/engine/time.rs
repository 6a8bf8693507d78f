//! S6, C2: time is a length. No clock of the day, here or at the database, wakes anybody early or late, or kills.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sapwood::prelude::*;
use sapwood_core::WorkerId;
use sapwood_core::clock::Clock;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_engine::{Engine, EngineOptions, SystemEnvironment};
use sapwood_tests::engine::{World, promise};
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::LEASE;

use super::{HOUR, Trouble, dozes};

sapwood_tests::on_every_engine!(crate::engine::time {
    a_sleep_is_as_long_as_it_says_whatever_day_its_worker_believes_it_is,
    a_retry_waits_as_long_as_it_says_whatever_day_its_worker_believes_it_is,
    a_step_of_the_databases_clock_buries_nobody,
    a_burial_that_has_to_wait_holds_up_no_renewal,
    a_claim_for_another_reason_ends_no_sleep,
});

const MINUTE: Duration = Duration::from_secs(60);

/// The machine's clock, set wrong by so much.
struct Wrong(SignedDuration);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        Timestamp::now() + self.0
    }
}

/// A worker whose clock of the day is wrong by so many minutes.
async fn launch_wrong(world: &World, app: &Arc<Probe>, minutes: i64) -> Engine {
    let environment = Arc::new(SystemEnvironment::with_clock(Arc::new(Wrong(SignedDuration::from_mins(minutes)))));
    world.launch_with(app, EngineOptions { environment, ..world.options() }).await
}

#[sapwood::function]
async fn dozes_beside_a_step(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let sleep = cx.sleep(HOUR);
    let step = cx.step("work", async || {
        app.comes_to("gate").await;
        Ok::<_, Trouble>(())
    });
    let wakes = async {
        sleep.await;
        app.mark("owned wakes");
    };
    let ((), step) = tokio::join!(wakes, step);
    step
}

/// S6: a worker that is half an hour ahead or behind neither wakes a sleeper early nor lets it sleep on, in a tree that it
/// owns and in one that it claims.
async fn a_sleep_is_as_long_as_it_says_whatever_day_its_worker_believes_it_is(world: &World) {
    for minutes in [-30, 30] {
        let app = Probe::new();
        let engine = launch_wrong(world, &app, minutes).await;
        let owned = engine.start(dozes_beside_a_step()).await.expect("a tree");
        app.reached("gate", 1).await;
        let hour = engine.start(dozes("hour".to_owned(), 1)).await.expect("a tree");
        world.tree_suspended(&engine, hour.id()).await;
        world.advance(HOUR - MINUTE).await;
        let later = engine.start(dozes_a_minute()).await.expect("a tree");
        world.tree_suspended(&engine, later.id()).await;
        // The last of its two minutes is the hour's last one too.
        assert_eq!((app.count("hour wakes"), app.count("owned wakes")), (0, 0), "{minutes}");
        world.advance(MINUTE).await;
        app.reached("hour wakes", 1).await;
        app.reached("owned wakes", 1).await;
        assert_eq!(app.count("minutes over"), 0, "{minutes}");
        world.advance(MINUTE).await;
        later.result().await.expect("a result");
        hour.result().await.expect("a result");
        app.open("gate", 1);
        owned.result().await.expect("a result");
        world.crash(&engine).await;
    }
}

#[sapwood::function]
async fn dozes_a_minute(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.sleep(2 * MINUTE).await;
    cx.dependencies().mark("minutes over");
    Ok(())
}

#[sapwood::function(retry(attempts = 2, backoff = "1h..1h"))]
async fn fails_once(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let tries = || async {
        app.mark("tries");
        if app.count("tries") == 2 { Ok(()) } else { Err(Trouble::busy("it")) }
    };
    let step = cx.step("try", tries).retry(RetryPolicy::new(2, HOUR, HOUR));
    step.await?;
    let _ = cx.random();
    if app.is_on("mended") { Ok(()) } else { Err(Trouble::busy("it")) }
}

/// F2: backoffs are lengths too. With full jitter each is at most its hour.
async fn a_retry_waits_as_long_as_it_says_whatever_day_its_worker_believes_it_is(world: &World) {
    for minutes in [-120, 120] {
        let app = Probe::new();
        let engine = launch_wrong(world, &app, minutes).await;
        let tree = engine.start(fails_once()).await.expect("a tree");
        app.reached("tries", 1).await;
        world.tree_suspended(&engine, tree.id()).await;
        world.advance(HOUR).await;
        app.reached("tries", 2).await;
        world.tree_until(&engine, tree.id(), |view| view.nodes[0].attempt == 2 && view.row.owner.is_none()).await;
        app.turn_on("mended");
        world.advance(HOUR).await;
        tree.result().await.expect("a result");
        world.crash(&engine).await;
    }
}

/// A lease that ends within the test.
fn short(world: &World) -> EngineOptions {
    EngineOptions { lease: Duration::from_secs(2), heartbeat: Duration::from_millis(100), ..world.options() }
}

/// Waits until each of these has renewed so often since `watcher` looks.
async fn renewed(world: &World, watcher: &Engine, others: &[&Engine], times: u64) {
    let count = async |worker: WorkerId| {
        let renewal = watcher.store().lease(watcher.worker()).renew(LEASE).await.expect("the watcher is alive");
        renewal.others.into_iter().find(|beat| beat.worker == worker).map(|beat| beat.renewals)
    };
    for other in others {
        let before = count(other.worker()).await.expect("it is alive");
        let has_renewed = async || count(other.worker()).await.is_some_and(|now| now >= before + times);
        sapwood_tests::wait::until_asked("a renewal", Duration::from_millis(20), async || {
            if has_renewed().await { Ok(()) } else { Err("not renewed") }
        })
        .await;
    }
    let _ = world;
}

/// C2: the clock of the database jumps by hours, again and again; every worker stays.
async fn a_step_of_the_databases_clock_buries_nobody(world: &World) {
    let app = Probe::new();
    let watcher = world.launch(&app).await;
    let (first, second) = (world.launch_with(&app, short(world)).await, world.launch_with(&app, short(world)).await);
    for _ in 0..3 {
        world.advance(HOUR).await;
        renewed(world, &watcher, &[&first, &second], 3).await;
    }
    assert!(!first.health().is_stopped && !second.health().is_stopped);
    second.start(dozes("other".to_owned(), 0)).await.expect("a tree").result().await.expect("a result");
}

/// C2: a dead worker's burial waits for a commit that hangs. The one who buries renews on, and is buried by nobody; and
/// when the burial is over, the trees of the dead go on.
async fn a_burial_that_has_to_wait_holds_up_no_renewal(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    faults.hold_burials();
    let dead = world.launch_with(&app, short(world)).await;
    let tree = dead.start(dozes_beside_a_step()).await.expect("a tree").id();
    app.reached("gate", 1).await;
    let survivor = world.launch_on(&app, store, short(world)).await;
    world.kill(&dead).await;
    faults.burial_held().await;
    let watcher = world.launch(&app).await;
    renewed(world, &watcher, &[&survivor], 30).await;
    assert!(survivor.health().lease_is_good && !survivor.health().is_stopped);
    faults.release_burials();
    app.reached("gate", 2).await;
    app.open("gate", 2);
    world.advance(HOUR).await;
    survivor.attach::<dozes_beside_a_step>(tree).result().await.expect("a result");
}

#[sapwood::function]
async fn sleeps_beside_a_call(cx: &mut Cx<Probe>) -> Result<bool, Trouble> {
    let app = cx.dependencies();
    let call = cx.call(dozes("called".to_owned(), 24));
    cx.sleep(HOUR).await;
    app.mark("wakes");
    Ok(call.await.is_ok())
}

/// S6: what is asked of a tree that sleeps makes it due at once, and its sleep is as long as before.
async fn a_claim_for_another_reason_ends_no_sleep(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(sleeps_beside_a_call()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    tree.at("/0".parse().expect("a path")).cancel("it is not needed").await.expect("the request is taken");
    let is_cancelled = |view: &sapwood_engine::TreeView| {
        promise(view, "/0") == Some(PromiseState::Cancelled) && view.row.state == TreeState::Suspended
    };
    world.tree_until(&engine, tree.id(), is_cancelled).await;
    assert_eq!(app.count("wakes"), 0);
    world.advance(HOUR).await;
    assert!(!tree.result().await.expect("a result"));
}
