//! T1: an author's SQL and the journal entry are one commit.

use std::sync::Arc;

use sapwood::ResultError;
use sapwood_core::journal::EntryKind;
use sapwood_core::tree::TreeState;
use sapwood_core::{CallError, TreeId};
use sapwood_engine::{Effect, Engine, TreeView};
use sapwood_tests::engine::{World, node};
use sapwood_tests::faults::Fault;
use sapwood_tests::front::with_faults;
use sapwood_tests::wait::within;

use super::{Ledger, LedgerError, entries, ledger_of};
use crate::engine::HOUR;

super::on_each_database!(crate::engine::transactions::cases {
    what_is_written_and_that_it_is_are_one_commit,
    an_error_rolls_back_what_was_written,
    a_transient_error_is_tried_again_from_nothing,
    what_the_database_refuses_is_an_error_of_the_step,
    transactions_stand_beside_everything_else,
    a_crash_at_any_commit_writes_nothing_twice_and_loses_nothing,
    a_cancelled_step_writes_nothing,
    a_step_past_its_deadline_writes_nothing,
    a_worker_that_was_declared_dead_writes_nothing,
    a_tree_that_is_changed_meanwhile_writes_once,
    an_attempt_that_takes_too_long_is_rolled_back,
});

/// The error of a tree that ends with one of its own.
async fn error_of<L: Ledger>(engine: &Engine, tree: TreeId) -> LedgerError {
    match engine.attach::<L::Writes>(tree).result().await {
        Err(ResultError::Call(CallError::Failed { error, .. })) => error,
        other => panic!("it ends otherwise: {other:?}"),
    }
}

/// Waits until a tree is closed.
async fn closes(world: &World, engine: &Engine, tree: TreeId) -> TreeView {
    world.tree_until(engine, tree, |view| view.row.is_closed()).await
}

async fn what_is_written_and_that_it_is_are_one_commit<L: Ledger>(world: &World) {
    let app = ledger_of::<L>(world).await;
    let (store, faults) = with_faults(world.store().another().await);
    let engine = world.launch_on(&app, store, world.options()).await;
    let tree = engine.start(L::writes("plainly")).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), 7);
    assert_eq!((entries(world, app.as_ref(), "plainly").await, app.probe().count("ran")), (1, 1));
    let kinds: Vec<_> = faults.turns().iter().flat_map(|turn| &turn.entries).map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::StepResolved], "a transactional step has no entry of its own");
}

async fn an_error_rolls_back_what_was_written<L: Ledger>(world: &World) {
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes("fails")).await.expect("a tree").id();
    assert_eq!(error_of::<L>(&engine, tree).await, LedgerError::Refused { what: "it".to_owned() });
    assert_eq!((entries(world, app.as_ref(), "fails").await, app.probe().count("ran")), (0, 1));
}

async fn a_transient_error_is_tried_again_from_nothing<L: Ledger>(world: &World) {
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes("fails twice")).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), 7);
    assert_eq!((entries(world, app.as_ref(), "fails twice").await, app.probe().count("ran")), (1, 3));
}

async fn what_the_database_refuses_is_an_error_of_the_step<L: Ledger>(world: &World) {
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes("breaks a constraint")).await.expect("a tree").id();
    let error = error_of::<L>(&engine, tree).await;
    assert!(matches!(&error, LedgerError::Database { says } if says.to_lowercase().contains("unique")), "{error}");
    assert_eq!(entries(world, app.as_ref(), "breaks a constraint").await, 0);
}

/// What the larger function enters, and what it gives.
const ENTRIES: [&str; 6] = ["first", "a", "b", "c", "d", "last"];
const WORKED: &str = "1 1 1 1 1 1 1";

async fn transactions_stand_beside_everything_else<L: Ledger>(world: &World) {
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let trees = engine.start(L::works()).await.expect("a tree");
    assert_eq!(within("a result", trees.result()).await.expect("a result"), WORKED);
    for entry in ENTRIES {
        assert_eq!(entries(world, app.as_ref(), entry).await, 1, "{entry}");
    }
}

/// C5, R3: whatever dies, or is lost, in whichever commit.
async fn a_crash_at_any_commit_writes_nothing_twice_and_loses_nothing<L: Ledger>(world: &World) {
    let app = ledger_of::<L>(world).await;
    for fault in [Fault::LostBefore, Fault::LostAfter, Fault::DiesBefore, Fault::DiesAfter] {
        for commit in 1.. {
            world.store().execute(&format!("delete from {}", app.ledger())).await;
            if !works_with::<L>(world, &app, commit, fault).await {
                break;
            }
        }
    }
}

