//! A2: limits of a tree. Past one, the offending operation fails by name.

use std::time::Duration;

use sapwood::Limits;
use sapwood::prelude::*;
use sapwood_core::failure::CallFailureKind;
use sapwood_engine::{EngineOptions, FindingView, ResultError};
use sapwood_tests::engine::{World, is_idle, node};
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;

use super::{HOUR, Probed, Trouble, dozes, quick};

sapwood_tests::on_every_engine!(crate::engine::guards {
    a_tree_has_a_depth,
    an_invocation_has_a_fan_out,
    a_tree_has_a_number_of_nodes,
    an_invocation_has_a_number_of_entries,
    a_recorded_value_has_a_size,
    an_event_has_a_size,
    within_the_limits_nothing_is_refused,
    each_attempt_of_a_step_is_an_entry,
    what_a_dropped_handle_will_not_record_is_no_entry,
    the_name_of_an_operation_has_a_size,
    a_message_is_recorded_in_brief,
    a_poll_writes_a_bounded_number_of_bytes,
    what_ends_in_one_poll_is_cut_into_turns_of_a_bounded_size,
    near_a_limit_it_is_found_once,
});

#[sapwood::function(retry(attempts = 3, backoff = "1ms..1ms"))]
async fn bounded(cx: &mut Cx<Probe>, what: String, size: usize) -> Result<usize, Trouble> {
    let app = cx.dependencies();
    app.mark("bounded");
    match what.as_str() {
        "depth" if size == 0 => return Ok(0),
        "depth" => return Ok(cx.call(bounded(what, size - 1)).await? + 1),
        "fan-out" | "nodes" => {
            let calls: Vec<_> = (0..size).map(|n| cx.call(bounded_child(n % 10))).collect();
            return Ok(futures::future::try_join_all(calls).await?.len());
        }
        "entries" => {
            for _ in 0..size {
                cx.step("one of many", async || Ok::<_, Trouble>(())).await?;
            }
        }
        "input" => return Ok(cx.call(bounded_by_bytes("x".repeat(size))).await?.len()),
        "step" => drop(cx.step("large", async || Ok::<_, Trouble>("x".repeat(size))).await?),
        "event" => cx.emit(Probed { key: "x".repeat(size) }),
        other => unreachable!("{other}"),
    }
    app.mark("went on");
    Ok(size)
}

#[sapwood::function]
async fn bounded_child(_: &mut Cx<Probe>, n: usize) -> Result<usize, Trouble> {
    Ok(n)
}

#[sapwood::function]
async fn bounded_by_bytes(_: &mut Cx<Probe>, text: String) -> Result<String, Trouble> {
    Ok(text)
}

#[sapwood::function]
async fn returns_bytes(_: &mut Cx<Probe>, size: usize) -> Result<String, Trouble> {
    Ok("x".repeat(size))
}

fn limits() -> Limits {
    Limits { depth: 3, nodes: 12, fan_out: 8, entries: 10, payload_bytes: 500, event_bytes: 2_000, poll_bytes: 5_000 }
}

/// How a root ends that goes so far; with how often its body ran.
async fn goes_to(world: &World, limits: Limits, what: &str, size: usize) -> (Result<usize, String>, usize) {
    let app = Probe::new();
    let engine = world.launch_with(&app, EngineOptions { limits, ..world.options() }).await;
    let result = match engine.start(bounded(what.to_owned(), size)).await.expect("a tree").result().await {
        Ok(size) => Ok(size),
        Err(ResultError::Call(CallError::Ended(failure))) => match failure.kind {
            CallFailureKind::Limit { message } => Err(message),
            other => panic!("{other:?}"),
        },
        Err(ResultError::Call(CallError::Failed { error: Trouble::Call(failure), .. })) => match failure.kind {
            CallFailureKind::Limit { message } => Err(format!("{} at {}: {message}", failure.function, failure.path)),
            other => panic!("{other:?}"),
        },
        Err(other) => panic!("{other:?}"),
    };
    let runs = app.count("bounded");
    assert_eq!(
        app.count("went on"),
        usize::from(result.is_ok() && !matches!(what, "depth" | "fan-out" | "nodes" | "input"))
    );
    (result, runs)
}

/// A2: the call that would go deeper fails, and its caller gets the error; nothing is tried again.
async fn a_tree_has_a_depth(world: &World) {
    let (result, runs) = goes_to(world, limits(), "depth", 4).await;
    let message = "bounded@1 at /0/0/0: call bounded: depth would be 4, the limit is 3";
    assert_eq!(result.expect_err("too deep"), message);
    // Each of the three callers that waited is activated once more if bodies are evicted.
    assert_eq!(runs, if world.evicts() { 7 } else { 4 });
}

