//! R8, R9, R10: code that differs from the record, and what cannot be read, park a function before anything happens.

use std::sync::Arc;

use sapwood::{Dependencies, prelude::*};
use sapwood_core::TreeId;
use sapwood_core::journal::EntryKind;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_engine::{NodeView, TreeView, WaitsOn};
use sapwood_tests::engine::{World, node, promise};
use sapwood_tests::probe::{Probe, Probing};
use sapwood_tests::wait::within;
use serde_json::Value;

use super::{HOUR, Probed, Trouble, dozes, one};

sapwood_tests::on_every_engine!(crate::engine::violations {
    code_that_differs_from_the_record_parks_before_any_side_effect,
    code_that_skips_a_recorded_operation_parks,
    an_added_field_with_a_default_is_no_violation,
    code_that_differs_and_fails_parks_before_any_retry,
    awaiting_what_is_not_durable_parks,
    a_journal_that_cannot_be_read_parks_its_function_and_no_other,
    a_parked_function_whose_sleep_is_over_is_not_claimed_again_and_again,
});

/// It damages rows by SQL.
mod damaged {
    sapwood_tests::on_both_engines!(crate::engine::violations {
        a_form_of_an_unknown_codec_is_refused_by_name_wherever_it_is_read_back,
    });
}

/// Trees that come and go while another is watched.
const OTHERS: usize = 10;

/// Whether an operator is all that it waits for.
fn waits_on_operator(node: &NodeView) -> bool {
    node.parked.is_some() && matches!(node.waits_on.as_slice(), [WaitsOn::Operator { .. }])
}

// ---- other code -----------------------------------------------------------------------------------------------------

/// The same context with other code.
struct Changed(Arc<Probe>);

impl Dependencies for Changed {
    type Context = Probing;
}

#[sapwood::function]
async fn changes(cx: &mut Cx<Probe>, how: String) -> Result<String, Trouble> {
    let app = cx.dependencies();
    cx.step("charge", async || one(&app, "charge").map(drop)).await?;
    let child = cx.call(changes_child(1)).await?;
    cx.sleep(HOUR).await;
    cx.step("ship", async || one(&app, "ship").map(drop)).await?;
    Ok(format!("{how} {child}"))
}

#[sapwood::function]
async fn changes_child(_: &mut Cx<Probe>, n: u32) -> Result<u32, Trouble> {
    Ok(n)
}

#[sapwood::function]
async fn has_a_changing_child(cx: &mut Cx<Probe>, how: String) -> Result<String, Trouble> {
    let (changing, sibling) = (cx.call(changes(how)), cx.call(dozes("sibling".to_owned(), 24)));
    let (changing, sibling) = tokio::join!(changing, sibling);
    sibling?;
    Ok(changing?)
}

#[sapwood::function(name = "changes")]
async fn changed(cx: &mut Cx<Changed>, how: String) -> Result<String, Trouble> {
    let app = Arc::clone(&cx.dependencies().0);
    let charge = async || one(&app, "charged again").map(drop);
    match how.as_str() {
        "kind" => drop(cx.call(changed_child(0, None)).await?),
        "name" => cx.step("bill", charge).await?,
        _ => cx.step("charge", charge).await?,
    }
    if how == "missing" {
        return Ok("without its child and its sleep".to_owned());
    }
    let child = cx.call(changed_child(if how == "input" { 2 } else { 1 }, None)).await?;
    cx.sleep(if how == "length" { HOUR * 2 } else { HOUR }).await;
    cx.step("ship", async || one(&app, "shipped by other code").map(drop)).await?;
    Ok(format!("{how} {child}"))
}

#[sapwood::function(name = "changes_child")]
async fn changed_child(_: &mut Cx<Changed>, n: u32, #[serde(default)] added: Option<u32>) -> Result<u32, Trouble> {
    Ok(n + added.unwrap_or_default())
}

#[sapwood::function(name = "has_a_changing_child")]
async fn has_a_changed_child(cx: &mut Cx<Changed>, how: String) -> Result<String, Trouble> {
    let (changing, sibling) = (cx.call(changed(how)), cx.call(still_dozes("sibling".to_owned(), 24)));
    let (changing, sibling) = tokio::join!(changing, sibling);
    sibling?;
    Ok(changing?)
}

#[sapwood::function(name = "dozes")]
async fn still_dozes(cx: &mut Cx<Changed>, name: String, hours: u32) -> Result<(), Trouble> {
    cx.sleep(HOUR * hours).await;
    cx.dependencies().0.mark(format!("{name} wakes"));
    Ok(())
}

