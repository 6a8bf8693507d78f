//! R: a re-execution reads what was recorded, does nothing twice, and finds out when the code has changed.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use sapwood::{Dependencies, prelude::*};
use sapwood_core::Path;
use sapwood_core::tree::{Phase, TreeState};
use sapwood_tests::engine::{Probe, Probing, World, node, tree_suspended, tree_until, until};
use sapwood_tests::faults::{Fault, Faults};
use serde_json::Value;

use super::{Probed, Trouble, once, outbox};

sapwood_tests::on_every_engine!(crate::engine::replay {
    a_child_s_identity_is_its_place_in_program_order,
    a_re_execution_returns_every_recorded_outcome_without_redoing_it,
    a_step_whose_result_is_durable_never_runs_again,
    a_step_whose_result_was_lost_runs_again_with_the_same_key,
    values_of_the_context_are_recorded,
    the_first_run_sees_what_a_replay_would_see,
    completions_come_in_the_order_they_were_recorded_on_every_replay,
    of_two_settled_calls_the_one_that_settled_first_is_ready,
    the_loser_of_a_race_is_the_same_on_every_replay,
    code_that_differs_from_the_record_parks_before_any_side_effect,
    code_that_skips_a_recorded_operation_parks,
    an_added_field_with_a_default_is_no_violation,
    awaiting_what_is_not_durable_parks,
    the_journal_is_read_once_an_activation_and_only_the_function_s_own,
    a_call_starts_when_written_and_a_step_when_polled,
    a_step_starts_only_after_what_was_recorded_before_is_durable,
});

const HOUR: Duration = Duration::from_secs(3_600);

// ---- R1 -------------------------------------------------------------------------------------------------------------

#[sapwood::function]
async fn fans_out(cx: &mut Cx<Probe>, name: String) -> Result<Vec<u32>, Trouble> {
    let calls: Vec<_> = (0..3).map(|n| cx.call(leaf(name.clone(), n))).collect();
    let mut all = Vec::new();
    for result in futures::future::join_all(calls).await {
        all.push(result?);
    }
    Ok(all)
}

#[sapwood::function]
async fn leaf(cx: &mut Cx<Probe>, name: String, n: u32) -> Result<u32, Trouble> {
    let app = cx.app();
    let gate = format!("{name} {n}");
    let step = async || {
        app.mark(&gate);
        app.pass(&gate).await;
        Ok::<_, Trouble>(n)
    };
    cx.step("work", step).await
}

/// R1: no clock, no process and no completion order takes part.
async fn a_child_s_identity_is_its_place_in_program_order(world: &World) {
    let app = Probe::new();
    let mut engine = world.launch(&app).await;
    for (name, order) in [("up", [0, 1, 2]), ("down", [2, 1, 0])] {
        let tree = engine.start(fans_out(name.to_owned())).await.expect("a tree").id();
        for (done, n) in order.into_iter().enumerate() {
            let gate = format!("{name} {n}");
            app.reached(&gate, 1).await;
            app.open(&gate, 1);
            let path = format!("/{n}");
            tree_until(&engine, tree, |view| node(view, &path).phase == Phase::Resolved).await;
            if name == "down" && done == 0 {
                engine = world.take_over(&engine, &app).await;
                for n in 0..2 {
                    // What was in flight on the dead worker waits there no more.
                    app.reached(&format!("down {n}"), 2).await;
                }
            }
        }
        assert_eq!(engine.attach::<fans_out>(tree).result().await.expect("a result"), [0, 1, 2]);
        let view = engine.tree(tree).await.expect("the store").expect("the tree");
        assert_eq!(view.nodes.len(), 4);
        for n in 0..3_u32 {
            let child = node(&view, &format!("/{n}"));
            let input: Value = serde_json::from_slice(&child.input).expect("JSON");
            assert_eq!((child.path.clone(), &input["n"]), (Path::root().child(n), &Value::from(n)));
        }
    }
}

// ---- R2, R3, R4 -----------------------------------------------------------------------------------------------------

#[sapwood::function]
async fn remembers(cx: &mut Cx<Probe>, input: String) -> Result<String, Trouble> {
    let app = cx.app();
    let good = cx.step("good", async || one(&app, "good")).await?;
    let bad = cx.step("bad", async || one(&app, "bad").and(Err::<usize, _>(Trouble::broken("bad")))).await;
    let child = cx.call(marks_child(true)).await?;
    let lost = cx.call(marks_child(false)).await;
    let pending = cx.call(sleeps(1));
    cx.emit(Probed { key: "remembers".to_owned() });
    let lost = lost.map_err(|error| error.to_string());
    let seen = format!("{input} {good} {bad:?} {child} {lost:?}");
    app.mark(format!("remembers: {seen}"));
    pending.await?;
    Ok(seen)
}

