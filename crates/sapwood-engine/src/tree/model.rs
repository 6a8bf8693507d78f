//! A tree as its owner knows it: counters, nodes, timers, and what is recorded and not durable yet. Pure: time and
//! chance come in as values; bodies and stores are elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use sapwood_core::store::{NewTree, Next, Ownership, TreeOutcome, Turn};
use sapwood_core::tree::{Invocation, InvocationState, Timer, TimerKind, TreeImage, TreeRow, TreeState};
use sapwood_core::{FunctionVersion, Path, TreeId};

use super::draft::{Draft, Known};
use super::node::{Move, Node, NodeId, Status};
use crate::activation::{Notice, Work};
use crate::facts::Facts;
use crate::registry::Registry;

/// A tree as its owner knows it.
pub(crate) struct Tree {
    pub(crate) facts: Arc<Facts>,
    /// As it is in the store: each turn names it, and is refused if another commit has moved it.
    revision: u64,
    /// As it was when the tree was claimed: a turn is refused if the tree was governed from outside since.
    control: u32,
    /// As it was when the tree was claimed: a turn that releases the tree is refused if something settled since.
    inbox: u32,
    /// The last completion number given (R7).
    pub(super) number: u32,
    /// Its invocations that are not settled.
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) by_path: HashMap<Path, NodeId>,
    /// Node ids are never used again, so a late wake finds no other node.
    next_node: NodeId,
    /// All its invocations, settled ones included, for the limit.
    pub(super) count: usize,
    pub(super) timers: Vec<Timer>,
    /// What is recorded and not in a turn yet.
    pub(super) draft: Draft,
    /// The root's outcome, once it is decided; durable with the commit that ends the tree.
    pub(super) outcome: Option<TreeOutcome>,
    /// The version that this worker lacks: the tree is released with it, for a worker that has it (V1).
    pub(super) needs: Option<FunctionVersion>,
}

impl Tree {
    /// A tree that has just been created; with `insert` its rows are still to be inserted.
    pub(crate) fn created(new: NewTree, facts: Arc<Facts>, registry: &Registry, insert: bool) -> Self {
        let root = Invocation {
            path: Path::root(),
            function: new.function.clone(),
            version: new.version,
            input: new.input.clone(),
            state: InvocationState::fresh(),
        };
        let mut tree = Self::empty(facts);
        if insert {
            tree.draft.created(root.clone());
            tree.draft.tree = Some(new);
        }
        tree.add(Node::created(root, registry));
        tree
    }

    /// A tree as its rows have it.
    pub(crate) fn loaded(image: TreeImage, facts: Arc<Facts>, registry: &Registry) -> Self {
        let mut tree = Self::empty(facts);
        tree.refresh(&image.row);
        tree.number = image.row.number;
        tree.timers = image.timers;
        for open in image.open {
            let is_backing_off =
                tree.timers.iter().any(|timer| timer.path == open.path && timer.kind == TimerKind::FunctionRetry);
            let parent = open.path.parent().and_then(|path| tree.by_path.get(&path).copied());
            if let Some(parent) = parent.and_then(|id| tree.nodes.get_mut(&id)) {
                parent.open_children += 1;
            }
            tree.add(Node::loaded(open, is_backing_off, registry));
        }
        tree.count = image.nodes;
        tree
    }

    /// An empty tree: what is left in place of a tree that is moved out.
    pub(crate) fn empty(facts: Arc<Facts>) -> Self {
        Self {
            facts,
            revision: 0,
            control: 0,
            inbox: 0,
            number: 0,
            nodes: BTreeMap::new(),
            by_path: HashMap::new(),
            next_node: 0,
            count: 0,
            timers: Vec::new(),
            draft: Draft::default(),
            outcome: None,
            needs: None,
        }
    }

    /// Takes the counters of a row as it was claimed.
    pub(crate) fn refresh(&mut self, row: &TreeRow) {
        self.revision = row.revision;
        self.control = row.control;
        self.inbox = row.inbox;
    }

