//! Workers that were declared dead while their process lives on: it joins again, says what it is, and ends in time.

use sapwood_tests::postgres::{TestDatabase, TestRole};
use sapwood_tests::sqlite::TestFile;
use sapwood_tests::wait::until_asked;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::{ASK_EVERY, Desk, noted};

/// Returns once the workers of the store are in these states, the oldest first, by the processes that they are of.
async fn workers_are(database: &str, expected: &[(u32, &str)]) {
    let mut connection = PgConnection::connect(database).await.expect("PostgreSQL answers");
    let expected: Vec<_> = expected.iter().map(|(process, state)| (process.to_string(), (*state).to_owned())).collect();
    let ask = async || {
        let workers = "select split_part(name, '-', -1), state from desk.worker order by id";
        let workers: Vec<(String, String)> = sqlx::query_as(workers).fetch_all(&mut connection).await.expect("read");
        if workers == expected { Ok(()) } else { Err(workers) }
    };
    until_asked(&format!("the workers {expected:?}"), ASK_EVERY, ask).await;
}

/// C1, C2: a process that stood still for longer than its lease is a new worker afterwards. What it worked on is settled
/// once, by the one that took it over; the old worker does nothing beside the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_process_that_stood_still_joins_again_as_a_new_worker() {
    let (database, place) = (TestDatabase::create().await, TestFile::fresh());
    let (url, place) = (database.url(), place.directory().to_owned());
    let stalled = Desk::start(&place, &url);
    let first = place.join("first");
    let tree = stalled.begin(&first).await.expect(201);
    noted(&first, "begun", 1).await;
    let other = Desk::start(&place, &url);
    let (stalled_id, other_id) = (stalled.process.id(), other.process.id());

    stalled.process.stand_still();
    workers_are(&url, &[(stalled_id, "dead"), (other_id, "alive")]).await;
    noted(&first, "begun", 2).await;
    stalled.process.go_on();
    workers_are(&url, &[(stalled_id, "dead"), (other_id, "alive"), (stalled_id, "alive")]).await;
    stalled.is_ready().await;

    let second = place.join("second");
    let begun = stalled.begin(&second).await.expect(201);
    noted(&second, "begun", 1).await;
    for file in [&first, &second] {
        std::fs::write(file, "").expect("a file is written");
    }
    assert_eq!(stalled.outcome(&begun).await["value"], json!(second));
    assert_eq!(stalled.outcome(&tree).await["value"], json!(first));
    noted(&second, "noted", 1).await;
    let lines = noted(&first, "noted", 1).await;
    let begun_by = |process: u32| lines.contains(&format!("begun {process}"));
    assert!(begun_by(stalled_id) && begun_by(other_id), "{lines:?}");
    let ended: Vec<_> = lines.iter().filter(|line| line.starts_with("ended")).collect();
    assert_eq!(ended, [&format!("ended {other_id}")], "the old worker's step was dropped");

    stalled.process.terminate();
    let said = stalled.process.ended().well();
    assert!(said.contains("draining"), "{said}");
    workers_are(&url, &[(stalled_id, "dead"), (other_id, "alive"), (stalled_id, "left")]).await;
    other.process.terminate();
    let _ = other.process.ended().well();
    for file in [&first, &second] {
        assert_eq!(noted(file, "noted", 1).await.iter().filter(|line| line.starts_with("noted")).count(), 1);
    }
}

/// C1: a worker that is dead and cannot join again says so and ends: at once if nothing in its store can take it any
/// longer, otherwise when it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_process_that_cannot_join_again_says_so_and_ends() {
    // Dropped after the database, in which it has grants.
    let role = TestRole::create().await;
    let (database, place) = (TestDatabase::create().await, TestFile::fresh());
    let (url, place) = (database.url(), place.directory().to_owned());
    let mut owner = PgConnection::connect(&url).await.expect("PostgreSQL answers");
    let mut execute = async |sql: String| {
        owner.execute(AssertSqlSafe(sql.replace("{role}", role.name()))).await.expect("PostgreSQL runs it");
    };
    let other = Desk::start(&place, &url);
    let grants = "grant usage on schema desk to {role}; grant all on all tables in schema desk to {role};
                  grant all on all sequences in schema desk to {role}";
    execute(grants.to_owned()).await;
    let [told, stalled] = [(); 2].map(|()| Desk::start(&place, &role.url(&url)));
    let ids = [&other, &told, &stalled].map(|desk| desk.process.id());

    for desk in [&told, &stalled] {
        desk.process.stand_still();
    }
    workers_are(&url, &[(ids[0], "alive"), (ids[1], "dead"), (ids[2], "dead")]).await;
    execute("revoke insert on desk.worker from {role}".to_owned()).await;
    for desk in [&told, &stalled] {
        desk.process.go_on();
    }
    for desk in [&told, &stalled] {
        desk.refuses_starts(&place, "worker_stopped").await;
        let problem = desk.get("/health/ready").await.problem(503, "not_ready");
        assert!(problem.to_string().contains("declared it dead"), "{problem}");
        let why_not = async || {
            let problem = desk.get("/health/ready").await.problem(503, "not_ready").to_string();
            if problem.contains("permission denied for table worker") { Ok(()) } else { Err(problem) }
        };
        until_asked("why it does not join again", ASK_EVERY, why_not).await;
    }
    told.process.terminate();
    let _ = told.process.ended().well();

    execute("drop schema desk cascade".to_owned()).await;
    let ended = stalled.process.ended();
    assert_eq!(ended.status.code(), Some(75), "{}\n{}", ended.out, ended.err);
    assert!(ended.err.contains("[worker_lost]"), "{}", ended.err);
    assert!(ended.out.contains("draining"), "{}", ended.out);
    let _ = other.process.kill();
}
