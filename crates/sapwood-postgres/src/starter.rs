//! Starts with keys, and the intake of events (W3).
//!
//! Both may wait for a stranger's transaction that is just inserting the same key, so they have a connection of their
//! own and never hold up a committer. Keys are tried first; who holds the others is read by a second statement, for
//! only a newer snapshot shows what the first one waited for.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sapwood_core::store::{
    Intake, NewTree, PositionMove, Start, Started, Starter, StoreError, StoreErrorKind, StoreResult,
};
use sapwood_core::{TreeId, WorkerId};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgBindIterExt};
use sqlx::query::Query;
use uuid::Uuid;

use crate::connect::Connector;
use crate::error::fenced;
use crate::fenced::{Fenced, Session};
use crate::rows::Reader;

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A [`Starter`] on a connection of its own.
pub(crate) struct PostgresStarter {
    fenced: Fenced,
}

impl PostgresStarter {
    pub(crate) const fn new(connector: Connector, owner: Option<(WorkerId, u16)>) -> Self {
        Self { fenced: Fenced::new(connector, "starter", owner) }
    }

    /// The worker, slot and incarnation, then the starts.
    fn bind<'q>(&self, statement: &'static str) -> impl FnOnce(&Session, &'q [Start]) -> Statement<'q> + use<'q> {
        let (worker, slot) = (self.fenced.worker(), self.fenced.slot_number());
        move |session, starts| {
            let statement = sqlx::query(statement).bind(worker).bind(slot).bind(session.incarnation);
            bind_starts(statement, starts)
        }
    }

    /// The worker is not alive any more, or a second starter took its slot.
    fn check_alive(&self, answer: &Reader<'_>) -> StoreResult<()> {
        match self.fenced.slot {
            Some((worker, _)) if !answer.plain::<bool>("alive")? => Err(fenced(worker)),
            _ => Ok(()),
        }
    }

    /// What each start came to, given the trees that were started.
    async fn started(&mut self, starts: &[Start], answer: &Reader<'_>) -> StoreResult<Vec<Started>> {
        let created: HashSet<TreeId> = answer.plain::<Vec<Uuid>>("started")?.into_iter().map(TreeId::from).collect();
        let held: Vec<&Start> = starts.iter().filter(|start| !created.contains(&start.tree.id)).collect();
        let mut existing = self.existing(&held).await?;
        starts
            .iter()
            .map(|start| match existing.remove(&start.tree.id) {
                None if created.contains(&start.tree.id) => Ok(Started::Created),
                // Sent again after an unknown outcome: it was applied the first time.
                Some(Started::Existing { tree, .. }) if tree == start.tree.id => Ok(Started::Created),
                Some(existing) => Ok(existing),
                // The key was let go between the two statements (its tree's retention passed).
                None => {
                    Err(StoreError::new(StoreErrorKind::Transient, "a key was released while a start asked for it"))
                }
            })
            .collect()
    }

    async fn existing(&mut self, starts: &[&Start]) -> StoreResult<HashMap<TreeId, Started>> {
        if starts.is_empty() {
            return Ok(HashMap::new());
        }
        let doing = "read keys";
        let rows = self
            .fenced
            .run(doing, async |session| {
                sqlx::query(include_str!("../queries/keys_read.sql"))
                    .bind(starts.iter().map(|start| start.key.scope.stored()).bind_iter())
                    .bind(starts.iter().map(|start| start.key.key.as_str()).bind_iter())
                    .bind(starts.iter().map(|start| &start.key.digest[..]).bind_iter())
                    .fetch_all(&mut session.connection)
                    .await
            })
            .await?;
        let mut existing = HashMap::with_capacity(rows.len());
        for row in &rows {
            let row = Reader::new(row, doing);
            // `with ordinality` counts from 1.
            let place = usize::try_from(row.plain::<i64>("place")? - 1).unwrap_or(usize::MAX);
            let Some(start) = starts.get(place) else { continue };
            let held = Started::Existing {
                tree: row.tree("tree_id")?,
                function: row.plain("function")?,
                same_digest: row.plain("same_digest")?,
            };
            existing.insert(start.tree.id, held);
        }
        Ok(existing)
    }
}

#[async_trait]
impl Starter for PostgresStarter {
    async fn start(&mut self, starts: &[Start]) -> StoreResult<Vec<Started>> {
        if starts.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "start trees";
        let bind = self.bind(include_str!("../queries/starts_insert.sql"));
        let row = self
            .fenced
            .run(doing, async |session| bind(session, starts).fetch_one(&mut session.connection).await)
            .await?;
        let answer = Reader::new(&row, doing);
        self.check_alive(&answer)?;
        self.started(starts, &answer).await
    }

    async fn intake(&mut self, batch: &Intake) -> StoreResult<Vec<Started>> {
        if batch.positions.is_empty() && batch.starts.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "take events in";
        let bind = self.bind(include_str!("../queries/intake_insert.sql"));
        let row = self
            .fenced
            .run(doing, async |session| {
                bind_positions(bind(session, &batch.starts), batch).fetch_one(&mut session.connection).await
            })
            .await?;
        let answer = Reader::new(&row, doing);
        self.check_alive(&answer)?;
        if !answer.plain::<bool>("accepted")? {
            let message = format!("another member of group {} has a partition of this batch", batch.group);
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
}

fn bind_positions<'q>(statement: Statement<'q>, batch: &'q Intake) -> Statement<'q> {
    let positions = || batch.positions.iter();
    let partitions = || positions().map(|PositionMove { partition, .. }| partition);
    statement
        .bind(&batch.group)
        .bind(partitions().map(|partition| partition.topic.as_str()).bind_iter())
        .bind(partitions().map(|partition| partition.partition).bind_iter())
        .bind(partitions().map(|partition| partition.topic_id.as_deref().unwrap_or_default()).bind_iter())
        .bind(positions().map(|position| position.epoch).bind_iter())
        .bind(positions().map(|position| position.next_offset).bind_iter())
}