/// A2: fan-out.
async fn an_invocation_has_a_fan_out(world: &World) {
    let limits = Limits { fan_out: 5, ..limits() };
    let (result, runs) = goes_to(world, limits, "fan-out", 6).await;
    assert_eq!(result.expect_err("too wide"), "call bounded_child: fan-out would be 6, the limit is 5");
    assert_eq!(runs, 1);
}

/// A2: the nodes of the whole tree.
async fn a_tree_has_a_number_of_nodes(world: &World) {
    let limits = Limits { nodes: 5, ..limits() };
    let (result, runs) = goes_to(world, limits, "nodes", 5).await;
    assert_eq!(result.expect_err("too many"), "call bounded_child: nodes would be 6, the limit is 5");
    assert_eq!(runs, 1);
}

/// A2: entries of one invocation.
async fn an_invocation_has_a_number_of_entries(world: &World) {
    let (result, runs) = goes_to(world, limits(), "entries", 11).await;
    assert_eq!(result.expect_err("too long"), "step one of many: entries would be 11, the limit is 10");
    assert_eq!(runs, 1);
}

/// A2: inputs, results of steps and of functions, and what a start brings.
async fn a_recorded_value_has_a_size(world: &World) {
    let (result, _) = goes_to(world, limits(), "input", 600).await;
    let bytes = 600 + r#"{"text":""}"#.len();
    let message = format!("call bounded_by_bytes: payload bytes would be {bytes}, the limit is 500");
    assert_eq!(result.expect_err("too large"), message);
    let (result, _) = goes_to(world, limits(), "step", 600).await;
    assert_eq!(result.expect_err("too large"), "step large: payload bytes would be 602, the limit is 500");

    let app = Probe::new();
    let engine = world.launch_with(&app, EngineOptions { limits: limits(), ..world.options() }).await;
    let tree = engine.start(returns_bytes(600)).await.expect("a tree");
    let error = tree.result().await.expect_err("too large").to_string();
    assert!(error.contains("return: payload bytes would be 602, the limit is 500"), "{error}");
    let error = engine.start(bounded("x".repeat(600), 1)).await.err().expect("too large");
    assert_eq!(error.code(), "payload_too_large");
    let view = engine.tree(tree.id()).await.expect("the store").expect("the tree");
    assert_eq!(node(&view, "/").attempt, 1);
}

/// A2: an event, with its key and headers.
async fn an_event_has_a_size(world: &World) {
    let (result, runs) = goes_to(world, limits(), "event", 700).await;
    let message = result.expect_err("too large");
    assert!(message.starts_with("emit probing.probed.v1: event bytes would be "), "{message}");
    assert_eq!(runs, 1);
}

/// A2: a limit is what is allowed.
async fn within_the_limits_nothing_is_refused(world: &World) {
    for (what, size) in [("depth", 3), ("fan-out", 8), ("entries", 10), ("input", 450), ("step", 450), ("event", 500)] {
        let (result, _) = goes_to(world, limits(), what, size).await;
        assert_eq!(result, Ok(size), "{what}");
    }
    let (result, _) = goes_to(world, Limits { nodes: 6, ..limits() }, "nodes", 5).await;
    assert_eq!(result, Ok(5));
}

#[sapwood::function(retry(attempts = 1, backoff = "1ms..1ms"))]
async fn tries_often(cx: &mut Cx<Probe>, attempts: u32) -> Result<(), Trouble> {
    let app = cx.dependencies();
    let step = async || {
        app.mark("tries");
        Err::<(), _>(Trouble::busy("it"))
    };
    cx.step("try", step).retry(quick(attempts)).await
}

/// A2: the tries of one step are entries like those of many.
async fn each_attempt_of_a_step_is_an_entry(world: &World) {
    let app = Probe::new();
    let engine = world.launch_with(&app, EngineOptions { limits: limits(), ..world.options() }).await;
    let tree = engine.start(tries_often(40)).await.expect("a tree");
    let error = tree.result().await.expect_err("too many").to_string();
    assert!(error.contains("step try: entries would be 11, the limit is 10"), "{error}");
    assert_eq!(app.count("tries"), 10, "the tenth attempt is the last: one entry each, and none for another");
    // One entry for its result, and nine for the attempts before it.
    let within = engine.start(tries_often(10)).await.expect("a tree").result().await;
    assert!(
        matches!(&within, Err(ResultError::Call(CallError::Exhausted { error: Trouble::Busy { .. }, .. }))),
        "{within:?}"
    );
}

