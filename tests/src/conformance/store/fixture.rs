//! What the cases of the suite are made of: workers, trees, turns that touch every table, and a look at all of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::event::{source_of, topic_of};
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::{
    Beat, Committer, InvocationChange, KeyScope, NewTree, Next, OutboxEvent, OutboxRow, Ownership, Start, StartKey,
    Store, Turn, Verdict, lane_of,
};
use sapwood_core::tree::{
    Cause, Closing, Invocation, InvocationState, PromiseState, Timer, TimerKind, TreeRecord, TreeRow, TreeState,
};
use sapwood_core::{EventId, Path, TreeId, WorkerId};

use crate::store::{LEASE, bury, outbox};

/// The function of the trees here.
pub const FUNCTION: &str = "place_order";

/// A worker that joined, with a committer on its first fence.
pub struct Worker {
    /// Its identity.
    pub id: WorkerId,
    /// What it commits by.
    pub committer: Box<dyn Committer>,
    store: Arc<dyn Store>,
}

impl Worker {
    /// Joins with two fences.
    pub async fn join(store: &Arc<dyn Store>) -> Self {
        let id = store.worker_join("conformance", 2, LEASE, None).await.expect("a worker joins").worker;
        Self { id, committer: store.committer(id, 0), store: Arc::clone(store) }
    }

    /// Commits turns of which none may be refused.
    pub async fn commit_all(&mut self, turns: &[Turn]) {
        let verdicts = self.committer.commit(turns).await.expect("the batch commits");
        assert_eq!(verdicts, vec![Verdict::Committed; turns.len()]);
    }

    /// Commits one turn.
    pub async fn commit_one(&mut self, turn: Turn) -> Verdict {
        let verdicts = self.committer.commit(&[turn]).await.expect("the batch commits");
        assert_eq!(verdicts.len(), 1, "one verdict a turn");
        verdicts[0]
    }

    /// New trees of this worker, at revision 1.
    pub async fn trees(&mut self, count: usize) -> Vec<TreeId> {
        let creations: Vec<Turn> = (0..count).map(|_| creation(&new_tree())).collect();
        self.commit_all(&creations).await;
        creations.iter().map(|turn| turn.tree).collect()
    }

    /// A new tree of this worker, at revision 1.
    pub async fn tree(&mut self) -> TreeId {
        self.trees(1).await[0]
    }

    /// Declares another worker dead.
    pub async fn bury(&self, other: WorkerId) {
        bury(self.store.as_ref(), other, self.id).await;
    }

    /// How often the others have renewed, as this worker sees it.
    pub async fn watches(&self) -> Vec<Beat> {
        self.store.lease(self.id).renew(LEASE).await.expect("renewed").others
    }
}

