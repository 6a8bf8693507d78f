//! Starts with keys, and the intake of events (W3).
//!
//! Both may wait for a stranger's transaction that is just inserting the same key, so they have a connection of their
//! own and never hold up a committer. Keys are inserted first. Which trees have the other keys is read by a second
//! statement, because only a newer snapshot shows what the first statement waited for.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sapwood_core::store::{
    Intake, NewTree, OffsetAdvance, Start, Started, Starter, StoreError, StoreErrorKind, StoreResult,
};
use sapwood_core::{TreeId, WorkerId};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgBindIterExt};
use sqlx::query::Query;
use uuid::Uuid;

use crate::connect::Connector;
use crate::error::fenced;
use crate::fenced::{Fenced, Session};
use crate::fields::{Fields, Stamp};

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A [`Starter`] on a connection of its own.
pub(crate) struct PostgresStarter {
    fenced: Fenced,
}

impl PostgresStarter {
    pub(crate) const fn new(connector: Connector, owner: Option<(WorkerId, u16)>) -> Self {
        Self { fenced: Fenced::new(connector, "starter", owner) }
    }

    /// Binds the worker, the fence and its incarnation, then the starts.
    fn bind<'q>(&self, statement: &'static str) -> impl FnOnce(&Session, &'q [Start]) -> Statement<'q> + use<'q> {
        let (worker, fence) = (self.fenced.worker(), self.fenced.fence_number());
        let statement = self.fenced.sql(statement);
        move |session, starts| {
            let statement = sqlx::query(statement).bind(worker).bind(fence).bind(session.incarnation);
            bind_starts(statement, starts)
        }
    }

    /// Fails if the worker is no longer alive, or a second starter took its fence.
    fn require_alive(&self, answer: &Fields<'_>) -> StoreResult<()> {
        match self.fenced.fence {
            Some((worker, _)) if !answer.plain::<bool>("alive")? => Err(fenced(worker)),
            _ => Ok(()),
        }
    }

    /// What each start came to, given the trees that this statement started.
    async fn started(&mut self, starts: &[Start], answer: &Fields<'_>) -> StoreResult<Vec<Started>> {
        let created: HashSet<TreeId> = answer.plain::<Vec<Uuid>>("started")?.into_iter().map(TreeId::from).collect();
        let taken: Vec<&Start> = starts.iter().filter(|start| !created.contains(&start.tree.id)).collect();
        let mut holders = self.holders(&taken).await?;
        starts
            .iter()
            .map(|start| match holders.remove(&start.tree.id) {
                Some(holder) => Ok(holder),
                None if created.contains(&start.tree.id) => Ok(Started::Created),
                // The key was deleted between the two statements, because the retention of its tree had passed.
                None => Err(StoreError::new(StoreErrorKind::Transient, "a key was deleted while a start asked for it")),
            })
            .collect()
    }

    /// What has the keys of starts whose keys were taken, by the trees of these starts.
    async fn holders(&mut self, starts: &[&Start]) -> StoreResult<HashMap<TreeId, Started>> {
        if starts.is_empty() {
            return Ok(HashMap::new());
        }
        let doing = "read keys";
        let sql = self.fenced.sql(include_str!("../queries/start_key_holder.sql"));
        let found = self
            .fenced
            .run(doing, async |session| {
                sqlx::query(sql)
                    .bind(starts.iter().map(|start| start.key.scope.stored()).bind_iter())
                    .bind(starts.iter().map(|start| start.key.key.as_str()).bind_iter())
                    .bind(starts.iter().map(|start| &start.key.digest[..]).bind_iter())
                    .fetch_all(&mut session.connection)
                    .await
            })
            .await?;
        let mut holders = HashMap::with_capacity(found.len());
        for row in &found {
            let row = Fields::of(row, doing);
            // `with ordinality` counts from 1.
            let index = usize::try_from(row.plain::<i64>("ordinal")? - 1).unwrap_or(usize::MAX);
            let Some(start) = starts.get(index) else { continue };
            holders.insert(start.tree.id, holder(start, &row)?);
        }
        Ok(holders)
    }
}