/// Loses one of two handles, again and again.
#[sapwood::function]
async fn races_often(cx: &mut Cx<Probe>, loser: String, races: usize) -> Result<usize, Trouble> {
    for _ in 0..races {
        let soon = Duration::from_millis(1);
        match loser.as_str() {
            "sleep" => {
                let (sleep, step) = (cx.sleep(HOUR), cx.step("wins", async || Ok::<_, Trouble>(())));
                tokio::select! { () = sleep => {}, step = step => step? }
            }
            "step" => {
                let (sleep, step) = (cx.sleep(soon), cx.step("loses", std::future::pending::<Result<(), Trouble>>));
                tokio::select! { () = sleep => {}, step = step => step? }
            }
            "call" => {
                let (call, step) =
                    (cx.call(dozes("loser".to_owned(), 1)), cx.step("wins", async || Ok::<_, Trouble>(())));
                tokio::select! { call = call => call?, step = step => step? }
            }
            other => unreachable!("{other}"),
        }
    }
    Ok(races)
}

/// A2: each race has three entries, or two of a call, and exactly so many races fit; also if a replay counts them.
async fn what_a_dropped_handle_will_not_record_is_no_entry(world: &World) {
    let limits = Limits { entries: 60, ..Limits::default() };
    for (loser, entries) in [("sleep", 3), ("step", 3), ("call", 2)] {
        let app = Probe::new();
        let engine = world.launch_with(&app, EngineOptions { limits, ..world.options() }).await;
        let fits = 60 / entries;
        let within = engine.start(races_often(loser.to_owned(), fits)).await.expect("a tree");
        let has_ended = |view: &sapwood_engine::TreeView| node(view, "/").outcome.is_some();
        let view = world.tree_until(&engine, within.id(), has_ended).await;
        let found = node(&view, "/").timeline.len();
        // The end of the body ends what the last race lost.
        assert!(found == fits * entries || found + 1 == fits * entries, "{loser}: {found}");
        let beyond = engine.start(races_often(loser.to_owned(), fits + 1)).await.expect("a tree");
        world.tree_until(&engine, beyond.id(), has_ended).await;
        // What was called goes on until then.
        world.advance(HOUR).await;
        assert_eq!(within.result().await.expect("within the limit"), fits, "{loser}");
        let error = beyond.result().await.expect_err("too many").to_string();
        assert!(error.contains("entries would be 6") && error.contains("the limit is 60"), "{loser}: {error}");
        world.crash(&engine).await;
    }
}

/// A text of so many bytes, three in each character.
fn long(bytes: usize) -> String {
    "\u{ffff}".repeat(bytes / 3)
}

