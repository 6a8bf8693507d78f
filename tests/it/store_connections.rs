//! Connections of a store on PostgreSQL: every call ends in a bounded time, none is used that is not sound, and readers take
//! none from workers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sapwood_core::WorkerId;
use sapwood_core::broker::TopicPartition;
use sapwood_core::store::{
    EventLog as _, GroupOffsets as _, KeyScope, Membership as _, Outbox as _, Reading as _, Store as _, StoreErrorKind,
    StoreResult, Suspects, TreeFilter, Trees as _, Verdict,
};
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_tests::conformance::store::fixture::{Worker, full, start};
use sapwood_tests::faults::Proxy;
use sapwood_tests::postgres::{TestRole, TestSchema};
use sapwood_tests::store::TestStore;
use sapwood_tests::wait::{until_asked, within};
use sqlx::{AssertSqlSafe, Executor as _};

/// How often the database is asked how its sessions are.
const LOOK: Duration = Duration::from_millis(5);

/// Long for a server that is there, on a busy machine, and short for a test that waits it out.
const WITHIN: Duration = Duration::from_secs(3);

fn schema(test: &TestStore) -> &TestSchema {
    test.schema().expect("on PostgreSQL")
}

async fn connect(options: PostgresOptions) -> PostgresStore {
    PostgresStore::connect(options).await.expect("PostgreSQL answers")
}

/// A store that reaches the server by a proxy, and waits for nothing for long.
async fn by_proxy(schema: &TestSchema) -> (PostgresStore, Proxy) {
    let (user, rest) = schema.url().rsplit_once('@').expect("postgres://USER@HOST:PORT/DATABASE");
    let (server, database) = rest.split_once('/').expect("a database");
    let proxy = Proxy::before(server).await;
    let url = format!("{user}@{}/{database}", proxy.address());
    let bounded = PostgresOptions {
        connect_within: WITHIN,
        answer_within: WITHIN,
        commit_within: WITHIN,
        ..PostgresOptions::new(url, schema.name())
    };
    (connect(bounded).await, proxy)
}

/// Every call of the pools, by name.
async fn calls(store: &PostgresStore, worker: WorkerId) -> Vec<(&'static str, StoreResult<()>)> {
    let partition = TopicPartition { topic: "t".to_owned(), partition: 0, topic_id: None };
    let filter = TreeFilter { function: None, state: None, before: None, limit: 10 };
    let tree = start("none").tree.id;
    let (claim, load) = (store.tree_claim(worker, 1, &[], Suspects::ALL), store.tree_load(tree));
    let (read, list) = (store.tree_read(tree), store.tree_list(&filter));
    let (key, outcome) = (store.start_key_find(&KeyScope::Caller, "none"), store.outcome_read(tree));
    let (lanes, outbox) = (store.lane_claim(worker, 1), store.outbox_read(0, 0, 10));
    let partitions = [partition];
    let (assigned, log) = (store.partition_assign("g", &partitions), store.log_read("t", 0, 10));
    let stands = store.partition_read("g", &partitions);
    let (ping, hint) = (store.ping(), store.hint(&[sapwood_core::store::Hint::Ready]));
    let (claim, load, read, list, key, outcome) = tokio::join!(claim, load, read, list, key, outcome);
    let (lanes, outbox, assigned, stands) = tokio::join!(lanes, outbox, assigned, stands);
    let (log, ping, hint) = tokio::join!(log, ping, hint);
    vec![
        ("tree_claim", claim.map(drop)),
        ("tree_load", load.map(drop)),
        ("tree_read", read.map(drop)),
        ("tree_list", list.map(drop)),
        ("start_key_find", key.map(drop)),
        ("outcome_read", outcome.map(drop)),
        ("lane_claim", lanes.map(drop)),
        ("outbox_read", outbox.map(drop)),
        ("partition_assign", assigned.map(drop)),
        ("partition_read", stands.map(drop)),
        ("log_read", log.map(drop)),
        ("ping", ping),
        ("hint", hint),
    ]
}

fn assert_passing<T>(call: &str, result: StoreResult<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{call} was answered by nothing"));
    assert!(error.is_passing(), "{call}: {error} {error:?}");
}

