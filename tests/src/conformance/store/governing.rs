//! Requests for trees from outside (K3, K6).

use std::time::Duration;

use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::store::{InvocationChange, NoEffect, Ruling, Store, Suspects, Turn, Verdict};
use sapwood_core::tree::{InvocationState, PromiseState, TreeState};
use sapwood_core::{Path, TreeId};

use super::fixture::{Worker, child, full, full_again, release, row, turn};
use crate::store::TestStore;

fn request(path: &Path, verb: ControlVerb) -> ControlRequest {
    ControlRequest { path: path.clone(), verb, actor: "anna".to_owned(), reason: "it's \u{fffd}\nenough".to_owned() }
}

fn cancel(path: &Path) -> ControlRequest {
    request(path, ControlVerb::Cancel)
}

async fn asks(store: &dyn Store, tree: TreeId, request: &ControlRequest) -> Ruling {
    store.tree_govern(tree, request).await.expect("the store answers").expect("the tree is there")
}

const fn accepted(control: u32) -> Ruling {
    Ruling::Accepted { control }
}

/// K3: no commit goes before its owner has read the request; the first one that names it carries it out.
pub async fn an_owner_that_has_not_read_a_request_is_refused(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(2).await;
    let (tree, other) = (trees[0], trees[1]);
    assert_eq!(asks(store.as_ref(), tree, &cancel(&Path::root())).await, accepted(1));
    let verdicts = worker.committer.commit(&[full(tree, 1), full(other, 1)]).await.expect("the batch commits");
    assert_eq!(verdicts, [Verdict::Refused, Verdict::Committed], "and no other tree is");
    assert_eq!(row(&store, tree).await.owner, Some(worker.id), "it keeps the tree");
    let image = store.tree_load(tree).await.expect("read").expect("there");
    assert_eq!((image.row.control, image.row.applied), (1, 0));
    let [read] = &image.requests[..] else { panic!("one request: {:?}", image.requests) };
    assert_eq!((read.control, &read.request), (1, &cancel(&Path::root())));
    assert_eq!(worker.commit_one(Turn { control: 1, ..full(tree, 1) }).await, Verdict::Committed);
    let image = store.tree_load(tree).await.expect("read").expect("there");
    assert_eq!((image.row.control, image.row.applied, image.requests.len()), (1, 1, 0));
    let record = store.tree_read(tree).await.expect("read").expect("there");
    assert_eq!(record.requests.len(), 1, "it is kept");
}

/// K3: a tree without an owner is due at once, whatever it waited for.
pub async fn a_tree_without_an_owner_is_due_at_once(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(3).await;
    let later = row(&store, trees[0]).await.created_at + Duration::from_secs(3_600);
    let releases = [
        release(trees[0], 1, None, None),
        release(trees[1], 1, Some(later), None),
        release(trees[2], 1, None, Some("f@9")),
    ];
    worker.commit_all(&releases).await;
    let claim = async || store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim").trees;
    assert!(claim().await.is_empty());
    for tree in &trees {
        assert_eq!(asks(store.as_ref(), *tree, &cancel(&Path::root())).await, accepted(1));
    }
    let mut claimed: Vec<TreeId> = claim().await.iter().map(|claimed| claimed.row.id).collect();
    claimed.sort_unstable();
    assert_eq!(claimed, trees);
}

