//! An invocation that is not closed, in memory; and how its status moves.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::tree::{Invocation, InvocationState, OpenInvocation, PromiseState};
use sapwood_core::{Path, Position};

use super::undo::Undos;
use crate::activation::{Notice, Work};
use crate::definition::Definition;
use crate::registry::Registry;

/// The index of a node in its tree; wakers carry it.
pub(crate) type NodeId = u32;

/// What an invocation is doing.
///
/// ```text
/// Runnable ─── JournalNeeded ──► LoadWanted ─── JournalAsked ──► Loading
///    │                               ▲                             │
/// Begun, Polled                 JournalNeeded                      │
///    ▼                               │                             │
/// Active ──────── Suspended ────► Suspended                        │
///  │ ▲ ▲                             │                             │
///  │ │ └────────── Polled ───────────┘                             │
///  │ └──────────────────────── Begun ──────────────────────────────┘
///  │
///  ├─ Decided ───► Closing
///  └─ BackedOff ─► BackingOff ─── BackoffOver ──► Runnable
///
/// Runnable, Suspended, Active ── SlotLacking ──► AwaitingSlot ── SlotGiven ──► Runnable
/// Runnable, Suspended ── VersionLacking ──► Runnable
/// Runnable, AwaitingSlot, LoadWanted, Loading, Active ── PutDown ──► Runnable
/// Runnable, AwaitingSlot, Active, Suspended ── LeftBehind ──► Finishing ── Finished ──► Runnable
/// every status ── Parked ──► Parked ─┬─ Resumed ───► Runnable
///                                    └─ BackedOff ─► BackingOff
/// every status before it ── Decided ──► Closing ── UndosNeeded ──► UndosWanted ── JournalAsked ──► UndosLoading
/// UndosWanted, UndosLoading ── UndosRead, PutDown ──► Closing
/// ```
///
/// `Polled` leaves an active node active, and a finishing one finishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is to be polled, as soon as its worker gets to it.
    Runnable,
    /// It waits until its worker has a slot for it.
    AwaitingSlot,
    /// Its journal is to be read, once everything recorded is durable.
    LoadWanted,
    /// Its journal is being read.
    Loading,
    /// Its body is being polled, or a step or start of it is in flight or waits for durability.
    Active,
    /// It waits for something durable and has no slot; its body may be cached.
    Suspended,
    /// An attempt failed; the next one is due later.
    BackingOff,
    /// Its body does not go on. The steps of it that are in flight end, and are recorded (K4).
    Finishing,
    /// Its outcome is decided; children are open, or undos.
    Closing,
    /// Its outcome is decided, and what it has to undo is to be read, once everything recorded is durable.
    UndosWanted,
    /// What it has to undo is being read.
    UndosLoading,
    /// It cannot go on as it is.
    Parked,
}

/// What happens to an invocation, as far as its status is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// Its worker has no slot for it.
    SlotLacking,
    /// Its worker has a slot for it.
    SlotGiven,
    /// This worker lacks its version.
    VersionLacking,
    /// It is to run, and its body is not in memory.
    JournalNeeded,
    /// Its journal is asked for.
    JournalAsked,
    /// A body of it is at its first line.
    Begun,
    /// Its body is polled.
    Polled,
    /// Its body waits for something durable, with nothing in flight.
    Suspended,
    /// Its attempt failed, and another follows.
    BackedOff,
    /// The next attempt is due.
    BackoffOver,
    /// Its body does not go on, and something of it is in flight.
    LeftBehind,
    /// What was in flight of a body that does not go on has ended.
    Finished,
    /// Its outcome is decided, and nothing of it is in flight.
    Decided,
    /// It may have something to undo.
    UndosNeeded,
    /// What it has to undo is known.
    UndosRead,
    /// It cannot go on as it is.
    Parked,
    /// An operator says that it can.
    Resumed,
    /// Its tree is released while it could run: the next owner runs it.
    PutDown,
}

