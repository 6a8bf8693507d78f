//! Requests for trees: judged and recorded under the lock of the tree's row.
//!
//! This is a transaction of several statements, because each of them has to see what the lock waited for. It is short, it
//! locks one row, and no commit of turns waits for it: a batch leaves a tree out whose row is locked.

use async_trait::async_trait;
use sapwood_core::TreeId;
use sapwood_core::control::{ControlRecord, ControlRequest, ControlVerb};
use sapwood_core::store::{Governed, GovernedNode, Governing, Ruling, StoreResult, judge};
use sapwood_core::tree::{Closing, PromiseState};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection};

use crate::fields::Fields;
use crate::pool::Pool;
use crate::store::PostgresStore;

const DOING: &str = "govern a tree";

#[async_trait]
impl Governing for PostgresStore {
    async fn tree_govern(&self, tree: TreeId, request: &ControlRequest) -> StoreResult<Option<Ruling>> {
        let pool = &self.readers;
        let lock = sqlx::query(pool.sql(include_str!("../queries/tree_lock.sql"))).bind(tree.uuid());
        let find = sqlx::query(pool.sql(include_str!("../queries/invocation_find.sql")))
            .bind(tree.uuid())
            .bind(request.path.to_bytes())
            .bind(request.path.undo_again().map(|next| next.to_bytes()));
        let list = sqlx::query(pool.sql(include_str!("../queries/control_request_list.sql"))).bind(tree.uuid());
        let insert = sqlx::query(pool.sql(include_str!("../queries/control_request_insert.sql"))).bind(tree.uuid());
        let govern = sqlx::query(pool.sql(include_str!("../queries/tree_govern.sql"))).bind(tree.uuid());
        let work = async |connection: &mut PgConnection| {
            let mut locked = connection.begin().await?;
            let Some(row) = lock.fetch_optional(&mut *locked).await? else { return Ok(Ok(None)) };
            let applied = match Fields::of(&row, DOING).plain::<i32>("applied") {
                Ok(applied) => applied,
                Err(error) => return Ok(Err(error)),
            };
            let nodes = find.fetch_all(&mut *locked).await?;
            let pending = list.bind(applied).fetch_all(&mut *locked).await?;
            let ruling = match ruling(&row, &nodes, &pending, request) {
                Ok(ruling) => ruling,
                Err(error) => return Ok(Err(error)),
            };
            if let Ruling::Accepted { control } = ruling {
                let insert = insert
                    .bind(control.cast_signed())
                    .bind(request.verb.code())
                    .bind(request.path.to_bytes())
                    .bind(&request.actor)
                    .bind(&request.reason);
                insert.execute(&mut *locked).await?;
                govern.execute(&mut *locked).await?;
            }
            locked.commit().await?;
            Ok(Ok(Some(ruling)))
        };
        pool.run(DOING, work).await?
    }
}

fn ruling(tree: &PgRow, nodes: &[PgRow], pending: &[PgRow], request: &ControlRequest) -> StoreResult<Ruling> {
    let tree = Fields::of(tree, DOING);
    let (control, is_aside) = (tree.unsigned("control")?, tree.plain("aside")?);
    let nodes = nodes.iter().map(|row| node(&Fields::of(row, DOING))).collect::<StoreResult<Vec<_>>>()?;
    let pending = pending.iter().map(|row| record(&Fields::of(row, DOING))).collect::<StoreResult<Vec<_>>>()?;
    Ok(judge(Governed { control, is_aside, nodes: &nodes, pending: &pending }, request))
}

fn node(row: &Fields<'_>) -> StoreResult<GovernedNode> {
    Ok(GovernedNode {
        path: row.path("path")?,
        promise: row.code("state", PromiseState::from_code)?,
        closing: row.code("closing", Closing::from_code)?,
        is_parked: row.plain("parked")?,
    })
}

/// The requests for a tree after number `after`.
pub(crate) async fn list(
    connection: &mut PgConnection,
    pool: &Pool,
    tree: TreeId,
    after: u32,
) -> sqlx::Result<Vec<PgRow>> {
    let list = sqlx::query(pool.sql(include_str!("../queries/control_request_list.sql")));
    list.bind(tree.uuid()).bind(after.cast_signed()).fetch_all(connection).await
}

pub(crate) fn record(row: &Fields<'_>) -> StoreResult<ControlRecord> {
    let request = ControlRequest {
        path: row.path("path")?,
        verb: row.code("verb", ControlVerb::from_code)?,
        actor: row.plain("actor")?,
        reason: row.plain("reason")?,
    };
    Ok(ControlRecord { control: row.unsigned("control")?, request, requested_at: row.time("requested_at")? })
}
