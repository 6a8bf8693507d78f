//! Requests for trees from outside (K3, K6, R9, K2).

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::store::{
    Claimed, InvocationChange, Next, NoEffect, Ownership, Ruling, Store, Suspects, Turn, Verdict,
};
use sapwood_core::tree::{Closing, Invocation, InvocationState, PromiseState, TreeState};
use sapwood_core::{Path, TreeId};

use super::fixture::{Worker, child, full, full_again, release, row, settled, turn};
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

async fn claims(store: &Arc<dyn Store>, worker: &Worker) -> Vec<Claimed> {
    store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim").trees
}

/// R9, F8, K6: what is parked is resumed and retried, by its own path or by one above it; what is not is told so.
pub async fn only_what_is_parked_is_resumed(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let path = |text: &str| text.parse::<Path>().expect("a path");
    let parked = InvocationState { parked: Some(r#"{"code":"panic"}"#.into()), ..InvocationState::fresh() };
    let children =
        Turn { invocations: vec![Invocation { state: parked, ..child(0) }, child(1)], ..release(tree, 1, None, None) };
    worker.commit_all(&[children]).await;
    assert!(claims(&store, &worker).await.is_empty());
    for verb in [ControlVerb::Resume, ControlVerb::Retry] {
        let not_parked = asks(store.as_ref(), tree, &request(&path("/1"), verb)).await;
        assert_eq!(not_parked, Ruling::NoEffect(NoEffect::NotParked));
        assert_eq!(asks(store.as_ref(), tree, &request(&path("/0/0"), verb)).await, Ruling::UnknownNode);
    }
    assert_eq!(asks(store.as_ref(), tree, &request(&path("/0"), ControlVerb::Resume)).await, accepted(1));
    let again = asks(store.as_ref(), tree, &request(&path("/0"), ControlVerb::Resume)).await;
    assert_eq!(again, Ruling::NoEffect(NoEffect::Requested));
    assert_eq!(asks(store.as_ref(), tree, &request(&path("/0"), ControlVerb::Retry)).await, accepted(2), "it is more");
    assert_eq!(asks(store.as_ref(), tree, &request(&Path::root(), ControlVerb::Resume)).await, accepted(3));
    let claimed = claims(&store, &worker).await;
    assert_eq!(claimed.iter().map(|claimed| claimed.row.id).collect::<Vec<_>>(), [tree], "it is due at once");
    let image = store.tree_load(tree).await.expect("read").expect("there");
    let verbs: Vec<_> = image.requests.iter().map(|read| read.request.verb).collect();
    assert_eq!(verbs, [ControlVerb::Resume, ControlVerb::Retry, ControlVerb::Resume]);
}

/// C4, R9: a tree that was set aside is due again, however often that happens; and no request for a part of it brings it back.
pub async fn a_tree_that_was_set_aside_is_brought_back(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    worker.commit_all(&[Turn { invocations: vec![child(0)], ..turn(tree, 1) }]).await;
    let resume = |path: &Path| request(path, ControlVerb::Resume);
    for control in 1..=2 {
        assert!(store.tree_set_aside(worker.id, tree, "a row of it").await.expect("an answer"));
        assert!(claims(&store, &worker).await.is_empty());
        let part = asks(store.as_ref(), tree, &resume(&Path::root().child(0))).await;
        assert!(matches!(part, Ruling::NoEffect(_)), "{part:?}");
        assert_eq!(asks(store.as_ref(), tree, &resume(&Path::root())).await, accepted(control));
        let again = asks(store.as_ref(), tree, &resume(&Path::root())).await;
        assert_eq!(again, Ruling::NoEffect(NoEffect::Requested));
        let claimed = claims(&store, &worker).await;
        assert_eq!((claimed.len(), &claimed[0].row.aside), (1, &None));
    }
}

/// A settled tree: its root resolved although the child at `/0` failed, and could not undo what it did at position 3.
async fn with_a_failed_compensation(worker: &mut Worker) -> TreeId {
    let tree = worker.tree().await;
    let path = Path::root().child(0);
    let failed = InvocationState { promise: PromiseState::Rejected, ..settled(Some(2)) };
    let caller = InvocationState { closing: Closing::CompensationFailed, ..failed.clone() };
    let undo = Invocation { path: path.undo(3), state: InvocationState { number: Some(1), ..failed }, ..child(0) };
    let compensated = InvocationState { closing: Closing::Compensated, ..settled(Some(3)) };
    let settles = Turn {
        invocations: vec![
            Invocation { state: caller, ..child(0) },
            Invocation { state: compensated, ..child(1) },
            undo,
        ],
        changes: vec![InvocationChange { path: Path::root(), state: settled(None) }],
        next: Next {
            state: TreeState::Resolved,
            closing: Closing::CompensationFailed,
            number: 3,
            ownership: Ownership::Release { ready_at: None, needs: None },
        },
        ..release(tree, 1, None, None)
    };
    worker.commit_all(&[settles]).await;
    tree
}

/// K2, P2, C2: a settled tree whose compensation is retried is claimed, taken over and released like any other until that is
/// done; its outcome can be read all the time, and never changes.
pub async fn a_compensation_is_retried_in_a_settled_tree(test: &TestStore) {
    let store = test.store();
    let (mut first, mut second) = (Worker::join(&store).await, Worker::join(&store).await);
    let tree = with_a_failed_compensation(&mut first).await;
    let before = (row(&store, tree).await, store.outcome_read(tree).await.expect("read").expect("there"));
    let outcome_stands = async |closing: Closing| {
        let (row, outcome) = (row(&store, tree).await, store.outcome_read(tree).await.expect("read").expect("there"));
        assert_eq!((row.state, row.settled_at), (TreeState::Resolved, before.0.settled_at));
        assert_eq!((row.closing, outcome.closing), (closing, closing));
        assert_eq!((outcome.state, &outcome.outcome), (before.1.state, &before.1.outcome));
        row
    };
    assert!(claims(&store, &first).await.is_empty(), "nobody asked for it");
    let undo = Path::root().child(0).undo(3);
    let retry = request(&undo, ControlVerb::Retry);
    let other = asks(store.as_ref(), tree, &request(&Path::root().child(1), ControlVerb::Retry)).await;
    assert_eq!(other, Ruling::NoEffect(NoEffect::Settled(PromiseState::Resolved)));
    assert_eq!(asks(store.as_ref(), tree, &retry).await, accepted(1));
    outcome_stands(Closing::Compensating).await;

    let claimed = claims(&store, &first).await;
    assert_eq!((claimed.len(), claimed[0].row.state), (1, TreeState::Resolved));
    let image = store.tree_load(tree).await.expect("read").expect("there");
    let paths = |invocations: &[sapwood_core::tree::OpenInvocation]| {
        invocations.iter().map(|invocation| invocation.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((paths(&image.open), paths(&image.failed)), (Vec::new(), vec!["/0".to_owned()]));
    assert_eq!((image.nodes, image.requests.len()), (4, 1));
    let owned = store.tree_owned(first.id, None, 10).await.expect("read");
    assert_eq!(owned.iter().map(|owned| owned.id).collect::<Vec<_>>(), [tree]);

    let caller = InvocationState { promise: PromiseState::Rejected, ..settled(Some(2)) };
    let compensates = |closing| InvocationState { closing, ..caller.clone() };
    let change = |closing| InvocationChange { path: Path::root().child(0), state: compensates(closing) };
    let next = |closing, ownership| Next { state: TreeState::Resolved, closing, number: 3, ownership };
    let begins = Turn {
        control: 1,
        invocations: vec![Invocation { path: undo.undo_again().expect("a second round"), ..child(0) }],
        changes: vec![change(Closing::Compensating)],
        next: next(Closing::Compensating, Ownership::Keep),
        ..turn(tree, claimed[0].row.revision)
    };
    first.commit_all(&[begins]).await;
    second.bury(first.id).await;
    let taken_over = claims(&store, &second).await;
    assert_eq!((taken_over.len(), taken_over[0].takeovers, taken_over[0].row.state), (1, 1, TreeState::Resolved));
    let image = store.tree_load(tree).await.expect("read").expect("there");
    assert_eq!((paths(&image.open), image.failed.len()), (vec!["/0".to_owned(), "/0/~3.2".to_owned()], 0));
    let again = asks(store.as_ref(), tree, &retry).await;
    assert_eq!(again, Ruling::NoEffect(NoEffect::Settled(PromiseState::Rejected)), "another round undoes it");

    assert!(store.tree_set_aside(second.id, tree, "a row of it").await.expect("an answer"));
    outcome_stands(Closing::Compensating).await;
    assert_eq!(asks(store.as_ref(), tree, &request(&Path::root(), ControlVerb::Resume)).await, accepted(2));
    let claimed = claims(&store, &second).await;
    let ends = Turn {
        control: 2,
        changes: vec![
            change(Closing::Compensated),
            InvocationChange { path: undo.undo_again().expect("a second round"), state: settled(Some(4)) },
        ],
        next: Next { number: 4, ..next(Closing::Compensated, Ownership::Release { ready_at: None, needs: None }) },
        ..release(tree, claimed[0].row.revision, None, None)
    };
    second.commit_all(&[ends]).await;
    let row = outcome_stands(Closing::Compensated).await;
    assert_eq!((row.owner, row.ready_at), (None, None));
    assert!(claims(&store, &second).await.is_empty());
    let over = asks(store.as_ref(), tree, &request(&Path::root(), ControlVerb::Retry)).await;
    assert_eq!(over, Ruling::NoEffect(NoEffect::Settled(PromiseState::Resolved)));
}