/// A history of the first build, gone on with by the second; gives the changed child's violation.
async fn violation_of(world: &World, how: &str) -> Value {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(has_a_changing_child(how.to_owned())).await.expect("a tree").id();
    let before = world.tree_suspended(&first, tree).await;
    world.crash(&first).await;
    let second = world.launch(&Arc::new(Changed(Arc::clone(&app)))).await;
    world.advance(HOUR).await;
    world.tree_until(&second, tree, |view| node(view, "/0").parked.is_some()).await;
    world.advance(HOUR * 24).await;
    // R9: the sibling goes on.
    let view = world.tree_until(&second, tree, |view| node(view, "/1").promise == PromiseState::Resolved).await;
    let view = if view.row.state == TreeState::Parked {
        view
    } else {
        world.tree_until(&second, tree, |view| view.row.state == TreeState::Parked).await
    };
    let (child, child_before) = (node(&view, "/0"), node(&before, "/0"));
    assert_eq!((child.promise, child.attempt), (PromiseState::Pending, 1), "no failure, and no attempt");
    assert!(child.timeline.starts_with(&child_before.timeline), "history stays whole");
    assert_eq!(node(&view, "/").promise, PromiseState::Pending);
    assert_eq!(["charge", "charged again", "ship", "shipped by other code"].map(|what| app.count(what)), [1, 0, 0, 0]);
    serde_json::from_slice(child.parked.as_ref().expect("parked")).expect("JSON")
}

