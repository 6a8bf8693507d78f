//! Cancellation: which invocations it reaches, and what becomes of each of them (K3 to K6, N2). Pure.
//!
//! It reaches an invocation and everything below it that is open, in one decision. A body of these is never resumed: if
//! steps of it are in flight, it stays in memory until they have ended and are recorded; else it is dropped at once. An
//! outcome that is decided already stands. Then the leaves close first, and each closes its parent once it was the last.

use bytes::Bytes;
use sapwood_core::control::{ControlRecord, ControlRequest, ControlVerb};
use sapwood_core::tree::PromiseState;
use sapwood_core::{Path, Position};

use super::model::Tree;
use super::node::{Move, Node, NodeId, Status};
use crate::payload::{Rejection, RejectionKind};

impl Tree {
    /// Cancels an invocation and everything below it, with this outcome. Returns the nodes to be polled.
    pub(crate) fn cancel(&mut self, id: NodeId, outcome: &Bytes) -> Vec<NodeId> {
        let reached = self.subtree(id);
        let mut woken = reached.clone();
        woken.retain(|id| self.stop_forward(*id, PromiseState::Cancelling, Some(outcome)));
        for id in reached.into_iter().rev() {
            woken.extend(self.close(id));
        }
        woken
    }

    /// Carries out the requests that were read with the tree, and goes on closing what was left half closed. First those that
    /// let something go on, then those that end something, each in the order in which they were made. Returns the nodes to be
    /// polled.
    pub(crate) fn carry_out(&mut self) -> Vec<NodeId> {
        let (going_on, ending): (Vec<_>, Vec<_>) = std::mem::take(&mut self.requests)
            .into_iter()
            .map(|ControlRecord { request, .. }| request)
            .partition(|request| matches!(request.verb, ControlVerb::Resume | ControlVerb::Retry));
        let mut woken = self.let_go_on(&going_on);
        for ControlRequest { path, verb, actor, reason } in ending {
            let by = format!("by {actor}: {reason}");
            woken.extend(match verb {
                // What it named may have closed in the turn that a crash or another request made void.
                ControlVerb::Cancel => match self.nodes.at(&path) {
                    Some(id) => self.cancel(id, &cancelled(&by)),
                    None => Vec::new(),
                },
                ControlVerb::Kill => self.kill(&path, &by),
                ControlVerb::Resume | ControlVerb::Retry => Vec::new(),
            });
        }
        // The last first: what was called is closed before its caller.
        for id in std::mem::take(&mut self.to_close).into_iter().rev() {
            // A reader may have settled it by its deadline, and nothing more.
            if self.nodes.get(id).is_some_and(|node| node.state.promise == PromiseState::TimingOut) {
                woken.extend(self.cancel_children(id));
            }
            if self.nodes.get(id).is_some_and(Node::is_closable) {
                woken.extend(self.close(id));
            }
        }
        woken
    }

    /// Stops an invocation and everything below it as they are: nothing is undone, and a step in flight is not waited for
    /// (K7). Returns the nodes to be polled.
    fn kill(&mut self, path: &Path, by: &str) -> Vec<NodeId> {
        let outcome = Rejection::of(RejectionKind::Killed, format!("killed {by}")).to_bytes();
        let reached = self.at_or_below(path);
        for id in &reached {
            self.stop_forward(*id, PromiseState::Cancelling, Some(&outcome));
            self.undo_nothing_more(*id);
            if self.status(*id) == Some(Status::Finishing) {
                self.put_down(*id, Move::Decided);
            }
        }
        let mut woken = Vec::new();
        for id in reached.into_iter().rev() {
            woken.extend(self.close(id));
        }
        woken
    }

    /// Cancels what an invocation called and is still open, because the function has ended (N2) or its deadline has passed.
    pub(super) fn cancel_children(&mut self, id: NodeId) -> Vec<NodeId> {
        let Some(node) = self.nodes.get(id).filter(|node| !node.open_children.is_empty()) else { return Vec::new() };
        let paths: Vec<_> = node.open_children.iter().map(|position| node.path.child(*position)).collect();
        let outcome = cancelled(match node.state.promise {
            PromiseState::TimingOut => "its caller timed out",
            _ => "its caller has ended",
        });
        let children: Vec<NodeId> = paths.iter().filter_map(|path| self.nodes.at(path)).collect();
        children.into_iter().flat_map(|child| self.cancel(child, &outcome)).collect()
    }

