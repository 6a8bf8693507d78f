//! What a store on PostgreSQL does while a stranger holds a lock that it meets.

use std::time::Duration;

use sapwood_core::TreeId;
use sapwood_core::store::{Committer, Recovered, Started, Suspects, Turn, Verdict};
use sapwood_tests::conformance::store::fixture::{Worker, event, full, row, start, turn};
use sapwood_tests::postgres::TestSchema;
use sapwood_tests::store::{TestStore, outbox};
use sapwood_tests::wait::{until_asked, within};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

/// How often the database is asked who waits.
const LOOK: Duration = Duration::from_millis(5);

/// A stranger with an open transaction.
struct Stranger(PgConnection);

impl Stranger {
    async fn begin(schema: &TestSchema) -> Self {
        let mut connection = schema.connect().await;
        connection.execute("begin").await.expect("a transaction");
        Self(connection)
    }

    async fn run(&mut self, sql: &str) {
        self.0.execute(AssertSqlSafe(sql.to_owned())).await.expect("the stranger's statement");
    }

    async fn hold_tree(schema: &TestSchema, tree: TreeId) -> Self {
        let mut stranger = Self::begin(schema).await;
        stranger.run(&format!("select 1 from tree where id = '{tree}' for update")).await;
        stranger
    }

    async fn hold_lane(schema: &TestSchema, lane: u16) -> Self {
        let mut stranger = Self::begin(schema).await;
        stranger.run(&format!("select pg_advisory_xact_lock('lane'::regclass::oid::integer, {lane})")).await;
        stranger
    }

    async fn let_go(mut self) {
        self.run("rollback").await;
    }
}

/// Returns once `count` sessions of this schema's store wait for a lock.
async fn until_waiting(schema: &TestSchema, count: i64) {
    let mut connection = schema.connect().await;
    let sql = "select count(*) from pg_stat_activity
               where wait_event_type = 'Lock' and application_name like 'sapwood ' || $1 || ' %'";
    let waits = async || {
        let waiting: i64 =
            sqlx::query_scalar(sql).bind(schema.name()).fetch_one(&mut connection).await.expect("counted");
        if waiting >= count { Ok(()) } else { Err(waiting) }
    };
    until_asked("a session that waits for a lock", LOOK, waits).await;
}

async fn postgres() -> TestStore {
    TestStore::postgres().await
}

fn schema(test: &TestStore) -> &TestSchema {
    test.schema().expect("on PostgreSQL")
}

/// W2: a tree whose row is locked is busy, which is not a refusal; the rest of its batch does not wait for it.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_locked_tree_is_busy_and_the_others_commit() {
    let test = postgres().await;
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(100).await;
    let mut batch: Vec<Turn> = trees.iter().map(|tree| full(*tree, 1)).collect();
    batch[7].revision = 9;
    let stranger = Stranger::hold_tree(schema(&test), trees[3]).await;

    let verdicts = worker.committer.commit(&batch).await.expect("the batch is decided");

    for (place, verdict) in verdicts.iter().enumerate() {
        let expected = match place {
            3 => Verdict::Busy,
            7 => Verdict::Refused,
            _ => Verdict::Committed,
        };
        assert_eq!(*verdict, expected, "turn {place}");
    }
    assert_eq!(row(&store, trees[3]).await.revision, 1);
    assert_eq!(outbox(store.as_ref()).await.len(), 98);
    stranger.let_go().await;
    assert_eq!(worker.commit_one(full(trees[3], 1)).await, Verdict::Committed);
}

/// C1: a claim takes what is free and leaves what is locked.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_claim_skips_a_locked_tree() {
    let test = postgres().await;
    let store = test.store();
    let worker = Worker::join(&store).await;
    let starts = [start("a"), start("b")];
    store.starter(None).start(&starts).await.expect("they start");
    let stranger = Stranger::hold_tree(schema(&test), starts[0].tree.id).await;
    let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim");
    assert_eq!(claims.trees.iter().map(|c| c.row.id).collect::<Vec<_>>(), [starts[1].tree.id]);
    stranger.let_go().await;
    let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim");
    assert_eq!(claims.trees.iter().map(|c| c.row.id).collect::<Vec<_>>(), [starts[0].tree.id]);
}

