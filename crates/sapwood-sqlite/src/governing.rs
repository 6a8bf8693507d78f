//! Requests for trees: judged and recorded in one transaction of the writer.

use async_trait::async_trait;
use sapwood_core::TreeId;
use sapwood_core::control::{ControlRecord, ControlRequest, ControlVerb};
use sapwood_core::store::{Governed, GovernedNode, Governing, Ruling, StoreResult, judge};
use sapwood_core::tree::{Closing, PromiseState};
use sqlx::sqlite::SqliteRow;

use crate::args::Args;
use crate::db::Db;
use crate::fields::Fields;
use crate::store::SqliteStore;
use crate::work::Work;

#[async_trait]
impl Governing for SqliteStore {
    async fn tree_govern(&self, tree: TreeId, request: &ControlRequest) -> StoreResult<Option<Ruling>> {
        self.writer().run(Govern { tree, request: request.clone() }).await
    }
}

struct Govern {
    tree: TreeId,
    request: ControlRequest,
}

#[async_trait]
impl Work for Govern {
    type Answer = Option<Ruling>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Option<Ruling>> {
        let Self { tree, request } = self;
        let row = db.one(include_str!("../queries/tree_lock.sql"), Args::of(1).tree(*tree)).await?;
        let Some(row) = row else { return Ok(None) };
        let mut fields = Fields::of(&row);
        let (control, applied) = (fields.number()?, fields.number()?);
        let (_inbox, is_aside) = (fields.int()?, fields.int()? != 0);
        let next = request.path.undo_again().map(|next| next.to_bytes());
        let args = Args::of(3).tree(*tree).path(&request.path).opt_blob(next.as_deref());
        let nodes = db.all(include_str!("../queries/invocation_find.sql"), args).await?;
        let nodes: Vec<GovernedNode> = nodes.iter().map(node).collect::<StoreResult<_>>()?;
        let pending = list(db, *tree, applied).await?;
        let ruling = judge(Governed { control, is_aside, nodes: &nodes, pending: &pending }, request);
        if let Ruling::Accepted { control } = ruling {
            let args = Args::of(7)
                .tree(*tree)
                .int(control)
                .int(request.verb.code())
                .path(&request.path)
                .text(request.actor.as_str())
                .text(request.reason.as_str())
                .time(db.now);
            db.run(include_str!("../queries/control_request_insert.sql"), args).await?;
            let args = Args::of(2).tree(*tree).time(db.now);
            db.run(include_str!("../queries/tree_govern.sql"), args).await?;
        }
        Ok(Some(ruling))
    }
}

/// The requests for a tree after number `after`.
pub(crate) async fn list(db: &mut Db<'_>, tree: TreeId, after: u32) -> StoreResult<Vec<ControlRecord>> {
    let args = Args::of(2).tree(tree).int(after);
    let rows = db.all(include_str!("../queries/control_request_list.sql"), args).await?;
    rows.iter().map(record).collect()
}

fn node(row: &SqliteRow) -> StoreResult<GovernedNode> {
    let mut fields = Fields::of(row);
    Ok(GovernedNode {
        path: fields.path()?,
        promise: fields.code(PromiseState::from_code)?,
        closing: fields.code(Closing::from_code)?,
        is_parked: fields.int()? != 0,
    })
}

fn record(row: &SqliteRow) -> StoreResult<ControlRecord> {
    let mut fields = Fields::of(row);
    let (control, verb) = (fields.number()?, fields.code(ControlVerb::from_code)?);
    let request = ControlRequest { path: fields.path()?, verb, actor: fields.text()?, reason: fields.text()? };
    Ok(ControlRecord { control, request, requested_at: fields.time()? })
}