fn one(app: &Probe, what: &str) -> Result<usize, Trouble> {
    app.mark(what);
    Ok(app.count(what))
}

#[sapwood::function(retry(attempts = 1, backoff = "1ms..1ms"))]
async fn marks_child(cx: &mut Cx<Probe>, succeeds: bool) -> Result<usize, Trouble> {
    let app = cx.app();
    let name = format!("child {succeeds}");
    let done = cx.step("work", async || one(&app, &name)).await?;
    if succeeds { Ok(done) } else { Err(Trouble::broken("the child")) }
}

#[sapwood::function]
async fn sleeps(cx: &mut Cx<Probe>, hours: u32) -> Result<(), Trouble> {
    cx.app().mark("sleeps");
    cx.sleep(HOUR * 24 * hours).await;
    Ok(())
}

/// R2, R4: with the original input, successes and failures alike; the settled child is not invoked again, the pending
/// one not a second time, and nothing is emitted twice.
async fn a_re_execution_returns_every_recorded_outcome_without_redoing_it(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(remembers("input".to_owned())).await.expect("a tree").id();
    tree_suspended(&first, tree).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR * 24).await;
    let result = second.attach::<remembers>(tree).result().await.expect("a result");

    let runs = app.marks("remembers: ");
    assert_eq!(runs, [result.clone(), result.clone()], "both runs saw the same");
    assert!(result.starts_with("input 1 Err(Broken { what: \"bad\" }) 1 Err("), "{result}");
    assert_eq!(["good", "bad", "child true", "child false"].map(|what| app.count(what)), [1; 4]);
    let view = second.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!(view.nodes.len(), 4);
    assert_eq!(outbox(second.store().as_ref()).await.len(), 1);
    // The pending child was activated once, and once more to see the end of its sleep.
    assert_eq!(app.count("sleeps"), 2);
}

#[sapwood::function]
async fn pays(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.app();
    let key = cx.idempotency_key();
    cx.step("pay", async || one(&app, &format!("pays {key}")).map(drop)).await?;
    let key = cx.idempotency_key();
    cx.step("ship", async || one(&app, &format!("ships {key}")).map(drop)).await
}

/// Runs `pays` with a fault at the commit that records the payment; gives what happened, in order.
async fn pays_with(world: &World, fault: Fault) -> Vec<String> {
    let app = Probe::new();
    let (store, faults) = Faults::before(world.store().another().await);
    let first = world.launch_on(&app, store, world.options()).await;
    faults.kills(&first);
    // The start is no commit of the tree, and with nothing recorded the first step starts without one.
    faults.plan_next(fault);
    let tree = first.start(pays().id(format!("{fault:?}"))).await.expect("a tree").id();
    first.stopped().await;
    let second = world.take_over(&first, &app).await;
    second.attach::<pays>(tree).result().await.expect("a result");
    app.marks("").iter().map(|mark| mark.replace(&tree.to_string(), "tree")).collect()
}

/// R3: the worker dies right after the commit.
async fn a_step_whose_result_is_durable_never_runs_again(world: &World) {
    assert_eq!(pays_with(world, Fault::DiesAfter).await, ["pays tree:/0", "ships tree:/1"]);
}

/// R3: the worker dies between effect and record.
async fn a_step_whose_result_was_lost_runs_again_with_the_same_key(world: &World) {
    assert_eq!(pays_with(world, Fault::DiesBefore).await, ["pays tree:/0", "pays tree:/0", "ships tree:/1"]);
}

// ---- R5, R6 ---------------------------------------------------------------------------------------------------------

#[sapwood::function]
async fn draws(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let drawn = format!("{} {} {} {}", cx.now(), cx.random(), cx.random(), cx.uuid());
    cx.app().mark(format!("draws: {drawn}"));
    cx.sleep(HOUR).await;
    Ok(drawn)
}

/// R5: the clock, chance and identities replay.
async fn values_of_the_context_are_recorded(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(draws()).await.expect("a tree").id();
    tree_suspended(&first, tree).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    let result = second.attach::<draws>(tree).result().await.expect("a result");
    assert_eq!(app.marks("draws: "), [result.clone(), result.clone()]);
    let parts: Vec<&str> = result.split(' ').collect();
    assert_ne!(parts[1], parts[2], "two numbers are drawn");
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Lossy {
    kept: u32,
    #[serde(skip)]
    lost: u32,
}

#[sapwood::function]
async fn loses(cx: &mut Cx<Probe>, input: Lossy) -> Result<Vec<u32>, Trouble> {
    let step = cx.step("make", async || Ok::<_, Trouble>(Lossy { kept: 2, lost: 7 })).await?;
    let child = cx.call(loses_more(Lossy { kept: 3, lost: 7 })).await?;
    let seen = vec![input.kept, input.lost, step.kept, step.lost, child.kept, child.lost];
    cx.app().mark(format!("loses: {seen:?}"));
    Ok(seen)
}

#[sapwood::function]
async fn loses_more(_: &mut Cx<Probe>, input: Lossy) -> Result<Lossy, Trouble> {
    Ok(Lossy { kept: input.kept + input.lost, lost: 7 })
}

/// R6: the value after a round trip through serialization.
async fn the_first_run_sees_what_a_replay_would_see(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(loses(Lossy { kept: 1, lost: 7 })).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), [1, 0, 2, 0, 3, 0]);
    assert_eq!(app.marks("loses: ").len(), 1, "one run");
}