/// R8, R9: another kind, name or input is named on both sides and with its place in the source.
async fn code_that_differs_from_the_record_parks_before_any_side_effect(world: &World) {
    let cases = [
        ("kind", 0, "step charge", r#"call changes_child {"n":0,"added":null}"#),
        ("name", 0, "step charge", "step bill"),
        ("input", 1, r#"call changes_child {"n":1}"#, r#"call changes_child {"n":2,"added":null}"#),
        ("length", 2, r#"sleep {"ms":3600000}"#, r#"sleep {"ms":7200000}"#),
    ];
    for (how, position, recorded, asked) in cases {
        let violation = violation_of(world, how).await;
        assert_eq!(violation["position"], position, "{how}: {violation}");
        assert_eq!(
            (&violation["recorded"], &violation["asked"]),
            (&Value::from(recorded), &Value::from(asked)),
            "{how}"
        );
        let location = violation["location"].as_str().expect("a location");
        assert!(location.contains("engine/violations.rs:"), "{how}: {location}");
    }
}

/// R8: a recorded operation that replay never asks for, found at the return.
async fn code_that_skips_a_recorded_operation_parks(world: &World) {
    let violation = violation_of(world, "missing").await;
    assert_eq!((violation["position"].as_u64(), violation["asked"].as_str()), (Some(1), Some("nothing")));
    assert_eq!(violation["recorded"], r#"call changes_child {"n":1}"#);
}

/// R8: over the fields that were recorded.
async fn an_added_field_with_a_default_is_no_violation(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(changes("not".to_owned())).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
    world.crash(&first).await;
    let second = world.launch(&Arc::new(Changed(Arc::clone(&app)))).await;
    world.advance(HOUR).await;
    assert_eq!(second.attach::<changed>(tree).result().await.expect("a result"), "not 1");
    assert_eq!(["charge", "charged again", "shipped by other code"].map(|what| app.count(what)), [1, 0, 1]);
}

#[sapwood::function]
async fn awaits_the_void(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let _ = cx.now();
    std::future::pending::<()>().await;
    Ok(())
}

/// R10: the body is pending with nothing durable open.
async fn awaiting_what_is_not_durable_parks(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(awaits_the_void()).await.expect("a tree").id();
    let view = world.tree_until(&engine, tree, |view| view.row.state == TreeState::Parked).await;
    let violation: Value = serde_json::from_slice(node(&view, "/").parked.as_ref().expect("parked")).expect("JSON");
    assert!(violation["message"].as_str().is_some_and(|why| why.contains("not durable")), "{violation}");
    assert_eq!(violation["code"], "foreign_await");
    assert_eq!(node(&view, "/").attempt, 1);
}

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
    let before = world.tree_suspended(&first, tree).await;
    // The clock passes the end of the sleeps at the burial already.
    let (second, _) = world.take_over_with_faults(&first, &app, |faults| faults.refuse_load("/0")).await;
    world.advance(HOUR).await;

    let settled = |view: &TreeView| promise(view, "/1") == Some(PromiseState::Resolved) && view.row.owner.is_none();
    let view = world.tree_until(&second, tree, |view| settled(view) && view.row.state == TreeState::Parked).await;
    let parked = node(&view, "/0");
    assert!(waits_on_operator(parked), "{parked:#?}");
    let why = String::from_utf8_lossy(parked.parked.as_ref().expect("parked"));
    assert!(why.contains("the row is damaged, as planned"), "{why}");
    assert!(why.contains("engine/mod.rs:"), "where the function is: {why}");
    assert_eq!((parked.promise, parked.attempt), (PromiseState::Pending, 1), "no failure, and no attempt");
    assert!(parked.timeline.starts_with(&node(&before, "/0").timeline), "history stays whole");
    assert_eq!(node(&view, "/").promise, PromiseState::Pending);
    assert_eq!(["first wakes", "second wakes"].map(|what| app.count(what)), [0, 1]);
}

/// Leaves every form that a replay reads back: an input, an outcome, and the payloads of its own entries.
#[sapwood::function]
async fn leaves_every_form(cx: &mut Cx<Probe>, name: String) -> Result<String, Trouble> {
    let id = cx.uuid();
    cx.step("work", async || Ok::<_, Trouble>(7)).await?;
    let child = cx.call(changes_child(1)).await?;
    cx.emit(Probed { key: format!("{id} {child}") });
    cx.sleep(HOUR).await;
    cx.dependencies().mark("wakes");
    Ok(name)
}

/// R10: a build that does not know a codec says which, and does nothing, whichever form it meets it in.
async fn a_form_of_an_unknown_codec_is_refused_by_name_wherever_it_is_read_back(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let kinds = [EntryKind::Valued, EntryKind::StepResolved, EntryKind::Emitted, EntryKind::SleepBegun];
    let journal =
        |kind: EntryKind| format!("update journal set payload = $ where kind = {} and tree_id = ", kind as i16);
    let damages = [
        "update invocation set input = $ where outcome is null and tree_id = ".to_owned(),
        "update invocation set outcome = $ where outcome is not null and tree_id = ".to_owned(),
    ];
    let mut trees = Vec::new();
    for damage in damages.into_iter().chain(kinds.map(journal)) {
        let tree = first.start(leaves_every_form(damage.clone())).await.expect("a tree").id();
        world.tree_suspended(&first, tree).await;
        trees.push((tree, damage));
    }
    world.crash(&first).await;
    let (bytes, id): (_, fn(TreeId) -> String) = match world.store().schema() {
        Some(_) => (r"'\x01ff'", |tree| format!("'{tree}'")),
        None => ("x'01ff'", |tree| format!("x'{}'", tree.to_string().replace('-', ""))),
    };
    for (tree, damage) in &trees {
        world.store().execute(&(damage.replace('$', bytes) + &id(*tree))).await;
    }
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    for (tree, damage) in trees {
        let view = world.tree_until(&second, tree, |view| view.row.state == TreeState::Parked).await;
        let why = String::from_utf8_lossy(node(&view, "/").parked.as_ref().expect("parked")).into_owned();
        assert!(why.contains("codec 0x01"), "{damage}: {why}");
    }
    assert_eq!(app.count("wakes"), 0);
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
    assert!(cx.dependencies().is_on("mended"), "not yet");
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
        world.tree_until(&first, tree, rests).await;
    }
    // From here on nothing of their journals is in memory.
    let (second, faults) = world.take_over_with_faults(&first, &app, |_| {}).await;
    for n in 0..OTHERS {
        let other = second.start(dozes(format!("other {n}"), 1)).await.expect("a tree");
        world.tree_suspended(&second, other.id()).await;
        world.advance(HOUR).await;
        within("another tree", other.result()).await.expect("a result");
    }
    for (tree, path) in [(alone, "/"), (beside, "/0")] {
        let claims = faults.claims().into_iter().filter(|claimed| *claimed == tree).count();
        let commits = faults.turns().into_iter().filter(|turn| turn.tree == tree).count();
        assert!(claims <= 2 && commits <= 2, "{path}: claimed {claims} times, committed {commits} times");
        let view = world.tree_until(&second, tree, |view| view.row.owner.is_none()).await;
        assert!(waits_on_operator(node(&view, path)), "{view:#?}");
    }

    // The sibling's sleep still counts.
    world.advance(HOUR * 1_000).await;
    world.tree_until(&second, beside, |view| promise(view, "/1") == Some(PromiseState::Resolved)).await;
}

#[sapwood::function(retry(attempts = 3, backoff = "1ms..1ms"))]
async fn fails_where_it_slept(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
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

/// R8: found at the return, whatever is returned: an error that could be tried again does not avoid it.
async fn code_that_differs_and_fails_parks_before_any_retry(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(fails_where_it_slept()).await.expect("a tree").id();
    let before = world.tree_suspended(&first, tree).await;
    let runs_before = app.count("runs");
    app.turn_on("changed");
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;

    let view =
        world.tree_until(&second, tree, |view| node(view, "/").parked.is_some() && view.row.owner.is_none()).await;
    let root = node(&view, "/");
    assert!(waits_on_operator(root), "{root:#?}");
    assert_eq!((root.promise, root.attempt), (PromiseState::Pending, 1), "no failure, and no attempt");
    assert!(root.timeline.iter().all(|(_, entry)| entry.kind != EntryKind::Retried), "{:#?}", root.timeline);
    assert!(root.timeline.starts_with(&node(&before, "/").timeline), "history stays whole");
    assert_eq!((app.count("runs") - runs_before, app.count("charges")), (1, 1), "seen by the first run");
}
