//! Compensation: how an invocation that does not resolve undoes what it did, one after the other, and how far the tree has
//! come with it (K1, K2, K7). Pure.

use jiff::Timestamp;
use sapwood_core::Path;
use sapwood_core::clock::after;
use sapwood_core::deadline::GRACE;
use sapwood_core::tree::{Closing, Invocation, InvocationState, PromiseState};

use super::model::Tree;
use super::node::{Move, Node, NodeId, Status};
use super::undo::{Undo, Undos};
use crate::payload::{Parked, ParkedCode};

/// How the closing of an invocation goes on.
pub(super) enum CloseStep {
    /// Something of it is open: it waits.
    Waits,
    /// This undo was begun.
    Undoes(NodeId),
    /// Nothing is left to do.
    Closes,
}

impl Tree {
    /// Something that may have to be undone was recorded for an invocation.
    pub(super) fn is_undoable(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(id)
            && node.state.closing == Closing::None
        {
            node.state.closing = Closing::Undoable;
            // With what is to be undone: no crash may come between.
            self.save(id);
        }
    }

    /// What an invocation has to undo was read.
    pub(crate) fn undos_read(&mut self, id: NodeId, undos: Undos) -> Vec<NodeId> {
        self.nodes.on(id, Move::UndosRead);
        if let Some(node) = self.nodes.get_mut(id) {
            node.undos = Some(undos);
        }
        self.close(id)
    }

    /// The next thing to be done to close an invocation.
    pub(super) fn next_to_close(&mut self, id: NodeId) -> CloseStep {
        let Some(node) = self.nodes.get(id).filter(|node| node.is_closable()) else { return CloseStep::Waits };
        if self.compensates_again_below(&node.path) {
            return CloseStep::Waits;
        }
        let closing = node.state.closing;
        // A function that resolves drops its compensations.
        if node.state.promise == PromiseState::ReturnedOk || matches!(closing, Closing::None | Closing::Compensated) {
            self.set_closing(id, Closing::None);
            return CloseStep::Closes;
        }
        let Some(undos) = &node.undos else {
            self.nodes.on(id, Move::UndosNeeded);
            return CloseStep::Waits;
        };
        if let Some(undo) = undos.pending.front().cloned() {
            return self.begin_undo(id, undo);
        }
        let now = match closing {
            Closing::CompensationFailed => closing,
            _ if undos.has_failed => Closing::CompensationFailed,
            _ if undos.has_any => Closing::Compensated,
            _ => Closing::None,
        };
        self.set_closing(id, now);
        CloseStep::Closes
    }

    fn begin_undo(&mut self, id: NodeId, undo: Undo) -> CloseStep {
        let Some(input) = undo.input(&self.registry) else {
            self.nodes.on(id, Move::UndosNeeded);
            self.needs = Some(undo.function);
            return CloseStep::Waits;
        };
        let Some(node) = self.nodes.get_mut(id) else { return CloseStep::Waits };
        let input = match input {
            Ok(input) => input,
            Err(error) => {
                let message = format!("the undo {} cannot take what it undoes: {error}", undo.function);
                let location = node.definition.as_ref().map_or("", |definition| definition.location);
                self.park(id, &Parked::new(ParkedCode::Unreadable, message, undo.position, location));
                return CloseStep::Waits;
            }
        };
        if let Some(undos) = &mut node.undos {
            undos.pending.pop_front();
        }
        let path = undo.path;
        if let Some(position) = path.position() {
            node.open_children.insert(position);
        }
        if node.state.closing == Closing::Undoable {
            self.set_closing(id, Closing::Compensating);
        }
        self.save(id);
        let deadline = self.grace_of(id);
        let (function, version) = (undo.function.name().to_owned(), undo.function.version());
        let state = InvocationState::fresh();
        CloseStep::Undoes(self.create(Invocation { path, function, version, input, state, undo: None, deadline }))
    }

    /// Until when an invocation may undo what it did: its grace begins at its deadline, or when it begins to undo, if that is
    /// later; all that it undoes has it together (D4). Without a deadline there is no end.
    fn grace_of(&mut self, id: NodeId) -> Option<Timestamp> {
        let deadline = self.deadline_of(id)?;
        let now = self.now;
        let node = self.nodes.get_mut(id)?;
        let grace = node.definition.as_ref().map_or(GRACE, |definition| definition.grace);
        let undos = node.undos.as_mut()?;
        // What an operator asks for again has a grace of its own.
        let until = undos.until.filter(|until| !undos.is_again || now < *until);
        let until = until.unwrap_or_else(|| after(deadline.max(now), grace));
        undos.until = Some(until);
        Some(until)
    }

    /// An undo has closed without a result: that of its caller failed, and the others are tried all the same (K2). A caller
    /// that is closed says so at the end, because only what compensates is loaded again after a crash.
    pub(super) fn undo_failed(&mut self, parent: NodeId) {
        let Some(node) = self.nodes.get_mut(parent) else { return };
        if let Some(undos) = &mut node.undos {
            undos.has_failed = true;
        }
        if !node.state.promise.is_closed() {
            self.set_closing(parent, Closing::CompensationFailed);
            self.save(parent);
        }
    }

    /// Nothing more is undone: the invocation was killed (K7).
    pub(super) fn undo_nothing_more(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.undos = Some(Undos::default());
        let now = match node.state.closing {
            Closing::Compensating | Closing::CompensationFailed => Closing::CompensationFailed,
            Closing::None | Closing::Undoable | Closing::Compensated => Closing::None,
        };
        self.set_closing(id, now);
        match self.status(id) {
            Some(Status::UndosWanted | Status::UndosLoading) => {
                self.nodes.on(id, Move::UndosRead);
            }
            // What it could not undo keeps it no longer.
            Some(Status::Parked) => {
                if let Some(node) = self.nodes.get_mut(id) {
                    node.state.parked = None;
                }
                self.nodes.on(id, Move::Decided);
            }
            _ => {}
        }
    }

    /// Keeps how far an invocation has come, and with it what is known of the whole tree.
    pub(super) fn set_closing(&mut self, id: NodeId, now: Closing) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let before = std::mem::replace(&mut node.state.closing, now);
        self.closings.leave(before);
        self.closings.enter(now);
    }

    /// An invocation that was closed before has undone again what it could: its outcome, and the number under which it was
    /// told, stay. Returns what may close next, because it waited for this.
    pub(super) fn closed_again(&mut self, id: NodeId) -> Option<NodeId> {
        self.save(id);
        let path = self.nodes.remove(id)?.path;
        self.compensating_again.remove(&path);
        let above = std::iter::successors(path.parent(), Path::parent);
        let nearest = above.filter_map(|path| self.nodes.at(&path)).next()?;
        self.nodes.get(nearest).is_some_and(Node::is_closable).then_some(nearest)
    }

    /// Whether an invocation below a path is closed and compensates again: what is above it closes after it (K5).
    fn compensates_again_below(&self, path: &Path) -> bool {
        self.compensating_again.iter().any(|again| again != path && path.is_at_or_above(again))
    }

    /// How far what the invocations of the tree undo has come.
    pub(super) const fn closing(&self) -> Closing {
        self.closings.worst(self.is_settled())
    }
}
