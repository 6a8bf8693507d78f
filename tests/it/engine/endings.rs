//! F5, R3, R9: what becomes of the last poll of an attempt, and of what its function waited for.

use std::sync::Arc;
use std::task::Poll;

use sapwood::prelude::*;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_engine::TreeView;
use sapwood_tests::engine::{World, is_suspended, node, promise};
use sapwood_tests::faults::Fault;
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::outbox;

use super::{HOUR, Probed, Trouble, dozes, once};

sapwood_tests::on_every_engine!(crate::engine::endings {
    a_step_that_ends_in_the_last_poll_of_an_attempt_never_runs_again,
    a_step_that_ends_during_a_commit_is_kept_by_the_attempt_that_ends_then,
    what_the_last_poll_wrote_is_no_reason_for_a_retry,
    an_error_that_passes_up_with_an_event_at_each_level_is_never_retried,
    a_parked_function_stays_parked_whatever_it_waited_for,
    the_timer_of_a_dropped_sleep_wakes_nobody,
    a_panic_in_a_drop_concerns_nobody_else,
    a_panic_in_reading_an_input_parks_its_function_alone,
});

// ---- F5, R3 ---------------------------------------------------------------------------------------------------------

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn ends_two_at_once(cx: &mut Cx<Probe>, how: String) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let patient = cx.step("patient", || {
        app.mark("patient begins");
        let app = Arc::clone(&app);
        // Ready at the first poll after the other has failed: the one that delivers the failure.
        futures::future::poll_fn(move |_| match app.is_on("failed") {
            true => Poll::Ready(Ok::<_, Trouble>(1)),
            false => Poll::Pending,
        })
    });
    let fails = {
        let app = &app;
        cx.step("fails", move || async move {
            app.mark("fails begins");
            if app.count("fails begins") > 1 {
                return Ok(2);
            }
            app.turn_on("failed");
            Err(Trouble::busy("it"))
        })
        .retry(once())
    };
    let both = futures::future::try_join(patient, fails).await;
    assert!(both.is_ok() || how != "panics", "panics on purpose");
    both.map(|(patient, other)| patient + other)
}