impl Status {
    /// The status after this has happened; `None` if it cannot happen in this status.
    pub(crate) const fn after(self, by: Move) -> Option<Self> {
        use Status::{
            Active, AwaitingSlot, BackingOff, Closing, Finishing, LoadWanted, Loading, Parked, Runnable, Suspended,
            UndosLoading, UndosWanted,
        };
        Some(match (by, self) {
            (Move::SlotLacking, Runnable | Suspended | Active) => AwaitingSlot,
            (Move::SlotGiven, AwaitingSlot) => Runnable,
            (Move::VersionLacking, Runnable | Suspended) => Runnable,
            (Move::JournalNeeded, Runnable | Suspended) => LoadWanted,
            (Move::JournalAsked, LoadWanted) => Loading,
            (Move::UndosNeeded, Closing) => UndosWanted,
            (Move::JournalAsked, UndosWanted) => UndosLoading,
            (Move::UndosRead, UndosWanted | UndosLoading) => Closing,
            (Move::PutDown, UndosWanted | UndosLoading) => Closing,
            (Move::Begun, Runnable | Loading) => Active,
            (Move::Polled, Runnable | Suspended | Active) => Active,
            (Move::Suspended, Active) => Suspended,
            // One that was parked while it backed off goes on with that.
            (Move::BackedOff, Active | Parked) => BackingOff,
            (Move::Resumed, Parked) => Runnable,
            (Move::BackoffOver, BackingOff) => Runnable,
            (Move::LeftBehind, Runnable | AwaitingSlot | Active | Suspended) => Finishing,
            (Move::Finished, Finishing) => Runnable,
            (Move::Polled, Finishing) => Finishing,
            (Move::PutDown, Runnable | AwaitingSlot | LoadWanted | Loading | Active | Finishing) => Runnable,
            (
                Move::Decided,
                Runnable | AwaitingSlot | LoadWanted | Loading | Active | Suspended | BackingOff | Finishing | Parked,
            ) => Closing,
            (
                Move::Parked,
                Runnable | AwaitingSlot | LoadWanted | Loading | Active | Suspended | BackingOff | Finishing | Closing
                | UndosWanted | UndosLoading | Parked,
            ) => Parked,
            _ => return None,
        })
    }

    /// Whether it keeps its tree owned: it runs, or could run at once.
    pub(crate) const fn is_active(self) -> bool {
        match self {
            Self::Runnable
            | Self::AwaitingSlot
            | Self::LoadWanted
            | Self::Loading
            | Self::Active
            | Self::Finishing
            | Self::UndosWanted
            | Self::UndosLoading => true,
            Self::Suspended | Self::BackingOff | Self::Closing | Self::Parked => false,
        }
    }
}

/// An invocation that is not closed, in memory.
pub(crate) struct Node {
    pub(crate) path: Path,
    pub(crate) function: String,
    /// Fixed when it was created (V1).
    pub(crate) version: u32,
    /// Its own deadline, as its row has it.
    pub(crate) deadline: Option<Timestamp>,
    /// As its row has it, or will have it after the next turn.
    pub(crate) state: InvocationState,
    /// Changed by [`Node::on`] alone.
    status: Status,
    /// `None` if this worker lacks the version.
    pub(crate) definition: Option<Arc<Definition>>,
    /// `None` until it is loaded.
    pub(crate) input: Option<Bytes>,
    /// The `seq` of its next journal entry.
    pub(crate) next_seq: u32,
    /// No entry was ever recorded for it, so there is nothing to load.
    pub(crate) is_blank: bool,
    /// Its children that are not closed: its promise waits for them (N1).
    pub(crate) open_children: BTreeSet<Position>,
    /// What became of its operations and its body was not told yet.
    pub(crate) notices: Vec<Notice>,
    /// The work of its body, as its body last reported it.
    pub(crate) work: Work,
    /// It is in its driver's queue, so that it is queued at most once.
    pub(crate) is_queued: bool,
    /// The body that called it has dropped its handle: nobody waits for its outcome.
    pub(crate) is_forsaken: bool,
    /// What it has still to undo; `None` until that was read.
    pub(crate) undos: Option<Undos>,
}

impl Node {
    /// An invocation that has just been created.
    pub(crate) fn created(invocation: Invocation, registry: &Registry) -> Self {
        Self {
            definition: registry.shared(&invocation.function, invocation.version).cloned(),
            path: invocation.path,
            function: invocation.function,
            version: invocation.version,
            deadline: invocation.deadline,
            state: invocation.state,
            status: Status::Runnable,
            input: Some(invocation.input),
            next_seq: 0,
            is_blank: true,
            open_children: BTreeSet::new(),
            notices: Vec::new(),
            work: Work::default(),
            is_queued: false,
            is_forsaken: false,
            undos: None,
        }
    }

    /// An invocation as its row has it.
    pub(crate) fn loaded(open: OpenInvocation, is_backing_off: bool, registry: &Registry) -> Self {
        let status = Self::loaded_status(&open, is_backing_off);
        Self {
            definition: registry.shared(&open.function, open.version).cloned(),
            path: open.path,
            function: open.function,
            version: open.version,
            deadline: open.deadline,
            state: open.state,
            status,
            input: None,
            next_seq: open.next_seq,
            is_blank: false,
            open_children: BTreeSet::new(),
            notices: Vec::new(),
            work: Work::default(),
            is_queued: false,
            is_forsaken: false,
            undos: None,
        }
    }