/// E4: a lane that is locked makes only those wait that write to it.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_held_lane_holds_up_nobody_else() {
    let test = postgres().await;
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(40).await;
    let lane = event(trees[0], 1).lane;
    let other = trees.iter().find(|tree| event(**tree, 1).lane != lane).expect("there are 16 lanes");
    let stranger = Stranger::hold_lane(schema(&test), lane).await;
    let emit = Turn { events: vec![event(*other, 1)], ..turn(*other, 1) };
    let commits = async { assert_eq!(worker.commit_one(emit).await, Verdict::Committed) };
    within("a commit that need not wait", commits).await;
    stranger.let_go().await;
}

/// A batch of one turn that waits for the lane of its event, held by the stranger.
async fn held_up(test: &TestStore, tree: TreeId) -> (Stranger, [Turn; 1]) {
    let turn = Turn { events: vec![event(tree, 1)], ..turn(tree, 1) };
    (Stranger::hold_lane(schema(test), turn.events[0].lane).await, [turn])
}

/// Sends a batch and stops waiting for the answer while the statement waits in the database.
async fn lose_the_answer(test: &TestStore, committer: &mut Box<dyn Committer>, batch: &[Turn]) {
    tokio::select! {
        verdicts = committer.commit(batch) => panic!("it should wait: {verdicts:?}"),
        () = until_waiting(schema(test), 1) => {}
    }
}

/// C5, W1: a statement whose answer was lost may still be under way; the recovery waits for it before it tells.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_recovery_waits_for_the_statement_that_is_still_under_way() {
    let test = postgres().await;
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let (stranger, batch) = held_up(&test, tree).await;
    lose_the_answer(&test, &mut worker.committer, &batch).await;

    let recovered = {
        let mut recovering = worker.committer.recover(&batch);
        tokio::select! {
            recovered = &mut recovering => panic!("told before the statement ended: {recovered:?}"),
            () = until_waiting(schema(&test), 2) => {}
        }
        stranger.let_go().await;
        within("a recovery", recovering).await.expect("it finds out")
    };

    // The connection was closed while its statement waited, so the database may have given it up. Either is right, if
    // it is told as it is, and the turn is there once in the end.
    let revision = row(&store, tree).await.revision;
    match recovered[0] {
        Recovered::Committed => assert_eq!(revision, 2),
        Recovered::Lost => {
            assert_eq!(revision, 1);
            assert_eq!(worker.commit_one(batch[0].clone()).await, Verdict::Committed);
        }
        Recovered::Refused => panic!("the tree is this worker's own"),
    }
    assert_eq!(outbox(store.as_ref()).await.len(), 1);
}

/// C1: a burial waits for the commit of the dying that is under way, so what is read after it is final.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_burial_waits_for_the_commit_under_way() {
    let test = postgres().await;
    let store = test.store();
    let mut dying = Worker::join(&store).await;
    let id = dying.id;
    let tree = dying.tree().await;
    let survivor = Worker::join(&store).await;
    let silent = survivor.watches().await;
    let (stranger, batch) = held_up(&test, tree).await;
    let commit = tokio::spawn(async move {
        let verdicts = dying.committer.commit(&batch).await;
        (dying, verdicts)
    });
    until_waiting(schema(&test), 1).await;

    let other = test.another().await;
    let burial = tokio::spawn(async move { other.worker_bury(survivor.id, &silent).await });
    until_waiting(schema(&test), 2).await;
    assert!(!burial.is_finished(), "a commit of the dying is under way");
    stranger.let_go().await;

    let (mut dead, verdicts) = commit.await.expect("the commit ends");
    assert_eq!(verdicts.expect("it was before the burial"), [Verdict::Committed]);
    assert_eq!(burial.await.expect("the burial ends").expect("buried"), [id]);
    assert_eq!(row(&store, tree).await.revision, 2);
    assert!(dead.committer.commit(&[turn(tree, 2)]).await.is_err(), "nothing comes after it");
}

/// P5: a start waits for a stranger who is just inserting the same key, and follows what becomes of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_start_waits_for_a_stranger_with_the_same_key() {
    let test = postgres().await;
    let store = test.store();
    let mut stranger = Stranger::begin(schema(&test)).await;
    let insert = "insert into start_key (scope, key, tree_id, digest, created_at)
                  values ('caller', 'k', gen_random_uuid(), '\\x00', now())";
    stranger.run(insert).await;
    let one = start("k");
    let waiting = tokio::spawn({
        let (store, one) = (store.clone(), one.clone());
        async move { store.starter(None).start(&[one]).await }
    });
    until_waiting(schema(&test), 1).await;
    stranger.let_go().await;
    assert_eq!(waiting.await.expect("it ends").expect("it starts"), [Started::Created]);
    assert_eq!(row(&store, one.tree.id).await.revision, 0);
}
