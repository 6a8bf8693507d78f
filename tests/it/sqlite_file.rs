//! The file of a SQLite store: copied while it is written to, taken away under a living process, and the log beside it.

use std::sync::Arc;

use sapwood::Error;
use sapwood::prelude::*;
use sapwood_core::TreeId;
use sapwood_core::store::{EventLog as _, LogRecord, Store};
use sapwood_engine::EngineOptions;
use sapwood_sqlite::{SqliteOptions, SqliteStore, backup};
use sapwood_tests::logs;
use sapwood_tests::probe::Probe;
use sapwood_tests::sqlite::TestFile;
use sapwood_tests::wait::within;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

#[sapwood::function]
async fn passes_a_gate(cx: &mut Cx<Probe>) -> Result<(), Error> {
    let probe = cx.dependencies();
    cx.step("gate", async || {
        probe.comes_to("gate").await;
        Ok::<_, Error>(())
    })
    .await
}

async fn store(file: &std::path::Path) -> Arc<dyn Store> {
    let store = SqliteStore::open(SqliteOptions::file(file)).await.expect("it opens");
    store.migrate().await.expect("migrated");
    Arc::new(store)
}

async fn engine(store: &Arc<dyn Store>) -> (Engine, Arc<Probe>) {
    let probe = Probe::new();
    let engine = Engine::launch(Arc::clone(&probe), Arc::clone(store), EngineOptions::default()).await;
    (engine.expect("it launches"), probe)
}

/// P5, R3: a copy made under load has every tree that was acknowledged before, is sound, and runs on.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_has_all_that_was_acknowledged_and_runs_on() {
    let (place, copies) = (TestFile::fresh(), TestFile::fresh());
    let original = store(&place.path()).await;
    let (engine_here, _) = engine(&original).await;
    let mut acknowledged: Vec<TreeId> = Vec::new();
    for _ in 0..100 {
        acknowledged.push(engine_here.start(passes_a_gate()).await.expect("a tree").id());
    }
    let load = async {
        loop {
            engine_here.start(passes_a_gate()).await.expect("a tree");
        }
    };
    tokio::select! {
        () = load => unreachable!("it never ends"),
        copied = within("a backup", backup(place.path(), copies.path())) => copied.expect("it is copied"),
    }
    let error = backup(place.path(), copies.path()).await.expect_err("it overwrites nothing");
    assert!(error.to_string().contains("overwrites nothing"), "{error}");
    let left: Vec<_> = std::fs::read_dir(copies.directory()).expect("a directory").collect();
    assert_eq!(left.len(), 1, "nothing but the copy: {left:?}");

    let mut plain = SqliteConnection::connect(&format!("sqlite:{}", copies.path().display())).await.expect("it opens");
    let check: String = sqlx::query_scalar("pragma integrity_check").fetch_one(&mut plain).await.expect("a check");
    assert_eq!(check, "ok");
    plain.close().await.expect("it closes");

    let copy = store(&copies.path()).await;
    let (engine_there, probe) = engine(&copy).await;
    probe.open("gate", 1_000_000);
    for tree in acknowledged {
        let outcome = engine_there.outcome(tree, sapwood_tests::wait::PATIENCE).await.expect("it is there");
        assert!(outcome.is_some(), "{tree} runs on");
    }
    engine_there.kill();
    engine_here.kill();
}

/// C3: what goes into a file that is no longer at its path is not acknowledged, and health says why. When the file is
/// back, all goes on.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_the_file_is_gone() {
    let place = TestFile::fresh();
    let original = store(&place.path()).await;
    let (engine, probe) = engine(&original).await;
    probe.open("gate", 10);
    engine.start(passes_a_gate()).await.expect("a tree");
    let away = place.directory().join("away.db");
    for replaced in [false, true] {
        std::fs::rename(place.path(), &away).expect("it is moved");
        if replaced {
            std::fs::write(place.path(), b"").expect("another file");
        }
        let start = engine.start(passes_a_gate());
        tokio::pin!(start);
        let told = async {
            while engine.health().store_error().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            started = &mut start => panic!("nothing is acknowledged: {:?}", started.map(|tree| tree.id())),
            () = within("health that says so", told) => {}
        }
        let why = engine.health().store_error().expect("an error");
        assert!(why.contains("deleted or replaced") && why.contains("store.db"), "{why}");
        assert_eq!(place.path().exists(), replaced, "no other file is made in its place");
        // More readers at once than there were before: some connections are opened now.
        let reads = || futures::future::join_all((0..16).map(|_| original.tree_read(TreeId::fresh())));
        for read in reads().await {
            let error = read.expect_err("nothing is read from another file").to_string();
            assert!(error.contains("deleted or replaced"), "{error}");
        }
        std::fs::rename(&away, place.path()).expect("it is back");
        assert!(reads().await.iter().all(|read| matches!(read, Ok(None))), "no reader has kept the other file");
        let started = within("a start that was waiting", start).await.expect("it is started");
        within("its end", started.result()).await.expect("it runs");
    }
    engine.drain().await.expect("it leaves");
}

/// The write-ahead log stays within its bound, but for a reader that needs what is in it: that is said, once, and how long it
/// has needed it; when the reader has ended, the log is cut.
#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_is_bounded_and_a_reader_that_holds_it_up_is_told() {
    const BOUND: u64 = 256 * 1024;
    logs::begin();
    let place = TestFile::fresh();
    let store = SqliteStore::open(SqliteOptions::file(place.path()).log_bytes(BOUND)).await.expect("it opens");
    store.migrate().await.expect("migrated");
    let bytes = || std::fs::metadata(place.directory().join("store.db-wal")).expect("a log").len();
    let records = [LogRecord {
        topic: "t".to_owned(),
        key: "k".to_owned(),
        headers: Vec::new(),
        content: vec![7; 64 * 1024].into(),
    }];
    let write = async || store.log_append(&records).await.expect("appended");
    let most = async |writes: usize| {
        let mut most = 0;
        for _ in 0..writes {
            write().await;
            most = most.max(bytes());
        }
        most
    };
    let written = most(20).await;
    assert!(written < 2 * BOUND, "{written} bytes without a reader");

    let mut reader = place.connect().await;
    let mut snapshot = reader.begin().await.expect("it begins");
    let _: i64 =
        sqlx::query_scalar("select count(*) from log_record").fetch_one(&mut *snapshot).await.expect("it reads");
    let told = || logs::of(place.directory().to_str().expect("UTF-8"));
    let until_told = async {
        while told().is_empty() {
            write().await;
        }
    };
    within("a warning", until_told).await;
    most(10).await;
    assert!(bytes() > BOUND, "it is held up");
    let warnings = told();
    assert!(matches!(&warnings[..], [one] if one.contains("none of this process: a shell")), "{warnings:?}");

    snapshot.rollback().await.expect("it ends");
    let until_cut = async {
        while bytes() > BOUND {
            write().await;
        }
    };
    within("a log that is cut", until_cut).await;
    store.close().await;
}