/// F5, R3: without a crash, and whether the attempt ends with an error or a panic. The step's success stays.
async fn a_step_that_ends_in_the_last_poll_of_an_attempt_never_runs_again(world: &World) {
    for how in ["fails", "panics"] {
        let app = Probe::new();
        let engine = world.launch(&app).await;
        let tree = engine.start(ends_two_at_once(how.to_owned())).await.expect("a tree");
        assert_eq!(tree.result().await.expect("a result"), 3, "{how}");
        assert_eq!((app.count("patient begins"), app.count("fails begins")), (1, 2), "{how}");
        let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
        let numbers: Vec<_> = node(&view, "/").timeline.iter().filter_map(|(_, entry)| entry.number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>(), "{how}: without gaps");
    }
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn ends_during_a_commit(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let first = {
        let app = &app;
        cx.step("first", move || async move {
            app.mark("first begins");
            app.pass("first").await;
            app.mark("first ends");
            Ok::<_, Trouble>(1)
        })
    };
    let panics = async {
        // It is polled after the steps, so what it sees has ended in this poll or before.
        futures::future::poll_fn(|_| {
            if app.is_on("panics") {
                app.mark("panics");
                panic!("panics on purpose");
            }
            if app.count("first ends") > 0 {
                app.mark("sees that first has ended");
            }
            Poll::Pending::<()>
        })
        .await;
    };
    let slow = {
        let app = &app;
        cx.step("slow", move || async move {
            app.mark("slow begins");
            app.pass("slow").await;
            Ok::<_, Trouble>(2)
        })
    };
    let quick = {
        let app = &app;
        cx.step("quick", move || async move {
            app.mark("quick begins");
            app.pass("quick").await;
            Ok::<_, Trouble>(3)
        })
    };
    let after = async {
        let quick = quick.await?;
        let after = {
            let app = &app;
            cx.step("after", move || async move {
                app.mark("after begins");
                Ok::<_, Trouble>(quick)
            })
        };
        after.await
    };
    let work = futures::future::try_join3(first, slow, after);
    tokio::select! {
        biased;
        done = work => done.map(|(first, slow, after)| first + slow + after),
        () = panics => Ok(0),
    }
}

/// F5, R3: the end of a step waits while a commit is under way. The attempt ends meanwhile; the end is kept.
async fn a_step_that_ends_during_a_commit_is_kept_by_the_attempt_that_ends_then(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    let tree = engine.start(ends_during_a_commit()).await.expect("a tree");
    for step in ["first", "slow", "quick"] {
        app.reached(&format!("{step} begins"), 1).await;
    }
    // The result of `quick` is under way, and `after` waits for it: a hold.
    faults.plan_next(Fault::Held);
    app.open("quick", 1);
    faults.held(1).await;
    app.open("first", 1);
    app.reached("sees that first has ended", 1).await;
    // Its end waits for the commit. Now the attempt ends, in the poll in which another step does.
    app.turn_on("panics");
    app.open("slow", 1);
    app.reached("panics", 1).await;
    app.turn_off("panics");
    faults.release();
    assert_eq!(tree.result().await.expect("a result"), 6);
    assert_eq!(["first begins", "slow begins", "quick begins"].map(|what| app.count(what)), [1, 1, 1]);
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn writes_and_fails(cx: &mut Cx<Probe>, what: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark(format!("writes {what}"));
    let sleep = cx.sleep(HOUR);
    match what.as_str() {
        "nothing" => {}
        "an event" => cx.emit(Probed { key: what.clone() }),
        "a call" => drop(cx.call(dozes("child".to_owned(), 0))),
        "a sleep" => drop(cx.sleep(HOUR)),
        "a step" => drop(cx.step("never", async || Ok::<_, Trouble>(()))),
        "a drop" => drop(sleep),
        "a value" => drop(cx.now().to_string()),
        other => unreachable!("{other}"),
    }
    Err(Trouble::busy(&what))
}

/// F5: a replay would write the same on its way to the same error; only a value could make it end otherwise. What is
/// written with an error that stands is recorded with it.
async fn what_the_last_poll_wrote_is_no_reason_for_a_retry(world: &World) {
    // One for all: an engine of an earlier round would claim what backs off in a later one.
    let app = Probe::new();
    let engine = world.launch(&app).await;
    for what in ["nothing", "an event", "a call", "a sleep", "a step", "a drop", "a value"] {
        let tree = engine.start(writes_and_fails(what.to_owned())).await.expect("a tree");
        tree.result().await.expect_err("it fails");
        let attempts = if what == "a value" { 3 } else { 1 };
        assert_eq!(app.count(&format!("writes {what}")), attempts, "{what}");
        let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
        assert_eq!(node(&view, "/").attempt as usize, attempts, "{what}");
        let events = outbox(engine.store().as_ref()).await;
        let own = events.iter().filter(|row| row.event.key == what).count();
        assert_eq!(own, usize::from(what == "an event"), "{what}");
    }
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..2ms"))]
async fn passes_up(cx: &mut Cx<Probe>, depth: u32) -> Result<(), Trouble> {
    let app = cx.dependencies();
    if depth == 0 {
        return cx.step("try", async || Err::<(), _>(Trouble::busy("the bottom"))).retry(once()).await;
    }
    match cx.call(passes_up(depth - 1)).await {
        Ok(()) => Ok(()),
        Err(error) => {
            app.mark(format!("level {depth}"));
            cx.emit(Probed { key: format!("level {depth}") });
            Err(error.into())
        }
    }
}

/// F5: attempts never multiply with depth, and each level's event is there once.
async fn an_error_that_passes_up_with_an_event_at_each_level_is_never_retried(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    engine.start(passes_up(3)).await.expect("a tree").result().await.expect_err("it fails");
    assert_eq!(app.marks("level "), ["1", "2", "3"]);
    let mut keys: Vec<_> = outbox(engine.store().as_ref()).await.into_iter().map(|row| row.event.key).collect();
    keys.sort();
    assert_eq!(keys, ["level 1", "level 2", "level 3"]);
}

// ---- R9 -------------------------------------------------------------------------------------------------------------

#[sapwood::function]
async fn has_waiting_children(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let (retries, dozes) = (cx.call(retries_in_an_hour()), cx.call(dozes("dozer".to_owned(), 1)));
    let step = cx.step("work", async || {
        app.comes_to("root").await;
        Ok::<_, Trouble>(())
    });
    let (retries, dozes, step) = tokio::join!(retries, dozes, step);
    retries?;
    dozes?;
    step
}

#[sapwood::function(retry(attempts = 2, backoff = "1h..1h"))]
async fn retries_in_an_hour(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark("attempt");
    let _ = cx.random();
    if app.count("attempt") > 1 { Ok(()) } else { Err(Trouble::busy("it")) }
}

/// R9: neither a backoff nor a sleep brings a parked function back, and a tree that is parked whole is not claimed for
/// them.
async fn a_parked_function_stays_parked_whatever_it_waited_for(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    let tree = engine.start(has_waiting_children()).await.expect("a tree").id();
    app.reached("root", 1).await;
    world.tree_until(&engine, tree, |view| node(view, "/0").attempt == 2).await;
    faults.plan_next(Fault::Refused);
    app.open("root", 1);
    let all_parked = |view: &TreeView| view.nodes.iter().all(|node| node.parked.is_some());
    let view = world.tree_until(&engine, tree, |view| all_parked(view) && view.row.owner.is_none()).await;
    assert_eq!(view.row.state, TreeState::Parked);
    assert_eq!(view.row.ready_at, None, "nothing of it will be due");
    let claims = faults.claims().len();
    world.advance(HOUR * 2).await;
    // Another tree is claimed after its sleep: by then this one would have been.
    let other = engine.start(dozes("other".to_owned(), 1)).await.expect("a tree");
    world.tree_suspended(&engine, other.id()).await;
    world.advance(HOUR).await;
    other.result().await.expect("a result");
    assert_eq!(faults.claims()[claims..], [other.id()]);
    let after = engine.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!(after.nodes.iter().map(|node| node.promise).collect::<Vec<_>>(), [PromiseState::Pending; 3]);
    assert_eq!((app.count("attempt"), app.count("dozer wakes")), (1, 0));
}

#[sapwood::function]
async fn drops_its_sleeps(cx: &mut Cx<Probe>, rounds: u32) -> Result<(), Trouble> {
    let app = cx.dependencies();
    for _ in 0..rounds {
        let sleep = cx.sleep(HOUR);
        let step = cx.step("work", async || Ok::<_, Trouble>(()));
        tokio::select! {
            () = sleep => return Err(Trouble::broken("the sleep won")),
            done = step => done?,
        }
    }
    app.mark("raced");
    cx.sleep(HOUR * 3).await;
    Ok(())
}

/// N2: a sleep that lost its race is no reason to wake up.
async fn the_timer_of_a_dropped_sleep_wakes_nobody(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(drops_its_sleeps(5)).await.expect("a tree");
    let view = world.tree_until(&engine, tree.id(), |view| is_suspended(view) && app.count("raced") > 0).await;
    assert_eq!(node(&view, "/").waits_on.len(), 1, "the last sleep alone: {:#?}", node(&view, "/").waits_on);
    let image = engine.store().tree_load(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!(image.timers.len(), 1);
    world.advance(HOUR * 3).await;
    tree.result().await.expect("a result");
}

// ---- an author's own code -------------------------------------------------------------------------------------------

/// Panics as it is dropped, if it is told to.
struct Ticking(Arc<Probe>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.mark("dropped");
        if self.0.is_on("ticks") && !std::thread::panicking() {
            panic!("a drop panics on purpose");
        }
    }
}

#[sapwood::function]
async fn has_a_ticking_child(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let (ticks, dozes) = (cx.call(ticks()), cx.call(dozes("sibling".to_owned(), 2)));
    let (ticks, dozes) = tokio::join!(ticks, dozes);
    ticks?;
    Ok(dozes?)
}

#[sapwood::function]
async fn ticks(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let ticking = Ticking(cx.dependencies());
    cx.sleep(HOUR).await;
    std::mem::forget(ticking);
    Ok(())
}

/// S4: a body is dropped where a panic of its values is caught, when it leaves memory, and at the end of a worker.
async fn a_panic_in_a_drop_concerns_nobody_else(world: &World) {
    let app = Probe::new();
    app.turn_on("ticks");
    let first = world.launch(&app).await;
    let tree = first.start(has_a_ticking_child()).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    let ticked = |view: &TreeView| promise(view, "/0") == Some(PromiseState::Resolved);
    let view = world.tree_until(&second, tree, ticked).await;
    assert!(view.nodes.iter().all(|node| node.parked.is_none()), "{view:#?}");
    let dropped = app.count("dropped");
    assert!(dropped > 0 || !world.evicts(), "an evicted body is dropped");
    world.advance(HOUR).await;
    second.attach::<has_a_ticking_child>(tree).result().await.expect("a result");
    second.drain().await.expect("a drain");
    assert!(first.health().trees == 0 && second.health().trees == 0);
}

/// Its decoder panics on the value that says so.
#[derive(Clone, Serialize, JsonSchema)]
pub(crate) struct Fragile {
    /// Whether reading it panics while the switch is on.
    pub(crate) breaks: bool,
}

/// Whether a [`Fragile`] that breaks is read with a panic.
static BREAKS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            breaks: bool,
        }
        let Plain { breaks } = Plain::deserialize(deserializer)?;
        assert!(!(breaks && BREAKS.load(std::sync::atomic::Ordering::SeqCst)), "a decoder panics on purpose");
        Ok(Self { breaks })
    }
}

