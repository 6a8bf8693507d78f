//! Processes that are killed and started again, each with a lease that is longer than the test: what is taken over here is
//! taken over because it is proved that the process has ended.

use std::path::Path;
use std::time::{Duration, Instant};

use sapwood_tests::postgres::TestSchema;
use sapwood_tests::process::{Process, Program};
use sapwood_tests::wait::until_asked;

/// How often the database is asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Renewals after which a worker has surely looked at all others: it looks with each.
const LOOKS: i64 = 3;

/// Runs what follows in a pid namespace of its own.
const OF_ANOTHER_CONTAINER: &[&str] = &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"];

/// Runs what follows with a memory of its own, as on another machine: also as on a clone of this one, which has its boot
/// id and its namespaces.
const OF_ANOTHER_MACHINE: &[&str] = &[
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    r#"mount -t tmpfs tmpfs /dev/shm && exec "$0" "$@""#,
];

/// A process with a worker, and the worker's id.
struct Worker {
    process: Process,
    id: i64,
}

/// Starts `tests/src/bin/worker.rs` by a command that runs it, if there is one.
fn worker(schema: &TestSchema, by: &[&str], arguments: &[&str]) -> Worker {
    let command: Vec<&str> = by.iter().copied().chain([env!("CARGO_BIN_EXE_worker")]).collect();
    let arguments = [schema.url(), schema.name()].into_iter().chain(arguments.iter().copied());
    let program = Program::foreign(command[0], Path::new(".")).arguments(&command[1..]).arguments(arguments);
    let process = program.start();
    let id = process.told("joined as ").parse().expect("an id");
    Worker { process, id }
}

/// A worker whose tree has a step in flight.
fn at_work(schema: &TestSchema, by: &[&str]) -> Worker {
    let worker = worker(schema, by, &["start"]);
    let _ = worker.process.prints("the step begins");
    worker
}

/// A worker that takes over what it can.
fn survivor(schema: &TestSchema) -> Worker {
    worker(schema, &[], &[])
}

impl Worker {
    /// Returns once it has looked at all others, as they are now.
    async fn looks(&self, schema: &TestSchema) {
        let mut connection = schema.connect().await;
        let mut renewals = async || -> i64 {
            let renewals = sqlx::query_scalar("select renewals from worker where id = $1").bind(self.id);
            renewals.fetch_one(&mut connection).await.expect("it has joined")
        };
        let until = renewals().await + LOOKS;
        let ask = async || match renewals().await {
            reached if reached >= until => Ok(()),
            reached => Err(reached),
        };
        until_asked("a worker that looks at the others", ASK_EVERY, ask).await;
    }
}

/// What the store knows of a worker.
async fn state(schema: &TestSchema, worker: i64) -> String {
    let state = sqlx::query_scalar("select state from worker where id = $1").bind(worker);
    state.fetch_one(&mut schema.connect().await).await.expect("it has joined")
}

/// C2: what starts again on the same machine waits for no lease, because nothing of the killed process can run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_process_that_is_killed_and_started_again_goes_on_at_once() {
    let schema = TestSchema::fresh();
    let mut last = at_work(&schema, &[]);
    // As often as a tree may lose its worker before it is suspected of killing it.
    for _ in 0..3 {
        let Worker { process, id } = last;
        let _ = process.kill();
        let started = Instant::now();
        let next = survivor(&schema);
        let _ = next.process.prints("the step begins");
        println!("from the start of the process to the step: {:?}", started.elapsed());
        assert_eq!([state(&schema, id).await, state(&schema, next.id).await], ["dead", "alive"]);
        last = next;
    }
}

/// C2: a survivor of the same machine sees it too, whenever it happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_process_that_stands_still_is_alive_until_it_is_killed() {
    let schema = TestSchema::fresh();
    let still = at_work(&schema, &[]);
    still.process.stand_still();
    let survivor = survivor(&schema);
    survivor.looks(&schema).await;
    assert_eq!(state(&schema, still.id).await, "alive");
    let _ = still.process.kill();
    let _ = survivor.process.prints("the step begins");
}

/// C1, C2: a container that shares its memory with another, as in one pod, shows that it lives, and that it does not; its
/// processes have numbers that say nothing outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_process_of_another_pid_namespace_is_buried_when_it_has_ended_and_not_before() {
    let schema = TestSchema::fresh();
    let contained = at_work(&schema, OF_ANOTHER_CONTAINER);
    let survivor = survivor(&schema);
    survivor.looks(&schema).await;
    assert_eq!(state(&schema, contained.id).await, "alive");
    let _ = contained.process.kill();
    let _ = survivor.process.prints("the step begins");
}

/// C1: of a process of another machine nothing is known here, whatever it has in common with this one: its lease decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_process_of_another_machine_is_left_to_its_lease_alive_or_not() {
    let schema = TestSchema::fresh();
    let distant = at_work(&schema, OF_ANOTHER_MACHINE);
    let survivor = survivor(&schema);
    survivor.looks(&schema).await;
    assert_eq!(state(&schema, distant.id).await, "alive");
    let _ = distant.process.kill();
    survivor.looks(&schema).await;
    assert_eq!(state(&schema, distant.id).await, "alive");
    assert!(!survivor.process.printed().contains("the step begins"));
}
