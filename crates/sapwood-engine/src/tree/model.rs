//! A tree as its owner knows it: counters, nodes, timers, and what is recorded and not durable yet. Pure: time and
//! chance come in as values; bodies and stores are elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use sapwood_core::control::ControlRecord;
use sapwood_core::store::{NewTree, Next, Ownership, TreeOutcome, Turn};
use sapwood_core::tree::{
    Closing, Invocation, InvocationState, OpenInvocation, PromiseState, SettledPromise, Timer, TimerKind, TreeImage,
    TreeRow, TreeState,
};
use sapwood_core::{FunctionVersion, Path, TreeId};

use super::closings::Closings;
use super::draft::{Draft, Known};
use super::node::{Move, Node, NodeId, Status};
use super::nodes::Nodes;
use super::timers::Timers;
use crate::activation::{Notice, Work};
use crate::facts::Facts;
use crate::registry::Registry;

/// What a tree takes of memory besides its nodes: counters, tables, its mailbox. An estimate.
pub(super) const TREE_BYTES: usize = 1024;

/// A tree as its owner knows it.
pub(crate) struct Tree {
    pub(crate) facts: Arc<Facts>,
    pub(super) registry: Arc<Registry>,
    /// As it is in the store: each turn names it, and is refused if another commit has moved it.
    revision: u64,
    /// As it was when the tree was claimed: a turn is refused if the tree was governed from outside since.
    control: u32,
    /// The last number of the inbox counter up to which everything is recorded, or in `settled`: a turn that releases the
    /// tree is refused if something settled since.
    pub(super) inbox: u32,
    /// Whether something was asked of it that no turn has carried out, when it was claimed.
    is_governed: bool,
    /// The last completion number given (R7).
    pub(super) number: u32,
    /// Its invocations that are not closed.
    pub(super) nodes: Nodes,
    /// Nodes whose bodies are to be dropped, because they do not go on.
    pub(super) put_down: Vec<NodeId>,
    /// Invocations that go on closing when the tree is driven again.
    pub(super) to_close: Vec<NodeId>,
    /// How far its invocations have come in undoing what they did.
    pub(super) closings: Closings,
    /// Invocations that are closed and whose compensation failed: an operator may have it retried.
    pub(super) failed: BTreeMap<Path, OpenInvocation>,
    /// Those of its open invocations that are closed for their callers, and compensate again.
    pub(super) compensating_again: BTreeSet<Path>,
    /// The state of a tree that was settled before: its outcome stands, whatever is undone again.
    pub(super) settled: Option<TreeState>,
    /// All its invocations, closed ones included, for the limit.
    pub(super) count: usize,
    pub(super) timers: Timers,
    /// Requests that its next turn carries out.
    pub(super) requests: Vec<ControlRecord>,
    /// Whether the deadline of an external promise has passed, as far as this worker knows: its store is to be asked.
    pub(super) asks_for_settles: bool,
    /// What has settled from outside and is not recorded yet, in order.
    pub(super) settles: VecDeque<SettledPromise>,
    /// What is recorded and not in a turn yet.
    pub(super) draft: Draft,
    /// The root's outcome, once it is decided; durable with the commit that ends the tree.
    pub(super) outcome: Option<TreeOutcome>,
    /// The root's outcome, if it has one before the tree ends and nobody was told.
    pub(super) announced: Option<TreeOutcome>,
    /// Whether any of its invocations has, or had, a deadline.
    pub(super) has_deadlines: bool,
    /// The time of the round that its driver is in.
    pub(super) now: Timestamp,
    /// The version that this worker lacks: the tree is released with it, for a worker that has it (V1).
    pub(super) needs: Option<FunctionVersion>,
}