/// A start whose own tree has the key was sent before, and its answer was lost.
fn holder(start: &Start, row: &Fields<'_>) -> StoreResult<Started> {
    let tree = row.tree("tree_id")?;
    if tree == start.tree.id {
        return Ok(Started::Created);
    }
    Ok(Started::Existing { tree, function: row.plain("function")?, same_digest: row.plain("same_digest")? })
}

#[async_trait]
impl Starter for PostgresStarter {
    async fn start(&mut self, starts: &[Start]) -> StoreResult<Vec<Started>> {
        if starts.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "start trees";
        let bind = self.bind(include_str!("../queries/start_insert.sql"));
        let row = self
            .fenced
            .run(doing, async |session| bind(session, starts).fetch_one(&mut session.connection).await)
            .await?;
        let answer = Fields::of(&row, doing);
        self.require_alive(&answer)?;
        self.started(starts, &answer).await
    }

    async fn intake(&mut self, batch: &Intake) -> StoreResult<Vec<Started>> {
        if batch.offsets.is_empty() && batch.starts.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "take events in";
        let bind = self.bind(include_str!("../queries/intake_insert.sql"));
        let row = self
            .fenced
            .run(doing, async |session| {
                bind_offsets(bind(session, &batch.starts), batch).fetch_one(&mut session.connection).await
            })
            .await?;
        let answer = Fields::of(&row, doing);
        self.require_alive(&answer)?;
        if !answer.plain::<bool>("accepted")? {
            let message = format!(
                "a partition of this batch is assigned to another member of group {}, or its offset is no longer what \
                 the batch follows",
                batch.group
            );
            return Err(StoreError::new(StoreErrorKind::Refused, message));
        }
        self.started(&batch.starts, &answer).await
    }
}

fn bind_starts<'q>(statement: Statement<'q>, starts: &'q [Start]) -> Statement<'q> {
    let trees = || starts.iter().map(|Start { tree, .. }: &'q Start| -> &'q NewTree { tree });
    statement
        .bind(starts.iter().map(|start| start.key.scope.stored()).bind_iter())
        .bind(starts.iter().map(|start| start.key.key.as_str()).bind_iter())
        .bind(trees().map(|tree| tree.id.uuid()).bind_iter())
        .bind(starts.iter().map(|start| &start.key.digest[..]).bind_iter())
        .bind(trees().map(|tree| tree.function.as_str()).bind_iter())
        .bind(trees().map(|tree| tree.version.cast_signed()).bind_iter())
        .bind(trees().map(|tree| &tree.input[..]).bind_iter())
        .bind(trees().map(|tree| tree.cause.correlation.as_str()).bind_iter())
        .bind(trees().map(|tree| tree.cause.causation.as_deref()).bind_iter())
        .bind(trees().map(|tree| tree.cause.traceparent.as_deref()).bind_iter())
        .bind(trees().map(|tree| tree.deadline.map(Stamp)).bind_iter())
}

fn bind_offsets<'q>(statement: Statement<'q>, batch: &'q Intake) -> Statement<'q> {
    let offsets = || batch.offsets.iter();
    let partitions = || offsets().map(|OffsetAdvance { partition, .. }| partition);
    statement
        .bind(&batch.group)
        .bind(partitions().map(|partition| partition.topic.as_str()).bind_iter())
        .bind(partitions().map(|partition| partition.partition).bind_iter())
        .bind(partitions().map(|partition| partition.topic_id.as_deref().unwrap_or_default()).bind_iter())
        .bind(offsets().map(|advance| advance.epoch).bind_iter())
        .bind(offsets().map(|advance| advance.after).bind_iter())
        .bind(offsets().map(|advance| advance.next_offset).bind_iter())
}
