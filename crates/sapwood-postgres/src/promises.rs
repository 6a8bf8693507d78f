//! External promises: found in the journal, settled under the lock of the tree's row.
//!
//! To settle one is a transaction of several statements, as governing a tree is and for the same reason.

use async_trait::async_trait;
use sapwood_core::store::{Promises, Settling, Store, StoreResult, settle};
use sapwood_core::tree::{PromiseRow, SettledPromise, Settlement};
use sapwood_core::{Path, TreeId};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection};

use crate::claims;
use crate::deadlines::{Late, TimedOut, Timely};
use crate::fields::Fields;
use crate::governing;
use crate::pool::Pool;
use crate::rows;
use crate::store::PostgresStore;

#[async_trait]
impl Promises for PostgresStore {
    async fn promise_find(
        &self,
        tree: TreeId,
        path: Option<&Path>,
        name: Option<&str>,
    ) -> StoreResult<Option<Vec<PromiseRow>>> {
        let (found, late) = find(&self.readers, tree, path, name).await?;
        Ok(if self.settles(&late).await? { find(&self.readers, tree, path, name).await?.0 } else { found })
    }

    async fn promise_settle(
        &self,
        tree: TreeId,
        path: &Path,
        name: &str,
        settlement: &Settlement,
    ) -> StoreResult<Option<Settling>> {
        let (doing, pool) = ("settle a promise", &self.readers);
        let lock = sqlx::query(pool.sql(include_str!("../queries/tree_lock.sql"))).bind(tree.uuid());
        let late = Late::of(pool, tree);
        let find = sqlx::query(pool.sql(include_str!("../queries/promise_find.sql")))
            .bind(tree.uuid())
            .bind(path.to_bytes())
            .bind(path.to_bytes())
            .bind(name);
        let list = sqlx::query(pool.sql(include_str!("../queries/control_request_list.sql"))).bind(tree.uuid());
        let insert = sqlx::query(pool.sql(include_str!("../queries/promise_insert.sql"))).bind(tree.uuid());
        let wake = sqlx::query(pool.sql(include_str!("../queries/tree_wake.sql"))).bind(tree.uuid());
        let work = async |connection: &mut PgConnection| {
            let mut locked = connection.begin().await?;
            let Some(row) = lock.fetch_optional(&mut *locked).await? else { return Ok(Ok(None)) };
            let applied = match Fields::of(&row, doing).plain::<i32>("applied") {
                Ok(applied) => applied,
                Err(error) => return Ok(Err(error)),
            };
            // What is late is not settled any longer (D3).
            let timed_out = late.settle(&mut locked).await?;
            let found = find.fetch_optional(&mut *locked).await?;
            let pending = list.bind(applied).fetch_all(&mut *locked).await?;
            let (settling, position) = match settling((&row, &timed_out), found.as_ref(), &pending, doing) {
                Ok(settling) => settling,
                Err(error) => return Ok(Err(error)),
            };
            if let Settling::Stored { inbox } = settling {
                let insert = insert
                    .bind(path.to_bytes())
                    .bind(position.cast_signed())
                    .bind(name)
                    .bind(settlement.state.code())
                    .bind(&*settlement.outcome)
                    .bind(inbox.cast_signed());
                insert.execute(&mut *locked).await?;
                wake.execute(&mut *locked).await?;
            }
            locked.commit().await?;
            Ok(Ok(Some((settling, timed_out))))
        };
        let Some((settling, timed_out)) = pool.run(doing, work).await?? else { return Ok(None) };
        self.hint(&timed_out.hints(tree)?).await?;
        Ok(Some(settling))
    }

    async fn promise_inbox(&self, tree: TreeId, after: u32) -> StoreResult<Vec<SettledPromise>> {
        let (doing, pool) = ("read what has settled", &*self.workers);
        let late = sqlx::query(pool.sql(include_str!("../queries/promise_late_find.sql"))).bind(tree.uuid());
        if pool.run(doing, async |connection| late.fetch_optional(connection).await).await?.is_some() {
            self.time_out(pool, tree).await?;
        }
        let read = async |connection: &mut PgConnection| list(connection, pool, tree, after).await;
        settled(&pool.run(doing, read).await?, doing)
    }
}

/// The promises of a tree, and the tree if one of them is late.
async fn find(
    pool: &Pool,
    tree: TreeId,
    path: Option<&Path>,
    name: Option<&str>,
) -> StoreResult<Timely<Option<Vec<PromiseRow>>>> {
    let doing = "find promises";
    let (first, last) = path.map_or_else(Path::every_range, |path| (path.to_bytes(), path.to_bytes()));
    let find = sqlx::query(pool.sql(include_str!("../queries/promise_find.sql")))
        .bind(tree.uuid())
        .bind(first)
        .bind(last)
        .bind(name);
    let read = pool.run(doing, async |connection| find.fetch_all(connection).await).await?;
    let Some(row) = read.first() else {
        let is_there = !claims::revisions(pool, &[tree]).await?.is_empty();
        return Ok((is_there.then(Vec::new), Vec::new()));
    };
    let now = Fields::of(row, doing).time("now")?;
    let found = read.iter().map(|row| rows::promise(&Fields::of(row, doing))).collect::<StoreResult<Vec<_>>>()?;
    let late = found.iter().any(|row| row.is_late(now)).then_some(tree);
    Ok((Some(found), late.into_iter().collect()))
}

/// What becomes of a settle, and the position of the promise.
fn settling(
    (tree, timed_out): (&PgRow, &TimedOut),
    found: Option<&PgRow>,
    pending: &[PgRow],
    doing: &'static str,
) -> StoreResult<(Settling, u32)> {
    let found = found.map(|row| rows::promise(&Fields::of(row, doing))).transpose()?;
    let pending = pending.iter().map(|row| governing::record(&Fields::of(row, doing)));
    let pending = pending.collect::<StoreResult<Vec<_>>>()?;
    let inbox = timed_out.inbox()?.map_or_else(|| Fields::of(tree, doing).unsigned("inbox"), Ok)?;
    let position = found.as_ref().map_or(0, |found| found.position);
    Ok((settle(found.as_ref(), &pending, inbox), position))
}

/// The promises of a tree that were settled after a number of its inbox counter.
pub(crate) async fn list(
    connection: &mut PgConnection,
    pool: &Pool,
    tree: TreeId,
    after: u32,
) -> sqlx::Result<Vec<PgRow>> {
    let list = sqlx::query(pool.sql(include_str!("../queries/promise_list.sql")));
    list.bind(tree.uuid()).bind(after.cast_signed()).fetch_all(connection).await
}

/// The promises of a tree that were settled up to this number of its inbox counter, and that its journal does not have.
pub(crate) async fn unrecorded(pool: &Pool, tree: TreeId, inbox: u32) -> StoreResult<Vec<SettledPromise>> {
    let doing = "load what has settled";
    let load =
        sqlx::query(pool.sql(include_str!("../queries/promise_load.sql"))).bind(tree.uuid()).bind(inbox.cast_signed());
    settled(&pool.run(doing, async |connection| load.fetch_all(connection).await).await?, doing)
}

pub(crate) fn settled(rows: &[PgRow], doing: &'static str) -> StoreResult<Vec<SettledPromise>> {
    rows.iter().map(|row| rows::settled_promise(&Fields::of(row, doing))).collect()
}