// ---- R7 -------------------------------------------------------------------------------------------------------------

#[sapwood::function]
async fn races(cx: &mut Cx<Probe>) -> Result<Vec<usize>, Trouble> {
    let app = cx.app();
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
    tree_suspended(&first, tree).await;
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
            view.nodes.iter().filter(|node| node.phase == Phase::Resolved).count() == done
        };
        tree_until(&engine, tree.id(), settled).await;
    }
    world.advance(HOUR).await;
    assert_eq!(tree.result().await.expect("a result"), "ffffffff");
}

#[sapwood::function]
async fn races_a_step(cx: &mut Cx<Probe>) -> Result<String, Trouble> {
    let app = cx.app();
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
    tree_suspended(&first, tree).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    assert_eq!(second.attach::<races_a_step>(tree).result().await.expect("a result"), "0 1");
    assert_eq!(app.marks("races a step: "), [r#"["0", "1"]"#; 2]);
    assert_eq!((app.count("slow"), app.count("fast 0"), app.count("fast 1")), (2, 1, 1));
}

// ---- R8, R9, R10 ----------------------------------------------------------------------------------------------------

/// The same context with other code.
struct Changed(Arc<Probe>);

impl Dependencies for Changed {
    type Context = Probing;
}

#[sapwood::function]
async fn changes(cx: &mut Cx<Probe>, how: String) -> Result<String, Trouble> {
    let app = cx.app();
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
    let (changing, sibling) = (cx.call(changes(how)), cx.call(sleeps(1)));
    let (changing, sibling) = tokio::join!(changing, sibling);
    sibling?;
    Ok(changing?)
}

#[sapwood::function(name = "changes")]
async fn changed(cx: &mut Cx<Changed>, how: String) -> Result<String, Trouble> {
    let app = Arc::clone(&cx.app().0);
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
    let (changing, sibling) = (cx.call(changed(how)), cx.call(still_sleeps(1)));
    let (changing, sibling) = tokio::join!(changing, sibling);
    sibling?;
    Ok(changing?)
}

#[sapwood::function(name = "sleeps")]
async fn still_sleeps(cx: &mut Cx<Changed>, hours: u32) -> Result<(), Trouble> {
    cx.sleep(HOUR * 24 * hours).await;
    Ok(())
}

/// A history of the first build, gone on with by the second; gives the changed child's violation.
async fn violation_of(world: &World, how: &str) -> Value {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(has_a_changing_child(how.to_owned())).await.expect("a tree").id();
    let before = tree_suspended(&first, tree).await;
    world.crash(&first).await;
    let second = world.launch(&Arc::new(Changed(Arc::clone(&app)))).await;
    world.bury(&first, &second).await;
    world.advance(HOUR).await;
    tree_until(&second, tree, |view| node(view, "/0").parked.is_some()).await;
    world.advance(HOUR * 24).await;
    // R9: the sibling goes on.
    let view = tree_until(&second, tree, |view| node(view, "/1").phase == Phase::Resolved).await;
    let view = if view.row.state == TreeState::Parked {
        view
    } else {
        tree_until(&second, tree, |view| view.row.state == TreeState::Parked).await
    };
    let (child, child_before) = (node(&view, "/0"), node(&before, "/0"));
    assert_eq!((child.phase, child.attempt), (Phase::Pending, 1), "no failure, and no attempt");
    assert!(child.timeline.starts_with(&child_before.timeline), "history stays whole");
    assert_eq!(node(&view, "/").phase, Phase::Pending);
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
        assert!(location.contains("engine/replay.rs:"), "{how}: {location}");
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
    tree_suspended(&first, tree).await;
    world.crash(&first).await;
    let second = world.launch(&Arc::new(Changed(Arc::clone(&app)))).await;
    world.bury(&first, &second).await;
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
    let view = tree_until(&engine, tree, |view| view.row.state == TreeState::Parked).await;
    let violation: Value = serde_json::from_slice(node(&view, "/").parked.as_ref().expect("parked")).expect("JSON");
    assert!(violation["asked"].as_str().is_some_and(|asked| asked.contains("not durable")), "{violation}");
    assert_eq!(node(&view, "/").attempt, 1);
}

// ---- R11, R12 -------------------------------------------------------------------------------------------------------

#[sapwood::function]
async fn is_long(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.app();
    app.mark("is_long");
    for n in 0..50_u32 {
        cx.step("short", async || Ok::<_, Trouble>(n)).await?;
    }
    let legs: Vec<_> = (0..5).map(|n| cx.call(marks_child(n < 10))).collect();
    futures::future::try_join_all(legs).await?;
    app.mark("is half done");
    cx.sleep(HOUR).await;
    for n in 0..50_u32 {
        cx.step("short", async || Ok::<_, Trouble>(n)).await?;
    }
    Ok(100)
}

/// R11: one read for the whole journal of the function, none for the settled children's.
async fn the_journal_is_read_once_an_activation_and_only_the_function_s_own(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(is_long()).await.expect("a tree").id();
    tree_suspended(&first, tree).await;
    world.crash(&first).await;
    let (store, faults) = Faults::before(world.store().another().await);
    let second = world.launch_on(&app, store, world.options()).await;
    world.bury(&first, &second).await;
    world.advance(HOUR).await;
    let activations = app.count("is_long");
    assert_eq!(second.attach::<is_long>(tree).result().await.expect("a result"), 100);
    assert_eq!(faults.loads(), [Path::root()]);
    assert!(app.count("is_long") <= activations + 1, "one activation read it");
    let image = second.store().invocation_load(tree, &Path::root()).await.expect("the store").expect("the root");
    assert_eq!((image.entries.len(), image.children.len()), (102, 5), "its own entries and its children's heads");
}

#[sapwood::function]
async fn begins(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.app();
    let call = cx.call(leaf("called".to_owned(), 0));
    let step = cx.step("polled late", || async { one(&app, "polled late").map(drop) });
    cx.sleep(HOUR).await;
    app.mark("slept");
    step.await?;
    call.await?;
    Ok(())
}

/// R12: the child runs although nobody has polled its handle; the step does not run before somebody does.
async fn a_call_starts_when_written_and_a_step_when_polled(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(begins()).await.expect("a tree");
    app.open("called 0", 1);
    tree_until(&engine, tree.id(), |view| {
        view.nodes.len() == 2 && node(view, "/0").phase == Phase::Resolved && view.row.state == TreeState::Suspended
    })
    .await;
    assert_eq!((app.count("called 0"), app.count("polled late")), (1, 0));
    world.advance(HOUR).await;
    tree.result().await.expect("a result");
    assert_eq!((app.count("called 0"), app.count("polled late")), (1, 1));
}

#[sapwood::function]
async fn records_first(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.app();
    let retried = async || {
        app.mark("retried");
        if app.count("retried") < 2 { Err(Trouble::busy("it")) } else { Ok(()) }
    };
    cx.emit(Probed { key: "first".to_owned() });
    let moment = Duration::from_millis(1);
    cx.step("retried", retried).retry(RetryPolicy::new(2, moment, moment)).await?;
    cx.call(steps_at_once()).await?;
    cx.step("last", async || one(&app, "last").map(drop)).retry(once()).await
}

#[sapwood::function]
async fn steps_at_once(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.app();
    cx.step("child's", async || one(&app, "child's").map(drop)).await
}

/// R12: first attempts and retries, the function's own and its child's. Every commit is held in turn, and while it is,
/// no side effect that rests on it begins.
async fn a_step_starts_only_after_what_was_recorded_before_is_durable(world: &World) {
    let app = Probe::new();
    let (store, faults) = Faults::before(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    faults.hold_all();
    let tree = engine.start(records_first().id("first")).await.expect("a tree").id();
    let mut held = 0;
    let mut begun = Vec::new();
    while begun.len() < 4 {
        held += 1;
        faults.held(held).await;
        // The store shows what is durable; the engine had all the time of these reads to run ahead of it.
        for _ in 0..5 {
            engine.tree(tree).await.expect("the store");
        }
        let effects = app.marks("");
        assert!(effects.len() <= begun.len() + 1, "at most one effect rests on what is durable now: {effects:?}");
        let durable = engine.tree(tree).await.expect("the store").expect("the tree");
        let recorded: usize = durable
            .nodes
            .iter()
            .flat_map(|node| &node.timeline)
            .filter(|(_, entry)| matches!(entry.kind.name(), "step_resolved" | "step_retried"))
            .count();
        assert!(effects.len() <= recorded + 1, "{effects:?} while {recorded} are recorded");
        if held == 1 {
            assert!(effects.is_empty(), "the event is not durable yet: {effects:?}");
        }
        begun = effects;
        faults.release();
    }
    faults.hold_none();
    engine.attach::<records_first>(tree).result().await.expect("a result");
    assert_eq!(app.marks(""), ["retried", "retried", "child's", "last"]);
    until("the tree is nobody's", async || engine.health().trees == 0).await;
}