    /// A body dropped the handle of an operation: if that is an open call, it is cancelled (N2). Adds the nodes to be
    /// polled.
    pub(super) fn forsake(&mut self, id: NodeId, position: Position, woken: &mut Vec<NodeId>) {
        let Some(path) = self.nodes.get(id).map(|node| node.path.child(position)) else { return };
        let Some(child) = self.nodes.at(&path) else { return };
        if let Some(node) = self.nodes.get_mut(child) {
            node.is_forsaken = true;
        }
        woken.extend(self.cancel(child, &cancelled("its caller dropped the handle")));
    }

    /// What was in flight of a body that does not go on may have ended: then the body is dropped, and the invocation
    /// closes, or runs again. Returns the nodes to be polled.
    pub(crate) fn left_behind(&mut self, id: NodeId) -> Vec<NodeId> {
        match self.nodes.get(id) {
            Some(node) if node.status() == Status::Finishing && !node.is_kept_by_work() => {}
            _ => return Vec::new(),
        }
        if self.nodes.get(id).is_some_and(|node| node.state.promise == PromiseState::Pending) {
            self.put_down(id, Move::Finished);
            return vec![id];
        }
        self.put_down(id, Move::Decided);
        self.close(id)
    }

    /// Everything that is open at a path and below it, what undoes something included; parents before children.
    pub(super) fn at_or_below(&self, path: &Path) -> Vec<NodeId> {
        let nodes = self.nodes.ids().filter_map(|id| Some((self.nodes.get(id)?, id)));
        let reached = nodes.filter(|(node, _)| path.is_at_or_above(&node.path));
        let mut reached: Vec<(usize, NodeId)> = reached.map(|(node, id)| (node.path.depth(), id)).collect();
        reached.sort_unstable();
        reached.into_iter().map(|(_, id)| id).collect()
    }

    /// An invocation and everything below it that is open, but for what undoes something; parents before children.
    fn subtree(&self, id: NodeId) -> Vec<NodeId> {
        let mut found = vec![id];
        let mut next = 0;
        while let Some(node) = found.get(next).and_then(|id| self.nodes.get(*id)) {
            let paths = node.open_children.iter().map(|position| node.path.child(*position));
            let paths = paths.filter(|path| path.undoes().is_none());
            found.extend(paths.filter_map(|path| self.nodes.at(&path)));
            next += 1;
        }
        found
    }

    /// From now on an invocation does nothing but close. Nothing happens to one whose outcome is decided. Returns whether
    /// its body is left behind, because something of it is in flight.
    pub(super) fn stop_forward(&mut self, id: NodeId, promise: PromiseState, outcome: Option<&Bytes>) -> bool {
        let Some(node) = self.nodes.get_mut(id).filter(|node| node.state.promise == PromiseState::Pending) else {
            return false;
        };
        // A deadline of its own has not passed, or it would have timed out.
        if let Some(deadline) = node.deadline {
            self.timers.clear_deadline(&node.path, deadline);
            if promise == PromiseState::Cancelling {
                self.draft.only_before(deadline);
            }
        }
        node.state.promise = promise;
        node.state.outcome = outcome.cloned();
        node.state.parked = None;
        let (path, is_binding) = (node.path.clone(), node.work.is_binding);
        let is_left_behind = node.status() == Status::Finishing;
        self.clear_timers(&path);
        if is_binding && (is_left_behind || self.nodes.on(id, Move::LeftBehind)) {
            return true;
        }
        self.put_down(id, Move::Decided);
        false
    }
}

/// The outcome of an invocation that is cancelled, with the reason in words.
fn cancelled(reason: &str) -> Bytes {
    Rejection::of(RejectionKind::Cancelled, format!("cancelled: {reason}")).to_bytes()
}
