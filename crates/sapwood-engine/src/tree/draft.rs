//! What a tree has recorded since its last turn, as rows that are merged to one per key.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use sapwood_core::journal;
use sapwood_core::store::{InvocationChange, NewTree, Next, OutboxEvent, Turn};
use sapwood_core::tree::{Invocation, InvocationState, Timer};
use sapwood_core::{Path, Position, TreeId};

/// Bytes of payloads after which a turn is full. With what one more poll may write it stays far below what databases take
/// in one statement (1 GiB).
pub(super) const TURN_BYTES: usize = 8 * 1024 * 1024;

/// New invocations that are found by looking at each: making a table of them would cost more.
const FEW: usize = 8;

/// What a tree has recorded since its last turn.
#[derive(Default)]
pub(crate) struct Draft {
    /// The tree itself, if its rows are still to be inserted.
    pub(crate) tree: Option<NewTree>,
    created: Vec<Invocation>,
    /// Where each of them stands in the list; empty while there are few.
    created_at: HashMap<Path, usize>,
    /// The last state of each invocation that the store has already.
    changed: BTreeMap<Path, InvocationState>,
    entries: Vec<(Path, journal::Entry)>,
    timers: BTreeMap<(Path, Position), TimerChange>,
    events: Vec<OutboxEvent>,
    /// The bytes of payloads in it, as far as they were added one by one.
    bytes: usize,
    /// The latest deadline that it finds passed.
    not_before: Option<Timestamp>,
    /// The earliest deadline of what goes forward in it.
    only_before: Option<Timestamp>,
}

/// What becomes of the timer of one path and position.
struct TimerChange {
    /// The store has a timer of this key from before this turn, so clearing it must reach the store.
    is_stored: bool,
    /// `None` once it is cleared.
    timer: Option<Timer>,
}

impl Draft {
    pub(crate) fn is_empty(&self) -> bool {
        self.tree.is_none()
            && self.created.is_empty()
            && self.changed.is_empty()
            && self.entries.is_empty()
            && self.timers.is_empty()
            && self.events.is_empty()
    }

    /// The bytes of payloads in it.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the next turn has as much as one turn should: more waits for the turn after it.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes >= TURN_BYTES
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// It finds that this deadline has passed.
    pub(crate) fn not_before(&mut self, deadline: Timestamp) {
        self.not_before = self.not_before.max(Some(deadline));
    }

    /// Something goes forward in it that has this deadline.
    pub(crate) fn only_before(&mut self, deadline: Timestamp) {
        self.only_before = Some(self.only_before.map_or(deadline, |before| before.min(deadline)));
    }

    /// Whether something goes forward in it whose deadline has passed by now: no commit takes it any longer.
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        self.only_before.is_some_and(|deadline| deadline <= now)
    }

    pub(crate) fn created(&mut self, invocation: Invocation) {
        self.bytes += invocation.input.len();
        self.created.push(invocation);
        let indexed = match self.created.len() {
            0..=FEW => return,
            first if first == FEW + 1 => 0,
            many => many - 1,
        };
        let places = self.created.iter().enumerate().skip(indexed);
        self.created_at.extend(places.map(|(place, invocation)| (invocation.path.clone(), place)));
    }

    /// Where an invocation stands among the new ones.
    fn created_at(&self, path: &Path) -> Option<usize> {
        if self.created_at.is_empty() {
            return self.created.iter().position(|invocation| invocation.path == *path);
        }
        self.created_at.get(path).copied()
    }

    pub(crate) fn changed(&mut self, path: &Path, state: &InvocationState) {
        // A state that is replaced counts again, which only makes a turn end a little earlier.
        self.bytes += state.outcome.as_ref().map_or(0, bytes::Bytes::len);
        let created = self.created_at(path).and_then(|place| self.created.get_mut(place));
        match created {
            Some(invocation) => invocation.state = state.clone(),
            None => {
                self.changed.insert(path.clone(), state.clone());
            }
        }
    }

    pub(crate) fn entry(&mut self, path: &Path, entry: journal::Entry) {
        self.bytes += entry.payload.len();
        self.entries.push((path.clone(), entry));
    }

    pub(crate) fn event(&mut self, event: OutboxEvent) {
        self.bytes += event.content.len();
        self.events.push(event);
    }

    /// A timer cleared and set again in one turn is set: setting replaces.
    pub(crate) fn timer_set(&mut self, timer: Timer) {
        let key = (timer.path.clone(), timer.position);
        let change = self.timers.entry(key).or_insert(TimerChange { is_stored: false, timer: None });
        change.timer = Some(timer);
    }

    /// A timer set and cleared in one turn leaves no trace, unless it had been stored before.
    pub(crate) fn timer_cleared(&mut self, timer: &Timer) {
        match self.timers.entry((timer.path.clone(), timer.position)) {
            Entry::Vacant(vacant) => {
                vacant.insert(TimerChange { is_stored: true, timer: None });
            }
            Entry::Occupied(mut occupied) if occupied.get().is_stored => occupied.get_mut().timer = None,
            Entry::Occupied(occupied) => {
                occupied.remove();
            }
        }
    }

    /// Makes all this a turn of the tree as `known`; leaves the draft empty.
    pub(crate) fn take_turn(&mut self, known: Known, next: Next) -> Turn {
        let draft = std::mem::take(self);
        let (mut timers_set, mut timers_cleared) = (Vec::new(), Vec::new());
        for (key, change) in draft.timers {
            match change.timer {
                Some(timer) => timers_set.push(timer),
                None => timers_cleared.push(key),
            }
        }
        Turn {
            tree: known.tree,
            revision: known.revision,
            control: known.control,
            inbox: known.inbox,
            not_before: draft.not_before,
            only_before: draft.only_before,
            created: draft.tree,
            invocations: draft.created,
            changes: draft.changed.into_iter().map(|(path, state)| InvocationChange { path, state }).collect(),
            entries: draft.entries,
            timers_set,
            timers_cleared,
            events: draft.events,
            next,
        }
    }
}