/// A run with a fault at its `commit`-th commit. Whether it had so many.
async fn works_with<L: Ledger>(world: &World, app: &Arc<L>, commit: usize, fault: Fault) -> bool {
    let (store, faults) = with_faults(world.store().store());
    let first = world.launch_on(app, store, world.options()).await;
    faults.kills(&first);
    faults.plan(commit, fault);
    let tree = first.start(L::works().id(format!("{fault:?}-{commit}"))).await.expect("a tree").id();
    let watched = first.attach::<L::Works>(tree);
    let told = format!("a result: {fault:?} at commit {commit}");
    let result = tokio::select! {
        _ = first.stopped() => {
            world.crash(&first).await;
            let second = world.launch_on(app, world.store().store(), world.options()).await;
            let result = within(&told, second.attach::<L::Works>(tree).result()).await;
            world.crash(&second).await;
            result
        }
        result = within(&told, watched.result()) => result,
    };
    assert_eq!(result.expect("a result"), WORKED, "{fault:?} at commit {commit}");
    for entry in ENTRIES {
        assert_eq!(entries(world, app.as_ref(), entry).await, 1, "{entry}: {fault:?} at commit {commit}");
    }
    world.crash(&first).await;
    faults.commits() >= commit
}

/// A tree whose step waits in its transaction.
async fn waits<L: Ledger>(world: &World) -> (Arc<L>, Engine, TreeId) {
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes("waits").deadline(HOUR)).await.expect("a tree").id();
    app.probe().reached("ran", 1).await;
    (app, engine, tree)
}

/// Opens the gate if the database has one writer: whatever else writes waits for the transaction then.
fn lets_others_write<L: Ledger>(world: &World, app: &L) {
    if world.store().file().is_some() {
        app.probe().open("gate", 1);
    }
}

/// What is written is what is recorded; nothing, if the transaction was still open.
async fn is_consistent<L: Ledger>(world: &World, app: &L, view: &TreeView) {
    let written = entries(world, app, "waits").await;
    let recorded = node(view, "/").timeline.iter().filter(|(_, entry)| entry.kind == EntryKind::StepResolved).count();
    assert_eq!(written, i64::try_from(recorded).expect("few"));
    assert!(written == 0 || world.store().file().is_some(), "it was rolled back");
}

/// K4: nothing of it was.
async fn a_cancelled_step_writes_nothing<L: Ledger>(world: &World) {
    let (app, engine, tree) = waits::<L>(world).await;
    let cancels = engine.attach::<L::Writes>(tree).cancel("no longer wanted").into_future();
    let (effect, ()) = tokio::join!(cancels, async { lets_others_write(world, app.as_ref()) });
    app.probe().open("gate", 1);
    let view = closes(world, &engine, tree).await;
    match effect.expect("it is taken") {
        Effect::Accepted => assert_eq!(view.row.state, TreeState::Cancelled),
        Effect::None(why) => assert!(world.store().file().is_some(), "{why}"),
    }
    is_consistent(world, app.as_ref(), &view).await;
}

/// D2: nothing of it was.
async fn a_step_past_its_deadline_writes_nothing<L: Ledger>(world: &World) {
    let (app, engine, tree) = waits::<L>(world).await;
    tokio::join!(world.advance(2 * HOUR), async { lets_others_write(world, app.as_ref()) });
    let view = closes(world, &engine, tree).await;
    assert!(view.row.state == TreeState::TimedOut || world.store().file().is_some(), "{:?}", view.row.state);
    app.probe().open("gate", 1);
    is_consistent(world, app.as_ref(), &view).await;
}

/// C1, C2: what a dead worker's author writes goes with its turn.
async fn a_worker_that_was_declared_dead_writes_nothing<L: Ledger>(world: &World) {
    let (app, first, tree) = waits::<L>(world).await;
    let second = world.launch(&app).await;
    let survives = async {
        world.bury(&first, &second).await;
        app.probe().open("gate", 10);
        second.attach::<L::Writes>(tree).result().await
    };
    // On SQLite the burial waits for the transaction, and the transaction for the gate.
    let (result, ()) = tokio::join!(survives, async { lets_others_write(world, app.as_ref()) });
    assert_eq!(result.expect("a result"), 7);
    assert_eq!(entries(world, app.as_ref(), "waits").await, 1);
}

/// W2: a turn that is refused takes the author's SQL with it, and the step runs again.
async fn a_tree_that_is_changed_meanwhile_writes_once<L: Ledger>(world: &World) {
    let (app, engine, tree) = waits::<L>(world).await;
    let handle = engine.attach::<L::Writes>(tree);
    let effect = handle.resume("it is not parked").await.expect("an answer");
    assert!(matches!(effect, Effect::None(_)), "{effect:?}");
    world.store().execute("update tree set control = control + 1").await;
    app.probe().open("gate", 2);
    assert_eq!(within("a result", handle.result()).await.expect("a result"), 7);
    assert_eq!((entries(world, app.as_ref(), "waits").await, app.probe().count("ran")), (1, 2));
}

async fn an_attempt_that_takes_too_long_is_rolled_back<L: Ledger>(world: &World) {
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes("takes too long")).await.expect("a tree").id();
    let error = error_of::<L>(&engine, tree).await;
    assert!(error.to_string().contains("timed out"), "{error}");
    assert_eq!(entries(world, app.as_ref(), "takes too long").await, 0);
}
