//! What a run cost: processor time of this process and of the database, and what the database counted.

use std::time::Duration;

use sqlx::{PgConnection, Row};

/// Ticks of `/proc/*/stat` in a second; Linux has shown 100 to programs for as long as it has had them.
const TICKS: f64 = 100.0;

/// A reading.
pub(crate) struct Reading {
    worker: Duration,
    database: Duration,
    counters: Option<Counters>,
}

/// What PostgreSQL counts, over the whole server.
#[derive(Clone, Copy)]
struct Counters {
    commits: i64,
    statements: i64,
    inserted: i64,
    updated: i64,
    deleted: i64,
    wal_bytes: i64,
}

/// The difference of two readings, a tree.
pub(crate) struct Cost {
    /// Microseconds of this process.
    pub(crate) worker_us: f64,
    /// Microseconds of the database's processes, where they are others.
    pub(crate) database_us: f64,
    /// Commits, statements, rows inserted, updated, deleted, and bytes of WAL, where the database counts them. Statements
    /// are 0 where the server has no `pg_stat_statements`.
    pub(crate) counted: Option<[f64; 6]>,
}

impl Reading {
    /// Reads now; with a connection, the database's counters as well.
    pub(crate) async fn take(database: Option<&mut PgConnection>) -> sqlx::Result<Self> {
        let counters = match database {
            Some(connection) => Some(Counters::read(connection).await?),
            None => None,
        };
        Ok(Self { worker: own_time(), database: postgres_time(), counters })
    }

    /// What `trees` trees have cost since.
    pub(crate) fn cost_until(&self, later: &Self, trees: u32) -> Cost {
        let trees = f64::from(trees);
        let per_tree = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / trees;
        let counted = self.counters.zip(later.counters).map(|(before, after)| {
            before.fields().iter().zip(after.fields()).map(|(b, a)| (a - b) as f64 / trees).collect::<Vec<_>>()
        });
        Cost {
            worker_us: per_tree(self.worker, later.worker),
            database_us: per_tree(self.database, later.database),
            counted: counted.and_then(|fields| fields.try_into().ok()),
        }
    }
}

impl Counters {
    async fn read(connection: &mut PgConnection) -> sqlx::Result<Self> {
        // A backend that has fallen idle reports what it has not reported yet after ten seconds.
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        let row = sqlx::query(
            "select sum(xact_commit)::bigint, sum(tup_inserted)::bigint, sum(tup_updated)::bigint, \
             sum(tup_deleted)::bigint, (pg_current_wal_insert_lsn() - '0/0')::bigint from pg_stat_database \
             where datname = current_database()",
        )
        .fetch_one(&mut *connection)
        .await?;
        let statements = statements(connection).await.unwrap_or_default();
        Ok(Self {
            commits: row.get(0),
            statements,
            inserted: row.get(1),
            updated: row.get(2),
            deleted: row.get(3),
            wal_bytes: row.get(4),
        })
    }

    const fn fields(self) -> [i64; 6] {
        [self.commits, self.statements, self.inserted, self.updated, self.deleted, self.wal_bytes]
    }
}

/// Statements run so far in this database; an error where the server does not count them.
async fn statements(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query("create extension if not exists pg_stat_statements").execute(&mut *connection).await?;
    sqlx::query_scalar(
        "select coalesce(sum(calls), 0)::bigint from pg_stat_statements \
         where dbid = (select oid from pg_database where datname = current_database())",
    )
    .fetch_one(connection)
    .await
}

fn own_time() -> Duration {
    time_of(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default())
}

/// The time of all processes called postgres on this machine, those that have ended included by their parent.
fn postgres_time() -> Duration {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Duration::ZERO };
    processes
        .flatten()
        .filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok())
        .filter(|stat| stat.contains("(postgres)"))
        .map(|stat| time_of(&stat))
        .sum()
}

/// User and system time, from a line of `/proc/*/stat`.
fn time_of(stat: &str) -> Duration {
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / TICKS)
}