/// An error that says more than it is.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
enum Wordy {
    #[error("{}", long(*bytes))]
    #[retry]
    Again { bytes: usize },
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

/// Says so much, in the way that `how` says.
#[sapwood::function(retry(attempts = 2, backoff = "1ms..1ms"))]
async fn says_much(cx: &mut Cx<Probe>, how: String, bytes: usize) -> Result<usize, Wordy> {
    let text = || long(bytes);
    match how.as_str() {
        "name" => drop(cx.step(&text(), async || Ok::<_, Wordy>(())).await?),
        "panic" => panic!("{}", text()),
        "panic in a step" => cx.step("panics", async || -> Result<(), Wordy> { panic!("{}", text()) }).await?,
        "error" => {
            let _ = cx.random();
            return Err(Wordy::Again { bytes });
        }
        "error in a step" => cx.step("errs", async || Err::<(), _>(Wordy::Again { bytes })).retry(quick(2)).await?,
        other => unreachable!("{other}"),
    }
    Ok(bytes)
}

/// A2: what a step is called goes into each of its entries.
async fn the_name_of_an_operation_has_a_size(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let within = engine.start(says_much("name".to_owned(), 1_023)).await.expect("a tree");
    assert_eq!(within.result().await.expect("within the limit"), 1_023);
    for bytes in [1_026, 3_000_000] {
        let tree = engine.start(says_much("name".to_owned(), bytes)).await.expect("a tree");
        let error = tree.result().await.expect_err("too long").to_string();
        let expected = format!("bytes of the name would be {bytes}, the limit is 1024");
        assert!(error.contains(&expected) && error.len() < 10_000, "{} bytes", error.len());
    }
}

/// A2: whatever an author's panic or error says, an entry or an outcome has no more than its beginning.
async fn a_message_is_recorded_in_brief(world: &World) {
    for how in ["panic", "panic in a step", "error", "error in a step"] {
        let app = Probe::new();
        let engine = world.launch(&app).await;
        let tree = engine.start(says_much(how.to_owned(), 3_000_000)).await.expect("a tree").id();
        let is_over = |view: &sapwood_engine::TreeView| {
            let root = node(view, "/");
            root.settled_at.is_some() || root.parked.is_some()
        };
        let view = world.tree_until(&engine, tree, is_over).await;
        let root = node(&view, "/");
        let entries: Vec<_> = root.timeline.iter().map(|(_, entry)| entry.payload.len()).collect();
        let last = root.parked.as_ref().or(root.outcome.as_ref()).expect("it has ended");
        assert!(entries.iter().chain([&last.len()]).all(|bytes| *bytes < 17_000), "{how}: {entries:?} {}", last.len());
        assert!(!entries.is_empty(), "{how}");
        let text = String::from_utf8_lossy(last).into_owned();
        assert!(text.contains("(3000000 bytes in all)"), "{how}: {text}");
        world.crash(&engine).await;
    }
}

#[sapwood::function]
async fn writes_at_once(cx: &mut Cx<Probe>, calls: usize, pause: bool) -> Result<usize, Trouble> {
    let mut open = Vec::new();
    for _ in 0..calls {
        open.push(cx.call(bounded_by_bytes("x".repeat(400))));
        if pause {
            cx.step("pause", async || Ok::<_, Trouble>(())).await?;
        }
    }
    Ok(futures::future::try_join_all(open).await?.len())
}

/// A2: what is written between two awaits goes into one commit, and has a size.
async fn a_poll_writes_a_bounded_number_of_bytes(world: &World) {
    let app = Probe::new();
    let limits = Limits { nodes: 100, fan_out: 100, entries: 100, poll_bytes: 5_000, ..limits() };
    let engine = world.launch_with(&app, EngineOptions { limits, ..world.options() }).await;
    let tree = engine.start(writes_at_once(20, false)).await.expect("a tree");
    let error = tree.result().await.expect_err("too much").to_string();
    let bytes = 13 * (400 + r#"{"text":""}"#.len());
    let expected = format!("call bounded_by_bytes: bytes of one poll would be {bytes}, the limit is 5000");
    assert!(error.contains(&expected), "{error}");
    assert_eq!(engine.start(writes_at_once(20, true)).await.expect("a tree").result().await.expect("a result"), 20);
}

#[sapwood::function]
async fn ends_much_at_once(cx: &mut Cx<Probe>, steps: usize) -> Result<usize, Trouble> {
    let app = cx.dependencies();
    let large = || async {
        app.mark("at work");
        app.pass("large").await;
        Ok::<_, Trouble>("x".repeat(1_000_000))
    };
    let steps: Vec<_> = (0..steps).map(|_| cx.step("large", large)).collect();
    let all = futures::future::try_join_all(steps).await?;
    app.mark("all ended");
    cx.sleep(HOUR).await;
    Ok(all.iter().map(String::len).sum())
}

/// A2: results that come at once, in the poll in which their steps begin or in a later one, are committed one turn after
/// another, and none of them is lost.
async fn what_ends_in_one_poll_is_cut_into_turns_of_a_bounded_size(world: &World) {
    const STEPS: usize = 20;
    const LARGEST: usize = 10_000_000;
    for begins_open in [true, false] {
        let app = Probe::new();
        let (store, faults) = with_faults(world.store().another().await);
        let engine = world.launch_on(&app, store, world.options()).await;
        if begins_open {
            app.open("large", STEPS);
        }
        let tree = engine.start(ends_much_at_once(STEPS)).await.expect("a tree");
        app.reached("at work", STEPS).await;
        if !begins_open {
            app.open("large", STEPS);
        }
        app.reached("all ended", 1).await;
        is_idle(&engine).await;
        let sizes: Vec<usize> =
            faults.turns().iter().map(|turn| turn.entries.iter().map(|(_, entry)| entry.payload.len()).sum()).collect();
        assert!(sizes.iter().all(|size| *size < LARGEST), "{begins_open}: {sizes:?}");
        assert!(sizes.iter().sum::<usize>() >= STEPS * 1_000_000, "{begins_open}: {sizes:?}");
        world.advance(HOUR).await;
        assert_eq!(tree.result().await.expect("a result"), STEPS * 1_000_000);
        world.crash(&engine).await;
    }
}

/// A2: from four fifths of a limit on, once for each limit: it is seen in the tree, and logged once for the function.
async fn near_a_limit_it_is_found_once(world: &World) {
    for (what, size, expected) in [
        ("depth", 3, "depth"),
        ("fan-out", 8, "fan-out"),
        ("nodes", 10, "nodes"),
        ("entries", 9, "entries"),
        ("input", 450, "payload bytes"),
        ("event", 500, "event bytes"),
    ] {
        let app = Probe::new();
        let limits = if what == "nodes" { Limits { fan_out: 50, ..limits() } } else { limits() };
        let engine = world.launch_with(&app, EngineOptions { limits, ..world.options() }).await;
        let tree = engine.start(bounded(what.to_owned(), size)).await.expect("a tree");
        tree.result().await.expect("within the limits");
        let view = engine.tree(tree.id()).await.expect("read").expect("there");
        let found: Vec<_> = view.nodes.iter().flat_map(|node| &node.findings).collect();
        let about = |found: &&&FindingView| found.code == "near_limit" && found.message.ends_with(expected);
        assert_eq!(found.iter().filter(about).count(), 1, "{what}: {found:?}");
    }
}
