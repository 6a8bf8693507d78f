//! F8, F2, K2, P2: an operator retries what is exhausted, and compensations that failed.

use std::collections::BTreeSet;

use sapwood::prelude::*;
use sapwood_core::journal::EntryKind;
use sapwood_core::store::NoEffect;
use sapwood_core::tree::{Closing, PromiseState, TreeState};
use sapwood_core::{Path, TreeId};
use sapwood_engine::{Effect, Engine, TreeView, WaitsOn};
use sapwood_tests::engine::{World, is_idle, node, promise};
use sapwood_tests::faults::Fault;
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use serde_json::{Value, json};

use super::{HOUR, Trouble, dozes, once, one};

sapwood_tests::on_every_engine!(crate::engine::retrying {
    a_function_that_pauses_is_retried_with_a_fresh_budget,
    a_fresh_budget_outlives_a_crash,
    one_that_panicked_at_its_last_attempt_is_retried,
    an_error_that_a_retry_would_only_repeat_rejects_also_one_that_pauses,
    what_goes_on_by_itself_or_has_its_outcome_is_not_retried,
    a_compensation_that_failed_is_retried_until_it_succeeds,
    a_settled_tree_is_compensated_again_and_keeps_its_outcome,
    what_failed_is_undone_again_in_reverse_whatever_crashes_come_between,
    a_crash_at_any_commit_of_what_is_undone_again_changes_nothing,
    a_retried_compensation_is_killed_and_what_it_left_out_is_retried,
    an_open_tree_settles_after_what_is_undone_again_in_it,
});

fn path(text: &str) -> Path {
    text.parse().expect("a path")
}

/// Why an invocation is parked.
fn parked(view: &TreeView, at: &str) -> Value {
    serde_json::from_slice(node(view, at).parked.as_ref().expect("it is parked")).expect("JSON")
}

async fn parks(world: &World, engine: &Engine, tree: TreeId, at: &str) -> TreeView {
    world.tree_until(engine, tree, |view| node(view, at).parked.is_some() && view.row.owner.is_none()).await
}

// ---- what is exhausted ----------------------------------------------------------------------------------------------

/// Charges, and then fails until the warehouse is open.
#[sapwood::function(on_exhausted = "pause", retry(attempts = 2, backoff = "1ms..1ms"))]
async fn pauses(cx: &mut Cx<Probe>) -> Result<usize, Trouble> {
    let app = cx.dependencies();
    cx.step("charge", async || one(&app, "charge")).await?;
    let reserve = async || {
        let times = one(&app, "reserve")?;
        if app.is_on("open") { Ok(times) } else { Err(Trouble::busy("the warehouse")) }
    };
    cx.step("reserve", reserve).retry(once()).await
}

#[sapwood::function]
async fn calls_one_that_pauses(cx: &mut Cx<Probe>) -> Result<usize, Trouble> {
    let (pauses, sibling) = (cx.call(pauses()), cx.call(dozes("sibling".to_owned(), 1)));
    let (pauses, sibling) = tokio::join!(pauses, sibling);
    sibling?;
    Ok(pauses?)
}

/// F8, F5, G6: exhausted, it waits for an operator, and says why; its sibling goes on. Retried, what failed runs again, what
/// succeeded stays, and the attempts go on counting.
async fn a_function_that_pauses_is_retried_with_a_fresh_budget(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(calls_one_that_pauses()).await.expect("a tree");
    let view = parks(world, &engine, tree.id(), "/0").await;
    let reason = parked(&view, "/0");
    let kept = |attempts| json!(["exhausted", "the warehouse is busy", attempts, [1]]);
    assert_eq!(json!([reason["code"], reason["message"], reason["attempts"], reason["forgotten"]]), kept(2));
    assert!(matches!(&node(&view, "/0").waits_on[..], [WaitsOn::Operator { .. }]), "{:?}", node(&view, "/0").waits_on);
    assert_eq!((promise(&view, "/0"), node(&view, "/0").attempt), (Some(PromiseState::Pending), 2));
    world.advance(HOUR).await;
    app.reached("sibling wakes", 1).await;
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state == TreeState::Parked).await;
    assert_eq!((promise(&view, "/1"), app.count("reserve")), (Some(PromiseState::Resolved), 2));

    let retry = tree.at(path("/0")).retry("the warehouse opens soon").by("anna");
    assert_eq!(retry.await.expect("the request is taken"), Effect::Accepted);
    app.reached("reserve", 4).await;
    let view = parks(world, &engine, tree.id(), "/0").await;
    let reason = parked(&view, "/0");
    assert_eq!(json!([reason["code"], reason["message"], reason["attempts"], reason["forgotten"]]), kept(4));
    app.turn_on("open");
    assert_eq!(tree.retry("the warehouse is open").await.expect("the request is taken"), Effect::Accepted);
    assert_eq!(tree.result().await.expect("a result"), 5);
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!((node(&view, "/0").attempt, app.count("charge"), view.requests.len()), (5, 1, 2));
    assert_eq!(node(&view, "/0").parked, None);
    let retried = node(&view, "/0").timeline.iter().filter(|(_, entry)| entry.kind == EntryKind::Retried);
    let attempts: Vec<u32> = retried.map(|(_, entry)| entry.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4], "each is in its record, whoever asked for the next");
}

