//! Deadlines: until when an invocation goes forward, and what becomes of it then (D1, D2). Pure.
//!
//! A deadline is judged by the database's clock, in the commit that decides (D3). So a turn in which something goes forward
//! names the earliest deadline of all that does, and is refused from then on; a turn in which something times out names
//! that deadline, and is refused before.

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_core::{Path, Position};

use super::model::Tree;
use super::node::{Node, NodeId};
use crate::activation::Notice;
use crate::replay::Completion;

impl Tree {
    /// When an invocation settles at the latest: by its own deadline, or else by that of the nearest caller that has one.
    pub(crate) fn deadline_of(&self, id: NodeId) -> Option<Timestamp> {
        if !self.has_deadlines {
            return None;
        }
        let mut node = self.nodes.get(id)?;
        loop {
            // What undoes something has the time that it needs, whatever deadline made it necessary (D4).
            if node.deadline.is_some() || node.path.undoes().is_some() {
                return node.deadline;
            }
            node = self.nodes.get(self.nodes.at(&node.path.parent()?)?)?;
        }
    }

    /// Whether an invocation would go forward although its deadline has passed: it is not dispatched (D2).
    pub(crate) fn is_overdue(&self, id: NodeId, now: Timestamp) -> bool {
        self.nodes.get(id).is_some_and(|node| node.state.promise == PromiseState::Pending)
            && self.deadline_of(id).is_some_and(|deadline| deadline <= now)
    }

    /// When the root settles at the latest.
    pub(crate) fn root_deadline(&self) -> Option<Timestamp> {
        self.nodes.at(&Path::root()).and_then(|root| self.nodes.get(root)?.deadline)
    }

    /// Whether what is recorded and not in a turn yet comes too late for a deadline.
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        self.draft.is_late(now)
    }

    /// An invocation goes forward in the next turn, if its outcome is not decided.
    pub(super) fn goes_forward(&mut self, id: NodeId) {
        let is_pending = |node: &Node| node.state.promise == PromiseState::Pending;
        if self.has_deadlines
            && self.nodes.get(id).is_some_and(is_pending)
            && let Some(deadline) = self.deadline_of(id)
        {
            self.draft.only_before(deadline);
        }
    }

    /// The deadline of an invocation has passed. If it still goes forward, it has its outcome now, and its caller is told at
    /// once; what it called is cancelled, and it closes when nothing of it is left to do. Returns the nodes to be polled.
    pub(super) fn time_out(&mut self, id: NodeId, deadline: Timestamp) -> Vec<NodeId> {
        let Some(node) = self.nodes.get(id).filter(|node| node.state.promise == PromiseState::Pending) else {
            return Vec::new();
        };
        let path = node.path.clone();
        self.draft.not_before(deadline);
        let is_left_behind = self.stop_forward(id, PromiseState::TimingOut, None);
        let mut woken: Vec<NodeId> = is_left_behind.then_some(id).into_iter().collect();
        match path.parent().zip(path.position()) {
            Some((parent, position)) => {
                let number = self.next_number();
                if let Some(node) = self.nodes.get_mut(id) {
                    node.state.number = Some(number);
                }
                woken.extend(self.tell_of_time_out(id, self.nodes.at(&parent), position, number));
            }
            None => self.announces(id),
        }
        self.save(id);
        woken.extend(self.cancel_children(id));
        woken.extend(self.close(id));
        woken
    }

    /// Tells the caller of an invocation that it timed out; returns the caller, if it is to be polled.
    fn tell_of_time_out(
        &mut self,
        id: NodeId,
        parent: Option<NodeId>,
        position: Position,
        number: u32,
    ) -> Option<NodeId> {
        let parent = parent?;
        let node = self.nodes.get(id).filter(|node| !node.is_forsaken)?;
        let (version, attempts) = (node.version, node.state.attempt);
        let is_pending = self.nodes.get(parent).is_some_and(|parent| parent.state.promise == PromiseState::Pending);
        if !is_pending {
            return None;
        }
        let (promise, outcome) = (PromiseState::TimedOut, Bytes::new());
        let completion = Completion::Call { version, promise, attempts, outcome };
        self.notify(parent, Notice::Completed { position, number, completion });
        Some(parent)
    }

    /// The root has its outcome before it is closed: who waits outside is told once that is durable.
    pub(super) fn announces(&mut self, root: NodeId) {
        if let Some(root) = self.nodes.get(root) {
            self.announced = Some(self.outcome_of(root, TreeState::TimingOut));
        }
    }
}
