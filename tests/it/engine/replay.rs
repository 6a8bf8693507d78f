//! R1 to R6, R11, R12: a re-execution reads what was recorded, and does nothing twice.

use std::time::Duration;

use sapwood::prelude::*;
use sapwood_core::Path;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_tests::engine::{World, is_idle, node};
use sapwood_tests::faults::Fault;
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::outbox;
use serde_json::Value;

use super::{HOUR, Probed, Trouble, leaf, once, one};

sapwood_tests::on_every_engine!(crate::engine::replay {
    a_child_s_identity_is_its_place_in_program_order,
    a_re_execution_returns_every_recorded_outcome_without_redoing_it,
    a_step_whose_result_is_durable_never_runs_again,
    a_step_whose_result_was_lost_runs_again_with_the_same_key,
    values_of_the_context_are_recorded,
    the_first_run_sees_what_a_replay_would_see,
    the_journal_is_read_once_an_activation_and_only_the_function_s_own,
    a_call_starts_when_written_and_a_step_when_polled,
    a_step_starts_only_after_what_was_recorded_before_is_durable,
});

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
            world.tree_until(&engine, tree, |view| node(view, &path).promise == PromiseState::Resolved).await;
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
    let app = cx.dependencies();
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

#[sapwood::function(retry(attempts = 1, backoff = "1ms..1ms"))]
async fn marks_child(cx: &mut Cx<Probe>, succeeds: bool) -> Result<usize, Trouble> {
    let app = cx.dependencies();
    let name = format!("child {succeeds}");
    let done = cx.step("work", async || one(&app, &name)).await?;
    if succeeds { Ok(done) } else { Err(Trouble::broken("the child")) }
}

#[sapwood::function]
async fn sleeps(cx: &mut Cx<Probe>, hours: u32) -> Result<(), Trouble> {
    cx.dependencies().mark("sleeps");
    cx.sleep(HOUR * 24 * hours).await;
    Ok(())
}

/// R2, R4: with the original input, successes and failures alike; the settled child is not invoked again, the pending
/// one not a second time, and nothing is emitted twice.
async fn a_re_execution_returns_every_recorded_outcome_without_redoing_it(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(remembers("input".to_owned())).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
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
    let app = cx.dependencies();
    let key = cx.idempotency_key();
    cx.step("pay", async || one(&app, &format!("pays {key}")).map(drop)).await?;
    let key = cx.idempotency_key();
    cx.step("ship", async || one(&app, &format!("ships {key}")).map(drop)).await
}

/// Runs `pays` with a fault at the commit that records the payment; gives what happened, in order.
async fn pays_with(world: &World, fault: Fault) -> Vec<String> {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
    let first = world.launch_on(&app, store, world.options()).await;
    faults.kills(&first);
    // The start does not count as a commit of the tree, and with nothing recorded the first step starts without one.
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
    cx.dependencies().mark(format!("draws: {drawn}"));
    cx.sleep(HOUR).await;
    Ok(drawn)
}

/// R5: the clock, chance and identities replay.
async fn values_of_the_context_are_recorded(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let tree = first.start(draws()).await.expect("a tree").id();
    world.tree_suspended(&first, tree).await;
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
    cx.dependencies().mark(format!("loses: {seen:?}"));
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

// ---- R11, R12 -------------------------------------------------------------------------------------------------------

#[sapwood::function]
async fn is_long(cx: &mut Cx<Probe>) -> Result<u32, Trouble> {
    let app = cx.dependencies();
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
    world.tree_suspended(&first, tree).await;
    let activations = app.count("is_long");
    let (second, faults) = world.take_over_with_faults(&first, &app, |_| {}).await;
    world.advance(HOUR).await;
    assert_eq!(second.attach::<is_long>(tree).result().await.expect("a result"), 100);
    assert_eq!(faults.loads(), [Path::root()]);
    assert!(app.count("is_long") <= activations + 1, "one activation read it");
    let image = second.store().invocation_load(tree, &Path::root()).await.expect("the store").expect("the root");
    assert_eq!((image.entries.len(), image.children.len()), (102, 5), "its own entries and its children's heads");
}

#[sapwood::function]
async fn begins(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let call = cx.call(leaf("called".to_owned(), 0));
    let step = cx.step("polled late", || async { one(&app, "polled late").map(drop) });
    cx.sleep(HOUR).await;
    app.mark("slept");
    step.await?;
    call.await?;
    Ok(())
}

/// R12: the child runs although its handle was never polled; the step does not run before its own is.
async fn a_call_starts_when_written_and_a_step_when_polled(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let tree = engine.start(begins()).await.expect("a tree");
    app.open("called 0", 1);
    world
        .tree_until(&engine, tree.id(), |view| {
            view.nodes.len() == 2
                && node(view, "/0").promise == PromiseState::Resolved
                && view.row.state == TreeState::Suspended
        })
        .await;
    assert_eq!((app.count("called 0"), app.count("polled late")), (1, 0));
    world.advance(HOUR).await;
    tree.result().await.expect("a result");
    assert_eq!((app.count("called 0"), app.count("polled late")), (1, 1));
}

#[sapwood::function]
async fn records_first(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    let app = cx.dependencies();
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
    let app = cx.dependencies();
    cx.step("child's", async || one(&app, "child's").map(drop)).await
}

/// R12: first attempts and retries, the function's own and its child's. Every commit is held in turn, and while it is,
/// no side effect that rests on it begins.
async fn a_step_starts_only_after_what_was_recorded_before_is_durable(world: &World) {
    let app = Probe::new();
    let (store, faults) = with_faults(world.store().another().await);
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
    is_idle(&engine).await;
}