    pub(crate) fn id(&self) -> TreeId {
        self.facts.tree
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// A turn of it is durable.
    pub(crate) fn committed(&mut self) {
        self.revision += 1;
    }

    pub(crate) fn outcome(&self) -> Option<&TreeOutcome> {
        self.outcome.as_ref()
    }

    // ---- nodes ----------------------------------------------------------------------------------------------------

    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    pub(crate) fn status(&self, id: NodeId) -> Option<Status> {
        self.nodes.get(&id).map(Node::status)
    }

    /// Moves the status of a node on; `false` if this cannot happen to it, or it is settled.
    pub(crate) fn on(&mut self, id: NodeId, by: Move) -> bool {
        self.nodes.get_mut(&id).is_some_and(|node| node.on(by))
    }

    /// Puts a node into its driver's queue; `false` if it is there already, or is settled.
    pub(crate) fn enqueue(&mut self, id: NodeId) -> bool {
        self.nodes.get_mut(&id).is_some_and(|node| !std::mem::replace(&mut node.is_queued, true))
    }

    /// Takes a node out of its driver's queue.
    pub(crate) fn dequeue(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.is_queued = false;
        }
    }

    /// Puts the nodes that are to be polled into a new driver's queue. A cached tree may still have the marks of its
    /// last driver's queue; they are replaced.
    pub(crate) fn requeue(&mut self) -> Vec<NodeId> {
        let mut runnable = Vec::new();
        for (id, node) in &mut self.nodes {
            node.is_queued = node.status() == Status::Runnable;
            runnable.extend(node.is_queued.then_some(*id));
        }
        runnable
    }

    /// Takes the nodes whose journal is to be read; their status says from now on that it is being read.
    pub(crate) fn take_loads(&mut self) -> Vec<(NodeId, Path)> {
        let asks = |(id, node): (&NodeId, &mut Node)| node.on(Move::JournalAsked).then(|| (*id, node.path.clone()));
        self.nodes.iter_mut().filter_map(asks).collect()
    }

    /// Takes what became of a node's operations and its body was not told yet.
    pub(crate) fn take_notices(&mut self, id: NodeId) -> Vec<Notice> {
        self.nodes.get_mut(&id).map(|node| std::mem::take(&mut node.notices)).unwrap_or_default()
    }