#[sapwood::function(on_exhausted = "pause", retry(attempts = 2, backoff = "1h..1h"))]
async fn pauses_after_hours(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let work = async || {
        one(&app, "work")?;
        Err(Trouble::busy("it"))
    };
    cx.step("work", work).retry(once()).await
}

/// F8, C4: the budget is durable with the request, and a crash consumes nothing of it.
async fn a_fresh_budget_outlives_a_crash(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(pauses_after_hours()).await.expect("a tree");
    let backs_off = |attempt| move |view: &TreeView| node(view, "/").attempt == attempt && view.row.owner.is_none();
    world.tree_until(&first, tree.id(), backs_off(2)).await;
    world.advance(HOUR).await;
    parks(world, &first, tree.id(), "/").await;
    assert_eq!(tree.retry("it is mended").await.expect("the request is taken"), Effect::Accepted);
    world.tree_until(&first, tree.id(), backs_off(4)).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    let view = parks(world, &second, tree.id(), "/").await;
    assert_eq!((&parked(&view, "/")["attempts"], app.count("work")), (&json!(4), 4));
}

#[sapwood::function(retry(attempts = 2, backoff = "1ms..1ms"))]
async fn panics_twice(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let seen = cx.step("look", async || Ok::<_, Trouble>(app.is_on("mended"))).await?;
    app.mark("looked");
    if !seen {
        // What it saw is recorded: only code that is mended can end otherwise.
        assert!(app.is_on("mended code"), "a panic of the test");
    }
    Ok(5)
}

/// F6, F8: whether or not another attempt helps, it gets a fresh budget.
async fn one_that_panicked_at_its_last_attempt_is_retried(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(panics_twice()).await.expect("a tree");
    let view = parks(world, &engine, tree.id(), "/").await;
    assert_eq!((&parked(&view, "/")["code"], &parked(&view, "/")["attempts"]), (&json!("panic"), &json!(2)));
    let before = app.count("looked");
    assert_eq!(tree.retry("once more").await.expect("the request is taken"), Effect::Accepted);
    app.reached("looked", before + 2).await;
    let view = parks(world, &engine, tree.id(), "/").await;
    assert_eq!(parked(&view, "/")["attempts"], json!(4));
    app.turn_on("mended code");
    assert_eq!(tree.retry("it is mended").await.expect("the request is taken"), Effect::Accepted);
    assert_eq!(tree.result().await.expect("a result"), 5);
}

#[sapwood::function(retry(attempts = 1))]
async fn is_busy(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.step("work", async || Err::<(), _>(Trouble::busy("it"))).retry(once()).await
}

#[sapwood::function(on_exhausted = "pause")]
async fn passes_on(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    Ok(cx.call(is_busy()).await?)
}

/// F5, F8: nothing that an operator could retry would end otherwise.
async fn an_error_that_a_retry_would_only_repeat_rejects_also_one_that_pauses(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(passes_on()).await.expect("a tree");
    let error = tree.result().await.expect_err("it fails").to_string();
    assert_eq!(error, "passes_on@1 at / was exhausted (attempt 1)");
}

