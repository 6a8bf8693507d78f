//! What a start on PostgreSQL asks of its server: refused by name, or said, before the first tree runs.

use std::sync::Arc;

use sapwood_api::ContextApi;
use sapwood_core::store::{Store, StoreError, StoreErrorKind};
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_tests::engine::{CACHED, World};
use sapwood_tests::http;
use sapwood_tests::postgres::{TestDatabase, TestRole, TestSchema};
use sapwood_tests::probe::Probe;
use sapwood_tests::store::TestStore;
use tokio::net::TcpListener;

async fn connect(role: &TestRole, schema: &TestSchema) -> PostgresStore {
    let options = PostgresOptions::new(role.url(schema.url()), schema.name());
    PostgresStore::connect(options).await.expect("PostgreSQL answers")
}

fn assert_says(error: &StoreError, parts: &[&str]) {
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} lacks {part}");
    }
}

/// A schema that is there needs no right to create one, and each right that is lacking is named.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn migrating_asks_for_no_right_that_it_does_not_need_and_names_the_one_it_lacks() {
    let (schema, role) = (TestSchema::fresh(), TestRole::create().await);
    let (name, user) = (schema.name(), role.name());
    let store = connect(&role, &schema).await;
    let error = store.migrate().await.expect_err("it may create no schema");
    assert_says(&error, &[name, user, "grant create on database", "create schema"]);

    role.execute(&format!("create schema {name}")).await;
    let grant = format!("grant usage, create on schema \"{name}\" to \"{user}\"");
    let error = store.migrate().await.expect_err("it may not even look into the schema");
    assert_says(&error, &[&grant]);
    assert_says(&store.schema_check().await.expect_err("nor may a check"), &[&grant]);
    role.execute(&format!("grant usage on schema {name} to {user}")).await;
    assert_says(&store.migrate().await.expect_err("it may create no table"), &[&grant]);

    role.execute(&grant).await;
    store.migrate().await.expect("the schema is there");
    store.schema_check().await.expect("as this build wants it");
    role.execute(&format!("revoke create on schema {name} from {user}")).await;
    store.migrate().await.expect("there is nothing to do");
    store.close().await;
}

/// A database that stores bytes of any encoding gives back what it was not given.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_database_of_another_encoding_is_refused() {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let options = format!("encoding '{encoding}' locale 'C' template template0");
        let database = TestDatabase::create_with(&options).await;
        let connected = PostgresStore::connect(PostgresOptions::new(database.url(), "orders")).await;
        assert_says(&connected.err().expect("it is refused"), &[encoding, "UTF8", "create database"]);
    }
}

/// Statements wait for each other's rows and judge them again, which only `read committed` does.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_server_whose_transactions_are_not_read_committed_is_refused() {
    let (schema, role) = (TestSchema::fresh(), TestRole::create().await);
    role.execute("alter role {role} set default_transaction_isolation = 'repeatable read'").await;
    let options = PostgresOptions::new(role.url(schema.url()), schema.name());
    let error = PostgresStore::connect(options).await.err().expect("it is refused");
    assert_says(&error, &["default_transaction_isolation", "repeatable read", "read committed"]);
}

/// C5: what a crash may cost is said where an operator looks.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn commits_that_a_crash_may_lose_are_said_by_health() {
    let test = TestStore::postgres().await;
    let role = TestRole::create().await;
    role.may_work_in(test.schema().expect("on PostgreSQL")).await;
    role.execute("alter role {role} set synchronous_commit = off").await;
    let store: Arc<dyn Store> = Arc::new(connect(&role, test.schema().expect("on PostgreSQL")).await);
    let warnings = store.info().durability_warnings();
    assert!(warnings.iter().any(|warning| warning.contains("synchronous_commit is off")), "{warnings:?}");
    let durable = test.store().info().durability_warnings();
    assert!(!durable.iter().any(|warning| warning.contains("synchronous_commit")), "{durable:?}");

    let world = World::new(test, CACHED);
    let engine = world.launch_on(&Probe::new(), Arc::clone(&store), world.options()).await;
    let router = sapwood_api::router(vec![ContextApi::new(engine)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
    let ready = http::send(&address, "GET", "/health/ready", &[], b"").await.expect(200);
    let parts = ready["parts"].as_array().expect("parts");
    let part = parts.iter().find(|part| part["part"] == "durability").unwrap_or_else(|| panic!("{ready}"));
    assert_eq!(part["state"], "degraded");
    assert!(part["detail"].as_str().expect("why").contains("synchronous_commit is off"), "{part}");
    serving.abort();
    world.end().await;
    store.close().await;
}
