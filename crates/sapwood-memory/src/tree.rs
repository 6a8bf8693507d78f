//! The rows of one tree: its own, its invocations, their journals, its timers.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use sapwood_core::control::ControlRecord;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::{NewTree, TIMED_OUT};
use sapwood_core::tree::{
    Closing, Invocation, InvocationRow, InvocationState, PromiseState, SettledPromise, Timer, TimerKind, TreeRow,
    TreeState,
};
use sapwood_core::{Path, Position, WorkerId};

use crate::time::stored;

/// One tree.
pub(crate) struct Tree {
    pub(crate) row: TreeRow,
    /// How often in a row it was taken over from a worker that died.
    pub(crate) takeovers: u32,
    /// The revision that the last takeover gave it: if it is still at that, it has committed nothing since.
    pub(crate) taken_over_at: Option<u64>,
    pub(crate) invocations: BTreeMap<ByDepth, InvocationRow>,
    /// By invocation, then by `seq`, each with when it was recorded.
    pub(crate) journal: BTreeMap<ByDepth, BTreeMap<u32, (Timestamp, Entry)>>,
    pub(crate) timers: BTreeMap<(ByDepth, Position), Timer>,
    /// What was asked of it, in order.
    pub(crate) requests: Vec<ControlRecord>,
    /// Its promises that were settled from outside, in order.
    pub(crate) settled: Vec<SettledPromise>,
}

/// A path in the order of its stored form, which is by depth first: parents come before children, and the direct
/// children of one invocation are one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByDepth(pub(crate) Path);