/// Catches the error of its child, and then sleeps.
#[sapwood::function]
async fn catches_and_sleeps(cx: &mut Cx<Probe>) -> Result<bool, Trouble> {
    let busy = cx.call(is_busy()).await;
    cx.sleep(HOUR).await;
    Ok(busy.is_err())
}

/// F8, P2, K6: each answer says why nothing is retried.
async fn what_goes_on_by_itself_or_has_its_outcome_is_not_retried(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(catches_and_sleeps()).await.expect("a tree");
    world.tree_suspended(&engine, tree.id()).await;
    let waits = tree.at(path("/")).retry("why not").await.expect("an answer");
    assert_eq!(waits, Effect::None(NoEffect::NotParked));
    let rejected = tree.at(path("/0")).retry("why not").await.expect("an answer");
    assert_eq!(rejected, Effect::None(NoEffect::Settled(PromiseState::Rejected)), "its parent has seen that");
    let backs_off = engine.start(pauses_after_hours()).await.expect("a tree");
    world.tree_until(&engine, backs_off.id(), |view| node(view, "/").attempt == 2).await;
    let backs_off = backs_off.retry("why not").await.expect("an answer");
    assert_eq!(backs_off, Effect::None(NoEffect::NotParked), "its own next attempt is to come");
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!((view.row.control, view.requests.len()), (0, 0));
    world.advance(HOUR).await;
    assert!(tree.result().await.expect("a result"));
    let over = tree.retry("why not").await.expect("an answer");
    assert_eq!(over, Effect::None(NoEffect::Settled(PromiseState::Resolved)));
}

// ---- compensations that failed --------------------------------------------------------------------------------------

/// Does something that can be undone.
#[sapwood::function]
async fn books(_: &mut Cx<Probe>, what: String) -> Result<String, Trouble> {
    Ok(what)
}

/// Undoes it, unless that is broken.
#[sapwood::function]
async fn unbooks(cx: &mut Cx<Probe>, booked: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.mark(format!("key {}", cx.idempotency_key()));
    let work = async || {
        app.works(&format!("unbook {booked}")).await;
        if app.is_on(&format!("{booked} is broken")) { Err(Trouble::broken(&booked)) } else { Ok(()) }
    };
    cx.step("work", work).await
}

/// Books three, and fails.
#[sapwood::function]
async fn books_in_vain(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    for what in ["a", "b", "c"] {
        cx.call(books(what.to_owned()).undo(unbooks)).await?;
    }
    Err(Trouble::broken("the trip"))
}

/// Catches that, and goes on for some hours.
#[sapwood::function]
async fn travels_all_the_same(cx: &mut Cx<Probe>, hours: u32) -> Result<String, Trouble> {
    let app = cx.dependencies();
    let error = cx.call(books_in_vain()).await.expect_err("it fails").to_string();
    app.mark("told");
    cx.sleep(HOUR * hours).await;
    Ok(error)
}

fn undone(app: &Probe) -> String {
    app.marks("done unbook ").join(" ")
}

fn breaks(app: &Probe, all: &[&str]) {
    all.iter().for_each(|what| app.turn_on(&format!("{what} is broken")));
}

fn mends(app: &Probe, all: &[&str]) {
    all.iter().for_each(|what| app.turn_off(&format!("{what} is broken")));
}

const FAILED: Option<PromiseState> = Some(PromiseState::Rejected);
const DONE: Option<PromiseState> = Some(PromiseState::Resolved);

/// Waits until an invocation has come so far in undoing what it did, and no worker has its tree.
async fn has_closing(world: &World, engine: &Engine, tree: TreeId, at: &str, closing: Closing) -> TreeView {
    world.tree_until(engine, tree, |view| node(view, at).closing == closing && view.row.owner.is_none()).await
}

