//! Migrations: the same for both databases, and no store that another set of them made is touched.

use std::collections::BTreeSet;
use std::path::Path;

use sapwood_core::store::{Membership as _, Store as _, StoreErrorKind, StoreResult};
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_sqlite::{SqliteOptions, SqliteStore};
use sapwood_tests::postgres::TestSchema;
use sapwood_tests::sqlite::TestFile;
use sapwood_tests::store::LEASE;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

fn files(kind: &str) -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(kind);
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect()
}

/// Equal numbers and names, so that a version means the same on both.
#[test]
fn both_databases_have_the_same_migrations() {
    let postgres = files("postgres");
    assert_eq!(postgres, files("sqlite"));
    for (place, name) in postgres.iter().enumerate() {
        assert!(name.starts_with(&format!("{:04}_", place + 1)), "{name} leaves a gap");
        assert!(name.ends_with(".sql"), "{name} is no SQL");
    }
}

async fn postgres(schema: &TestSchema) -> PostgresStore {
    PostgresStore::connect(PostgresOptions::new(schema.url(), schema.name())).await.expect("PostgreSQL answers")
}

/// The text of every object of a schema, to see that nothing changed.
async fn postgres_objects(schema: &TestSchema) -> Vec<String> {
    let sql = "select format('%s %s %s', c.relkind, c.relname, c.oid) as object from pg_class c
               where c.relnamespace = $1::regnamespace order by c.relname";
    let rows = sqlx::query(sql).bind(schema.name()).fetch_all(&mut schema.connect().await).await.expect("read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Migrating is safe to repeat: each start does it.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn migrating_postgres_twice_changes_nothing() {
    let schema = TestSchema::fresh();
    let store = postgres(&schema).await;
    let error = store.schema_check().await.expect_err("an empty schema is none");
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
    store.migrate().await.expect("migrated");
    store.schema_check().await.expect("as this build wants it");
    let before = postgres_objects(&schema).await;
    assert!(before.len() > 10, "{before:?}");
    store.migrate().await.expect("migrated again");
    postgres(&schema).await.migrate().await.expect("migrated by another process");
    assert_eq!(postgres_objects(&schema).await, before);
}

/// Several processes of one deployment start at once.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn migrating_postgres_from_several_processes_at_once_happens_once() {
    let schema = TestSchema::fresh();
    let stores = [postgres(&schema).await, postgres(&schema).await, postgres(&schema).await];
    let migrated = futures::future::join_all(stores.iter().map(PostgresStore::migrate)).await;
    for result in migrated {
        result.expect("migrated");
    }
    stores[0].schema_check().await.expect("as this build wants it");
}

/// A database of a newer schema is refused, by a message that names both versions.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_newer_schema_on_postgres_is_refused() {
    let schema = TestSchema::fresh();
    let store = postgres(&schema).await;
    store.migrate().await.expect("migrated");
    let sql = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
               values (9001, 'from the future', true, '\\x00', 0)";
    schema.connect().await.execute(AssertSqlSafe(sql.to_owned())).await.expect("recorded");
    for result in [store.schema_check().await, store.migrate().await, postgres(&schema).await.schema_check().await] {
        let error = result.expect_err("it is newer");
        assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
        assert!(error.to_string().contains("9001") && error.to_string().contains("newer"), "{error}");
    }
}

/// What makes of a store one that another set of migrations made: one of them is edited, or one is missing.
const OF_ANOTHER_SET: [&str; 2] = [
    "update _sqlx_migrations set checksum = (select checksum from _sqlx_migrations where version = 4) where version = 3",
    "delete from _sqlx_migrations where version = 3",
];

/// The refusal says which store it is, what it is not, and what to do.
fn assert_of_another_set(result: StoreResult<()>, store: &str) {
    let error = result.expect_err("another set made it");
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
    let text = error.to_string();
    for part in [store, "another set of migrations", "version 3", "anew"] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    assert!(!text.contains("newer"), "{text}");
}

/// Until the first release migrations are edited in place, and no path leads from one set of them to another.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_schema_of_another_set_of_migrations_on_postgres_is_refused() {
    for change in OF_ANOTHER_SET {
        let schema = TestSchema::fresh();
        let store = postgres(&schema).await;
        store.migrate().await.expect("migrated");
        schema.connect().await.execute(change).await.expect("changed");
        let before = postgres_objects(&schema).await;
        for store in [store, postgres(&schema).await] {
            assert_of_another_set(store.schema_check().await, schema.name());
            assert_of_another_set(store.migrate().await, schema.name());
        }
        assert_eq!(postgres_objects(&schema).await, before, "it is left alone");
    }
}

/// A schema that the first of this build's migrations made is brought up to date.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn an_older_schema_on_postgres_is_migrated() {
    let schema = TestSchema::fresh();
    let store = postgres(&schema).await;
    store.migrate().await.expect("migrated");
    let older = "delete from _sqlx_migrations where version = 8;
                 drop function log_next_offset; drop table log_record";
    schema.connect().await.execute(AssertSqlSafe(older.to_owned())).await.expect("made older");
    let error = store.schema_check().await.expect_err("it is older");
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
    assert!(error.to_string().contains("version 7") && error.to_string().contains("needs 8"), "{error}");
    store.migrate().await.expect("brought up to date");
    store.schema_check().await.expect("as this build wants it");
}

