//! What a transactional step must not do, and what it may: each has its answer, and nothing is half done.

use std::sync::Arc;

use sapwood::{Engine, ResultError, Transaction};
use sapwood_core::CallError;
use sapwood_core::store::Database;
use sapwood_core::tree::TreeState;
use sapwood_engine::EngineError;
use sapwood_tests::engine::{World, node};
use sapwood_tests::probe::Probe;

use super::{Ledger, LedgerError, Sql, entries, insert, ledger_of, on_postgres, on_sqlite};

super::on_each_database!(crate::engine::transactions::misuses {
    a_transaction_that_is_ended_by_hand_is_named,
    an_error_that_is_passed_over_is_named,
    what_the_engine_owns_is_not_written,
    a_transaction_that_is_kept_is_named,
    a_transaction_may_be_nested,
    a_deferred_constraint_is_checked_before_the_commit,
    a_store_of_the_other_kind_is_refused_at_the_start,
});

/// What an author does besides, by name.
pub(super) async fn go_on<L: Ledger>(
    mut tx: Transaction<L::Database>,
    app: &Arc<L>,
    how: &str,
) -> Result<(), LedgerError> {
    let (ledger, probe) = (app.ledger(), app.probe());
    match how {
        "fails" => return Err(LedgerError::Refused { what: "it".to_owned() }),
        "fails twice" if probe.count("ran") <= 2 => return Err(LedgerError::Busy { what: "it".to_owned() }),
        "takes too long" => std::future::pending().await,
        "waits" => probe.pass("gate").await,
        "breaks a constraint" => insert(&mut *tx, ledger, how).await?,
        "breaks a deferred constraint" => {
            tx.run(format!("insert into {ledger} (entry, below) values ('below', 'nothing')")).await.map(drop)?;
        }
        "commits" => tx.run("commit".to_owned()).await.map(drop)?,
        "rolls back" => tx.run("rollback".to_owned()).await.map(drop)?,
        "begins another" => {
            tx.run("commit".to_owned()).await?;
            tx.run("begin".to_owned()).await.map(drop)?;
        }
        "passes over an error" => drop(insert(&mut *tx, ledger, how).await),
        "writes to the engine" => {
            let tree = ledger.replace("ledger", "tree");
            tx.run(format!("update {tree} set control = 7")).await.map(drop)?;
        }
        "reads the engine" => {
            let tree = ledger.replace("ledger", "tree");
            tx.run(format!("select count(*) from {tree}")).await.map(drop)?;
        }
        "keeps it" => drop(Box::leak(Box::new(tx))),
        "nests" => {
            let entering = |entry| format!("insert into {ledger} (entry, below) values ('{entry}', null)");
            tx.nest(entering("committed"), entering("dropped")).await?;
        }
        "leaves one open" => tx.leave_open().await?,
        _ => {}
    }
    Ok(())
}

/// The step is parked, with these words, and has written nothing; what is mended goes on.
async fn is_misused<L: Ledger>(world: &World, how: &str, words: &str) {
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes(how)).await.expect("a tree").id();
    let view = world.tree_until(&engine, tree, |view| node(view, "/").parked.is_some()).await;
    let parked = node(&view, "/").parked.clone().expect("it is parked");
    let parked = String::from_utf8_lossy(&parked).into_owned();
    assert!(parked.contains("misuse") && parked.contains(words), "{how}: {parked}");
    world.tree_until(&engine, tree, |view| view.row.owner.is_none()).await;
    assert_eq!(node(&view, "/").timeline, []);
    // A step of another tree gets a connection on which nothing is left.
    let other = engine.start(L::writes("plainly")).await.expect("a tree");
    assert_eq!(other.result().await.expect("a result"), 7);
    world.crash(&engine).await;
}

async fn a_transaction_that_is_ended_by_hand_is_named<L: Ledger>(world: &World) {
    for how in ["commits", "rolls back", "begins another"] {
        is_misused::<L>(world, how, "ends the transaction by itself").await;
        world.store().execute(&format!("drop table {}", ledger_name(world))).await;
    }
}

fn ledger_name(world: &World) -> String {
    world.store().schema().map_or_else(|| "ledger".to_owned(), |schema| format!("\"{}\".ledger", schema.name()))
}

/// PostgreSQL commits nothing after an error; SQLite takes back the one statement, and goes on.
async fn an_error_that_is_passed_over_is_named<L: Ledger>(world: &World) {
    if world.store().file().is_none() {
        return is_misused::<L>(world, "passes over an error", "passes over an error").await;
    }
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes("passes over an error")).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), 7);
    assert_eq!(entries(world, app.as_ref(), "passes over an error").await, 1);
}

/// SQLite does not tell who wrote where.
async fn what_the_engine_owns_is_not_written<L: Ledger>(world: &World) {
    if world.store().file().is_none() {
        is_misused::<L>(world, "writes to the engine", "which is the engine's").await;
        world.store().execute(&format!("drop table {}", ledger_name(world))).await;
    }
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes("reads the engine")).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), 7);
}

/// On SQLite its connection is gone with it, and with that every other write of the process: it is not tried there.
async fn a_transaction_that_is_kept_is_named<L: Ledger>(world: &World) {
    if world.store().file().is_none() {
        is_misused::<L>(world, "keeps it", "still in use").await;
    }
}

async fn a_transaction_may_be_nested<L: Ledger>(world: &World) {
    is_misused::<L>(world, "leaves one open", "leaves a transaction open").await;
    world.store().execute(&format!("drop table {}", ledger_name(world))).await;
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes("nests")).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), 7);
    for (entry, times) in [("nests", 1), ("committed", 1), ("dropped", 0)] {
        assert_eq!(entries(world, app.as_ref(), entry).await, times, "{entry}");
    }
}

/// SQLite checks it as it commits, when no step can be told: the tree is parked, with nothing written.
async fn a_deferred_constraint_is_checked_before_the_commit<L: Ledger>(world: &World) {
    const HOW: &str = "breaks a deferred constraint";
    let app = ledger_of::<L>(world).await;
    let engine = world.launch(&app).await;
    let tree = engine.start(L::writes(HOW)).await.expect("a tree").id();
    if world.store().file().is_some() {
        let view = world.tree_until(&engine, tree, |view| node(view, "/").parked.is_some()).await;
        assert_eq!(view.row.state, TreeState::Parked);
    } else {
        let error = engine.attach::<L::Writes>(tree).result().await.expect_err("it is refused");
        let of_the_database =
            |error: &_| matches!(error, LedgerError::Database { says } if says.contains("foreign key"));
        let is_told = matches!(&error, ResultError::Call(CallError::Failed { error, .. }) if of_the_database(error));
        assert!(is_told, "{error}");
    }
    assert_eq!(entries(world, app.as_ref(), HOW).await, 0);
}

async fn a_store_of_the_other_kind_is_refused_at_the_start<L: Ledger>(world: &World) {
    let store = world.store().another().await;
    let refused = match L::Database::KIND {
        "postgres" => Engine::launch(on_sqlite::Of::of(Probe::new(), String::new()), store, world.options()).await,
        _ => Engine::launch(on_postgres::Of::of(Probe::new(), String::new()), store, world.options()).await,
    };
    match refused.map(drop) {
        Err(error @ EngineError::WrongDatabase { .. }) => {
            let text = error.to_string();
            assert!(text.contains("probing") && text.contains("postgres") && text.contains("sqlite"), "{text}");
        }
        other => panic!("it is launched: {other:?}"),
    }
}