    /// An invocation that waits goes on only if something was recorded for it since; a takeover runs no other one again
    /// (F1).
    fn loaded_status(open: &OpenInvocation, is_backing_off: bool) -> Status {
        let has_news = open.state.seen.is_none_or(|seen| open.latest > seen);
        if open.state.parked.is_some() {
            Status::Parked
        } else if open.state.promise != PromiseState::Pending {
            Status::Closing
        } else if is_backing_off {
            Status::BackingOff
        } else if has_news {
            Status::Runnable
        } else {
            Status::Suspended
        }
    }

    pub(crate) const fn status(&self) -> Status {
        self.status
    }

    /// Moves the status on. Returns whether this can happen in the present status; if not, nothing changes.
    pub(crate) fn on(&mut self, by: Move) -> bool {
        match self.status.after(by) {
            Some(status) => {
                self.status = status;
                true
            }
            None => false,
        }
    }

    /// Whether it keeps its tree owned.
    pub(crate) const fn is_active(&self) -> bool {
        self.status.is_active()
    }

    /// Whether a body that does not go on is kept, because something of it is under way: if it is cancelled, only what may not
    /// be interrupted.
    pub(crate) const fn is_kept_by_work(&self) -> bool {
        match self.state.promise {
            PromiseState::Pending => self.work.is_in_flight,
            _ => self.work.is_binding,
        }
    }

    /// Whether its outcome is decided, and nothing of it is left to do.
    pub(crate) fn is_closable(&self) -> bool {
        self.status == Status::Closing && self.open_children.is_empty()
    }

    /// Whether something of it is under way that ends by itself: a step, a start, the reading of its journal.
    pub(crate) const fn is_in_flight(&self) -> bool {
        matches!(self.status, Status::Loading | Status::UndosLoading) || self.is_active() && self.work.is_in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [Status; 12] = [
        Status::Runnable,
        Status::AwaitingSlot,
        Status::LoadWanted,
        Status::Loading,
        Status::Active,
        Status::Suspended,
        Status::BackingOff,
        Status::Finishing,
        Status::Closing,
        Status::UndosWanted,
        Status::UndosLoading,
        Status::Parked,
    ];

    /// In which statuses each of these can happen, and which status follows; every other status refuses it.
    #[test]
    fn each_move_finds_only_the_statuses_of_the_table() {
        use Status::*;
        let undecided = [Runnable, AwaitingSlot, LoadWanted, Loading, Active, Suspended, BackingOff, Finishing, Parked];
        let table: [(Move, &[Status], Status); 21] = [
            (Move::SlotLacking, &[Runnable, Suspended, Active], AwaitingSlot),
            (Move::SlotGiven, &[AwaitingSlot], Runnable),
            (Move::VersionLacking, &[Runnable, Suspended], Runnable),
            (Move::JournalNeeded, &[Runnable, Suspended], LoadWanted),
            (Move::JournalAsked, &[LoadWanted], Loading),
            (Move::UndosNeeded, &[Closing], UndosWanted),
            (Move::JournalAsked, &[UndosWanted], UndosLoading),
            (Move::UndosRead, &[UndosWanted, UndosLoading], Closing),
            (Move::PutDown, &[UndosWanted, UndosLoading], Closing),
            (Move::Begun, &[Runnable, Loading], Active),
            (Move::Polled, &[Runnable, Suspended, Active], Active),
            (Move::Suspended, &[Active], Suspended),
            (Move::BackedOff, &[Active, Parked], BackingOff),
            (Move::Resumed, &[Parked], Runnable),
            (Move::BackoffOver, &[BackingOff], Runnable),
            (Move::Polled, &[Finishing], Finishing),
            (Move::LeftBehind, &[Runnable, AwaitingSlot, Active, Suspended], Finishing),
            (Move::Finished, &[Finishing], Runnable),
            (Move::Decided, &undecided, Closing),
            (Move::Parked, &STATUSES, Parked),
            (Move::PutDown, &[Runnable, AwaitingSlot, LoadWanted, Loading, Active, Finishing], Runnable),
        ];
        for by in table.map(|(by, ..)| by) {
            for status in STATUSES {
                let row = table.iter().find(|(of, from, _)| *of == by && from.contains(&status));
                assert_eq!(status.after(by), row.map(|(.., to)| *to), "{status:?} by {by:?}");
            }
        }
    }

    /// S1: what waits, backs off, closes or is parked does not keep its tree owned.
    #[test]
    fn an_invocation_that_waits_does_not_keep_its_tree_owned() {
        for status in [Status::Suspended, Status::BackingOff, Status::Closing, Status::Parked] {
            assert!(!status.is_active(), "{status:?}");
        }
        // R9: whatever it was doing, a violation parks it.
        for status in STATUSES.into_iter().filter(|status| *status != Status::Parked) {
            assert!(status.after(Move::Parked) == Some(Status::Parked));
        }
    }
}
