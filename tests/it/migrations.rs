//! Migrations: the same for both databases, forward only, and never past what a build knows.

use std::collections::BTreeSet;
use std::path::Path;

use sapwood_core::store::StoreErrorKind;
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_sqlite::{SqliteOptions, SqliteStore};
use sapwood_tests::postgres::TestSchema;
use sapwood_tests::sqlite::TestFile;
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