/// C5: a network that falls silent ends every call in a bounded time, and none of its connections is used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_silent_network_ends_every_call_and_none_of_its_connections_is_used_again() {
    let test = TestStore::postgres().await;
    let (store, proxy) = by_proxy(schema(&test)).await;
    let store = Arc::new(store);
    let mut worker = Worker::join(&(Arc::clone(&store) as Arc<dyn sapwood_core::store::Store>)).await;
    let trees = worker.trees(1).await;
    let (mut lease, mut starter) = (store.lease(worker.id), store.starter(None));
    let hour = Duration::from_secs(3_600);
    lease.renew(hour).await.expect("renewed");
    starter.start(&[start("before")]).await.expect("started");
    for (call, result) in calls(&store, worker.id).await {
        result.unwrap_or_else(|error| panic!("{call}: {error}"));
    }

    let mut hints = store.hints();
    within("hints that arrive", hints.next()).await.expect("the store is open");
    proxy.fall_silent();
    let turn = full(trees[0], 1);
    let all = within("an end of every call", async {
        let (starts, turns) = ([start("meanwhile")], [turn.clone()]);
        tokio::join!(
            calls(&store, worker.id),
            worker.committer.commit(&turns),
            lease.renew(hour),
            starter.start(&starts),
            PostgresStore::connect(PostgresOptions {
                connect_within: WITHIN,
                ..PostgresOptions::new(format!("postgres://sapwood@{}/postgres", proxy.address()), schema(&test).name(),)
            }),
        )
    });
    let (calls_ended, committed, renewed, started, connected) = all.await;
    for (call, result) in calls_ended {
        assert_passing(call, result);
    }
    assert_passing("commit", committed);
    assert_passing("renew", renewed);
    assert_passing("start", started);
    assert_passing("connect", connected);
    assert_passing(
        "commit",
        within("an end of the recovery", worker.committer.recover(std::slice::from_ref(&turn))).await,
    );

    let mut hints = store.hints();
    proxy.heal();
    let before = proxy.opened();
    within("hints that arrive again", hints.next()).await.expect("the store is open");
    for (call, result) in within("an answer", calls(&store, worker.id)).await {
        result.unwrap_or_else(|error| panic!("{call} after the silence: {error}"));
    }
    lease.renew(hour).await.expect("renewed");
    starter.start(&[start("after")]).await.expect("started");
    worker.committer.recover(std::slice::from_ref(&turn)).await.expect("what became of the commit");
    assert_eq!(worker.commit_one(turn).await, Verdict::Committed);
    assert!(proxy.opened() > before, "what was silent is not used again");

    proxy.fall_silent();
    within("an end of the store", store.close()).await;
}

/// C5: a session that became read-only, or whose server went away, is used for one call at most.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_connection_that_an_error_condemns_is_used_no_more() {
    let test = TestStore::postgres().await;
    let role = TestRole::create().await;
    role.may_work_in(schema(&test)).await;
    let store = connect(PostgresOptions::new(role.url(schema(&test).url()), schema(&test).name())).await;
    let worker = store.worker_join("one", 1, Duration::from_secs(3_600), None).await.expect("a worker").worker;
    role.execute("alter role {role} set default_transaction_read_only = on").await;
    role.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'").await;
    let mut read_only = false;
    for _ in 0..2 {
        // The first call may meet the end of its session, and the next the session of a server that is read-only.
        let error = store.tree_claim(worker, 1, &[], Suspects::ALL).await.expect_err("it cannot claim");
        assert_eq!(error.kind(), StoreErrorKind::Connection, "{error}");
        read_only |= error.to_string().contains("read-only");
    }
    assert!(read_only, "the server is read-only");
    role.execute("alter role {role} reset default_transaction_read_only").await;
    store.tree_claim(worker, 1, &[], Suspects::ALL).await.expect("no session is left from before");
    store.close().await;
}

