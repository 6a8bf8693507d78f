//! Mistakes that were made once: answers that are lost, journals that cannot be read, bodies that wake themselves.

use std::sync::Arc;
use std::time::Duration;

use sapwood::prelude::*;
use sapwood_core::canonical;
use sapwood_core::journal::EntryKind;
use sapwood_core::store::{Intake, KeyScope, NewTree, Start, StartKey, Started};
use sapwood_core::tree::{Cause, Phase, TreeState};
use sapwood_core::{EventId, TreeId};
use sapwood_engine::{Engine, NodeView, TreeView, WaitsOn};
use sapwood_tests::engine::{Probe, World, node, phase, tree_suspended, tree_until, until, within};
use sapwood_tests::faults::Faults;

use super::{Probed, Trouble};

sapwood_tests::on_every_engine!(crate::engine::regressions {
    a_claim_whose_answer_is_lost_strands_no_tree,
    a_journal_that_cannot_be_read_parks_its_function_and_no_other,
    a_parked_function_whose_sleep_is_over_is_not_claimed_again_and_again,
    code_that_differs_and_fails_parks_before_any_retry,
    a_body_that_wakes_itself_takes_the_same_branch_on_replay,
    a_start_with_an_id_that_is_none_is_refused_and_not_waited_for,
});

const HOUR: Duration = Duration::from_secs(3_600);

/// Trees that come and go while another is watched.
const OTHERS: usize = 10;

#[sapwood::function]
async fn dozes(cx: &mut Cx<Probe>, name: String, hours: u32) -> Result<(), Trouble> {
    cx.sleep(HOUR * hours).await;
    cx.app().mark(format!("{name} wakes"));
    Ok(())
}

/// The process dies; another goes on behind faults of its own.
async fn take_over_with_faults(world: &World, dead: &Engine, app: &Arc<Probe>) -> (Engine, Arc<Faults>) {
    world.crash(dead).await;
    let (store, faults) = Faults::before(world.store().another().await);
    let survivor = world.launch_on(app, store, world.options()).await;
    world.bury(dead, &survivor).await;
    (survivor, faults)
}

/// Whether an operator is all that it waits for.
fn waits_on_operator(node: &NodeView) -> bool {
    node.parked.is_some() && matches!(node.waits_on.as_slice(), [WaitsOn::Operator { .. }])
}

// ---- claims ---------------------------------------------------------------------------------------------------------