impl Tree {
    /// A tree that has just been created; with `insert` its rows are still to be inserted.
    pub(crate) fn created(new: NewTree, facts: Arc<Facts>, registry: &Arc<Registry>, insert: bool) -> Self {
        let root = Invocation {
            path: Path::root(),
            function: new.function.clone(),
            version: new.version,
            input: new.input.clone(),
            state: InvocationState::fresh(),
            undo: None,
            deadline: new.deadline,
        };
        let mut tree = Self::empty(facts, Arc::clone(registry));
        if insert {
            tree.draft.created(root.clone());
            tree.draft.tree = Some(new);
        }
        let root = tree.add(Node::created(root, registry));
        tree.goes_forward(root);
        tree
    }

    /// A tree as its rows have it.
    pub(crate) fn loaded(image: TreeImage, facts: Arc<Facts>, registry: &Arc<Registry>) -> Self {
        let mut tree = Self::empty(facts, Arc::clone(registry));
        tree.refresh(&image.row);
        tree.number = image.row.number;
        tree.timers = image.timers.into_iter().collect();
        tree.requests = image.requests;
        tree.settled = Some(image.row.state).filter(|state| state.is_closed());
        tree.closings
            .enter(Some(image.row.closing).filter(|closing| *closing == Closing::Compensated).unwrap_or_default());
        for failed in image.failed {
            tree.closings.enter(failed.state.closing);
            tree.failed.insert(failed.path.clone(), failed);
        }
        tree.settles = image.settled.into();
        tree.inbox = image.row.inbox;
        for open in image.open {
            tree.closings.enter(open.state.closing);
            let is_backing_off = tree.timers.has(&open.path, TimerKind::FunctionRetry);
            let parent = open.path.parent().and_then(|path| tree.nodes.at(&path));
            if open.state.promise.is_closed() {
                tree.compensating_again.insert(open.path.clone());
            } else if let Some((parent, position)) =
                parent.and_then(|id| tree.nodes.get_mut(id)).zip(open.path.position())
            {
                parent.open_children.insert(position);
            }
            let id = tree.add(Node::loaded(open, is_backing_off, registry));
            tree.withhold_if_parked(id);
            if tree.status(id) == Some(Status::Closing) {
                tree.to_close.push(id);
            }
        }
        if image.row.state == TreeState::TimingOut
            && let Some(root) = tree.nodes.at(&Path::root())
        {
            tree.announces(root);
        }
        tree.count = image.nodes;
        tree
    }

    /// An empty tree: what is left in place of a tree that is moved out.
    pub(crate) fn empty(facts: Arc<Facts>, registry: Arc<Registry>) -> Self {
        Self {
            facts,
            registry,
            revision: 0,
            control: 0,
            inbox: 0,
            is_governed: false,
            number: 0,
            nodes: Nodes::default(),
            put_down: Vec::new(),
            to_close: Vec::new(),
            closings: Closings::default(),
            failed: BTreeMap::new(),
            compensating_again: BTreeSet::new(),
            settled: None,
            count: 0,
            timers: Timers::default(),
            requests: Vec::new(),
            asks_for_settles: false,
            settles: VecDeque::new(),
            draft: Draft::default(),
            outcome: None,
            announced: None,
            has_deadlines: false,
            now: Timestamp::UNIX_EPOCH,
            needs: None,
        }
    }

    /// Takes the counters of a row as it was claimed, but for its inbox: what settled is still to be heard.
    pub(crate) fn refresh(&mut self, row: &TreeRow) {
        self.revision = row.revision;
        self.control = row.control;
        self.is_governed = row.control != row.applied;
    }

    /// How far in its inbox it has heard.
    pub(crate) const fn inbox(&self) -> u32 {
        self.inbox
    }

    /// Whether something that settled from outside is to be recorded.
    pub(crate) fn has_settled(&self) -> bool {
        !self.settles.is_empty()
    }

    /// Whether its store is to be asked what has settled, because the deadline of a promise has passed.
    pub(crate) const fn asks_for_settles(&self) -> bool {
        self.asks_for_settles
    }

