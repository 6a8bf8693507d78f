//! Reading: one activation reads its own, a claim what is open, a reader all of it.

use std::sync::Arc;

use sapwood_core::journal::EntryKind;
use sapwood_core::store::{InvocationChange, Next, Ownership, Store, TreeFilter, Turn};
use sapwood_core::tree::{Closing, Invocation, InvocationState, PromiseState, TreeState};
use sapwood_core::{Path, TreeId};

use super::fixture::{
    Worker, child, creation, entry, full, full_again, new_tree, root_of, row, settled, timer, turn, waiting,
};
use crate::store::{TestStore, outbox};

fn path(positions: &[u32]) -> Path {
    Path::from(positions.to_vec())
}

fn at(positions: &[u32], state: InvocationState) -> Invocation {
    Invocation { path: path(positions), state, ..child(0) }
}

/// A tree of three levels: the root calls at 1, 300 and 70,000, the first of these at 0 and 2. Beside it a tree
/// that must not be mixed up with it.
async fn three_levels(store: &Arc<dyn Store>) -> TreeId {
    let mut worker = Worker::join(store).await;
    let new = new_tree();
    let grown = Turn {
        invocations: vec![
            Invocation { state: waiting(3), ..root_of(&new) },
            at(&[1], waiting(5)),
            at(&[300], settled(Some(6))),
            at(&[70_000], InvocationState::fresh()),
            at(&[1, 0], settled(Some(4))),
            at(&[1, 2], InvocationState { promise: PromiseState::ReturnedOk, ..settled(None) }),
        ],
        entries: vec![
            (path(&[]), entry(0, EntryKind::StepResolved, Some(1))),
            (path(&[]), entry(1, EntryKind::Valued, None)),
            (path(&[]), entry(2, EntryKind::SleepEnded, Some(3))),
            (path(&[1]), entry(0, EntryKind::StepResolved, Some(2))),
            (path(&[1, 2]), entry(0, EntryKind::StepResolved, Some(5))),
        ],
        timers_set: vec![timer(path(&[]), 9), timer(path(&[1]), 3), timer(path(&[70_000]), u32::MAX)],
        next: Next { state: TreeState::Running, closing: Closing::None, number: 6, ownership: Ownership::Keep },
        ..creation(&new)
    };
    let mut other = creation(&new_tree());
    other.entries = grown.entries.clone();
    other.timers_set = grown.timers_set.clone();
    other.invocations.extend([at(&[1], waiting(1)), at(&[7], waiting(1))]);
    worker.commit_all(&[grown, other]).await;
    new.id
}

/// R11: an activation reads its own journal, its direct children and its own timers, and nothing else.
pub async fn an_activation_reads_only_its_own(test: &TestStore) {
    let store = test.store();
    let tree = three_levels(&store).await;

    let root = store.invocation_load(tree, &Path::root()).await.expect("read").expect("there");
    assert_eq!(root.invocation.state, waiting(3));
    assert_eq!(root.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [0, 1, 2]);
    let children: Vec<String> = root.children.iter().map(|child| child.path.to_string()).collect();
    assert_eq!(children, ["/1", "/300", "/70000"], "direct children by position");
    assert_eq!(root.children[1].state, settled(Some(6)), "a settled child comes with its outcome");
    assert_eq!(root.timers.iter().map(|timer| timer.position).collect::<Vec<_>>(), [9]);

    let first = store.invocation_load(tree, &path(&[1])).await.expect("read").expect("there");
    assert_eq!(first.entries, [entry(0, EntryKind::StepResolved, Some(2))]);
    let children: Vec<String> = first.children.iter().map(|child| child.path.to_string()).collect();
    assert_eq!(children, ["/1/0", "/1/2"]);
    assert_eq!(first.timers.len(), 1);

    let leaf = store.invocation_load(tree, &path(&[1, 0])).await.expect("read").expect("there");
    assert_eq!((leaf.entries.len(), leaf.children.len(), leaf.timers.len()), (0, 0, 0));
}

/// R11: what is not there is not there.
pub async fn what_is_not_there_is_told_so(test: &TestStore) {
    let store = test.store();
    let tree = three_levels(&store).await;
    let nowhere = TreeId::fresh();
    assert_eq!(store.invocation_load(tree, &path(&[2])).await.expect("read"), None);
    assert_eq!(store.invocation_load(nowhere, &Path::root()).await.expect("read"), None);
    assert_eq!(store.tree_load(nowhere).await.expect("read"), None);
    assert_eq!(store.tree_row(nowhere).await.expect("read"), None);
    assert_eq!(store.tree_read(nowhere).await.expect("read"), None);
    assert_eq!(store.outcome_read(nowhere).await.expect("read"), None);
}