/// S3, C5: the claim was made, and the worker that made it never heard of it. Its trees are its own: nobody else can
/// claim them, so it goes on with them itself, once.
async fn a_claim_whose_answer_is_lost_strands_no_tree(world: &World) {
    let app = Probe::new();
    let (store, faults) = Faults::before(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    let mut trees = Vec::new();
    for n in 0..3 {
        let tree = engine.start(dozes(format!("sleeper {n}"), 1)).await.expect("a tree");
        tree_suspended(&engine, tree.id()).await;
        trees.push(tree);
    }
    faults.lose_claim();
    world.advance(HOUR).await;
    for (n, tree) in trees.into_iter().enumerate() {
        within("a sleeper that goes on", tree.result()).await.expect("a result");
        assert_eq!(app.count(&format!("sleeper {n} wakes")), 1);
    }
    assert!(!faults.has_claim_to_lose(), "an answer was lost");
}

// ---- parked functions -----------------------------------------------------------------------------------------------

#[sapwood::function]
async fn has_two_sleepers(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let (first, second) = (cx.call(dozes("first".to_owned(), 1)), cx.call(dozes("second".to_owned(), 1)));
    let (first, second) = tokio::join!(first, second);
    first?;
    Ok(second?)
}

/// R8, R9: what is recorded cannot be compared with what is asked for; the invocation says so, and its sibling goes on.
async fn a_journal_that_cannot_be_read_parks_its_function_and_no_other(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(has_two_sleepers()).await.expect("a tree").id();
    let before = tree_suspended(&first, tree).await;
    let (second, faults) = take_over_with_faults(world, &first, &app).await;
    faults.refuse_load("/0");
    world.advance(HOUR).await;

    let settled = |view: &TreeView| phase(view, "/1") == Some(Phase::Resolved) && view.row.owner.is_none();
    let view = tree_until(&second, tree, |view| settled(view) && view.row.state == TreeState::Parked).await;
    let parked = node(&view, "/0");
    assert!(waits_on_operator(parked), "{parked:#?}");
    let why = String::from_utf8_lossy(parked.parked.as_ref().expect("parked"));
    assert!(why.contains("the row is damaged, as planned"), "{why}");
    assert_eq!((parked.phase, parked.attempt), (Phase::Pending, 1), "no failure, and no attempt");
    assert!(parked.timeline.starts_with(&node(&before, "/0").timeline), "history stays whole");
    assert_eq!(node(&view, "/").phase, Phase::Pending);
    assert_eq!(["first wakes", "second wakes"].map(|what| app.count(what)), [0, 1]);
}

#[sapwood::function]
async fn has_a_sleeper_that_panics(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let (bad, good) = (cx.call(panics_before_its_sleep_is_over()), cx.call(dozes("sibling".to_owned(), 1_000)));
    let (bad, good) = tokio::join!(bad, good);
    bad?;
    Ok(good?)
}

#[sapwood::function(retry(attempts = 1, backoff = "1ms..1ms"))]
async fn panics_before_its_sleep_is_over(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let sleep = cx.sleep(HOUR);
    cx.step("work", async || Ok::<_, Trouble>(())).await?;
    assert!(cx.app().is_on("mended"), "not yet");
    sleep.await;
    Ok(())
}

/// R9, G2: a sleep that is over is nothing that a parked function can go on with. Its tree waits for an operator, or
/// for a sibling that sleeps longer, and is left alone meanwhile, however often others are claimed.
async fn a_parked_function_whose_sleep_is_over_is_not_claimed_again_and_again(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let alone = first.start(panics_before_its_sleep_is_over()).await.expect("a tree").id();
    let beside = first.start(has_a_sleeper_that_panics()).await.expect("a tree").id();
    for (tree, path) in [(alone, "/"), (beside, "/0")] {
        let rests = |view: &TreeView| {
            view.row.owner.is_none()
                && view.nodes.iter().any(|node| node.path.to_string() == path && waits_on_operator(node))
        };
        tree_until(&first, tree, rests).await;
    }
    // Nothing of their journals is in memory any more.
    let (second, faults) = take_over_with_faults(world, &first, &app).await;
    for n in 0..OTHERS {
        let other = second.start(dozes(format!("other {n}"), 1)).await.expect("a tree");
        tree_suspended(&second, other.id()).await;
        world.advance(HOUR).await;
        within("another tree", other.result()).await.expect("a result");
    }
    for (tree, path) in [(alone, "/"), (beside, "/0")] {
        let claims = faults.claims().into_iter().filter(|claimed| *claimed == tree).count();
        let commits = faults.turns().into_iter().filter(|turn| turn.tree == tree).count();
        assert!(claims <= 2 && commits <= 2, "{path}: claimed {claims} times, committed {commits} times");
        let view = tree_until(&second, tree, |view| view.row.owner.is_none()).await;
        assert!(waits_on_operator(node(&view, path)), "{view:#?}");
    }

    // The sibling's sleep still counts.
    world.advance(HOUR * 1_000).await;
    tree_until(&second, beside, |view| phase(view, "/1") == Some(Phase::Resolved)).await;
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..1ms"))]
async fn fails_where_it_slept(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.app();
    cx.step("charge", async || {
        app.mark("charges");
        Ok::<_, Trouble>(())
    })
    .await?;
    cx.emit(Probed { key: "charged".to_owned() });
    app.mark("runs");
    // As another build would: what comes next in the record is a sleep.
    if app.is_on("changed") {
        return Err(Trouble::busy("the other build"));
    }
    cx.sleep(HOUR).await;
    Ok(())
}

/// R8: found at the return, whatever is returned: an error that could be tried again is no way around it.
async fn code_that_differs_and_fails_parks_before_any_retry(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(fails_where_it_slept()).await.expect("a tree").id();
    let before = tree_suspended(&first, tree).await;
    let runs_before = app.count("runs");
    app.turn_on("changed");
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;

    let view = tree_until(&second, tree, |view| node(view, "/").parked.is_some() && view.row.owner.is_none()).await;
    let root = node(&view, "/");
    assert!(waits_on_operator(root), "{root:#?}");
    assert_eq!((root.phase, root.attempt), (Phase::Pending, 1), "no failure, and no attempt");
    assert!(root.timeline.iter().all(|(_, entry)| entry.kind != EntryKind::Retried), "{:#?}", root.timeline);
    assert!(root.timeline.starts_with(&node(&before, "/").timeline), "history stays whole");
    assert_eq!((app.count("runs") - runs_before, app.count("charges")), (1, 1), "seen by the first run");
}

// ---- bodies that wake themselves ------------------------------------------------------------------------------------

#[sapwood::function]
async fn tells_itself(cx: &mut Cx<Probe>, told_first: bool) -> Result<String, Trouble> {
    let app = cx.app();
    let (teller, mut other) = (cx.call(at_the_gate("teller".to_owned())), cx.call(at_the_gate("other".to_owned())));
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
    // Who listens is polled first each time, so what is told is heard in a further poll.
    let (heard, was_told) = futures::future::join(listens, tells).await;
    drop(other);
    let heard = format!("{heard} {}", was_told?);
    app.mark(format!("heard: {heard}"));
    cx.sleep(HOUR).await;
    Ok(heard)
}

#[sapwood::function]
async fn at_the_gate(cx: &mut Cx<Probe>, gate: String) -> Result<(), Trouble> {
    let app = cx.app();
    let step = async || {
        app.mark(&gate);
        app.pass(&gate).await;
        Ok::<_, Trouble>(())
    };
    cx.step("wait", step).await
}

/// R7: what the body told itself comes before the next completion, the first time, when there was none yet, and on
/// replay, when it is recorded already.
async fn a_body_that_wakes_itself_takes_the_same_branch_on_replay(world: &World) {
    for told_first in [true, false] {
        let app = Probe::new();
        let first = world.launch(&app).await;
        let tree = first.start(tells_itself(told_first)).await.expect("a tree").id();
        app.reached("teller", 1).await;
        app.reached("other", 1).await;
        app.open("teller", 1);
        app.reached("heard: told true", 1).await;
        app.open("other", 1);
        tree_until(&first, tree, |view| phase(view, "/1") == Some(Phase::Resolved)).await;
        tree_suspended(&first, tree).await;

        let second = world.take_over(&first, &app).await;
        world.advance(HOUR).await;
        let settled = tree_until(&second, tree, |view| view.row.state.is_settled() || node(view, "/").parked.is_some());
        let view = settled.await;
        assert_eq!(view.row.state, TreeState::Resolved, "told first: {told_first}; {:#?}", node(&view, "/"));
        assert_eq!(second.attach::<tells_itself>(tree).result().await.expect("a result"), "told true");
        let heard = app.marks("heard: ");
        assert!(heard.len() > 1 && heard.iter().all(|heard| heard == "told true"), "{heard:?}");
        world.crash(&second).await;
    }
}

// ---- starts of a consumer -------------------------------------------------------------------------------------------

#[sapwood::consumer(group = "regressions")]
async fn starts_by_id(cx: &mut ConsumerCx<Probe>, event: Delivered<Probed>) -> Result<(), Trouble> {
    let app = cx.app();
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
    let digest = canonical::digest(&serde_json::json!(content));
    let event = Delivered {
        id: EventId::from(tree.to_string()),
        source: "/elsewhere".to_owned(),
        key: id.to_owned(),
        time: None,
        content,
    };
    let start = Start {
        key: StartKey {
            scope: KeyScope::Group("regressions".to_owned()),
            key: format!("/elsewhere {}", event.id),
            digest,
        },
        tree: NewTree {
            id: tree,
            function: "starts_by_id".to_owned(),
            version: 1,
            input: serde_json::json!(event).to_string().into(),
            cause: Cause::default(),
        },
    };
    let intake = Intake { group: "regressions".to_owned(), positions: Vec::new(), starts: vec![start] };
    assert_eq!(engine.intake(intake).await.expect("taken in"), [Started::Created]);
    tree
}

/// H9, P5: an id that is none can never be started, so the consumer is told, and can go on; one that is an id starts.
async fn a_start_with_an_id_that_is_none_is_refused_and_not_waited_for(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    for id in ["", "with a space", &"x".repeat(2_000)] {
        let refused = app.marks("refused: ").len();
        let tree = take_in(&engine, id).await;
        tree_until(&engine, tree, |view| view.row.state == TreeState::Resolved).await;
        until("a refusal", async || app.marks("refused: ").len() > refused).await;
    }
    let refusals = app.marks("refused: ");
    assert!(refusals.iter().all(|refusal| refusal.contains("dozes@1 at /0 was not started: ")), "{refusals:?}");
    assert!(app.marks("started: ").is_empty());

    let tree = take_in(&engine, "an-id").await;
    tree_until(&engine, tree, |view| view.row.state == TreeState::Resolved).await;
    let started = engine.find("an-id").await.expect("the store").expect("a tree");
    assert_eq!(app.marks("started: "), [started.to_string()]);
}
