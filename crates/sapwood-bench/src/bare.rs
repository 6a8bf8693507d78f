//! The limit to compare with: the rows of a `seq3` tree, written by bare batched SQL in the same four phases.

use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::workloads::RESULT_BYTES;

/// Writes `trees` trees in batches of `batch`, on PostgreSQL. Each promise of a batch is one `begin … commit`.
pub(crate) async fn postgres(url: &str, trees: usize, batch: usize) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(
            "drop schema if exists bench_bare cascade; create schema bench_bare; \
             create table bench_bare.tree (id uuid primary key, revision bigint, state smallint) with (fillfactor = 70); \
             create table bench_bare.invocation (tree_id uuid, path bytea, function text, input bytea, outcome bytea, \
             primary key (tree_id, path)) with (fillfactor = 70); \
             create table bench_bare.journal (tree_id uuid, path bytea, seq int, name text, payload bytea, \
             primary key (tree_id, path, seq)); \
             create table bench_bare.key (scope text, key text, tree_id uuid, primary key (scope, key))",
        )
        .await?;
    let payload = vec![b'x'; RESULT_BYTES];
    for _ in 0..trees.div_ceil(batch) {
        let ids: Vec<Uuid> = (0..batch).map(|_| Uuid::now_v7()).collect();
        let mut begun = connection.begin().await?;
        for statement in [
            "insert into bench_bare.key select 'caller', id::text, id from unnest($1::uuid[]) id where $2::bytea is not null",
            "insert into bench_bare.tree select id, 0, 0 from unnest($1::uuid[]) id where $2::bytea is not null",
            "insert into bench_bare.invocation select id, '\\x00', 'seq3', $2, null from unnest($1::uuid[]) id",
        ] {
            sqlx::query(statement).bind(&ids).bind(&payload).execute(&mut *begun).await?;
        }
        begun.commit().await?;
        for seq in 0..3 {
            let mut promise = connection.begin().await?;
            sqlx::query("insert into bench_bare.journal select id, '\\x00', $3, 'step', $2 from unnest($1::uuid[]) id")
                .bind(&ids)
                .bind(&payload)
                .bind(seq)
                .execute(&mut *promise)
                .await?;
            sqlx::query("update bench_bare.tree set revision = revision + 1 where id = any($1)")
                .bind(&ids)
                .execute(&mut *promise)
                .await?;
            if seq == 2 {
                sqlx::query("update bench_bare.invocation set outcome = $2 where tree_id = any($1) and path = '\\x00'")
                    .bind(&ids)
                    .bind(&payload)
                    .execute(&mut *promise)
                    .await?;
            }
            promise.commit().await?;
        }
    }
    connection.execute("drop schema bench_bare cascade").await?;
    connection.close().await
}

/// Writes `trees` trees in batches of `batch`, on SQLite.
pub(crate) async fn sqlite(file: &std::path::Path, trees: usize, batch: usize) -> sqlx::Result<()> {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    connection
        .execute(
            "create table tree (id blob primary key, revision int, state int) without rowid; \
             create table invocation (tree_id blob, path blob, function text, input blob, outcome blob, \
             primary key (tree_id, path)) without rowid; \
             create table journal (tree_id blob, path blob, seq int, name text, payload blob, \
             primary key (tree_id, path, seq)) without rowid; \
             create table start_key (scope text, key text, tree_id blob, primary key (scope, key)) without rowid",
        )
        .await?;
    let payload = vec![b'x'; RESULT_BYTES];
    for _ in 0..trees.div_ceil(batch) {
        let ids: Vec<Uuid> = (0..batch).map(|_| Uuid::now_v7()).collect();
        for promise in 0..4 {
            let mut begun = connection.begin().await?;
            for id in &ids {
                let statements: &[&'static str] = match promise {
                    0 => &[
                        "insert into start_key values ('caller', ?1, ?1)",
                        "insert into tree values (?1, 0, 0)",
                        "insert into invocation values (?1, x'00', 'seq3', ?2, null)",
                    ],
                    3 => &[
                        "insert into journal values (?1, x'00', 3, 'step', ?2)",
                        "update tree set revision = revision + 1 where id = ?1",
                        "update invocation set outcome = ?2 where tree_id = ?1 and path = x'00'",
                    ],
                    1 => &[
                        "insert into journal values (?1, x'00', 1, 'step', ?2)",
                        "update tree set revision = revision + 1 where id = ?1",
                    ],
                    _ => &[
                        "insert into journal values (?1, x'00', 2, 'step', ?2)",
                        "update tree set revision = revision + 1 where id = ?1",
                    ],
                };
                for statement in statements {
                    sqlx::query(*statement).bind(*id).bind(&payload).execute(&mut *begun).await?;
                }
            }
            begun.commit().await?;
        }
    }
    Ok(())
}
