//! An invocation that is not settled, in memory.

use std::sync::Arc;

use bytes::Bytes;
use sapwood_core::tree::{Invocation, InvocationState, OpenInvocation, Phase};
use sapwood_core::{Path, Position};
use tokio::sync::OwnedSemaphorePermit;

use crate::activation::Activation;
use crate::registry::{Definition, Registry};
use crate::replay::Completion;

/// What an invocation is about.
///
/// ```text
/// Runnable ─► AwaitingSlot ─► Runnable ─► LoadWanted ─► Loading ─► Active ─► Waiting ─► Runnable …
///                                                                   Active ─► BackingOff ─► Runnable
///                                                                   Active ─► Returned, Parked
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is to be polled.
    Runnable,
    /// It waits for its worker to have room.
    AwaitingSlot,
    /// Its journal is to be read, once everything recorded is durable.
    LoadWanted,
    /// Its journal is being read.
    Loading,
    /// A step of it is in flight, or waits for durability.
    Active,
    /// It waits and holds nothing; its body may be cached.
    Waiting,
    /// An attempt failed, the next one is due later.
    BackingOff,
    /// Its body returned; children are open.
    Returned,
    /// It cannot go on as it is.
    Parked,
}

/// See the module.
pub(crate) struct Node {
    pub(crate) path: Path,
    pub(crate) function: String,
    pub(crate) version: u32,
    pub(crate) state: InvocationState,
    pub(crate) status: Status,
    /// `None` where this worker lacks the version.
    pub(crate) definition: Option<Arc<Definition>>,
    /// `None` until it is loaded.
    pub(crate) input: Option<Bytes>,
    /// The `seq` of its next journal entry; `None` until it is loaded.
    pub(crate) next_seq: Option<u32>,
    /// Nothing was ever recorded for it, so there is nothing to load.
    pub(crate) blank: bool,
    pub(crate) activation: Option<Activation>,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    pub(crate) open_children: u32,
    /// Completions that came while no body was in memory.
    pub(crate) late: Vec<(Position, u32, Completion)>,
    pub(crate) queued: bool,
}

impl Node {
    /// An invocation that has just been created.
    pub(crate) fn begun(invocation: Invocation, registry: &Registry) -> Self {
        Self {
            definition: registry.shared(&invocation.function, invocation.version).cloned(),
            path: invocation.path,
            function: invocation.function,
            version: invocation.version,
            state: invocation.state,
            status: Status::Runnable,
            input: Some(invocation.input),
            next_seq: Some(0),
            blank: true,
            activation: None,
            permit: None,
            open_children: 0,
            late: Vec::new(),
            queued: false,
        }
    }

    /// An invocation as its row tells.
    pub(crate) fn loaded(open: OpenInvocation, backing_off: bool, registry: &Registry) -> Self {
        let has_news = open.state.seen.is_none_or(|seen| open.latest > seen);
        let status = if open.state.parked.is_some() {
            Status::Parked
        } else if matches!(open.state.phase, Phase::ReturnedOk | Phase::ReturnedErr) {
            Status::Returned
        } else if backing_off {
            Status::BackingOff
        } else if has_news {
            Status::Runnable
        } else {
            Status::Waiting
        };
        Self {
            definition: registry.shared(&open.function, open.version).cloned(),
            path: open.path,
            function: open.function,
            version: open.version,
            state: open.state,
            status,
            input: None,
            next_seq: None,
            blank: false,
            activation: None,
            permit: None,
            open_children: 0,
            late: Vec::new(),
            queued: false,
        }
    }

    /// Whether it keeps its tree owned.
    pub(crate) fn is_active(&self) -> bool {
        match self.status {
            Status::Runnable | Status::AwaitingSlot | Status::LoadWanted | Status::Loading | Status::Active => true,
            Status::Waiting | Status::BackingOff | Status::Returned | Status::Parked => false,
        }
    }
}
