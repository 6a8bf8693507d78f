//! One worker on PostgreSQL, for tests that kill it: its lease is longer than any test, and it prints what it does.
//!
//! `worker URL SCHEMA [start]`: with `start` it starts a tree, whose step never ends.

use std::sync::Arc;
use std::time::Duration;

use sapwood::prelude::*;
use sapwood_core::store::Store;
use sapwood_engine::{Engine, EngineOptions};
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_tests::store::LEASE;

/// The context of the one function.
#[derive(BoundedContext)]
#[context(name = "lasting")]
pub struct Lasting;

/// What it needs: nothing.
#[derive(Dependencies)]
#[dependencies(of = Lasting)]
pub struct LastingDependencies;

/// Lasts for as long as its process does.
#[sapwood::function]
pub async fn lasts(cx: &mut Cx<LastingDependencies>) -> Result<(), sapwood::Error> {
    cx.step("last", || async {
        println!("the step begins");
        std::future::pending().await
    })
    .await
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, schema, rest @ ..] = arguments.as_slice() else { panic!("worker URL SCHEMA [start]") };
    let store = PostgresStore::connect(PostgresOptions::new(url, schema)).await.expect("PostgreSQL answers");
    store.migrate().await.expect("the schema is migrated");
    let store: Arc<dyn Store> = Arc::new(store);
    let options = EngineOptions { lease: LEASE, heartbeat: Duration::from_millis(100), ..EngineOptions::default() };
    let engine = Engine::launch(Arc::new(LastingDependencies), store, options).await.expect("the engine launches");
    println!("joined as {}", engine.worker().0);
    if rest.first().is_some_and(|word| word == "start") {
        engine.start(lasts()).await.expect("a tree");
    }
    std::future::pending::<()>().await;
}