/// K2, P2, R7: by the path of the undo, of its caller and of the tree; each time it is a further invocation with the same
/// input, and the one that failed stays. The caller's own caller, which goes on, notices nothing.
async fn a_compensation_that_failed_is_retried_until_it_succeeds(world: &World) {
    let app = Probe::new();
    breaks(&app, &["b"]);
    let engine = world.launch(&app).await;
    let tree = engine.start(travels_all_the_same(1)).await.expect("a tree");
    let view = has_closing(world, &engine, tree.id(), "/0", Closing::CompensationFailed).await;
    assert_eq!((undone(&app).as_str(), promise(&view, "/0/~1")), ("c b a", FAILED));
    let before = (node(&view, "/0").settled_at, node(&view, "/0").outcome.clone());

    let by_undo = tree.at(path("/0/~1")).retry("try again").by("anna").await.expect("the request is taken");
    assert_eq!(by_undo, Effect::Accepted);
    world.tree_until(&engine, tree.id(), |view| promise(view, "/0/~1.2") == FAILED).await;
    let view = has_closing(world, &engine, tree.id(), "/0", Closing::CompensationFailed).await;
    assert_eq!((undone(&app).as_str(), view.row.closing), ("c b a b", Closing::CompensationFailed));
    let of_the_first = tree.at(path("/0/~1")).retry("try again").await.expect("an answer");
    assert_eq!(of_the_first, Effect::None(NoEffect::Settled(PromiseState::Rejected)), "another round came after it");

    mends(&app, &["b"]);
    let by_caller = tree.at(path("/0")).retry("it is mended").await.expect("the request is taken");
    assert_eq!(by_caller, Effect::Accepted);
    let view = has_closing(world, &engine, tree.id(), "/0", Closing::Compensated).await;
    assert_eq!((undone(&app).as_str(), view.row.closing), ("c b a b b", Closing::Compensated));
    let rounds = ["/0/~1", "/0/~1.2", "/0/~1.3"].map(|at| node(&view, at));
    assert_eq!(rounds.map(|undo| Some(undo.promise)), [FAILED, FAILED, DONE]);
    assert!(rounds.iter().all(|undo| undo.input == rounds[0].input && undo.undoes == Some(1)));
    assert_eq!((node(&view, "/0").settled_at, node(&view, "/0").outcome.clone()), before);
    let over = tree.retry("why not").await.expect("an answer");
    assert_eq!(over, Effect::None(NoEffect::NotParked));
    assert_eq!(app.count("told"), 1, "its caller's caller was not run");
    let keys: BTreeSet<String> = app.marks("key ").into_iter().collect();
    assert_eq!(keys.len(), 3, "one for each of the three, in whichever round: {keys:?}");
    world.advance(HOUR).await;
    assert_eq!(tree.result().await.expect("a result"), "books_in_vain@1 at /0 failed (attempt 1)");
}

/// K2, P2, C2: the outcome can be read while the compensation runs again, through a crash, and never changes.
async fn a_settled_tree_is_compensated_again_and_keeps_its_outcome(world: &World) {
    let app = Probe::new();
    breaks(&app, &["a", "c"]);
    let first = world.launch(&app).await;
    let tree = first.start(books_in_vain()).await.expect("a tree").id();
    let error = first.attach::<books_in_vain>(tree).result().await.expect_err("it fails").to_string();
    let view = world.tree_until(&first, tree, |view| view.row.state.is_settled()).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::Rejected, Closing::CompensationFailed));
    let settled_at = (view.row.settled_at, node(&view, "/").settled_at);
    let outcome_stands = async |engine: &Engine, closing: Closing| {
        let view = engine.tree(tree).await.expect("the store").expect("the tree");
        assert_eq!((view.row.state, view.row.closing), (TreeState::Rejected, closing));
        assert_eq!((view.row.settled_at, node(&view, "/").settled_at), settled_at);
        assert_eq!((promise(&view, "/"), node(&view, "/").closing), (FAILED, closing));
        let again = engine.attach::<books_in_vain>(tree).result().await.expect_err("it failed").to_string();
        assert_eq!(again, error);
        view
    };

    mends(&app, &["a", "c"]);
    app.hold("unbook a");
    let asked = first.attach::<books_in_vain>(tree).retry("it is mended").await.expect("the request is taken");
    assert_eq!(asked, Effect::Accepted);
    app.reached("begun unbook a", 2).await;
    let view = outcome_stands(&first, Closing::Compensating).await;
    assert!(!node(&view, "/").waits_on.is_empty() && !node(&view, "/~0.2").waits_on.is_empty(), "{view:#?}");
    let again = first.attach::<books_in_vain>(tree).retry("once more").await.expect("an answer");
    assert_eq!(again, Effect::None(NoEffect::Decided(PromiseState::Rejected)), "it is being undone");
    let second = world.take_over(&first, &app).await;
    app.reached("begun unbook a", 3).await;
    outcome_stands(&second, Closing::Compensating).await;
    app.hold_none();
    has_closing(world, &second, tree, "/", Closing::Compensated).await;
    let view = outcome_stands(&second, Closing::Compensated).await;
    assert_eq!(["/~2.2", "/~0.2"].map(|at| promise(&view, at)), [DONE, DONE]);
    assert!(undone(&app).starts_with("c b a c "), "{}", undone(&app));
    assert_eq!(view.nodes.iter().map(|node| node.waits_on.len()).sum::<usize>(), 0, "nothing is left to do");
    is_idle(&second).await;
    let over = second.attach::<books_in_vain>(tree).retry("why not").await.expect("an answer");
    assert_eq!(over, Effect::None(NoEffect::Settled(PromiseState::Rejected)));
}