#[sapwood::function]
async fn takes_something_fragile(cx: &mut Cx<Probe>, what: Fragile) -> Result<bool, Trouble> {
    cx.sleep(HOUR).await;
    Ok(what.breaks)
}

#[sapwood::function]
async fn gives_something_fragile(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let fragile = cx.call(takes_something_fragile(Fragile { breaks: true }));
    let sibling = cx.call(dozes("sibling".to_owned(), 1));
    let (fragile, sibling) = tokio::join!(fragile, sibling);
    fragile?;
    Ok(sibling?)
}

/// R9: the function whose input cannot be read is parked; its sibling goes on.
async fn a_panic_in_reading_an_input_parks_its_function_alone(world: &World) {
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ONE_AT_A_TIME.lock().await;
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(gives_something_fragile()).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    world.crash(&first).await;
    BREAKS.store(true, std::sync::atomic::Ordering::SeqCst);
    let second = world.launch(&app).await;
    world.advance(HOUR).await;
    let settled =
        |view: &TreeView| promise(view, "/1") == Some(PromiseState::Resolved) && node(view, "/0").parked.is_some();
    let view = world.tree_until(&second, tree, settled).await;
    BREAKS.store(false, std::sync::atomic::Ordering::SeqCst);
    let why = String::from_utf8_lossy(node(&view, "/0").parked.as_ref().expect("parked")).into_owned();
    assert!(why.contains("a decoder panics on purpose") && why.contains("unreadable"), "{why}");
    assert!(node(&view, "/").parked.is_none());
}