/// A tree to be, without a cause.
pub fn new_tree() -> NewTree {
    let id = TreeId::fresh();
    NewTree {
        id,
        function: FUNCTION.to_owned(),
        version: 1,
        input: Bytes::from_static(br#"{"order":{"id":"o-1"}}"#),
        cause: Cause { correlation: id.to_string(), causation: None, traceparent: None },
        deadline: None,
    }
}

/// A start of a new tree with a caller's key.
pub fn start(key: &str) -> Start {
    start_in(KeyScope::Caller, key)
}

/// A start of a new tree with a key of any scope.
pub fn start_in(scope: KeyScope, key: &str) -> Start {
    Start { tree: new_tree(), key: StartKey { scope, key: key.to_owned(), digest: [7; 32] } }
}

/// The root invocation of a new tree.
pub fn root_of(tree: &NewTree) -> Invocation {
    Invocation {
        path: Path::root(),
        function: tree.function.clone(),
        version: tree.version,
        input: tree.input.clone(),
        state: InvocationState::fresh(),
        undo: None,
        deadline: tree.deadline,
    }
}

/// A child of the root that has not begun.
pub fn child(position: u32) -> Invocation {
    Invocation {
        path: Path::root().child(position),
        function: "reserve".to_owned(),
        version: 2,
        input: Bytes::from_static(br#"{"sku":"s-1"}"#),
        state: InvocationState::fresh(),
        undo: None,
        deadline: None,
    }
}

/// The turn that brings a tree into being and keeps it.
pub fn creation(tree: &NewTree) -> Turn {
    Turn { created: Some(tree.clone()), invocations: vec![root_of(tree)], ..turn(tree.id, 0) }
}

/// A turn that only moves the revision on.
pub fn turn(tree: TreeId, revision: u64) -> Turn {
    Turn {
        tree,
        revision,
        control: 0,
        inbox: None,
        not_before: None,
        only_before: None,
        created: None,
        invocations: Vec::new(),
        changes: Vec::new(),
        entries: Vec::new(),
        timers_set: Vec::new(),
        timers_cleared: Vec::new(),
        events: Vec::new(),
        next: Next { state: TreeState::Running, closing: Closing::None, number: 0, ownership: Ownership::Keep },
    }
}

/// A turn that gives the tree up until `ready_at`.
pub fn release(tree: TreeId, revision: u64, ready_at: Option<Timestamp>, needs: Option<&str>) -> Turn {
    let needs = needs.map(|needs| needs.parse().expect("a version of a function"));
    Turn {
        inbox: Some(0),
        next: Next {
            state: TreeState::Suspended,
            closing: Closing::None,
            number: 0,
            ownership: Ownership::Release { ready_at, needs },
        },
        ..turn(tree, revision)
    }
}

/// A turn with something in every list, for a tree that has only its root; see [`full_again`] for the next.
pub fn full(tree: TreeId, revision: u64) -> Turn {
    Turn {
        invocations: vec![child(0), child(1)],
        changes: vec![InvocationChange { path: Path::root(), state: waiting(2) }],
        entries: vec![(Path::root(), entry(0, EntryKind::StepResolved, Some(1)))],
        timers_set: vec![timer(Path::root(), 5), timer(Path::root().child(0), 0)],
        events: vec![event(tree, 7)],
        next: Next { state: TreeState::Running, closing: Closing::None, number: 2, ownership: Ownership::Keep },
        ..turn(tree, revision)
    }
}

/// A second turn with something in every list, for a tree that committed [`full`]; it settles and releases the tree.
pub fn full_again(tree: TreeId, revision: u64) -> Turn {
    let resolved = InvocationState {
        promise: PromiseState::Resolved,
        outcome: Some(Bytes::from_static(br#"{"total":12}"#)),
        ..InvocationState::fresh()
    };
    Turn {
        inbox: Some(0),
        invocations: vec![child(2)],
        changes: vec![
            InvocationChange { path: Path::root(), state: resolved.clone() },
            InvocationChange { path: Path::root().child(0), state: InvocationState { number: Some(3), ..resolved } },
        ],
        entries: vec![(Path::root(), entry(1, EntryKind::SleepEnded, Some(4)))],
        timers_set: vec![timer(Path::root().child(2), 1)],
        timers_cleared: vec![(Path::root(), 5)],
        events: vec![event(tree, 8), event(tree, 9)],
        next: Next {
            state: TreeState::Resolved,
            closing: Closing::None,
            number: 4,
            ownership: Ownership::Release { ready_at: None, needs: None },
        },
        ..turn(tree, revision)
    }
}

/// An invocation that waits and was offered all completions up to `seen`.
pub fn waiting(seen: u32) -> InvocationState {
    InvocationState { seen: Some(seen), ..InvocationState::fresh() }
}

/// An invocation settled with a result, under a number of its tree.
pub fn settled(number: Option<u32>) -> InvocationState {
    InvocationState {
        attempt: 1,
        promise: PromiseState::Resolved,
        closing: Closing::None,
        number,
        seen: None,
        outcome: Some(Bytes::from_static(b"42")),
        parked: None,
    }
}

/// A journal entry whose position is its place.
pub fn entry(seq: u32, kind: EntryKind, number: Option<u32>) -> Entry {
    Entry {
        seq,
        kind,
        position: seq,
        number,
        attempt: 1,
        name: "gateway".to_owned(),
        payload: Bytes::from_static(br#"{"receipt":"r-1"}"#),
    }
}

/// A sleep that ends in an hour.
pub fn timer(path: Path, position: u32) -> Timer {
    Timer { path, position, kind: TimerKind::Sleep, due_at: in_future(Duration::from_secs(3_600)) }
}

/// An event of the root of a tree, keyed by the tree.
pub fn event(tree: TreeId, position: u32) -> OutboxEvent {
    event_keyed(tree, position, &tree.to_string())
}

/// An event of the root of a tree, with a key.
pub fn event_keyed(tree: TreeId, position: u32, key: &str) -> OutboxEvent {
    let topic = topic_of("orders");
    OutboxEvent {
        id: EventId::of(tree, &Path::root(), position),
        key: key.to_owned(),
        lane: lane_of(&topic, key, 16),
        topic,
        cloud_type: "orders.order-completed.v1".to_owned(),
        source: source_of("orders"),
        time: micros(Timestamp::now()),
        tree,
        correlation: tree.to_string(),
        causation: format!("{tree}/"),
        traceparent: None,
        content: Bytes::from(format!(r#"{{"position":{position}}}"#)),
    }
}

/// A time of the precision that databases keep.
pub fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).expect("a time cut to microseconds is a time")
}

/// So long after now, by the machine's clock.
pub fn in_future(wait: Duration) -> Timestamp {
    micros(Timestamp::now() + wait)
}

/// A tree's row; it must be there.
pub async fn row(store: &Arc<dyn Store>, tree: TreeId) -> TreeRow {
    store.tree_row(tree).await.expect("a row is read").expect("the tree is there")
}

/// All that a store has of one tree, events included; equal before and after means that nothing was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Everything {
    /// Row, invocations, journal, timers.
    pub record: Option<TreeRecord>,
    /// Its events.
    pub events: Vec<OutboxRow>,
}

/// Reads [`Everything`] of a tree.
pub async fn everything(store: &Arc<dyn Store>, tree: TreeId) -> Everything {
    let record = store.tree_read(tree).await.expect("a tree is read");
    let mut events = outbox(store.as_ref()).await;
    events.retain(|row| row.event.tree == tree);
    Everything { record, events }
}
