//! Recovery: a batch whose outcome is unknown is neither lost nor applied twice.

use sapwood_core::store::{Recovered, StoreErrorKind, Turn, Verdict};

use super::fixture::{Worker, creation, everything, full, full_again, new_tree, row, turn};
use crate::store::{TestStore, outbox};

/// C5: the answer was lost, the batch was not.
pub async fn a_batch_that_was_committed_is_told_so(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(3).await;
    let mut batch: Vec<Turn> = trees.iter().map(|tree| full(*tree, 1)).collect();
    batch.push(creation(&new_tree()));
    worker.commit_all(&batch).await;

    let recovered = worker.committer.recover(&batch).await.expect("it finds out");
    assert_eq!(recovered, [Recovered::Committed; 4]);
    let next: Vec<Turn> = trees.iter().map(|tree| full_again(*tree, 2)).collect();
    worker.commit_all(&next).await;
    assert_eq!(outbox(store.as_ref()).await.len(), 9, "nothing was applied twice");
}

/// C5: the batch never arrived, or was rolled back: sent again it is applied once.
pub async fn a_batch_that_was_lost_is_told_so_and_commits_when_sent_again(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(3).await;
    let mut batch: Vec<Turn> = trees.iter().map(|tree| full(*tree, 1)).collect();
    batch.push(creation(&new_tree()));

    let recovered = worker.committer.recover(&batch).await.expect("it finds out");
    assert_eq!(recovered, [Recovered::Lost; 4]);
    assert_eq!(outbox(store.as_ref()).await.len(), 0);
    worker.commit_all(&batch).await;
    assert_eq!(outbox(store.as_ref()).await.len(), 3);
}

/// C5: a tree that moved on, or belongs to another worker, is refused.
pub async fn a_turn_whose_tree_moved_on_or_away_is_refused(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let mut other = Worker::join(&store).await;
    let trees = worker.trees(2).await;
    let foreign = other.tree().await;
    worker.commit_all(&[turn(trees[0], 1), turn(trees[1], 1)]).await;
    worker.commit_all(&[turn(trees[1], 2)]).await;

    let batch = [turn(trees[0], 1), turn(trees[1], 1), full(foreign, 1), turn(trees[0], 2)];
    let mut recovered = worker.committer.recover(&batch[..3]).await.expect("it finds out");
    recovered.extend(worker.committer.recover(&batch[3..]).await.expect("it finds out"));

    use Recovered::{Committed, Lost, Refused};
    assert_eq!(recovered, [Committed, Refused, Refused, Lost]);
}

/// C5: a commit that gave the tree up was a commit, though the tree has no owner now.
pub async fn a_release_that_was_committed_is_never_told_lost(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(2).await;
    worker.commit_all(&[full(trees[0], 1), full(trees[1], 1)]).await;
    let batch = [full_again(trees[0], 2), full_again(trees[1], 2)];
    worker.commit_all(&batch).await;
    let recovered = worker.committer.recover(&batch).await.expect("it finds out");
    assert!(!recovered.contains(&Recovered::Lost), "{recovered:?}");
    assert_eq!(recovered, [Recovered::Committed; 2]);
}

/// C5: once the outcome is known, the old connection can change it no more: whatever still wants to commit under the
/// incarnation of before is refused.
pub async fn what_was_sent_before_a_recovery_cannot_commit_after_it(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let stale = full(tree, 1);
    let mut successor = store.committer(worker.id, 0);
    let recovered = successor.recover(std::slice::from_ref(&stale)).await.expect("it finds out");
    assert_eq!(recovered, [Recovered::Lost]);

    let before = everything(&store, tree).await;
    match worker.committer.commit(std::slice::from_ref(&stale)).await {
        Err(error) => assert_ne!(error.kind(), StoreErrorKind::Connection, "{error}"),
        Ok(verdicts) => assert_eq!(verdicts, [Verdict::Refused]),
    }
    assert_eq!(everything(&store, tree).await, before);
    assert_eq!(successor.commit(&[stale]).await.expect("it commits"), [Verdict::Committed]);
}

/// C1: a buried worker recovers nothing.
pub async fn a_buried_worker_finds_itself_fenced(test: &TestStore) {
    let store = test.store();
    let mut dead = Worker::join(&store).await;
    let tree = dead.tree().await;
    let worker = Worker::join(&store).await;
    worker.bury(dead.id).await;

    let error = dead.committer.recover(&[full(tree, 1)]).await.expect_err("the fence refuses");
    assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
    assert_eq!(row(&store, tree).await.revision, 1);
}

/// W1: fences are fenced apart: a recovery on one leaves the committer of the other alone.
pub async fn a_recovery_on_one_fence_leaves_the_other_alone(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(2).await;
    let mut second = store.committer(worker.id, 1);
    assert_eq!(second.commit(&[turn(trees[1], 1)]).await.expect("it commits"), [Verdict::Committed]);
    worker.committer.recover(&[full(trees[0], 1)]).await.expect("it finds out");
    assert_eq!(second.commit(&[turn(trees[1], 2)]).await.expect("it commits"), [Verdict::Committed]);
}