/// K6: a request that can change nothing is told so, and leaves nothing behind.
pub async fn a_request_that_changes_nothing_is_told_why(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(2).await;
    let (tree, over) = (trees[0], trees[1]);
    worker.commit_all(&[full(tree, 1), full(over, 1)]).await;
    worker.commit_all(&[full_again(over, 2)]).await;
    let path = |positions: &[u32]| Path::from(positions.to_vec());
    let settled = Ruling::NoEffect(NoEffect::Settled(PromiseState::Resolved));
    assert_eq!(store.tree_govern(TreeId::fresh(), &cancel(&Path::root())).await.expect("an answer"), None);
    assert_eq!(asks(store.as_ref(), tree, &cancel(&path(&[7]))).await, Ruling::UnknownNode);
    assert_eq!(asks(store.as_ref(), over, &cancel(&Path::root())).await, settled);
    assert_eq!(asks(store.as_ref(), over, &request(&path(&[0]), ControlVerb::Kill)).await, settled);
    let state = InvocationState { promise: PromiseState::ReturnedErr, ..InvocationState::fresh() };
    let returns = Turn { changes: vec![InvocationChange { path: path(&[0]), state }], ..turn(tree, 2) };
    worker.commit_all(&[returns]).await;
    let decided = Ruling::NoEffect(NoEffect::Decided(PromiseState::ReturnedErr));
    assert_eq!(asks(store.as_ref(), tree, &cancel(&path(&[0]))).await, decided);
    assert_eq!(row(&store, tree).await.control, 0, "nothing was asked for so far");

    let again = Ruling::NoEffect(NoEffect::Requested);
    assert_eq!(asks(store.as_ref(), tree, &cancel(&path(&[1]))).await, accepted(1));
    assert_eq!(asks(store.as_ref(), tree, &cancel(&path(&[1]))).await, again);
    assert_eq!(asks(store.as_ref(), tree, &request(&path(&[1]), ControlVerb::Kill)).await, accepted(2));
    assert_eq!(asks(store.as_ref(), tree, &cancel(&Path::root())).await, accepted(3));
    assert_eq!(asks(store.as_ref(), tree, &cancel(&path(&[1]))).await, again);
    let record = store.tree_read(tree).await.expect("read").expect("there");
    assert_eq!(record.requests.iter().map(|request| request.control).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(record.requests.iter().all(|request| request.requested_at >= record.row.created_at));
}

/// K6: of many who ask for the same at once, one is heard.
pub async fn of_many_equal_requests_at_once_one_is_accepted(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let request = cancel(&Path::root());
    let all = (0..8).map(|_| asks(store.as_ref(), tree, &request));
    let rulings = futures::future::join_all(all).await;
    assert_eq!(rulings.iter().filter(|ruling| **ruling == accepted(1)).count(), 1, "{rulings:?}");
    assert_eq!(rulings.iter().filter(|ruling| **ruling == Ruling::NoEffect(NoEffect::Requested)).count(), 7);
}

/// K3, W2: requests and commits of one tree meet in any order, and neither is lost: each commit is before a request, or
/// names it.
pub async fn requests_and_commits_of_one_tree_are_one_after_the_other(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let children = Turn { invocations: (0..20).map(child).collect(), ..turn(tree, 1) };
    worker.commit_all(&[children]).await;
    let governs = async {
        for position in 0..20 {
            let ruling = asks(store.as_ref(), tree, &cancel(&Path::root().child(position))).await;
            assert_eq!(ruling, accepted(position + 1));
        }
    };
    let commits = async {
        let (mut revision, mut control, mut refused) = (2, 0, 0);
        while control < 20 {
            match worker.commit_one(Turn { control, ..turn(tree, revision) }).await {
                Verdict::Committed => revision += 1,
                Verdict::Busy => {}
                Verdict::Refused => {
                    let image = store.tree_load(tree).await.expect("read").expect("there");
                    let expected: Vec<u32> = (image.row.applied + 1..=image.row.control).collect();
                    assert_eq!(image.requests.iter().map(|read| read.control).collect::<Vec<_>>(), expected);
                    assert!(image.row.control > control);
                    control = image.row.control;
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
        let committed = worker.commit_one(Turn { control, ..turn(tree, revision) }).await;
        assert_eq!(committed, Verdict::Committed);
    };
    tokio::join!(governs, commits);
    let row = row(&store, tree).await;
    assert_eq!((row.control, row.applied, row.state), (20, 20, TreeState::Running));
}