    /// Its store is asked what has settled.
    pub(crate) fn asked_for_settles(&mut self) {
        self.asks_for_settles = false;
    }

    /// Hears what has settled after the last number of its inbox.
    pub(crate) fn hears(&mut self, settled: Vec<SettledPromise>) {
        self.inbox = settled.last().map_or(self.inbox, |last| last.inbox);
        self.settles.extend(settled);
    }

    /// Whether it was claimed for what is due next, because nothing else of it goes on: nothing runs or closes, and nothing
    /// was asked of it.
    pub(crate) fn waits_for_time(&self) -> bool {
        let closes = |id: &NodeId| self.nodes.get(*id).is_some_and(Node::is_closable);
        !self.is_governed && !self.nodes.wants() && !self.to_close.iter().any(closes)
    }

    pub(crate) fn id(&self) -> TreeId {
        self.facts.tree
    }

    /// The last request that this worker knows of.
    pub(crate) fn control(&self) -> u32 {
        self.control
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// A turn of it is durable.
    pub(crate) fn committed(&mut self) {
        self.revision += 1;
    }

    /// What it takes of memory with its bodies, in bytes; an estimate. Costs what was touched since it was asked last.
    pub(crate) fn bytes(&mut self, of_body: impl Fn(NodeId) -> usize) -> usize {
        TREE_BYTES + self.nodes.bytes(of_body)
    }

    pub(crate) fn outcome(&self) -> Option<&TreeOutcome> {
        self.outcome.as_ref()
    }

    /// Whether it had its outcome before.
    pub(crate) const fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// Whether it had its outcome before, and nothing is undone again any longer.
    pub(crate) fn is_over(&self) -> bool {
        self.is_settled() && self.nodes.is_empty()
    }

    // ---- nodes ----------------------------------------------------------------------------------------------------

    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    pub(crate) fn status(&self, id: NodeId) -> Option<Status> {
        self.nodes.get(id).map(Node::status)
    }

    /// Moves the status of a node on; `false` if this cannot happen to it, or it is settled.
    pub(crate) fn on(&mut self, id: NodeId, by: Move) -> bool {
        self.nodes.on(id, by)
    }

    /// Puts a node into its driver's queue; `false` if it is there already, or is settled.
    pub(crate) fn enqueue(&mut self, id: NodeId) -> bool {
        self.nodes.get_mut(id).is_some_and(|node| !std::mem::replace(&mut node.is_queued, true))
    }

    /// Takes a node out of its driver's queue.
    pub(crate) fn dequeue(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.is_queued = false;
        }
    }

    /// The node at a path.
    pub(crate) fn at(&self, path: &Path) -> Option<NodeId> {
        self.nodes.at(path)
    }

    /// Puts the nodes that are to be polled into a new driver's queue. None has the mark of another's: a driver takes out
    /// what is in its queue when it releases a tree.
    pub(crate) fn requeue(&mut self) -> Vec<NodeId> {
        let mut queued = self.nodes.active_ids();
        let is_polled = |status| matches!(status, Some(Status::Runnable | Status::Finishing));
        queued.retain(|id| is_polled(self.status(*id)) && self.enqueue(*id));
        queued
    }

    /// Takes the nodes whose journal is to be read; their status says from now on that it is being read.
    pub(crate) fn take_loads(&mut self) -> Vec<(NodeId, Path)> {
        if self.needs.is_some() {
            // The tree leaves this worker, which lacks a version.
            return Vec::new();
        }
        let wanted = self.nodes.load_wanted();
        wanted.iter().for_each(|id| {
            self.nodes.on(*id, Move::JournalAsked);
        });
        wanted.into_iter().filter_map(|id| Some((id, self.nodes.get(id)?.path.clone()))).collect()
    }

    /// The node after `after` with a step or a start that waits for durability, in the order of their creation, so that
    /// what was called first begins first.
    pub(crate) fn wanting_after(&self, after: Option<NodeId>) -> Option<NodeId> {
        self.nodes.wanting_after(after)
    }

