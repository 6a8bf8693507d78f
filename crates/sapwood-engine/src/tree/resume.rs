//! What an operator lets go on: resuming and retrying what is parked, and retrying compensations that failed (R9, F8, K2).
//! Pure.
//!
//! - *Resumed*, an invocation runs again from its record, as if another build had come. Parking consumed no attempt, and its
//!   timers fire again.
//! - *Retried*, it begins a fresh budget of attempts besides, and runs those steps again whose failure ended it. This is one
//!   entry of its journal, so a crash keeps it.
//! - A compensation that failed is retried by an entry in the journal of the invocation that it belongs to. That one
//!   compensates again, although it may be closed: its promise stays as it is, and nobody is told.

use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::journal::Entry;
use sapwood_core::tree::{Closing, OpenInvocation, PromiseState, TimerKind};
use sapwood_core::{Path, Position};

use super::model::Tree;
use super::node::{Move, Node, NodeId, Status};
use crate::payload::{Parked, Retried, UndoRetried, decode};

impl Tree {
    /// Carries out requests to resume and to retry. Retrying comes first: it does what resuming does, and more. Returns the
    /// nodes to be polled.
    pub(super) fn let_go_on(&mut self, requests: &[ControlRequest]) -> Vec<NodeId> {
        let of = |verb| requests.iter().filter(move |request| request.verb == verb).map(|request| &request.path);
        let mut woken = Vec::new();
        for path in of(ControlVerb::Retry) {
            for id in self.parked_at_or_below(path) {
                woken.extend(self.retry_parked(id));
            }
            self.retry_undos(path);
        }
        for path in of(ControlVerb::Resume) {
            for id in self.parked_at_or_below(path) {
                woken.extend(self.resume_parked(id));
            }
        }
        woken
    }

    fn parked_at_or_below(&self, path: &Path) -> Vec<NodeId> {
        let reaches = |id: &NodeId| {
            self.nodes.get(*id).is_some_and(|node| path.is_at_or_above(&node.path) && !self.is_cancelled_next(node))
        };
        self.nodes.parked_ids().into_iter().filter(reaches).collect()
    }

    /// Whether a reader has settled a caller of a node by its deadline: the node is cancelled with this turn, and goes no
    /// further (D2). A turn in which it did could never be committed.
    fn is_cancelled_next(&self, node: &Node) -> bool {
        let has_timed_out = |path: &Path| {
            let caller = self.nodes.at(path).and_then(|id| self.nodes.get(id));
            caller.is_some_and(|caller| caller.state.promise == PromiseState::TimingOut)
        };
        let mut path = node.path.clone();
        while path.undoes().is_none()
            && let Some(caller) = path.parent()
        {
            if has_timed_out(&caller) {
                return node.state.promise == PromiseState::Pending;
            }
            path = caller;
        }
        false
    }

    /// A parked invocation goes on with what it was doing. Returns it, if it is to be polled.
    fn resume_parked(&mut self, id: NodeId) -> Option<NodeId> {
        let node = self.nodes.get_mut(id)?;
        node.state.parked = None;
        let path = node.path.clone();
        let by = match node.state.promise {
            PromiseState::Pending if self.timers.has(&path, TimerKind::FunctionRetry) => Move::BackedOff,
            PromiseState::Pending => {
                // Whatever it has seen, it runs again.
                node.state.seen = None;
                Move::Resumed
            }
            _ => {
                self.to_close.push(id);
                Move::Decided
            }
        };
        self.timers.restore(&path);
        self.nodes.on(id, by);
        self.save(id);
        (self.status(id) == Some(Status::Runnable)).then_some(id)
    }

    /// A parked invocation makes its next attempt, the first of a fresh budget. One whose outcome is decided makes none: it
    /// only closes.
    fn retry_parked(&mut self, id: NodeId) -> Option<NodeId> {
        let node = self.nodes.get(id)?;
        if node.state.promise == PromiseState::Pending {
            let (path, parked) = (node.path.clone(), node.state.parked.clone().unwrap_or_default());
            // A reason that this build cannot read forgets nothing.
            let parked: Option<Parked> = decode(&parked).ok();
            let (message, spent) = parked.map(|parked| (parked.message, parked.spent)).unwrap_or_default();
            let forgotten = spent.map(|spent| spent.forgotten).unwrap_or_default();
            self.clear_timer(&path, Entry::NO_POSITION);
            self.retried(id, &Retried { message, forgotten, afresh: true });
        }
        self.resume_parked(id)
    }

    /// What failed to be undone, at a path or below it, is undone again; and what the invocation at the path should have
    /// undone, if it is an undo itself.
    fn retry_undos(&mut self, path: &Path) {
        // First what closes last.
        if let Some((caller, position)) = path.parent().zip(path.undoes()).filter(|_| self.nodes.at(path).is_none()) {
            self.undo_again(&caller, position);
        }
        let closed = self.failed.keys().filter(|failed| path.is_at_or_above(failed)).cloned();
        let mut failed: Vec<Path> = closed.collect();
        let open = self.at_or_below(path).into_iter().filter_map(|id| self.nodes.get(id));
        let open = open.filter(|node| node.state.closing == Closing::CompensationFailed);
        failed.extend(open.map(|node| node.path.clone()));
        failed.iter().for_each(|path| self.undo_again(path, Entry::NO_POSITION));
    }

    /// An invocation undoes again what it failed to undo: at one position, or all of it.
    fn undo_again(&mut self, path: &Path, position: Position) {
        let id = match (self.nodes.at(path), self.failed.remove(path)) {
            (Some(id), _) => id,
            (None, Some(failed)) => self.reopen(failed),
            (None, None) => return,
        };
        let has_to = |closing| matches!(closing, Closing::CompensationFailed | Closing::Compensating);
        let is_so = |node: &&mut Node| node.status() == Status::Closing && has_to(node.state.closing);
        let Some(node) = self.nodes.get_mut(id).filter(is_so) else { return };
        node.undos = None;
        let unbegun = position == Entry::NO_POSITION || !node.state.promise.is_closed();
        self.undo_retried(id, position, &UndoRetried { number: self.number, unbegun });
        self.set_closing(id, Closing::Compensating);
        self.save(id);
        self.to_close.push(id);
    }

    /// Takes up an invocation that is closed. Its caller was told long ago, and hears nothing of this.
    fn reopen(&mut self, failed: OpenInvocation) -> NodeId {
        self.compensating_again.insert(failed.path.clone());
        let id = self.add(Node::loaded(failed, false, &self.registry.clone()));
        // It is no new one.
        self.count -= 1;
        id
    }
}