/// What a turn expects of its tree's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) tree: TreeId,
    pub(crate) revision: u64,
    pub(crate) control: u32,
    /// Named by a turn that releases the tree, so that no wake-up is lost (S3).
    pub(crate) inbox: Option<u32>,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sapwood_core::store::Ownership;
    use sapwood_core::tree::{Closing, PromiseState, TimerKind, TreeState};

    use super::*;

    fn turn(draft: &mut Draft) -> Turn {
        let known = Known { tree: TreeId::from(uuid::Uuid::nil()), revision: 7, control: 2, inbox: None };
        draft.take_turn(
            known,
            Next { state: TreeState::Running, closing: Closing::None, number: 0, ownership: Ownership::Keep },
        )
    }

    fn invocation(path: &Path) -> Invocation {
        Invocation {
            path: path.clone(),
            function: "f".to_owned(),
            version: 1,
            input: Bytes::from_static(b"{}"),
            state: InvocationState::fresh(),
            undo: None,
            deadline: None,
        }
    }

    fn timer(path: &Path, position: Position) -> Timer {
        Timer { path: path.clone(), position, kind: TimerKind::Sleep, due_at: Timestamp::UNIX_EPOCH }
    }

    /// W1: rows are merged to one per key, and a turn is taken once.
    #[test]
    fn an_invocation_created_and_settled_in_one_turn_is_inserted_settled() {
        let (new, old) = (Path::root().child(0), Path::root());
        let settled = InvocationState { promise: PromiseState::Resolved, ..InvocationState::fresh() };
        let mut draft = Draft::default();
        draft.created(invocation(&new));
        draft.changed(&new, &InvocationState { attempt: 2, ..InvocationState::fresh() });
        draft.changed(&new, &settled);
        draft.changed(&old, &InvocationState { seen: Some(1), ..InvocationState::fresh() });
        draft.changed(&old, &settled);
        let first = turn(&mut draft);
        assert_eq!(first.invocations, [Invocation { state: settled.clone(), ..invocation(&new) }]);
        assert_eq!(first.changes, [InvocationChange { path: old, state: settled }]);
        assert_eq!((first.revision, first.control, first.inbox), (7, 2, None));
        assert!(draft.is_empty());
        let second = turn(&mut draft);
        assert!(second.invocations.is_empty() && second.changes.is_empty());
    }

    /// W1: a timer set and cleared in one turn leaves no row, and one cleared and set again is only set.
    #[test]
    fn timers_of_one_key_are_merged() {
        let path = Path::root();
        let cases: [(&[bool], bool, bool); 5] = [
            (&[true], true, false),
            (&[false], false, true),
            (&[true, false], false, false),
            (&[false, true], true, false),
            (&[false, true, false], false, true),
        ];
        for (sets, set, cleared) in cases {
            let mut draft = Draft::default();
            // A timer of another position is never touched by it.
            draft.timer_set(timer(&path, 9));
            for is_set in sets {
                if *is_set { draft.timer_set(timer(&path, 1)) } else { draft.timer_cleared(&timer(&path, 1)) }
            }
            let turn = turn(&mut draft);
            let found = turn.timers_set.iter().filter(|timer| timer.position == 1).count();
            assert_eq!((found, turn.timers_cleared.len()), (usize::from(set), usize::from(cleared)), "{sets:?}");
            assert_eq!(turn.timers_set.len() - found, 1);
        }
    }
}
