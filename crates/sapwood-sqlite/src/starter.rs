//! Starts with keys, and the intake of events (W3).

use async_trait::async_trait;
use sapwood_core::store::{Intake, Start, Started, Starter, StoreResult};
use sapwood_core::tree::{Closing, Invocation, InvocationState, TreeState};
use sapwood_core::{Path, WorkerId};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::creating::{self, NewTreeRow, TREE_INSERT};
use crate::db::Db;
use crate::error::permanent;
use crate::fields::Fields;
use crate::membership::require_fence;
use crate::offsets;
use crate::work::Work;
use crate::writer::Writer;

static START_KEY_INSERT: Bulk = Bulk::each(include_str!("../queries/start_key_insert.sql"));

/// Starts trees, owned or not.
pub(crate) struct SqliteStarter {
    writer: Writer,
    owner: Option<(WorkerId, u16)>,
}

impl SqliteStarter {
    pub(crate) fn new(writer: Writer, owner: Option<(WorkerId, u16)>) -> Self {
        Self { writer, owner }
    }
}

#[async_trait]
impl Starter for SqliteStarter {
    async fn start(&mut self, starts: &[Start]) -> StoreResult<Vec<Started>> {
        self.writer.run(StartAll { owner: self.owner, starts: starts.to_vec() }).await
    }

    async fn intake(&mut self, batch: &Intake) -> StoreResult<Vec<Started>> {
        self.writer.run(TakeIn { owner: self.owner, batch: batch.clone() }).await
    }
}

struct StartAll {
    owner: Option<(WorkerId, u16)>,
    starts: Vec<Start>,
}

#[async_trait]
impl Work for StartAll {
    type Answer = Vec<Started>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<Started>> {
        require_owner(db, self.owner).await?;
        start_all(db, self.owner, &self.starts).await
    }
}

struct TakeIn {
    owner: Option<(WorkerId, u16)>,
    batch: Intake,
}

#[async_trait]
impl Work for TakeIn {
    type Answer = Vec<Started>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<Started>> {
        let Intake { group, offsets, starts } = &self.batch;
        require_owner(db, self.owner).await?;
        offsets::require_followed(db, group, offsets).await?;
        offsets::advance(db, group, offsets).await?;
        start_all(db, self.owner, starts).await
    }
}

async fn require_owner(db: &mut Db<'_>, owner: Option<(WorkerId, u16)>) -> StoreResult<()> {
    if let Some((worker, fence)) = owner {
        require_fence(db, worker, fence, None).await?;
    }
    Ok(())
}

/// Inserts the keys, in order, so that of two equal ones the first wins; then the trees of those that were free.
async fn start_all(db: &mut Db<'_>, owner: Option<(WorkerId, u16)>, starts: &[Start]) -> StoreResult<Vec<Started>> {
    let now = db.now;
    let free = db.each(&START_KEY_INSERT, starts, |Start { tree, key }, args| {
        args.text(key.scope.stored()).text(key.key.as_str()).tree(tree.id).blob(&key.digest).time(now)
    });
    let free = free.await?;
    let owner = owner.map(|(worker, _)| worker);
    let fresh: Vec<&Start> = starts.iter().zip(&free).filter(|(_, free)| **free).map(|(start, _)| start).collect();
    insert_trees(db, owner, &fresh).await?;
    let mut started = Vec::with_capacity(starts.len());
    for (start, free) in starts.iter().zip(free) {
        started.push(if free { Started::Created } else { holder(db, start).await? });
    }
    Ok(started)
}

async fn insert_trees(db: &mut Db<'_>, owner: Option<WorkerId>, starts: &[&Start]) -> StoreResult<()> {
    let now = db.now;
    let ready_at = owner.is_none().then_some(now);
    let inserted = db.each(&TREE_INSERT, starts, |Start { tree, .. }, args| {
        NewTreeRow {
            tree,
            state: TreeState::Running,
            closing: Closing::None,
            owner,
            revision: 0,
            number: 0,
            ready_at,
            needs: None,
        }
        .fill(now, args)
    });
    if let Some(index) = inserted.await?.iter().position(|inserted| !inserted) {
        return Err(permanent(format!("a start with a fresh key names tree {}, which exists", starts[index].tree.id)));
    }
    let roots: Vec<_> = starts.iter().map(|start| root_of(start)).collect();
    let created: Vec<_> = starts.iter().zip(&roots).map(|(start, root)| (start.tree.id, root)).collect();
    creating::invocations(db, &created).await
}

fn root_of(Start { tree, .. }: &Start) -> Invocation {
    Invocation {
        path: Path::root(),
        function: tree.function.clone(),
        version: tree.version,
        input: tree.input.clone(),
        state: InvocationState::fresh(),
        undo: None,
        deadline: tree.deadline,
    }
}

/// What has the key of a start. A start whose own tree has it was sent before, and its answer was lost.
async fn holder(db: &mut Db<'_>, start: &Start) -> StoreResult<Started> {
    let args = Args::of(2).text(start.key.scope.stored()).text(start.key.key.as_str());
    let row = db.one(include_str!("../queries/start_key_holder.sql"), args).await?;
    let row = row.ok_or_else(|| permanent(format!("the key {:?} is neither free nor taken", start.key.key)))?;
    let mut fields = Fields::of(&row);
    let (tree, digest, function) = (fields.tree()?, fields.blob()?, fields.text()?);
    if tree == start.tree.id {
        return Ok(Started::Created);
    }
    Ok(Started::Existing { tree, function, same_digest: digest[..] == start.key.digest })
}