/// S4: a claim loads what is open, parents first, with the latest number recorded for each.
pub async fn a_claimed_tree_is_loaded_by_what_is_open(test: &TestStore) {
    let store = test.store();
    let tree = three_levels(&store).await;
    let image = store.tree_load(tree).await.expect("read").expect("there");
    assert_eq!(image.row, row(&store, tree).await);
    assert_eq!(image.nodes, 6, "settled ones count");
    // The root: entries up to 3, and its child /300 settled under 6. /1: its entry 2, its child /1/0 under 4.
    let next: Vec<(String, u32)> = image.open.iter().map(|one| (one.path.to_string(), one.next_seq)).collect();
    assert!(next.contains(&("/".to_owned(), 3)) && next.contains(&("/70000".to_owned(), 0)), "{next:?}");
    let mut open: Vec<(String, u32)> = image.open.iter().map(|one| (one.path.to_string(), one.latest)).collect();
    assert_eq!(open.remove(0), ("/".to_owned(), 6));
    assert_eq!(open.pop(), Some(("/1/2".to_owned(), 5)));
    open.sort();
    assert_eq!(open, [("/1".to_owned(), 4), ("/70000".to_owned(), 0)]);
    let first = image.open.iter().find(|one| one.path == path(&[1])).expect("it is open");
    assert_eq!((&first.function, first.version, &first.state), (&"reserve".to_owned(), 2, &waiting(5)));
    let returned = image.open.last().expect("there");
    assert_eq!(returned.state.outcome, settled(None).outcome, "a body that returned has its outcome");
    let mut timers: Vec<_> = image.timers.iter().map(|timer| (timer.path.to_string(), timer.position)).collect();
    timers.sort();
    assert_eq!(timers, [("/".to_owned(), 9), ("/1".to_owned(), 3), ("/70000".to_owned(), u32::MAX)]);
}

/// G1: a reader gets the whole tree.
pub async fn a_reader_gets_the_whole_tree(test: &TestStore) {
    let store = test.store();
    let tree = three_levels(&store).await;
    let record = store.tree_read(tree).await.expect("read").expect("there");
    let depths: Vec<usize> = record.invocations.iter().map(|row| row.invocation.path.depth()).collect();
    assert_eq!(depths, [0, 1, 1, 1, 2, 2], "parents before children");
    assert_eq!(record.entries.len(), 5);
    let of_root: Vec<u32> =
        record.entries.iter().filter(|(of, ..)| *of == Path::root()).map(|(_, _, entry)| entry.seq).collect();
    assert_eq!(of_root, [0, 1, 2]);
    assert!(record.entries.iter().all(|(_, recorded_at, _)| *recorded_at >= record.row.created_at));
    assert_eq!(record.timers.len(), 3);
}

/// P6: the outcome is the root's, and is there once the tree is settled.
pub async fn the_outcome_of_a_tree_is_its_root_s(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    worker.commit_all(&[full(tree, 1)]).await;
    let open = store.outcome_read(tree).await.expect("read").expect("there");
    assert_eq!((open.state, open.outcome, open.attempts), (TreeState::Running, None, 1));

    let mut settling = full_again(tree, 2);
    settling.changes[0].state.attempt = 3;
    let value = settling.changes[0].state.outcome.clone();
    worker.commit_all(&[settling]).await;
    let outcome = store.outcome_read(tree).await.expect("read").expect("there");
    assert_eq!((outcome.state, outcome.outcome, outcome.attempts), (TreeState::Resolved, value, 3));
    assert_eq!((outcome.function.as_str(), outcome.version), ("place_order", 1));
}

/// N1: a root whose body returned while a child is open has no outcome yet.
pub async fn a_returned_root_has_no_outcome_before_the_tree_is_settled(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let returned = InvocationState { promise: PromiseState::ReturnedOk, ..settled(None) };
    let change = InvocationChange { path: Path::root(), state: returned };
    worker.commit_all(&[Turn { changes: vec![change], invocations: vec![child(0)], ..turn(tree, 1) }]).await;
    assert_eq!(store.outcome_read(tree).await.expect("read").expect("there").outcome, None);
    assert_eq!(outbox(store.as_ref()).await, []);
}

/// G4: trees are listed newest first, by function and state, from page to page.
pub async fn trees_are_listed_newest_first_in_pages(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let mut creations = Vec::new();
    for n in 0..20 {
        let mut new = new_tree();
        new.function = if n % 4 == 0 { "refund" } else { "place_order" }.to_owned();
        creations.push(creation(&new));
    }
    let mut trees: Vec<TreeId> = creations.iter().map(|turn| turn.tree).collect();
    worker.commit_all(&creations).await;
    let suspended = |tree: TreeId| {
        let next = Next { state: TreeState::Suspended, closing: Closing::None, number: 0, ownership: Ownership::Keep };
        Turn { next, ..turn(tree, 1) }
    };
    worker.commit_all(&[suspended(trees[3]), suspended(trees[8])]).await;
    let (third, eighth) = (trees[3], trees[8]);
    trees.sort();
    trees.reverse();

    let list = |filter: TreeFilter| {
        let store = Arc::clone(&store);
        async move {
            let rows = store.tree_list(&filter).await.expect("the trees are listed");
            rows.into_iter().map(|row| row.id()).collect::<Vec<TreeId>>()
        }
    };
    let all = TreeFilter { limit: 100, ..TreeFilter::default() };
    assert_eq!(list(all.clone()).await, trees);
    let mut paged = Vec::new();
    loop {
        let page = list(TreeFilter { before: paged.last().copied(), limit: 6, ..all.clone() }).await;
        assert!(page.len() <= 6);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, trees, "pages neither overlap nor skip");
    assert_eq!(list(TreeFilter { function: Some("refund".to_owned()), ..all.clone() }).await.len(), 5);
    assert_eq!(list(TreeFilter { state: Some(TreeState::Suspended), ..all.clone() }).await, [eighth, third]);
    let both = TreeFilter { function: Some("refund".to_owned()), state: Some(TreeState::Suspended), ..all.clone() };
    assert_eq!(list(both).await, [eighth]);
    assert_eq!(list(TreeFilter { state: Some(TreeState::Parked), ..all }).await, []);
}