impl Ord for ByDepth {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.depth().cmp(&other.0.depth()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for ByDepth {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Tree {
    /// A tree that has not run, at revision 0 and without its root. Without an owner it is ready at once.
    pub(crate) fn new(new: &NewTree, owner: Option<WorkerId>, now: Timestamp) -> Self {
        let row = TreeRow {
            id: new.id,
            function: new.function.clone(),
            version: new.version,
            state: TreeState::Running,
            closing: Closing::None,
            owner,
            revision: 0,
            control: 0,
            applied: 0,
            inbox: 0,
            number: 0,
            ready_at: owner.is_none().then_some(now),
            needs: None,
            aside: None,
            cause: new.cause.clone(),
            created_at: now,
            deadline: new.deadline.map(stored),
            settled_at: None,
        };
        Self {
            row,
            takeovers: 0,
            taken_over_at: None,
            invocations: BTreeMap::new(),
            journal: BTreeMap::new(),
            timers: BTreeMap::new(),
            requests: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// Whether it was taken over and has committed nothing since: it may be what its workers died of.
    pub(crate) fn is_suspect(&self) -> bool {
        self.taken_over_at == Some(self.row.revision)
    }

    pub(crate) fn invocation(&self, path: &Path) -> Option<&InvocationRow> {
        self.invocations.get(&ByDepth(path.clone()))
    }

    /// The direct children of an invocation, by position.
    pub(crate) fn children(&self, path: &Path) -> impl Iterator<Item = &InvocationRow> {
        let range = ByDepth(path.child(0))..=ByDepth(path.child(Position::MAX));
        self.invocations.range(range).map(|(_, row)| row)
    }

    /// The journal of an invocation, in order.
    pub(crate) fn entries(&self, path: &Path) -> impl Iterator<Item = &Entry> {
        self.journal.get(&ByDepth(path.clone())).into_iter().flat_map(BTreeMap::values).map(|(_, entry)| entry)
    }

    /// The `seq` of the next entry of an invocation.
    pub(crate) fn next_seq(&self, path: &Path) -> u32 {
        let journal = self.journal.get(&ByDepth(path.clone()));
        journal.and_then(BTreeMap::last_key_value).map_or(0, |(seq, _)| seq + 1)
    }

    /// The requests after this one.
    pub(crate) fn requests_after(&self, control: u32) -> &[ControlRecord] {
        let first = self.requests.partition_point(|request| request.control <= control);
        &self.requests[first..]
    }

    /// The promises that were settled after this number of the inbox counter.
    pub(crate) fn settled_after(&self, inbox: u32) -> &[SettledPromise] {
        let first = self.settled.partition_point(|settled| settled.inbox <= inbox);
        &self.settled[first..]
    }

    /// How the promise that was made there was settled.
    pub(crate) fn settled_at_place(&self, path: &Path, position: Position) -> Option<&SettledPromise> {
        self.settled.iter().find(|settled| settled.path == *path && settled.position == position)
    }

    pub(crate) fn has_entry(&self, path: &Path, seq: u32) -> bool {
        self.journal.get(&ByDepth(path.clone())).is_some_and(|journal| journal.contains_key(&seq))
    }

    /// The timers of an invocation, by position.
    pub(crate) fn timers_of(&self, path: &Path) -> impl Iterator<Item = &Timer> {
        let at = |position| (ByDepth(path.clone()), position);
        self.timers.range(at(0)..=at(Position::MAX)).map(|(_, timer)| timer)
    }

    pub(crate) fn call(&mut self, invocation: &Invocation, now: Timestamp) {
        let deadline = invocation.deadline.map(stored);
        let row = InvocationRow {
            invocation: Invocation { deadline, ..invocation.clone() },
            created_at: now,
            settled_at: invocation.state.promise.is_settled().then_some(now),
        };
        self.invocations.insert(ByDepth(invocation.path.clone()), row);
    }

    /// Writes the whole state of an invocation that is there.
    pub(crate) fn change(&mut self, path: &Path, state: &InvocationState, now: Timestamp) {
        if let Some(row) = self.invocations.get_mut(&ByDepth(path.clone())) {
            row.invocation.state = state.clone();
            row.settled_at = settled_at(state.promise.is_settled(), row.settled_at, row.created_at, now);
        }
    }

    pub(crate) fn record(&mut self, path: &Path, entry: &Entry, now: Timestamp) {
        self.journal.entry(ByDepth(path.clone())).or_default().insert(entry.seq, (now, entry.clone()));
    }

    /// Sets a timer; one of its path and position is replaced.
    pub(crate) fn set_timer(&mut self, timer: &Timer) {
        let timer = Timer { due_at: stored(timer.due_at), ..timer.clone() };
        self.timers.insert((ByDepth(timer.path.clone()), timer.position), timer);
    }

    /// Whether something goes forward although its deadline has passed.
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        self.invocations.values().any(|row| row.is_late(now)) || self.late_promises(now).next().is_some()
    }

    /// Until when a promise can be settled: the earlier one of its own deadline and of its invocation's.
    pub(crate) fn promise_deadline(&self, path: &Path, position: Position) -> Option<Timestamp> {
        let timer = self.timers.get(&(ByDepth(path.clone()), position));
        let own = timer.filter(|timer| timer.kind == TimerKind::Promise).map(|timer| timer.due_at);
        own.into_iter().chain(self.invocation(path)?.invocation.deadline).min()
    }

    /// The timers of the promises that are pending although their deadline has passed.
    fn late_promises(&self, now: Timestamp) -> impl Iterator<Item = &Timer> {
        let is_pending =
            |path| self.invocation(path).is_some_and(|row| row.invocation.state.promise == PromiseState::Pending);
        let due = self.timers.values().filter(move |timer| timer.kind == TimerKind::Promise && timer.due_at <= now);
        due.filter(move |timer| is_pending(&timer.path) && self.settled_at_place(&timer.path, timer.position).is_none())
    }

    /// Settles the promises whose deadline has passed, the earliest first. Without an owner the tree is due at once, unless it
    /// is set aside.
    fn time_out_promises(&mut self, now: Timestamp) {
        let mut late: Vec<Timer> = self.late_promises(now).cloned().collect();
        late.sort_by_key(|timer| (timer.due_at, ByDepth(timer.path.clone()), timer.position));
        for Timer { path, position, .. } in late {
            let made = |entry: &&Entry| entry.kind == EntryKind::PromiseMade && entry.position == position;
            let Some(name) = self.entries(&path).find(made).map(|entry| entry.name.clone()) else { continue };
            let (state, outcome) = (PromiseState::TimedOut, TIMED_OUT.into());
            self.settles(
                SettledPromise { path, position, name, state, outcome, settled_at: now, inbox: self.row.inbox + 1 },
                now,
            );
        }
    }

    /// Stores how a promise was settled. Without an owner the tree is due at once, unless it is set aside: no worker could
    /// drive it.
    pub(crate) fn settles(&mut self, settled: SettledPromise, now: Timestamp) {
        self.row.inbox = settled.inbox;
        self.settled.push(settled);
        if self.row.owner.is_none() && self.row.aside.is_none() {
            self.row.ready_at = Some(now);
        }
    }

    /// Settles what goes forward although its deadline has passed, the earliest deadline first; promises before their functions.
    pub(crate) fn time_out(&mut self, now: Timestamp) {
        self.time_out_promises(now);
        let late = self.invocations.values().filter(|row| row.is_late(now)).map(|row| &row.invocation);
        let mut late: Vec<_> = late.map(|it| (it.deadline, ByDepth(it.path.clone()))).collect();
        late.sort_unstable();
        if late.is_empty() {
            return;
        }
        for (_, ByDepth(path)) in late {
            let Some(row) = self.invocation(&path) else { continue };
            let mut state =
                InvocationState { promise: PromiseState::TimingOut, parked: None, ..row.invocation.state.clone() };
            if path == Path::root() {
                self.row.state = TreeState::TimingOut;
                self.row.settled_at = settled_at(true, self.row.settled_at, self.row.created_at, now);
            } else {
                self.row.number += 1;
                state.number = Some(self.row.number);
            }
            self.change(&path, &state, now);
            self.timers.retain(|(at, _), _| at.0 != path);
        }
        self.row.control += 1;
        if self.row.owner.is_none() {
            self.row.ready_at = Some(now);
            self.row.needs = None;
        }
    }

    pub(crate) fn clear_timer(&mut self, path: &Path, position: Position) {
        self.timers.remove(&(ByDepth(path.clone()), position));
    }
}

/// When something settled that is written now: once, and never before it was created, whatever the clock says.
pub(crate) fn settled_at(
    is_settled: bool,
    before: Option<Timestamp>,
    created_at: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    is_settled.then(|| before.unwrap_or_else(|| created_at.max(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_the_order_of_their_stored_form() {
        let paths = [&[][..], &[0], &[300], &[70_000], &[0, 9], &[1, 0], &[300, 1], &[0, 0, 0]];
        let paths: Vec<Path> = paths.iter().map(|positions| Path::from(positions.to_vec())).collect();
        for one in &paths {
            for other in &paths {
                let expected = one.to_bytes().cmp(&other.to_bytes());
                assert_eq!(ByDepth(one.clone()).cmp(&ByDepth(other.clone())), expected, "{one} and {other}");
            }
        }
    }

    #[test]
    fn what_settles_is_stamped_once_and_not_before_it_was_created() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert_eq!(settled_at(false, None, at(1), at(2)), None);
        assert_eq!(settled_at(true, None, at(1), at(2)), Some(at(2)));
        assert_eq!(settled_at(true, None, at(3), at(2)), Some(at(3)), "the clock was set back");
        assert_eq!(settled_at(true, Some(at(4)), at(1), at(9)), Some(at(4)));
    }
}