    pub(super) fn notify(&mut self, id: NodeId, notice: Notice) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.notices.push(notice);
        }
    }

    /// A start was not made; its handle orders it again.
    pub(crate) fn start_failed(&mut self, id: NodeId, position: sapwood_core::Position) {
        self.notify(id, Notice::StartFailed { position });
    }

    pub(crate) fn set_work(&mut self, id: NodeId, work: Work) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.work = work;
        }
    }

    /// This worker lacks the version of a node's function: the tree waits for a worker that has it (V1).
    pub(crate) fn lacks_version(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.on(Move::VersionLacking);
            self.needs = Some(FunctionVersion::new(&*node.function, node.version));
        }
    }

    /// The journal of a node was read.
    pub(crate) fn journal_read(&mut self, id: NodeId, input: bytes::Bytes, next_seq: u32) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.input = Some(input);
            // A sleep may have ended, and been written, while the journal was read.
            node.next_seq = Some(next_seq.max(node.next_seq.unwrap_or(0)));
        }
    }

    /// A body of a node is at its first line.
    pub(crate) fn begun(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.is_blank = false;
            node.on(Move::Begun);
        }
    }

    pub(super) fn add(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        self.count += 1;
        self.by_path.insert(node.path.clone(), id);
        self.nodes.insert(id, node);
        id
    }

    /// Gives the next completion number (R7).
    pub(super) fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Puts a node's state into the next turn.
    pub(super) fn save(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get(&id) {
            self.draft.changed(&node.path, &node.state);
        }
    }

    // ---- timers ---------------------------------------------------------------------------------------------------

    pub(super) fn set_timer(&mut self, timer: Timer) {
        self.draft.timer_set(timer.clone());
        self.timers.push(timer);
    }

    /// Clears timers, in memory and in the next turn.
    pub(super) fn clear_timers(&mut self, gone: impl Fn(&Timer) -> bool) {
        let (cleared, kept): (Vec<Timer>, _) = std::mem::take(&mut self.timers).into_iter().partition(gone);
        self.timers = kept;
        cleared.iter().for_each(|timer| self.draft.timer_cleared(timer));
    }

    /// The positions of a node's steps that wait for their next attempt.
    pub(crate) fn backing_off(&self, path: &Path) -> Vec<sapwood_core::Position> {
        let retries = self.timers.iter().filter(|timer| timer.path == *path && timer.kind == TimerKind::StepRetry);
        retries.map(|timer| timer.position).collect()
    }

    /// Whether this timer can act when it is due. The end of a sleep is written to a journal, so the `seq` of its next
    /// entry must be known, or become known as soon as the sleep is due, as with a suspended node, which is then
    /// loaded. The sleeps of a node that is parked or backs off wait until it goes on.
    fn can_fire(&self, timer: &Timer) -> bool {
        let node = || self.by_path.get(&timer.path).and_then(|id| self.nodes.get(id));
        timer.kind != TimerKind::Sleep
            || node().is_none_or(|node| node.next_seq.is_some() || node.status() == Status::Suspended)
    }

    /// When the next timer that can fire is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.timers.iter().filter(|timer| self.can_fire(timer)).map(|timer| timer.due_at).min()
    }

    pub(crate) fn has_timers(&self) -> bool {
        !self.timers.is_empty()
    }

    // ---- the next turn --------------------------------------------------------------------------------------------

    /// Whether something is recorded that no turn has taken yet.
    pub(crate) fn has_draft(&self) -> bool {
        !self.draft.is_empty()
    }

    pub(crate) fn drafts_events(&self) -> bool {
        self.draft.has_events()
    }

    /// Whether anything waits for everything recorded to be durable: a step, a start, a journal to be read.
    pub(crate) fn wants(&self) -> bool {
        self.nodes.values().any(|node| match node.status() {
            Status::LoadWanted => true,
            Status::Active => node.work.is_wanted,
            _ => false,
        })
    }

    /// Whether this worker has to keep the tree. With `stopping`, it keeps the tree only for what is in flight.
    pub(crate) fn is_active(&self, stopping: bool) -> bool {
        let stopping = stopping || self.needs.is_some();
        self.nodes.values().any(|node| match node.status() {
            Status::Active if stopping => node.work.is_in_flight,
            Status::Runnable => node.definition.is_some() && !stopping,
            Status::AwaitingSlot | Status::LoadWanted if stopping => false,
            status => status.is_active(),
        })
    }

    /// The turn that keeps the tree with its worker.
    pub(crate) fn keep(&mut self) -> Turn {
        self.turn(TreeState::Running, Ownership::Keep)
    }

    /// The turn that releases the tree, and when it is due again.
    pub(crate) fn release(&mut self, now: Timestamp) -> (Turn, Option<Timestamp>) {
        if let Some(state) = self.outcome.as_ref().map(|outcome| outcome.state) {
            return (self.turn(state, Ownership::Release { ready_at: None, needs: None }), None);
        }
        // Something could still run: the next owner may claim it at once.
        let could_run = self.nodes.values().any(Node::is_active);
        let ready_at = if could_run { Some(now) } else { self.next_due() };
        let state = self.released_state(could_run);
        let needs = self.needs.take();
        (self.turn(state, Ownership::Release { ready_at, needs }), ready_at)
    }

    /// The state of a tree that no worker owns and that has no outcome.
    fn released_state(&self, could_run: bool) -> TreeState {
        if could_run {
            return TreeState::Running;
        }
        let is_parked = self.nodes.values().any(|node| node.status() == Status::Parked);
        if is_parked && self.next_due().is_none() { TreeState::Parked } else { TreeState::Suspended }
    }

    fn turn(&mut self, state: TreeState, ownership: Ownership) -> Turn {
        let releases = ownership != Ownership::Keep;
        let inbox = releases.then_some(self.inbox);
        let known = Known { tree: self.facts.tree, revision: self.revision, control: self.control, inbox };
        self.draft.take_turn(known, Next { state, number: self.number, ownership })
    }

    /// Puts down the nodes that could run, because the next owner runs them; returns them. A cache keeps only the
    /// bodies of nodes that wait.
    pub(crate) fn put_down_active(&mut self) -> Vec<NodeId> {
        let put_down = |(id, node): (&NodeId, &mut Node)| {
            let is_put_down = node.on(Move::PutDown);
            if is_put_down {
                node.work = Work::default();
            }
            is_put_down.then_some(*id)
        };
        self.nodes.iter_mut().filter_map(put_down).collect()
    }
}
