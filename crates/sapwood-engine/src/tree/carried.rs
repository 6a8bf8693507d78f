//! What goes on when a tree is loaded again, because a request was made for it: the steps that are in flight, and the ends
//! of steps that no turn has recorded. Everything else that was not durable is forgotten, and the bodies find it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sapwood_core::Path;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::Turn;

use super::live::LiveTree;
use super::mailbox::Mailbox;
use super::model::Tree;
use super::node::Move;
use crate::activation::{Activation, StepEnd, Work};
use crate::payload::{BodyError, Rejection, RejectionKind, StepRetried, decode};

/// What goes on of a tree that is loaded again.
pub(crate) struct Carried {
    /// The revision that the tree had: if it has moved on, another worker has had it, and nothing goes on.
    pub(super) revision: u64,
    /// The wakers of the bodies refer to it.
    pub(super) mailbox: Arc<Mailbox>,
    /// Bodies with a step in flight.
    pub(super) bodies: Vec<(Path, Activation)>,
    /// How steps ended, in the order in which they did.
    pub(super) ends: Vec<(Path, StepEnd)>,
}

impl Carried {
    /// The tree as it was loaded, with what goes on of it: each end is to be recorded, and each body is left behind until what
    /// is in flight of it has ended.
    pub(crate) fn into(self, mut tree: Tree) -> Box<LiveTree> {
        if tree.revision() != self.revision {
            return LiveTree::boxed(tree);
        }
        let mut bodies = BTreeMap::new();
        for (path, mut body) in self.bodies {
            let Some(id) = tree.at(&path).filter(|id| tree.on(*id, Move::LeftBehind)) else { continue };
            body.is_of(id);
            tree.set_work(id, Work { is_in_flight: true, is_binding: true, ..Work::default() });
            bodies.insert(id, body);
        }
        Box::new(LiveTree { tree, bodies, mailbox: self.mailbox, ends: self.ends })
    }
}

/// The ends of attempts of steps that a turn would have recorded.
pub(super) fn ends_of(turn: Turn) -> Vec<(Path, StepEnd)> {
    let Turn { entries, timers_set, .. } = turn;
    let retry_at = |path: &Path, entry: &Entry| {
        timers_set
            .iter()
            .find(|timer| timer.path == *path && timer.position == entry.position)
            .map(|timer| timer.due_at)
    };
    let end = |(path, entry): (Path, Entry)| {
        let (result, retry_at) = match entry.kind {
            EntryKind::StepResolved => (Ok(entry.payload), None),
            EntryKind::StepRejected => (Err(error_of(&entry.payload)?), None),
            EntryKind::StepRetried => {
                let StepRetried { message } = decode(&entry.payload).ok()?;
                let retry_at = retry_at(&path, &entry);
                (Err(BodyError { transient: true, message, error: Bytes::new() }), retry_at)
            }
            _ => return None,
        };
        let Entry { position, name, attempt, .. } = entry;
        Some((path, StepEnd { position, name, attempt, result, retry_at, transaction: None }))
    };
    entries.into_iter().filter_map(end).collect()
}

/// The error that a rejection was made of.
fn error_of(rejection: &[u8]) -> Option<BodyError> {
    let Rejection { kind, message, error } = Rejection::read(rejection).ok()?;
    let error = error.map_or_else(Bytes::new, |error| Bytes::copy_from_slice(error.get().as_bytes()));
    Some(BodyError { transient: kind == RejectionKind::Exhausted, message, error })
}
