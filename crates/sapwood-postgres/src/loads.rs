//! Trees: committers and starters, claims, and what an activation reads.

use async_trait::async_trait;
use sapwood_core::store::{Claims, Committer, Reading, Starter, StoreResult, Trees};
use sapwood_core::tree::{InvocationImage, OpenInvocation, TreeImage};
use sapwood_core::{Path, TreeId, WorkerId};

use crate::PostgresStore;
use crate::committer::PostgresCommitter;
use crate::error::failed;
use crate::rows::Reader;
use crate::starter::PostgresStarter;

#[async_trait]
impl Trees for PostgresStore {
    fn committer(&self, worker: WorkerId, slot: u16) -> Box<dyn Committer> {
        Box::new(PostgresCommitter::new(self.connector.clone(), worker, slot))
    }

    fn starter(&self, owner: Option<(WorkerId, u16)>) -> Box<dyn Starter> {
        Box::new(PostgresStarter::new(self.connector.clone(), owner))
    }

    async fn trees_claim(&self, worker: WorkerId, limit: usize, versions: &[String]) -> StoreResult<Claims> {
        self.claim(worker, limit, versions).await
    }

    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>> {
        let doing = "load a tree";
        // Its owner loads it, and only its owner writes it: two statements see the same tree.
        let Some(row) = self.tree_row(tree).await? else { return Ok(None) };
        let rows = sqlx::query(include_str!("../queries/tree_load.sql"))
            .bind(tree.uuid())
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        let mut image = TreeImage { row, open: Vec::new(), timers: Vec::new(), nodes: 0 };
        for row in &rows {
            let row = Reader::new(row, doing);
            match row.plain::<i32>("part")? {
                0 => image.open.push(open_invocation(&row)?),
                1 => image.timers.push(row.timer()?),
                _ => image.nodes = usize::try_from(row.plain::<i64>("nodes")?).unwrap_or(usize::MAX),
            }
        }
        Ok(Some(image))
    }

    async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
        let doing = "load an invocation";
        let (first, last) = path.children_range();
        let rows = sqlx::query(include_str!("../queries/invocation_load.sql"))
            .bind(tree.uuid())
            .bind(path.to_bytes())
            .bind(first)
            .bind(last)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        let (mut invocation, mut children, mut entries, mut timers) = (None, Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let row = Reader::new(row, doing);
            match row.plain::<i32>("part")? {
                0 => invocation = Some(row.invocation()?),
                1 => children.push(row.invocation()?),
                2 => entries.push(row.entry()?),
                _ => timers.push(row.timer()?),
            }
        }
        Ok(invocation.map(|invocation| InvocationImage { invocation, entries, children, timers }))
    }
}

fn open_invocation(row: &Reader<'_>) -> StoreResult<OpenInvocation> {
    Ok(OpenInvocation {
        path: row.path()?,
        function: row.plain("function")?,
        version: row.unsigned("version")?,
        state: row.invocation_state()?,
        latest: row.unsigned("latest")?,
    })
}