/// K2: the last first, and one that fails again stops no other, though a crash comes between.
async fn what_failed_is_undone_again_in_reverse_whatever_crashes_come_between(world: &World) {
    let app = Probe::new();
    breaks(&app, &["a", "b", "c"]);
    let first = world.launch(&app).await;
    let tree = first.start(books_in_vain()).await.expect("a tree").id();
    world.tree_until(&first, tree, |view| view.row.state.is_settled()).await;
    mends(&app, &["a", "b"]);
    app.hold("unbook b");
    first.attach::<books_in_vain>(tree).retry("mostly mended").await.expect("the request is taken");
    app.reached("begun unbook b", 2).await;
    let second = world.take_over(&first, &app).await;
    app.reached("begun unbook b", 3).await;
    app.hold_none();
    let view = has_closing(world, &second, tree, "/", Closing::CompensationFailed).await;
    assert_eq!(["/~2.2", "/~1.2", "/~0.2"].map(|at| promise(&view, at)), [FAILED, DONE, DONE]);
    assert_eq!((view.row.state, view.row.closing), (TreeState::Rejected, Closing::CompensationFailed));
    let begun = app.marks("begun unbook ").join(" ");
    assert_eq!(begun, "c b a c b b a");
    mends(&app, &["c"]);
    second.attach::<books_in_vain>(tree).retry("all is mended").await.expect("the request is taken");
    let view = has_closing(world, &second, tree, "/", Closing::Compensated).await;
    assert_eq!(
        (promise(&view, "/~2.3"), promise(&view, "/~1.3"), view.row.closing),
        (DONE, None, Closing::Compensated)
    );
}

/// A settled tree whose two failed compensations are retried, with a fault at the `commit`-th commit after the request. Returns
/// whether there were so many.
async fn undone_again_with(world: &World, fault: Fault, commit: usize) -> bool {
    let app = Probe::new();
    breaks(&app, &["a", "c"]);
    let (store, faults) = with_faults(world.store().another().await);
    let mut worker = world.launch_on(&app, store, world.options()).await;
    faults.kills(&worker);
    let tree = worker.start(books_in_vain()).await.expect("a tree").id();
    world.tree_until(&worker, tree, |view| view.row.state.is_settled()).await;
    is_idle(&worker).await;
    mends(&app, &["a", "c"]);
    let last = faults.commits() + commit;
    faults.plan(last, fault);
    worker.attach::<books_in_vain>(tree).retry("it is mended").await.expect("the request is taken");
    let first = worker.clone();
    tokio::select! {
        _ = first.stopped() => worker = world.take_over(&first, &app).await,
        _ = has_closing(world, &first, tree, "/", Closing::Compensated) => {}
    }
    let view = has_closing(world, &worker, tree, "/", Closing::Compensated).await;
    let told = format!("{fault:?} at commit {commit}");
    assert_eq!((view.row.state, view.row.closing), (TreeState::Rejected, Closing::Compensated), "{told}");
    let undos: Vec<_> = view.nodes.iter().filter(|node| node.undoes.is_some()).collect();
    let paths: Vec<String> = undos.iter().map(|undo| undo.path.to_string()).collect();
    assert_eq!(paths, ["/~0", "/~1", "/~2", "/~0.2", "/~2.2"], "{told}: each once");
    let done = undos.iter().map(|undo| Some(undo.promise)).collect::<Vec<_>>();
    assert_eq!(done, [FAILED, DONE, FAILED, DONE, DONE], "{told}");
    let children = view.nodes.iter().filter(|node| node.path != Path::root()).count();
    let entries = view.nodes.iter().flat_map(|node| &node.timeline).filter(|(_, entry)| entry.number.is_some()).count();
    assert_eq!(view.row.number as usize, children + entries, "{told}: numbers are gapless, and no node has two");
    let reached = faults.commits() >= last;
    world.crash(&worker).await;
    reached
}