/// E4: readers that are slow, or many, delay no claim and no event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn readers_that_take_all_their_connections_delay_no_worker() {
    const READERS: u32 = 2;
    let test = TestStore::postgres().await;
    let schema = schema(&test);
    let options = PostgresOptions { reader_connections: READERS, ..PostgresOptions::new(schema.url(), schema.name()) };
    let store = Arc::new(connect(options).await);
    let worker = store.worker_join("one", 1, Duration::from_secs(3_600), None).await.expect("a worker").worker;
    let mut stranger = schema.connect().await;
    stranger.execute("begin").await.expect("a transaction");
    stranger.execute("lock table start_key in access exclusive mode").await.expect("locked");
    // More of them than there are connections.
    let readers: Vec<_> = (0..READERS + 2)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.start_key_find(&KeyScope::Caller, "none").await })
        })
        .collect();
    let mut connection = schema.connect().await;
    let waiting = "select count(*) from pg_stat_activity
                   where wait_event_type = 'Lock' and application_name = 'sapwood ' || $1 || ' reader'";
    let all_wait = async || {
        let count: i64 =
            sqlx::query_scalar(waiting).bind(schema.name()).fetch_one(&mut connection).await.expect("counted");
        if count == i64::from(READERS) { Ok(()) } else { Err(count) }
    };
    until_asked("readers that wait", LOOK, all_wait).await;

    store.tree_claim(worker, 1, &[], Suspects::ALL).await.expect("a claim");
    store.lane_claim(worker, 1).await.expect("a lane");
    store.outbox_read(0, 0, 10).await.expect("events");
    store.log_read("t", 0, 10).await.expect("the log");
    stranger.execute("rollback").await.expect("it lets go");
    for reader in readers {
        assert_eq!(reader.await.expect("it ends").expect("an answer"), None);
    }
    store.close().await;
}

/// What the server does not allow is refused at the start, not when the last connection is missing.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn more_connections_than_the_server_allows_are_refused_with_their_sum() {
    let test = TestStore::postgres().await;
    let schema = schema(&test);
    let role = TestRole::create().await;
    role.may_work_in(schema).await;
    let options = || PostgresOptions::new(role.url(schema.url()), schema.name());
    connect(options()).await.capacity_check().expect("13 are allowed");
    role.execute("alter role {role} connection limit 12").await;
    let error = connect(options()).await.capacity_check().expect_err("12 are too few");
    assert_eq!(error.kind(), StoreErrorKind::Permanent);
    for part in ["13 connections", "allows 12", "alter role", "reader_connections", "worker_connections", "committers"]
    {
        assert!(error.to_string().contains(part), "{error} lacks {part}");
    }
    connect(PostgresOptions { worker_connections: 3, ..options() }).await.capacity_check().expect("12 are needed");
    let many = PostgresOptions { worker_connections: 100_000, ..PostgresOptions::new(schema.url(), schema.name()) };
    let error = connect(many).await.capacity_check().expect_err("no server has so many");
    assert!(error.to_string().contains("max_connections"), "{error}");
    let behind =
        PostgresOptions { direct_url: Some(schema.url().to_owned()), worker_connections: 100_000, ..options() };
    connect(behind).await.capacity_check().expect("a pooler has its own limits");
}

/// A statement goes to its own schema, whatever the session was left with.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn no_statement_follows_the_search_path() {
    let (ours, theirs) = (TestStore::postgres().await, TestStore::postgres().await);
    let role = TestRole::create().await;
    role.may_work_in(schema(&ours)).await;
    role.may_work_in(schema(&theirs)).await;
    role.execute(&format!("alter role {{role}} set search_path = {}", schema(&theirs).name())).await;
    let store = Arc::new(connect(PostgresOptions::new(role.url(schema(&ours).url()), schema(&ours).name())).await);
    let mut worker = Worker::join(&(Arc::clone(&store) as Arc<dyn sapwood_core::store::Store>)).await;
    let trees = worker.trees(1).await;
    assert_eq!(worker.commit_one(full(trees[0], 1)).await, Verdict::Committed);
    for (call, result) in calls(&store, worker.id).await {
        result.unwrap_or_else(|error| panic!("{call}: {error}"));
    }
    let mut connection = schema(&theirs).connect().await;
    for table in ["worker", "fence", "tree", "invocation", "journal", "timer", "start_key", "outbox", "group_offset"] {
        let count = AssertSqlSafe(format!("select count(*) from {table}"));
        let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("counted");
        assert_eq!(count, 0, "{table} of another context");
    }
    store.close().await;
}