    /// Takes what became of a node's operations and its body was not told yet.
    pub(crate) fn take_notices(&mut self, id: NodeId) -> Vec<Notice> {
        self.nodes.get_mut(id).map(|node| std::mem::take(&mut node.notices)).unwrap_or_default()
    }

    pub(super) fn notify(&mut self, id: NodeId, notice: Notice) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.notices.push(notice);
        }
    }

    /// A start was not made; its handle orders it again.
    pub(crate) fn start_failed(&mut self, id: NodeId, position: sapwood_core::Position) {
        self.notify(id, Notice::StartFailed { position });
    }

    pub(crate) fn set_work(&mut self, id: NodeId, work: Work) {
        self.nodes.set_work(id, work);
    }

    /// This worker lacks the version of a node's function: the tree waits for a worker that has it (V1).
    pub(crate) fn lacks_version(&mut self, id: NodeId) {
        self.nodes.on(id, Move::VersionLacking);
        if let Some(node) = self.nodes.get(id) {
            self.needs = Some(FunctionVersion::new(&*node.function, node.version));
        }
    }

    /// The rows of a node were read.
    pub(crate) fn journal_read(&mut self, id: NodeId, input: bytes::Bytes) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.input = Some(input);
        }
    }

    /// Takes the nodes whose bodies are to be dropped.
    pub(crate) fn take_put_down(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.put_down)
    }

    /// A body of a node is at its first line.
    pub(crate) fn begun(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.is_blank = false;
        }
        self.nodes.on(id, Move::Begun);
    }

    pub(super) fn add(&mut self, node: Node) -> NodeId {
        self.count += 1;
        if let Some(deadline) = node.deadline {
            self.has_deadlines = true;
            if node.state.promise == PromiseState::Pending {
                self.timers.set_deadline(node.path.clone(), deadline);
            }
        }
        self.nodes.add(node)
    }

    /// Gives the next completion number (R7).
    pub(super) fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Puts a node's state into the next turn.
    pub(super) fn save(&mut self, id: NodeId) {
        self.goes_forward(id);
        if let Some(node) = self.nodes.get(id) {
            self.draft.changed(&node.path, &node.state);
        }
    }

    // ---- timers ---------------------------------------------------------------------------------------------------

    pub(super) fn set_timer(&mut self, timer: Timer) {
        self.draft.timer_set(timer.clone());
        self.timers.set(timer);
    }

    /// Clears a timer, in memory and in the next turn.
    pub(super) fn clear_timer(&mut self, path: &Path, position: sapwood_core::Position) {
        if let Some(timer) = self.timers.clear(path, position) {
            self.draft.timer_cleared(&timer);
        }
    }

    /// Clears every timer of an invocation, in memory and in the next turn.
    pub(super) fn clear_timers(&mut self, path: &Path) {
        self.timers.clear_all(path).iter().for_each(|timer| self.draft.timer_cleared(timer));
    }

    /// The timers of a parked invocation stay and do not fire: nothing of it goes on before it is resumed (R9).
    pub(super) fn withhold_if_parked(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get(id).filter(|node| node.status() == Status::Parked) {
            self.timers.withhold(&node.path);
        }
    }

    /// The positions of a node's steps that wait for their next attempt.
    pub(crate) fn backing_off(&self, path: &Path) -> Vec<sapwood_core::Position> {
        let retries = self.timers.of(path).filter(|timer| timer.kind == TimerKind::StepRetry);
        retries.map(|timer| timer.position).collect()
    }

    /// When the next timer that can fire is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.timers.next_due()
    }

    // ---- the next turn --------------------------------------------------------------------------------------------

    /// Whether something is recorded that no turn has taken yet.
    pub(crate) fn has_draft(&self) -> bool {
        !self.draft.is_empty()
    }

    /// Whether the next turn has as much as one turn should.
    pub(crate) fn is_full(&self) -> bool {
        self.draft.is_full()
    }

    /// The bytes of payloads that the next turn has so far.
    pub(crate) const fn draft_bytes(&self) -> usize {
        self.draft.bytes()
    }

    pub(crate) fn drafts_events(&self) -> bool {
        self.draft.has_events()
    }

    /// Whether anything waits for everything recorded to be durable: a step, a start, a journal to be read.
    pub(crate) fn wants(&self) -> bool {
        self.nodes.wants()
    }

    /// Its driver begins a round at this time.
    pub(crate) const fn tick(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Whether who waits outside is to be told of the root's outcome once everything recorded is durable.
    pub(crate) const fn has_news(&self) -> bool {
        self.announced.is_some()
    }

    /// Takes the root's outcome, which is durable, to tell who waits outside.
    pub(crate) const fn take_news(&mut self) -> Option<TreeOutcome> {
        self.announced.take()
    }

    /// Whether this worker has to keep the tree. With `stopping`, it keeps the tree only for what is in flight.
    pub(crate) fn is_active(&self, stopping: bool) -> bool {
        if stopping || self.needs.is_some() {
            // Nothing new begins, but what is in flight ends (S2): also of a body that lent its slot meanwhile.
            return self.nodes.is_any_in_flight();
        }
        self.nodes.active().any(|node| node.status() != Status::Runnable || node.definition.is_some())
    }

    /// The turn that keeps the tree with its worker.
    pub(crate) fn keep(&mut self) -> Turn {
        self.turn(self.settled.unwrap_or(TreeState::Running), Ownership::Keep)
    }

    /// The turn that releases the tree, and when it is due again.
    pub(crate) fn release(&mut self, now: Timestamp) -> (Turn, Option<Timestamp>) {
        if let Some(state) = self.outcome.as_ref().map(|outcome| outcome.state) {
            return (self.turn(state, Ownership::Release { ready_at: None, needs: None }), None);
        }
        // Something could still run: the next owner may claim it at once.
        let could_run = self.nodes.active().next().is_some();
        let ready_at = if could_run { Some(now) } else { self.next_due() };
        let state = self.released_state(could_run);
        let needs = self.needs.take();
        (self.turn(state, Ownership::Release { ready_at, needs }), ready_at)
    }

    /// The state of a tree that no worker owns.
    fn released_state(&self, could_run: bool) -> TreeState {
        if let Some(settled) = self.settled {
            return settled;
        }
        if could_run {
            return TreeState::Running;
        }
        if self.nodes.has_parked() && !self.timers.has_any_that_fires() {
            TreeState::Parked
        } else {
            TreeState::Suspended
        }
    }

    fn turn(&mut self, state: TreeState, ownership: Ownership) -> Turn {
        let root = self.nodes.at(&Path::root()).and_then(|root| self.nodes.get(root));
        let state = match root.map(|root| root.state.promise) {
            Some(PromiseState::TimingOut) => TreeState::TimingOut,
            _ => state,
        };
        let releases = ownership != Ownership::Keep;
        let inbox = releases.then_some(self.inbox);
        let known = Known { tree: self.facts.tree, revision: self.revision, control: self.control, inbox };
        self.draft.take_turn(known, Next { state, closing: self.closing(), number: self.number, ownership })
    }

    /// Puts down the nodes that could run, because the next owner runs them; returns them. A cache keeps only the
    /// bodies of nodes that wait.
    pub(crate) fn put_down_active(&mut self) -> Vec<NodeId> {
        let active = self.nodes.active_ids();
        for id in &active {
            self.nodes.set_work(*id, Work::default());
        }
        let put_down: Vec<NodeId> = active.into_iter().filter(|id| self.nodes.on(*id, Move::PutDown)).collect();
        let closing = put_down.iter().copied().filter(|id| self.status(*id) == Some(Status::Closing));
        self.to_close = closing.collect();
        put_down
    }
}
