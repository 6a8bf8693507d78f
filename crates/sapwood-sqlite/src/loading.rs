//! What a worker reads: a claimed tree, and all that one activation needs.

use async_trait::async_trait;
use sapwood_core::store::StoreResult;
use sapwood_core::tree::{InvocationImage, TreeImage};
use sapwood_core::{Path, TreeId};

use crate::args::Args;
use crate::db::Db;
use crate::fields::Fields;
use crate::governing;
use crate::promises;
use crate::rows;
use crate::work::Work;

/// Reads what is needed to go on with a tree.
pub(crate) struct LoadTree(pub(crate) TreeId);

#[async_trait]
impl Work for LoadTree {
    type Answer = Option<TreeImage>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Option<TreeImage>> {
        let of_tree = || Args::of(1).tree(self.0);
        let Some(row) = db.one(include_str!("../queries/tree_row.sql"), of_tree()).await? else { return Ok(None) };
        let open = db.all(include_str!("../queries/invocation_open.sql"), of_tree()).await?;
        let timers = db.all(include_str!("../queries/timer_list.sql"), of_tree()).await?;
        let nodes = db.one(include_str!("../queries/invocation_count.sql"), of_tree()).await?;
        let row = rows::tree_row(&row)?;
        let requests = governing::list(db, self.0, row.applied).await?;
        let settled = if row.inbox > 0 { promises::unrecorded(db, self.0).await? } else { Vec::new() };
        let mut image = TreeImage {
            timers: timers.iter().map(rows::timer).collect::<StoreResult<_>>()?,
            nodes: nodes.map_or(Ok(0), |row| Fields::of(&row).number())?,
            requests,
            settled,
            ..TreeImage::of(row)
        };
        for invocation in &open {
            image.take_up(rows::open_invocation(invocation)?);
        }
        Ok(Some(image))
    }
}

/// Reads all that one activation needs.
pub(crate) struct LoadInvocation(pub(crate) TreeId, pub(crate) Path);

#[async_trait]
impl Work for LoadInvocation {
    type Answer = Option<InvocationImage>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Option<InvocationImage>> {
        let Self(tree, path) = self;
        let of_path = || Args::of(2).tree(*tree).path(path);
        let invocation = db.one(include_str!("../queries/invocation_load.sql"), of_path()).await?;
        let Some(invocation) = invocation else { return Ok(None) };
        let entries = db.all(include_str!("../queries/journal_load.sql"), of_path()).await?;
        let (first, last) = path.children_range();
        let args = Args::of(3).tree(*tree).blob(&first).blob(&last);
        let children = db.all(include_str!("../queries/invocation_children.sql"), args).await?;
        let timers = db.all(include_str!("../queries/timer_load.sql"), of_path()).await?;
        Ok(Some(InvocationImage {
            invocation: rows::invocation(&invocation)?,
            entries: entries.iter().map(rows::entry).collect::<StoreResult<_>>()?,
            children: children.iter().map(rows::invocation).collect::<StoreResult<_>>()?,
            timers: timers.iter().map(rows::timer).collect::<StoreResult<_>>()?,
        }))
    }
}
