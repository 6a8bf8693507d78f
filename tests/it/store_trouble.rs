//! A store's trouble is the store's: nothing is parked because of it, health says what it is, and all goes on after it.

use std::sync::Arc;
use std::time::Duration;

use sapwood::prelude::*;
use sapwood_core::store::{Store, StoreErrorKind};
use sapwood_engine::{Engine, TreeHandle};
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_tests::conformance::store::fixture::start;
use sapwood_tests::engine::{CACHED, World};
use sapwood_tests::postgres::TestRole;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::TestStore;
use sapwood_tests::wait::{in_time, until_asked, within};

use crate::engine::Trouble;

/// How often health is asked.
const LOOK: Duration = Duration::from_millis(5);

/// Trees that are under way when the trouble begins.
const TREES: usize = 20;

/// Waits at a gate within a step, and then calls and emits nothing: its next commits only write to the journal.
#[sapwood::function]
async fn meets_trouble(cx: &mut Cx<Probe>, n: usize) -> Result<usize, Trouble> {
    let app = cx.dependencies();
    let before = async || {
        app.comes_to("before").await;
        Ok::<_, Trouble>(n)
    };
    let before = cx.step("before", before).await?;
    cx.step("after", async || Ok::<_, Trouble>(before)).await
}

/// Trees wait in a step; trouble begins and their commits fail by it; trouble ends, and each of them has its result.
async fn outlasts(
    world: &World,
    engine: &Engine,
    app: &Arc<Probe>,
    said: &str,
    begin: impl AsyncFnOnce(),
    end: impl AsyncFnOnce(),
) {
    let mut trees: Vec<TreeHandle<_>> = Vec::new();
    for n in 0..TREES {
        trees.push(engine.start(meets_trouble(n).id(format!("trouble-{n}"))).await.expect("a tree"));
    }
    app.reached("before", TREES).await;
    begin().await;
    app.open("before", TREES);
    let says = async || match engine.health().store_error() {
        Some(error) if error.contains(said) => Ok(()),
        other => Err(other),
    };
    until_asked("a health that says what is wrong", LOOK, says).await;
    end().await;
    for (n, tree) in trees.into_iter().enumerate() {
        let result = within("a result", engine.attach::<meets_trouble>(tree.id()).result()).await;
        assert_eq!(result.expect("nothing is parked"), n);
    }
    until_asked("a store that is well again", LOOK, async || engine.health().store_error().map_or(Ok(()), Err)).await;
    assert!(!world.evicts());
}

/// A world whose engine reaches PostgreSQL as a user who is no superuser.
struct Hosted {
    role: TestRole,
    world: World,
    engine: Engine,
    app: Arc<Probe>,
}

impl Hosted {
    async fn launch() -> Self {
        let test = TestStore::postgres().await;
        let schema = test.schema().expect("on PostgreSQL");
        let role = TestRole::create().await;
        role.may_work_in(schema).await;
        let options = PostgresOptions::new(role.url(schema.url()), schema.name());
        let store: Arc<dyn Store> = Arc::new(PostgresStore::connect(options).await.expect("PostgreSQL answers"));
        let world = World::new(test, CACHED);
        let app = Probe::new();
        let engine = world.launch_on(&app, store, world.options()).await;
        Self { role, world, engine, app }
    }

    async fn outlasts(self, said: &str, begin: &str, end: &str) {
        let schema = self.world.store().schema().expect("on PostgreSQL").name().to_owned();
        let execute = async |sql: &str| self.role.execute(&sql.replace("{schema}", &schema)).await;
        in_time(outlasts(
            &self.world,
            &self.engine,
            &self.app,
            said,
            async || execute(begin).await,
            async || {
                execute(end).await;
            },
        ))
        .await;
        let store = Arc::clone(self.engine.store());
        self.world.end().await;
        store.close().await;
    }
}

/// C5: a permission that is lacking for a while parks no tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_permission_that_was_taken_away_parks_nothing() {
    let begin = "revoke insert on {schema}.journal from {role}";
    Hosted::launch().await.outlasts("journal", begin, "grant insert on {schema}.journal to {role}").await;
}

/// C5: a table that is gone for a while parks no tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_table_that_was_renamed_parks_nothing_on_postgres() {
    let begin = "alter table {schema}.journal rename to journal_away";
    Hosted::launch().await.outlasts("journal", begin, "alter table {schema}.journal_away rename to journal").await;
}

/// C5: a server that is read-only for a while parks no tree, and no connection that was made meanwhile is used after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_server_that_was_read_only_parks_nothing() {
    let begin = "alter role {role} set default_transaction_read_only = on;
                 select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'";
    Hosted::launch().await.outlasts("read-only", begin, "alter role {role} reset default_transaction_read_only").await;
}

/// C5: a table that is gone for a while parks no tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_renamed_parks_nothing_on_sqlite() {
    let world = World::new(TestStore::sqlite().await, CACHED);
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let execute = async |sql| world.store().execute(sql).await;
    let begin = async || execute("alter table journal rename to journal_away").await;
    let end = async || execute("alter table journal_away rename to journal").await;
    in_time(outlasts(&world, &engine, &app, "journal", begin, end)).await;
    world.end().await;
}

/// A row that finds no partition is not to blame: an operator has to make one.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_row_without_a_partition_is_the_store_s_trouble_and_one_that_breaks_a_check_is_not() {
    let test = TestStore::postgres().await;
    let mut starter = test.store().starter(None);
    test.execute(
        "alter table start_key rename to start_key_away;
         create table start_key (like start_key_away including constraints) partition by list (scope);
         create unique index on start_key (scope, key)",
    )
    .await;
    let error = starter.start(&[start("a")]).await.expect_err("there is no partition");
    assert_eq!(error.kind(), StoreErrorKind::Transient, "{error}");
    assert!(error.to_string().contains("partition"), "{error}");
    test.execute("create table start_key_rest partition of start_key default").await;
    starter.start(&[start("a")]).await.expect("there is a partition");
    test.execute("alter table start_key add constraint short check (length(key) < 3)").await;
    let error = starter.start(&[start("too long")]).await.expect_err("it breaks a check");
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
}
