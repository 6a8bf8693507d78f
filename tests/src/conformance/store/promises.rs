//! External promises: found by their names, settled once, and heard of (P2, P3, S3).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::{Settling, Store, Suspects, TIMED_OUT, Turn, Verdict};
use sapwood_core::tree::{
    Invocation, InvocationState, PromiseRow, PromiseState, SettledPromise, Settlement, Timer, TimerKind,
};
use sapwood_core::{Path, TreeId};

use super::fixture::{Worker, child, everything, release, row, turn};
use crate::store::TestStore;

fn made(seq: u32, name: &str) -> Entry {
    Entry {
        seq,
        kind: EntryKind::PromiseMade,
        position: 10 + seq,
        number: None,
        attempt: 0,
        name: name.to_owned(),
        payload: Bytes::from_static(br#"{"schema":true}"#),
    }
}

/// An entry about the promise that an entry made.
fn about(made: &Entry, seq: u32, kind: EntryKind, number: Option<u32>) -> Entry {
    Entry { seq, kind, number, ..made.clone() }
}

fn at(positions: &[u32]) -> Path {
    Path::from(positions.to_vec())
}

fn resolved(value: &str) -> Settlement {
    Settlement { state: PromiseState::Resolved, outcome: Bytes::from(format!(r#"{{"resolved":"{value}"}}"#)) }
}

/// As every store holds it.
fn stored(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).expect("a time")
}

async fn settles(store: &dyn Store, tree: TreeId, path: &Path, name: &str, by: &Settlement) -> Settling {
    store.promise_settle(tree, path, name, by).await.expect("the store answers").expect("the tree is there")
}

async fn finds(store: &Arc<dyn Store>, tree: TreeId, path: Option<&Path>, name: Option<&str>) -> Vec<PromiseRow> {
    store.promise_find(tree, path, name).await.expect("the store answers").expect("the tree is there")
}

fn winner(settling: Settling) -> SettledPromise {
    let Settling::Settled(winner) = settling else { panic!("it was settled before: {settling:?}") };
    *winner
}

/// A tree at revision 2 whose root has made promises of these names, in this order.
async fn promising(worker: &mut Worker, names: &[&str]) -> TreeId {
    let tree = worker.tree().await;
    let entries = (0..).zip(names).map(|(seq, name)| (Path::root(), made(seq, name)));
    worker.commit_all(&[Turn { entries: entries.collect(), ..turn(tree, 1) }]).await;
    tree
}

/// P1, P2: by the name that its function gave it, in one invocation or in all of the tree.
pub async fn a_promise_is_found_by_its_name(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let odd = "it's \u{fffd} 100%_\n";
    let tree = promising(&mut worker, &["approval", odd]).await;
    let children = Turn {
        invocations: vec![child(0), child(1)],
        entries: vec![(at(&[0]), made(0, "approval")), (at(&[1]), made(0, "other"))],
        ..turn(tree, 2)
    };
    worker.commit_all(&[children]).await;
    let all = finds(&store, tree, None, None).await;
    let places: Vec<_> = all.iter().map(|row| (row.path.to_string(), row.position, row.name.as_str())).collect();
    assert_eq!(
        places,
        [
            ("/".into(), 10, "approval"),
            ("/".into(), 11, odd),
            ("/0".into(), 10, "approval"),
            ("/1".into(), 10, "other")
        ]
    );
    assert!(all.iter().all(|row| row.is_awaited && row.settled.is_none() && *row.made == *br#"{"schema":true}"#));
    let created_at = row(&store, tree).await.created_at;
    assert!(all.iter().all(|row| row.made_at >= created_at && row.state() == PromiseState::Pending));
    let count = async |path: Option<&Path>, name: Option<&str>| finds(&store, tree, path, name).await.len();
    assert_eq!(count(None, Some("approval")).await, 2, "it takes the path to say which");
    assert_eq!(count(Some(&Path::root()), Some("approval")).await, 1);
    assert_eq!(count(Some(&at(&[1])), None).await, 1);
    assert_eq!((count(None, Some(odd)).await, count(None, Some("Approval")).await), (1, 0));
    assert_eq!(count(Some(&at(&[7])), None).await, 0);
    assert_eq!(store.promise_find(TreeId::fresh(), None, None).await.expect("an answer"), None);
}

/// P2, P3: the first settle is the outcome; a later one is told of it, and leaves nothing behind.
pub async fn a_promise_is_settled_once(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = promising(&mut worker, &["approval", "other"]).await;
    let (root, name) = (Path::root(), "approval");
    let settle = async |by: &Settlement| settles(store.as_ref(), tree, &root, name, by).await;
    assert_eq!(settle(&resolved("anna")).await, Settling::Stored { inbox: 1 });
    let before = everything(&store, tree).await;
    let rejected =
        Settlement { state: PromiseState::Rejected, outcome: Bytes::from_static(br#"{"rejected":{"message":"no"}}"#) };
    for later in [&resolved("anna"), &resolved("berta"), &rejected] {
        let won = winner(settle(later).await);
        assert_eq!((won.state, won.outcome, won.inbox), (PromiseState::Resolved, resolved("anna").outcome, 1));
        assert_eq!((won.path, won.position, &*won.name), (Path::root(), 10, name));
    }
    assert_eq!(everything(&store, tree).await, before);
    let [found] = &finds(&store, tree, Some(&root), Some(name)).await[..] else { panic!("one") };
    let settled = found.settled.clone().expect("settled");
    assert!(settled.settled_at >= found.made_at && found.state() == PromiseState::Resolved);
    assert_eq!(before.record.expect("the tree").settled, [settled]);
    assert_eq!(settles(store.as_ref(), tree, &root, "other", &rejected).await, Settling::Stored { inbox: 2 });
    assert_eq!(settles(store.as_ref(), tree, &root, "none", &rejected).await, Settling::Unknown);
    assert_eq!(settles(store.as_ref(), tree, &at(&[0]), name, &rejected).await, Settling::Unknown);
    let of_none = store.promise_settle(TreeId::fresh(), &root, name, &rejected).await;
    assert_eq!(of_none.expect("an answer"), None);
}

/// P3: of many who settle at once one wins, and each other one is told the winner's outcome.
pub async fn of_many_settles_at_once_one_wins(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = promising(&mut worker, &["approval"]).await;
    let by: Vec<Settlement> = (0..8).map(|n| resolved(&n.to_string())).collect();
    let root = Path::root();
    let all = by.iter().map(|by| settles(store.as_ref(), tree, &root, "approval", by));
    let settlings = futures::future::join_all(all).await;
    let stored = settlings.iter().position(|settling| *settling == Settling::Stored { inbox: 1 });
    let stored = stored.expect("one wins");
    for settling in settlings.into_iter().enumerate().filter(|(n, _)| *n != stored).map(|(_, settling)| settling) {
        assert_eq!(winner(settling).outcome, by[stored].outcome);
    }
    assert_eq!(row(&store, tree).await.inbox, 1);
}

/// P2, K3: what no function awaits any longer is settled by nobody.
pub async fn a_promise_that_nobody_awaits_is_not_settled(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = promising(&mut worker, &["dropped", "kept"]).await;
    let returned = InvocationState { promise: PromiseState::ReturnedOk, ..InvocationState::fresh() };
    let undo = Invocation { path: at(&[2]).undo(4), ..child(0) };
    let undo_path = undo.path.clone();
    let ends = Turn {
        invocations: vec![Invocation { state: returned, ..child(0) }, child(1), child(2), undo],
        entries: vec![
            (Path::root(), about(&made(0, "dropped"), 2, EntryKind::Dropped, None)),
            (at(&[0]), made(0, "p")),
            (at(&[1]), made(0, "p")),
            (at(&[2]), made(0, "p")),
            (undo_path.clone(), made(0, "p")),
        ],
        ..turn(tree, 2)
    };
    worker.commit_all(&[ends]).await;
    let settle = async |path: &Path, name: &str| settles(store.as_ref(), tree, path, name, &resolved("anna")).await;
    assert_eq!(settle(&Path::root(), "dropped").await, Settling::Closed);
    assert_eq!(settle(&at(&[0]), "p").await, Settling::Closed, "it has returned");
    let cancel = |path: Path| ControlRequest { path, verb: ControlVerb::Cancel, actor: "a".into(), reason: "r".into() };
    for path in [at(&[1]), at(&[2])] {
        store.tree_govern(tree, &cancel(path)).await.expect("the store answers");
    }
    assert_eq!(settle(&at(&[1]), "p").await, Settling::Closed, "a request for it is to be carried out");
    assert_eq!(settle(&undo_path, "p").await, Settling::Stored { inbox: 1 }, "what undoes goes on");
    assert_eq!(settle(&Path::root(), "kept").await, Settling::Stored { inbox: 2 });
    let states: Vec<_> = finds(&store, tree, Some(&Path::root()), None).await.iter().map(PromiseRow::state).collect();
    assert_eq!(states, [PromiseState::Cancelled, PromiseState::Resolved]);
}

/// D3: what is past its deadline is settled by that, before anything else settles it.
pub async fn a_promise_is_not_settled_past_the_deadline_of_its_function(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = promising(&mut worker, &["approval"]).await;
    let deadline = sapwood_core::clock::Clock::now(test.clock().as_ref()) + Duration::from_secs(3_600);
    let called = |position| Invocation { deadline: Some(deadline), ..child(position) };
    let children = Turn {
        invocations: vec![called(0), called(1)],
        entries: vec![(at(&[0]), made(0, "approval")), (at(&[1]), made(0, "approval"))],
        ..turn(tree, 2)
    };
    worker.commit_all(&[children]).await;
    let settling = settles(store.as_ref(), tree, &at(&[0]), "approval", &resolved("in time")).await;
    assert_eq!(settling, Settling::Stored { inbox: 1 });
    test.advance(Duration::from_secs(3_600)).await;
    let settling = settles(store.as_ref(), tree, &at(&[1]), "approval", &resolved("too late")).await;
    assert_eq!(settling, Settling::Closed);
    let settling = settles(store.as_ref(), tree, &Path::root(), "approval", &resolved("no deadline")).await;
    assert_eq!(settling, Settling::Stored { inbox: 2 });
    let record = everything(&store, tree).await.record.expect("it is there");
    let states: Vec<_> = record.invocations.iter().map(|row| row.invocation.state.promise).collect();
    assert_eq!(states, [PromiseState::Pending, PromiseState::TimingOut, PromiseState::TimingOut]);
    assert_eq!(record.settled.iter().map(|settled| settled.inbox).collect::<Vec<_>>(), [1, 2]);
}

/// P4, D3: by the store's clock, each once, the earliest first; what was settled in time, or nobody awaits, is left alone.
pub async fn a_promise_is_settled_by_its_deadline(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let hours = [
        ("second", Some(2)),
        ("first", Some(1)),
        ("third", Some(3)),
        ("settled", Some(1)),
        ("dropped", None),
        ("never", None),
    ];
    let tree = promising(&mut worker, &hours.map(|(name, _)| name)).await;
    let now = sapwood_core::clock::Clock::now(test.clock().as_ref());
    let deadline = |hours: u32| stored(now + Duration::from_secs(3_600) * hours);
    let timers = (10..).zip(hours).filter_map(|(position, (_, hours))| {
        let due_at = deadline(hours?);
        Some(Timer { path: Path::root(), position, kind: TimerKind::Promise, due_at })
    });
    let dropped = about(&made(4, "dropped"), 6, EntryKind::Dropped, None);
    let armed = Turn { timers_set: timers.collect(), entries: vec![(Path::root(), dropped)], ..turn(tree, 2) };
    worker.commit_all(&[armed]).await;
    settles(store.as_ref(), tree, &Path::root(), "settled", &resolved("in time")).await;
    let shown = async |name| {
        let [row] = &finds(&store, tree, None, Some(name)).await[..] else { panic!("one {name}") };
        (row.state(), row.settled.as_ref().map_or(0, |settled| settled.inbox))
    };
    let all = finds(&store, tree, None, None).await;
    let deadlines: Vec<_> = all.iter().map(|row| row.deadline).collect();
    assert_eq!(deadlines, hours.map(|(_, hours)| hours.map(deadline)));
    assert_eq!(shown("first").await, (PromiseState::Pending, 0));

    test.advance(Duration::from_secs(7_200)).await;
    let inbox = store.promise_inbox(tree, 1).await.expect("the store answers");
    let heard: Vec<_> = inbox.iter().map(|row| (row.name.as_str(), row.state, &*row.outcome, row.inbox)).collect();
    assert_eq!(
        heard,
        [("first", PromiseState::TimedOut, TIMED_OUT, 2), ("second", PromiseState::TimedOut, TIMED_OUT, 3),]
    );
    assert!(inbox.iter().all(|row| row.settled_at >= deadline(2)));
    assert_eq!(store.promise_inbox(tree, 1).await.expect("the store answers"), inbox, "once");
    let winner = winner(settles(store.as_ref(), tree, &Path::root(), "first", &resolved("late")).await);
    assert_eq!(winner, inbox[0]);
    let states = [
        ("settled", PromiseState::Resolved, 1),
        ("dropped", PromiseState::Cancelled, 0),
        ("third", PromiseState::Pending, 0),
        ("never", PromiseState::Pending, 0),
    ];
    for (name, state, inbox) in states {
        assert_eq!(shown(name).await, (state, inbox), "{name}");
    }
    // The owner has not heard of it: its release is refused, and without an owner the tree is due at once.
    assert_eq!(worker.commit_one(Turn { inbox: Some(1), ..release(tree, 3, None, None) }).await, Verdict::Refused);
    worker.commit_all(&[Turn { inbox: Some(3), ..release(tree, 3, None, None) }]).await;
    assert_eq!(row(&store, tree).await.ready_at, None);
    test.advance(Duration::from_secs(3_600)).await;
    assert_eq!(shown("third").await, (PromiseState::TimedOut, 4));
    assert!(row(&store, tree).await.ready_at.is_some());
}

/// P4, P2: of those who settle in the moment of the deadline one wins, and all see the same outcome.
pub async fn a_deadline_and_settles_make_one_outcome(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    for round in 0..20 {
        let tree = promising(&mut worker, &["approval"]).await;
        let due_at = sapwood_core::clock::Clock::now(test.clock().as_ref());
        let due_at = if round % 2 == 0 { due_at } else { due_at + Duration::from_secs(3_600) };
        let timer = Timer { path: Path::root(), position: 10, kind: TimerKind::Promise, due_at };
        worker.commit_all(&[Turn { timers_set: vec![timer], ..turn(tree, 2) }]).await;
        let settle = async |value: String| {
            settles(store.as_ref(), tree, &Path::root(), "approval", &resolved(&value)).await;
        };
        let settling = futures::future::join_all((0..4).map(|n| settle(n.to_string())));
        let reading = futures::future::join_all((0..4).map(|_| store.promise_inbox(tree, 0)));
        let (_, read) = tokio::join!(settling, reading);
        let settled = store.promise_inbox(tree, 0).await.expect("the store answers");
        assert_eq!(settled.len(), 1, "{settled:?}");
        for read in read {
            let read = read.expect("the store answers");
            assert!(read.is_empty() || read == settled, "{read:?}");
        }
        let expected = if round % 2 == 0 { PromiseState::TimedOut } else { PromiseState::Resolved };
        assert_eq!((settled[0].state, settled[0].inbox), (expected, 1));
    }
}

/// S3: the owner keeps its tree and may go on, but does not release it unheard; a tree without an owner is due at once.
pub async fn a_settle_is_heard_before_its_tree_is_released(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let (tree, far, aside) = (
        promising(&mut worker, &["a", "b"]).await,
        promising(&mut worker, &["a"]).await,
        promising(&mut worker, &["a"]).await,
    );
    let settle = async |tree, name: &str, inbox| {
        let settling = settles(store.as_ref(), tree, &Path::root(), name, &resolved("anna")).await;
        assert_eq!(settling, Settling::Stored { inbox });
    };
    settle(tree, "a", 1).await;
    let owned = row(&store, tree).await;
    assert_eq!((owned.owner, owned.revision, owned.inbox, owned.ready_at), (Some(worker.id), 2, 1, None));
    let of_worker = store.tree_owned(worker.id, None, 10).await.expect("read");
    assert_eq!(of_worker.iter().map(|owned| owned.inbox).sum::<u32>(), 1, "{of_worker:?}");
    assert_eq!(worker.commit_one(release(tree, 2, None, None)).await, Verdict::Refused);
    worker.commit_all(&[turn(tree, 2)]).await;
    assert_eq!(worker.commit_one(Turn { inbox: Some(1), ..release(tree, 3, None, None) }).await, Verdict::Committed);
    let later = owned.created_at + Duration::from_secs(3_600);
    worker.commit_all(&[release(far, 2, Some(later), Some("f@9"))]).await;
    assert!(store.tree_set_aside(worker.id, aside, "damaged").await.expect("the store answers"));
    let versions = ["f@9".parse().expect("a version")];
    let claim = async || store.tree_claim(worker.id, 10, &versions, Suspects::ALL).await.expect("a claim").trees;
    assert!(claim().await.is_empty());
    settle(tree, "b", 2).await;
    settle(far, "a", 1).await;
    settle(aside, "a", 1).await;
    let mut claimed: Vec<_> = claim().await.into_iter().map(|claimed| (claimed.row.id, claimed.row.inbox)).collect();
    claimed.sort_unstable();
    assert_eq!(claimed, [(tree, 2), (far, 1)], "one that is set aside waits for an operator");
}

/// S3: whoever loads a tree hears of what no entry has recorded; its owner, of what came since it heard last.
pub async fn what_settled_is_heard_until_it_is_recorded(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = promising(&mut worker, &["a", "b", "c"]).await;
    for (inbox, name) in (1..).zip(["b", "c", "a"]) {
        let settling = settles(store.as_ref(), tree, &Path::root(), name, &resolved(name)).await;
        assert_eq!(settling, Settling::Stored { inbox });
    }
    let names = |settled: &[SettledPromise]| settled.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    let loads = async || names(&store.tree_load(tree).await.expect("read").expect("there").settled);
    assert_eq!(loads().await, ["b", "c", "a"]);
    assert_eq!(names(&store.promise_inbox(tree, 0).await.expect("read")), ["b", "c", "a"]);
    assert_eq!(names(&store.promise_inbox(tree, 2).await.expect("read")), ["a"]);
    assert!(store.promise_inbox(tree, 3).await.expect("read").is_empty());
    assert!(store.promise_inbox(TreeId::fresh(), 0).await.expect("read").is_empty());
    let entries = vec![(Path::root(), about(&made(2, "c"), 3, EntryKind::PromiseSettled, Some(1)))];
    worker.commit_all(&[Turn { entries, ..turn(tree, 2) }]).await;
    assert_eq!(loads().await, ["b", "a"]);
    let record = store.tree_read(tree).await.expect("read").expect("there");
    assert_eq!(names(&record.settled), ["b", "c", "a"], "a reader sees all");
}

/// S3, W2: settles and commits of one tree meet in any order, and no settle is unheard when the tree is released.
pub async fn settles_and_commits_of_one_tree_are_one_after_the_other(test: &TestStore) {
    const MANY: u32 = 20;
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("p-{n}")).collect();
    let tree = promising(&mut worker, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let settling = async {
        for (inbox, name) in (1..).zip(&names) {
            let settling = settles(store.as_ref(), tree, &Path::root(), name, &resolved(name)).await;
            assert_eq!(settling, Settling::Stored { inbox });
        }
    };
    let commits = async {
        let (mut revision, mut inbox) = (2, 0);
        loop {
            let turn = Turn { inbox: Some(inbox), ..release(tree, revision, None, None) };
            match worker.commit_one(turn).await {
                Verdict::Busy => {}
                Verdict::Committed if inbox == MANY => return,
                Verdict::Committed => {
                    revision += 1;
                    let claimed = test.changes().seen(async || {
                        let claims = store.tree_claim(worker.id, 1, &[], Suspects::ALL).await.expect("a claim");
                        claims.trees.into_iter().next()
                    });
                    revision = revision.max(claimed.await.row.revision);
                }
                Verdict::Refused => {
                    let heard = store.promise_inbox(tree, inbox).await.expect("read");
                    assert!(!heard.is_empty(), "it was refused because something had settled");
                    inbox = heard.last().map_or(inbox, |last| last.inbox);
                }
            }
        }
    };
    tokio::join!(settling, commits);
    assert_eq!(row(&store, tree).await.inbox, MANY);
}
