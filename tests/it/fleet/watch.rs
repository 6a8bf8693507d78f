//! A reader of trees, while things happen to the fleet: what always holds, holds at every moment.

use std::collections::BTreeMap;
use std::time::Duration;

use sapwood_core::TreeId;
use sapwood_core::store::{ListedTree, Reading as _, StoreResult, TreeFilter};
use sapwood_core::tree::TreeRecord;
use sapwood_postgres::PostgresStore;
use tokio::time::sleep;

use crate::model::always_true::{always_true, goes_on};

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Trees of one look: the newest ones, most of which are open.
const TREES: usize = 40;

/// What was seen, and what was wrong with it.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) reads: usize,
    /// How often the store did not answer.
    pub(super) outages: usize,
    pub(super) wrong: Vec<String>,
}

/// Looks until it is told to stop.
pub(super) async fn watch(store: &PostgresStore, stop: impl Future<Output = ()>) -> Watched {
    let (mut watched, mut seen) = (Watched::default(), BTreeMap::new());
    let looking = async {
        loop {
            if look(store, &mut seen, &mut watched).await.is_err() {
                watched.outages += 1;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;

        () = stop => {}
        () = looking => {}
    }
    watched
}

async fn look(
    store: &PostgresStore,
    seen: &mut BTreeMap<TreeId, TreeRecord>,
    watched: &mut Watched,
) -> StoreResult<()> {
    for listed in store.tree_list(&TreeFilter { function: None, state: None, before: None, limit: TREES }).await? {
        let ListedTree::Row(row) = listed else {
            watched.wrong.push(format!("a tree cannot be read: {listed:?}"));
            continue;
        };
        if seen.get(&row.id).is_some_and(|before| before.row == row) {
            continue;
        }
        let Some(tree) = store.tree_read(row.id).await? else {
            watched.wrong.push(format!("a tree that was listed is not there: {row:?}"));
            continue;
        };
        watched.reads += 1;
        let went_on = seen.get(&row.id).map_or(Ok(()), |before| goes_on(before, &tree, false));
        if let Err(wrong) = always_true(&tree, false).and(went_on) {
            watched.wrong.push(format!("{wrong}\nbefore: {:#?}\nnow: {tree:#?}", seen.get(&row.id)));
        }
        seen.insert(row.id, tree);
    }
    Ok(())
}
