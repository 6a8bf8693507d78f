//! What goes on when a tree is loaded again, because a request was made for it: the steps that are in flight, and the ends
//! of steps that no turn has recorded. Everything else that was not durable is forgotten, and the bodies find it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
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
            // It may have fired before the turn was sent: then the next attempt is due.
            .map_or(Timestamp::UNIX_EPOCH, |timer| timer.due_at)
    };
    let end = |(path, entry): (Path, Entry)| {
        let (result, retry_at) = match entry.kind {
            EntryKind::StepResolved => (Ok(entry.payload), None),
            EntryKind::StepRejected => (Err(error_of(&entry.payload)?), None),
            EntryKind::StepRetried => {
                let StepRetried { message } = decode(&entry.payload).ok()?;
                let retry_at = Some(retry_at(&path, &entry));
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

#[cfg(test)]
mod tests {
    use sapwood_core::TreeId;
    use sapwood_core::store::{Next, Ownership};
    use sapwood_core::tree::{Closing, TreeState};

    use super::*;
    use crate::payload::encode;

    /// F2: a step whose next attempt was due before the turn was sent has no timer in it, and is tried again all the same.
    #[test]
    fn an_attempt_that_is_followed_by_another_is_carried_as_such_without_its_timer() {
        let payload = encode(&StepRetried { message: "it is busy".to_owned() });
        let (kind, name) = (EntryKind::StepRetried, "step".to_owned());
        let entry = Entry { seq: 0, kind, position: 3, number: None, attempt: 1, name, payload };
        let turn = Turn {
            tree: TreeId::from(uuid::Uuid::nil()),
            revision: 1,
            control: 0,
            inbox: None,
            not_before: None,
            only_before: None,
            created: None,
            invocations: Vec::new(),
            changes: Vec::new(),
            entries: vec![(Path::root(), entry)],
            timers_set: Vec::new(),
            timers_cleared: vec![(Path::root(), 3)],
            events: Vec::new(),
            next: Next { state: TreeState::Running, closing: Closing::None, number: 0, ownership: Ownership::Keep },
        };
        let retries: Vec<_> = ends_of(turn).into_iter().map(|(_, end)| end.retry_at).collect();
        assert_eq!(retries, [Some(Timestamp::UNIX_EPOCH)]);
    }
}