/// The number of lanes is fixed when a store is created: a build that would make more goes on with those that are there.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn the_number_of_lanes_is_read_from_the_store() {
    const FEWER: &str = "update store_setting set lanes = 4";
    let schema = TestSchema::fresh();
    let store = postgres(&schema).await;
    store.migrate().await.expect("migrated");
    assert_eq!(store.info().lanes, 16);
    schema.connect().await.execute(FEWER).await.expect("changed");
    assert_eq!(postgres(&schema).await.info().lanes, 4);

    let file = TestFile::fresh();
    let store = sqlite(&file).await;
    store.migrate().await.expect("migrated");
    assert_eq!(store.info().lanes, 16);
    drop(store);
    file.connect().await.execute(FEWER).await.expect("changed");
    assert_eq!(sqlite(&file).await.info().lanes, 4);
}

async fn sqlite(file: &TestFile) -> SqliteStore {
    SqliteStore::open(SqliteOptions::file(file.path())).await.expect("it opens")
}

async fn sqlite_objects(file: &TestFile) -> Vec<String> {
    let sql = "select type || ' ' || name || ' ' || rootpage || coalesce(sql, '') from sqlite_schema order by name";
    let rows = sqlx::query(sql).fetch_all(&mut file.connect().await).await.expect("read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Migrating is safe to repeat: each start does it.
#[tokio::test]
async fn migrating_sqlite_twice_changes_nothing() {
    let file = TestFile::fresh();
    let store = sqlite(&file).await;
    let error = store.schema_check().await.expect_err("an empty file has no schema");
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
    store.migrate().await.expect("migrated");
    store.schema_check().await.expect("as this build wants it");
    let before = sqlite_objects(&file).await;
    assert!(before.len() > 10, "{before:?}");
    store.migrate().await.expect("migrated again");
    drop(store);
    sqlite(&file).await.migrate().await.expect("migrated after opening it again");
    assert_eq!(sqlite_objects(&file).await, before);
}

/// A database of a newer schema is refused, by a message that names both versions.
#[tokio::test]
async fn a_newer_schema_on_sqlite_is_refused() {
    let file = TestFile::fresh();
    let store = sqlite(&file).await;
    store.migrate().await.expect("migrated");
    let sql = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
               values (9001, 'from the future', true, x'00', 0)";
    file.connect().await.execute(sql).await.expect("recorded");
    for result in [store.schema_check().await, store.migrate().await] {
        let error = result.expect_err("it is newer");
        assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
        assert!(error.to_string().contains("9001") && error.to_string().contains("newer"), "{error}");
    }
}

/// Until the first release migrations are edited in place, and no path leads from one set of them to another.
#[tokio::test]
async fn a_database_of_another_set_of_migrations_on_sqlite_is_refused() {
    for change in OF_ANOTHER_SET {
        let file = TestFile::fresh();
        let store = sqlite(&file).await;
        store.migrate().await.expect("migrated");
        store.worker_join("earlier", 1, LEASE, None).await.expect("a worker joins");
        file.connect().await.execute(change).await.expect("changed");
        let before = sqlite_objects(&file).await;
        assert_of_another_set(store.schema_check().await, &file.path().display().to_string());
        assert_of_another_set(store.migrate().await, &file.path().display().to_string());
        drop(store);
        let store = sqlite(&file).await;
        assert_of_another_set(store.schema_check().await, &file.path().display().to_string());
        assert_eq!(sqlite_objects(&file).await, before, "it is left alone");
        assert_eq!(states_of_workers(&file).await, ["alive"], "its workers too");
    }
}

async fn states_of_workers(file: &TestFile) -> Vec<String> {
    let states = sqlx::query_scalar("select state from worker order by id");
    states.fetch_all(&mut file.connect().await).await.expect("read")
}

/// A database that the first of this build's migrations made is brought up to date; its workers are dead, as after each
/// opening.
#[tokio::test]
async fn an_older_database_on_sqlite_is_migrated_and_its_workers_are_dead() {
    let file = TestFile::fresh();
    let store = sqlite(&file).await;
    store.migrate().await.expect("migrated");
    let worker = store.worker_join("earlier", 1, LEASE, None).await.expect("a worker joins").worker;
    store.migrate().await.expect("migrated again");
    store.lease(worker).renew(LEASE).await.expect("it is alive");
    drop(store);
    let older = "delete from _sqlx_migrations where version = 8; drop table log_record; drop table log_topic";
    file.connect().await.execute(older).await.expect("made older");

    let store = sqlite(&file).await;
    let error = store.schema_check().await.expect_err("it is older");
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
    assert!(error.to_string().contains("version 7") && error.to_string().contains("needs 8"), "{error}");
    store.migrate().await.expect("brought up to date");
    store.schema_check().await.expect("as this build wants it");
    let error = store.lease(worker).renew(LEASE).await.expect_err("it is dead");
    assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
}

/// C2: a worker that left is told from one that was declared dead.
#[tokio::test]
async fn sqlite_tells_a_worker_that_left_from_one_that_is_dead() {
    let file = TestFile::fresh();
    let store = sqlite(&file).await;
    store.migrate().await.expect("migrated");
    let mut workers = Vec::new();
    for name in ["leaves", "falls silent", "lives"] {
        workers.push(store.worker_join(name, 1, LEASE, None).await.expect("it joins").worker);
    }
    store.worker_leave(workers[0]).await.expect("it leaves");
    let silent = store.lease(workers[2]).renew(LEASE).await.expect("renewed").others;
    store.worker_bury(workers[2], &silent).await.expect("buried");
    assert_eq!(states_of_workers(&file).await, ["left", "dead", "alive"]);
}

/// A second process on one file is refused, by a message that names the file.
#[tokio::test]
async fn a_second_process_on_a_file_is_refused() {
    let file = TestFile::fresh();
    let first = sqlite(&file).await;
    let error = SqliteStore::open(SqliteOptions::file(file.path())).await.map(|_| ()).expect_err("the file is taken");
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
    assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    drop(first);
    sqlite(&file).await;
}
