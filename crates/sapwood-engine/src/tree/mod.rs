//! A tree in memory: owned by this worker while it is driven, a cache of its bodies while nobody owns it.
//!
//! One task drives one tree and owns all of it, so nothing here is locked and a tree's turns are in order by
//! construction. Around it: [`draft`] gathers what the next commit says, [`record`] writes what a poll did,
//! [`settle`] decides what a return, a panic or a violation comes to, [`drive`] is the loop.

mod draft;
mod drive;
mod mailbox;
mod node;
mod record;
mod settle;

use std::collections::HashMap;
use std::sync::Arc;

use sapwood_core::store::{NewTree, Outcome};
use sapwood_core::tree::{Invocation, InvocationState, Phase, Timer, TimerKind, TreeImage, TreeRow, TreeState};
use sapwood_core::{Path, TreeId};

pub(crate) use draft::Draft;
pub(crate) use drive::{Driver, Ended};
pub(crate) use mailbox::{Mailbox, Signal};
use node::{Node, Status};
pub(crate) use record::StepRetriedPayload;

use crate::activation::Facts;
use crate::registry::Registry;

/// The index of a node in its tree; wakers carry it.
pub(crate) type NodeId = u32;

/// A tree in memory.
pub(crate) struct Tree {
    pub(crate) facts: Arc<Facts>,
    /// Bodies in memory hold it too, so it lives as long as they do.
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) revision: u64,
    pub(crate) control: u32,
    pub(crate) inbox: u32,
    number: u32,
    /// Its invocations that are not settled.
    nodes: HashMap<NodeId, Node>,
    by_path: HashMap<Path, NodeId>,
    next_node: NodeId,
    /// Invocations in all, for the limit.
    count: usize,
    timers: Vec<Timer>,
    draft: Draft,
    /// The root's outcome, once it is decided; durable with the commit that ends the tree.
    outcome: Option<Outcome>,
    /// The `name@version` that this worker lacks.
    needs: Option<String>,
}

impl Tree {
    /// A tree that has just begun; with `birth` its rows are still to be inserted.
    pub(crate) fn begun(new: NewTree, facts: Arc<Facts>, registry: &Registry, birth: bool) -> Self {
        let root = Invocation {
            path: Path::root(),
            function: new.function.clone(),
            version: new.version,
            input: new.input.clone(),
            state: InvocationState::fresh(),
        };
        let mut tree = Self::empty(facts);
        if birth {
            tree.draft.born(root.clone());
            tree.draft.birth = Some(new);
        }
        tree.add(Node::begun(root, registry));
        tree
    }

    /// A tree as its rows tell.
    pub(crate) fn loaded(image: TreeImage, facts: Arc<Facts>, registry: &Registry) -> Self {
        let mut tree = Self::empty(facts);
        tree.refresh(&image.row);
        tree.number = image.row.number;
        tree.timers = image.timers;
        for open in image.open {
            let backing_off =
                tree.timers.iter().any(|timer| timer.path == open.path && timer.kind == TimerKind::FunctionRetry);
            let parent = open.path.parent().and_then(|path| tree.by_path.get(&path).copied());
            if let Some(parent) = parent.and_then(|id| tree.nodes.get_mut(&id)) {
                parent.open_children += 1;
            }
            tree.add(Node::loaded(open, backing_off, registry));
        }
        tree.count = image.nodes;
        tree
    }

    /// Takes over the counters of a row as it was claimed.
    pub(crate) fn refresh(&mut self, row: &TreeRow) {
        self.revision = row.revision;
        self.control = row.control;
        self.inbox = row.inbox;
    }

    fn empty(facts: Arc<Facts>) -> Self {
        Self {
            facts,
            mailbox: Arc::default(),
            revision: 0,
            control: 0,
            inbox: 0,
            number: 0,
            nodes: HashMap::new(),
            by_path: HashMap::new(),
            next_node: 0,
            count: 0,
            timers: Vec::new(),
            draft: Draft::default(),
            outcome: None,
            needs: None,
        }
    }

    pub(crate) fn id(&self) -> TreeId {
        self.facts.tree
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        self.count += 1;
        self.by_path.insert(node.path.clone(), id);
        self.nodes.insert(id, node);
        id
    }

    /// Gives the next completion number (R7).
    fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Writes a node's state into the next turn.
    fn save(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get(&id) {
            self.draft.changed(&node.path, &node.state);
        }
    }

    fn set_timer(&mut self, timer: Timer) {
        self.draft.timer_set(timer.clone());
        self.timers.push(timer);
    }

    /// Clears timers, in memory and in the next turn.
    fn clear_timers(&mut self, gone: impl Fn(&Timer) -> bool) {
        let (cleared, kept): (Vec<Timer>, _) = std::mem::take(&mut self.timers).into_iter().partition(gone);
        self.timers = kept;
        cleared.iter().for_each(|timer| self.draft.timer_cleared(timer));
    }

    /// Where the tree stands once nothing in it runs.
    fn resting_state(&self, ready_now: bool) -> TreeState {
        if let Some(outcome) = &self.outcome {
            return outcome.state;
        }
        if ready_now {
            return TreeState::Running;
        }
        let parked = self.nodes.values().any(|node| node.status == Status::Parked);
        if parked && self.next_due().is_none() { TreeState::Parked } else { TreeState::Suspended }
    }

    /// The state of a tree whose root's promise settled like this.
    fn settled_state(phase: Phase) -> TreeState {
        match phase {
            Phase::Resolved => TreeState::Resolved,
            Phase::Rejected => TreeState::Rejected,
            Phase::Cancelled => TreeState::Cancelled,
            Phase::TimedOut => TreeState::TimedOut,
            Phase::Pending | Phase::ReturnedOk | Phase::ReturnedErr => TreeState::Running,
        }
    }

    /// Drops the bodies and slots of what could run elsewhere; only bodies that wait are kept in a cache.
    fn put_down_active(&mut self) {
        for node in self.nodes.values_mut().filter(|node| node.is_active()) {
            node.activation = None;
            node.permit = None;
            node.status = Status::Runnable;
        }
    }

    /// Whether a timer can do anything as its node is: the end of a sleep is written to a journal whose next place is
    /// known, or is read as soon as it is due. A node that is parked, or backs off, comes to its sleeps later.
    fn counts(&self, timer: &Timer) -> bool {
        let node = || self.by_path.get(&timer.path).and_then(|id| self.nodes.get(id));
        timer.kind != TimerKind::Sleep
            || node().is_none_or(|node| node.next_seq.is_some() || node.status == Status::Waiting)
    }

    /// When the next timer that counts is due.
    fn next_due(&self) -> Option<jiff::Timestamp> {
        self.timers.iter().filter(|timer| self.counts(timer)).map(|timer| timer.due_at).min()
    }

    /// Drops the body of a node that waits. Whatever wakes it is recorded and durable before its journal is read again.
    fn evict(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.activation = None;
        }
    }
}
