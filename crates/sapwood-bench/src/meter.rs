//! The cost of a run: processor time of this process and of the database, and what the database counted.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use crate::processes::{Postmaster, own_time};

/// What the meters show at one moment.
pub(crate) struct Reading {
    worker: Duration,
    database: Option<Duration>,
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

/// The difference of two readings, per tree.
pub(crate) struct Cost {
    /// Microseconds of this process.
    pub(crate) worker_us: f64,
    /// Microseconds of the database's processes; `None` if the database has no processes of its own, or they are not
    /// visible here.
    pub(crate) database_us: Option<f64>,
    /// Commits, statements, rows inserted, updated, deleted, and bytes of WAL; `None` if the database does not count
    /// them. Statements are 0 if the server has no `pg_stat_statements`.
    pub(crate) counted: Option<[f64; 6]>,
}

impl Reading {
    /// Reads now; with a connection, the database's counters as well.
    pub(crate) async fn take(database: Option<&mut PgConnection>) -> sqlx::Result<Self> {
        let Some(connection) = database else {
            return Ok(Self { worker: own_time(), database: None, counters: None });
        };
        let counters = Some(Counters::read(connection).await?);
        let postmaster = Postmaster::of(connection).await?;
        Ok(Self { worker: own_time(), database: postmaster.and_then(Postmaster::time), counters })
    }

    /// The cost of `trees` trees between this reading and a later one.
    pub(crate) fn cost_until(&self, later: &Self, trees: u32) -> Cost {
        let trees = f64::from(trees);
        let per_tree = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / trees;
        let counted = self.counters.zip(later.counters).map(|(before, after)| {
            before.fields().iter().zip(after.fields()).map(|(b, a)| (a - b) as f64 / trees).collect::<Vec<_>>()
        });
        Cost {
            worker_us: per_tree(self.worker, later.worker),
            database_us: self.database.zip(later.database).map(|(before, after)| per_tree(before, after)),
            counted: counted.and_then(|fields| fields.try_into().ok()),
        }
    }
}

impl Counters {
    async fn read(connection: &mut PgConnection) -> sqlx::Result<Self> {
        // A backend that has become idle reports its last counts only after ten seconds.
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

/// Statements run so far in this database; an error if the server does not count them.
async fn statements(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query("create extension if not exists pg_stat_statements").execute(&mut *connection).await?;
    sqlx::query_scalar(
        "select coalesce(sum(calls), 0)::bigint from pg_stat_statements \
         where dbid = (select oid from pg_database where datname = current_database())",
    )
    .fetch_one(connection)
    .await
}
