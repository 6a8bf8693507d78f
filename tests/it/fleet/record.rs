//! What the database and the file of effects say when all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use sapwood_core::TreeId;
use sapwood_core::store::{Reading as _, Store as _};
use sapwood_core::tree::TreeRecord;
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_tests::fleet::{ENTRIES, Effect, Effects};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::time::sleep;

use super::processes::Trouble;

/// How often the database is asked for trees that are not closed.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A worker of the fleet, as the database has it.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) id: i64,
    /// The system's id of its process.
    pub(super) process: u32,
    /// `alive`, `dead` or `left`.
    pub(super) state: String,
    pub(super) joined_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    /// Fences that are not in the state of the worker.
    pub(super) other_fences: i64,
}

/// All that is known.
pub(super) struct Record {
    /// Every tree with the effects that were noted of it, by id.
    pub(super) trees: BTreeMap<TreeId, (TreeRecord, Vec<Effect>)>,
    /// The steps that made entries in the author's table, in order, by tree.
    pub(super) entered: BTreeMap<TreeId, Vec<String>>,
    /// In the order in which they joined.
    pub(super) workers: Vec<Worker>,
}

impl Record {
    /// Reads it, from a database in which nothing goes on.
    pub(super) async fn read(url: &str, effects: &Effects) -> Self {
        let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
        let ids: Vec<String> = sqlx::query_scalar("select id::text from fleet.tree order by id")
            .fetch_all(&mut connection)
            .await
            .expect("the trees are listed");
        let store = PostgresStore::connect(PostgresOptions::new(url, "fleet")).await.expect("PostgreSQL answers");
        let mut trees = BTreeMap::new();
        for id in ids {
            let tree: TreeId = id.parse().expect("an id");
            let record = store.tree_read(tree).await.expect("a tree is read").expect("it is there");
            trees.insert(tree, (record, effects.of(&id).expect("the effects are read")));
        }
        store.close().await;
        let entered = entered(&mut connection).await;
        Self { trees, entered, workers: workers(&mut connection).await }
    }

    /// The worker that a process was at a time.
    pub(super) fn worker_of(&self, process: u32, at: Timestamp) -> Option<&Worker> {
        self.workers.iter().rfind(|worker| worker.process == process && worker.joined_at <= at)
    }

    /// What was done and what came of it, in words.
    pub(super) fn summary(&self, troubles: &[Trouble]) -> String {
        let mut summary = String::new();
        for trouble in troubles {
            let _ = writeln!(summary, "{trouble:?}");
        }
        for worker in &self.workers {
            let _ = writeln!(summary, "{worker:?}");
        }
        let mut states = BTreeMap::new();
        for (record, _) in self.trees.values() {
            *states.entry((record.row.function.as_str(), record.row.state.name())).or_insert(0) += 1;
        }
        let effects = || self.trees.values().flat_map(|(_, effects)| effects);
        let steps: BTreeSet<&str> = effects().map(|effect| effect.key.as_str()).collect();
        let processes: BTreeSet<(&str, u32)> = effects().map(|effect| (effect.key.as_str(), effect.process)).collect();
        let (count, taken_over) = (effects().count(), processes.len() - steps.len());
        let _ = write!(
            summary,
            "{states:?}, {count} effects of {} steps, {taken_over} by another process again",
            steps.len()
        );
        summary
    }
}

async fn entered(connection: &mut PgConnection) -> BTreeMap<TreeId, Vec<String>> {
    let steps = AssertSqlSafe(format!("select step from {ENTRIES}"));
    let mut steps: Vec<String> = sqlx::query_scalar(steps).fetch_all(connection).await.expect("the entries are listed");
    steps.sort();
    let mut entered: BTreeMap<TreeId, Vec<String>> = BTreeMap::new();
    for step in steps {
        let tree = step.split(':').next().and_then(|tree| tree.parse().ok()).expect("a key begins with its tree");
        entered.entry(tree).or_default().push(step);
    }
    entered
}

async fn workers(connection: &mut PgConnection) -> Vec<Worker> {
    let workers = "select id, split_part(name, '-', -1) as process, state,
                          (extract(epoch from joined_at) * 1000000)::bigint as joined_at,
                          (extract(epoch from ended_at) * 1000000)::bigint as ended_at,
                          (select count(*) from fleet.fence f where f.worker = w.id and f.state <> w.state) as fences
                   from fleet.worker w order by id";
    let time = |us: i64| Timestamp::from_microsecond(us).expect("a time");
    let rows = sqlx::query(workers).fetch_all(connection).await.expect("the workers are listed");
    let worker = |row: &sqlx::postgres::PgRow| Worker {
        id: row.get("id"),
        process: row.get::<String, _>("process").parse().expect("a name ends with the process"),
        state: row.get("state"),
        joined_at: time(row.get("joined_at")),
        ended_at: row.get::<Option<i64>, _>("ended_at").map(time),
        other_fences: row.get("fences"),
    };
    rows.iter().map(worker).collect()
}

/// Returns once no tree is open, and no event waits for its consumer.
pub(super) async fn open_trees(url: &str) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    let open = "select (select count(*) from fleet.tree where state < 4 or closing = 1) as open,
                       (select count(*) from fleet.journal where kind = 6)
                           - (select count(*) from fleet.tree where function = 'fleet_notes') as untold";
    loop {
        let row = sqlx::query(open).fetch_one(&mut connection).await.expect("trees are counted");
        let (open, untold): (i64, i64) = (row.get("open"), row.get("untold"));
        if (open, untold) == (0, 0) {
            return;
        }
        println!("{open} trees are open, {untold} events are not told");
        sleep(ASK_EVERY * 5).await;
    }
}
