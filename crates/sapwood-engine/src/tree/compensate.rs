//! Compensation: how an invocation that does not resolve undoes what it did, one after the other, and how far the tree has
//! come with it (K1, K2, K7). Pure.

use jiff::Timestamp;
use sapwood_core::clock::after;
use sapwood_core::deadline::GRACE;
use sapwood_core::tree::{Closing, Invocation, InvocationState, PromiseState};

use super::model::Tree;
use super::node::{Move, NodeId, Status};
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
        let Some(node) = self.nodes.get_mut(id).filter(|node| node.is_closable()) else { return CloseStep::Waits };
        let closing = node.state.closing;
        // A function that resolves drops its compensations.
        if node.state.promise == PromiseState::ReturnedOk || matches!(closing, Closing::None | Closing::Compensated) {
            node.state.closing = Closing::None;
            return CloseStep::Closes;
        }
        let Some(undos) = &mut node.undos else {
            self.nodes.on(id, Move::UndosNeeded);
            return CloseStep::Waits;
        };
        let Some(undo) = undos.pending.front().cloned() else {
            let has_any = undos.has_any;
            node.state.closing = match closing {
                Closing::CompensationFailed => closing,
                _ if has_any => Closing::Compensated,
                _ => Closing::None,
            };
            self.has_closed(closing, id);
            return CloseStep::Closes;
        };
        self.begin_undo(id, undo)
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
        let path = node.path.undo(undo.position);
        if let Some(position) = path.position() {
            node.open_children.insert(position);
        }
        if node.state.closing == Closing::Undoable {
            node.state.closing = Closing::Compensating;
            self.compensating += 1;
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
        Some(*undos.until.get_or_insert_with(|| after(deadline.max(now), grace)))
    }

    /// An undo has closed without a result: that of its caller failed, and the others are tried all the same (K2).
    pub(super) fn undo_failed(&mut self, parent: NodeId) {
        let Some(node) = self.nodes.get_mut(parent) else { return };
        let before = std::mem::replace(&mut node.state.closing, Closing::CompensationFailed);
        if before != Closing::CompensationFailed {
            self.has_closed(before, parent);
        }
        self.save(parent);
    }

    /// Nothing more is undone: the invocation was killed (K7).
    pub(super) fn undo_nothing_more(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.undos = Some(Undos::default());
        let before = node.state.closing;
        node.state.closing = match before {
            Closing::Compensating | Closing::CompensationFailed => Closing::CompensationFailed,
            Closing::None | Closing::Undoable | Closing::Compensated => Closing::None,
        };
        self.has_closed(before, id);
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

    /// Keeps what is known of the whole tree.
    fn has_closed(&mut self, before: Closing, id: NodeId) {
        let Some(now) = self.nodes.get(id).map(|node| node.state.closing) else { return };
        if before == Closing::Compensating && now != Closing::Compensating {
            self.compensating = self.compensating.saturating_sub(1);
        }
        self.closed = match (self.closed, now) {
            (Closing::CompensationFailed, _) | (_, Closing::CompensationFailed) => Closing::CompensationFailed,
            (_, Closing::Compensated) => Closing::Compensated,
            (closed, _) => closed,
        };
    }

    /// How far what the invocations of the tree undo has come: failed if one has failed, else the least far.
    pub(super) const fn closing(&self) -> Closing {
        match self.closed {
            Closing::CompensationFailed => Closing::CompensationFailed,
            _ if self.compensating > 0 => Closing::Compensating,
            closed => closed,
        }
    }
}