/// K2, C2, C5: whatever is lost, and whoever dies: each undo that failed is made again once.
async fn a_crash_at_any_commit_of_what_is_undone_again_changes_nothing(world: &World) {
    for fault in [Fault::LostBefore, Fault::LostAfter, Fault::DiesBefore, Fault::DiesAfter] {
        let mut commit = 1;
        while undone_again_with(world, fault, commit).await {
            commit += 1;
        }
        assert!(commit > 4, "{fault:?}: {commit}");
    }
}

/// K7, K2: what a kill left out is undone by a retry of all of it, and not by one of another undo.
async fn a_retried_compensation_is_killed_and_what_it_left_out_is_retried(world: &World) {
    let app = Probe::new();
    app.hold("unbook c");
    let engine = world.launch(&app).await;
    let tree = engine.start(books_in_vain()).await.expect("a tree");
    app.reached("begun unbook c", 1).await;
    tree.kill("it hangs").await.expect("the request is taken");
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    assert_eq!((view.row.closing, promise(&view, "/~1")), (Closing::CompensationFailed, None));

    tree.at(path("/~2")).retry("only this").await.expect("the request is taken");
    app.reached("begun unbook c", 2).await;
    assert_eq!(tree.kill("it hangs again").await.expect("the request is taken"), Effect::Accepted);
    let view = has_closing(world, &engine, tree.id(), "/", Closing::CompensationFailed).await;
    assert_eq!((view.row.state, promise(&view, "/~2.2")), (TreeState::Rejected, Some(PromiseState::Cancelled)));
    app.hold_none();
    tree.at(path("/~2.2")).retry("only this").await.expect("the request is taken");
    world.tree_until(&engine, tree.id(), |view| promise(view, "/~2.3") == DONE).await;
    let view = has_closing(world, &engine, tree.id(), "/", Closing::CompensationFailed).await;
    assert_eq!((promise(&view, "/~1"), undone(&app).as_str()), (None, "c"), "the others are as they were");
    tree.retry("all of it").await.expect("the request is taken");
    let view = has_closing(world, &engine, tree.id(), "/", Closing::Compensated).await;
    assert_eq!((view.row.closing, undone(&app).as_str()), (Closing::Compensated, "c b a"));
}

/// K5, N1: the root closes last; until then it has no outcome.
async fn an_open_tree_settles_after_what_is_undone_again_in_it(world: &World) {
    let app = Probe::new();
    breaks(&app, &["b"]);
    let engine = world.launch(&app).await;
    let tree = engine.start(travels_all_the_same(1)).await.expect("a tree");
    has_closing(world, &engine, tree.id(), "/0", Closing::CompensationFailed).await;
    mends(&app, &["b"]);
    app.hold("unbook b");
    tree.retry("it is mended").await.expect("the request is taken");
    app.reached("begun unbook b", 2).await;
    world.advance(HOUR).await;
    let returned = |view: &TreeView| promise(view, "/") == Some(PromiseState::ReturnedOk);
    let view = world.tree_until(&engine, tree.id(), returned).await;
    assert_eq!(node(&view, "/").waits_on, [WaitsOn::Children { open: 1 }]);
    assert!(!view.row.state.is_settled());
    app.hold_none();
    assert_eq!(tree.result().await.expect("a result"), "books_in_vain@1 at /0 failed (attempt 1)");
    let view = world.tree_until(&engine, tree.id(), |view| view.row.state.is_settled()).await;
    assert_eq!((view.row.state, view.row.closing), (TreeState::Resolved, Closing::Compensated));
}
