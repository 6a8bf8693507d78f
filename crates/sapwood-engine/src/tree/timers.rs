//! The timers of one tree, by what they belong to, and by when they are due; and its deadlines, which are due like timers
//! and are no rows of their own. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sapwood_core::tree::{Timer, TimerKind};
use sapwood_core::{Path, Position};

/// The timers of one tree; at most one of each path and position. Each operation takes time in what it touches.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_place: BTreeMap<(Path, Position), Timer>,
    /// Those that fire when they are due, the earliest first. A timer that is withheld is not here.
    due: BTreeSet<(Timestamp, Path, Position)>,
    /// Of each invocation that goes forward and has a deadline of its own.
    deadlines: BTreeSet<(Timestamp, Path)>,
}

/// What is due.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    /// A timer.
    Timer(Timer),
    /// The deadline of an invocation.
    Deadline(Path, Timestamp),
}

impl Timers {
    /// Sets a timer; one of the same path and position is replaced.
    pub(super) fn set(&mut self, timer: Timer) {
        self.clear(&timer.path, timer.position);
        self.due.insert(due_key(&timer));
        self.by_place.insert((timer.path.clone(), timer.position), timer);
    }

    /// Clears the timer of a path and position; returns it.
    pub(super) fn clear(&mut self, path: &Path, position: Position) -> Option<Timer> {
        let timer = self.by_place.remove(&(path.clone(), position))?;
        self.due.remove(&due_key(&timer));
        Some(timer)
    }

    /// Clears every timer of a path; returns them.
    pub(super) fn clear_all(&mut self, path: &Path) -> Vec<Timer> {
        let positions: Vec<Position> = self.of(path).map(|timer| timer.position).collect();
        positions.into_iter().filter_map(|position| self.clear(path, position)).collect()
    }

    /// The timers of a path.
    pub(super) fn of(&self, path: &Path) -> impl Iterator<Item = &Timer> {
        let places = (path.clone(), Position::MIN)..=(path.clone(), Position::MAX);
        self.by_place.range(places).map(|(_, timer)| timer)
    }

    /// Whether a path has a timer of this kind.
    pub(super) fn has(&self, path: &Path, kind: TimerKind) -> bool {
        self.of(path).any(|timer| timer.kind == kind)
    }

    /// Sets the deadline of an invocation.
    pub(super) fn set_deadline(&mut self, path: Path, deadline: Timestamp) {
        self.deadlines.insert((deadline, path));
    }

    /// Clears the deadline of an invocation.
    pub(super) fn clear_deadline(&mut self, path: &Path, deadline: Timestamp) {
        self.deadlines.remove(&(deadline, path.clone()));
    }

    /// Takes what is due at `now`: deadlines before timers, because nothing goes forward past them, and the earliest first.
    /// A timer stays, withheld, until it is cleared.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        if self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now) {
            let (deadline, path) = self.deadlines.pop_first()?;
            return Some(Due::Deadline(path, deadline));
        }
        let (due_at, ..) = self.due.first()?;
        if *due_at > now {
            return None;
        }
        let (_, path, position) = self.due.pop_first()?;
        self.by_place.get(&(path, position)).cloned().map(Due::Timer)
    }

    /// The timers of a path stay and do not fire.
    pub(super) fn withhold(&mut self, path: &Path) {
        let keys: Vec<_> = self.of(path).map(due_key).collect();
        for key in keys {
            self.due.remove(&key);
        }
    }

    /// The timers of a path fire again.
    pub(super) fn restore(&mut self, path: &Path) {
        let keys: Vec<_> = self.of(path).map(due_key).collect();
        self.due.extend(keys);
    }

    /// Whether a timer fires some time: a deadline is none, because it lets nothing go on.
    pub(super) fn has_any_that_fires(&self) -> bool {
        !self.due.is_empty()
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let timer = self.due.first().map(|(due_at, ..)| *due_at);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        timer.into_iter().chain(deadline).min()
    }
}

impl FromIterator<Timer> for Timers {
    fn from_iter<I: IntoIterator<Item = Timer>>(timers: I) -> Self {
        let mut all = Self::default();
        timers.into_iter().for_each(|timer| all.set(timer));
        all
    }
}

fn due_key(timer: &Timer) -> (Timestamp, Path, Position) {
    (timer.due_at, timer.path.clone(), timer.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn timer(path: &Path, position: Position, second: i64) -> Timer {
        Timer { path: path.clone(), position, kind: TimerKind::Sleep, due_at: at(second) }
    }

    #[test]
    fn timers_come_when_they_are_due_the_earliest_first_and_once() {
        let (root, child) = (Path::root(), Path::root().child(0));
        let mut timers: Timers = [timer(&root, 0, 3), timer(&child, 0, 1), timer(&root, 1, 2)].into_iter().collect();
        assert_eq!(timers.next_due(), Some(at(1)));
        let mut taken = Vec::new();
        while let Some(timer) = timers.take_due(at(2)) {
            let Due::Timer(timer) = timer else { panic!("no deadline was set: {timer:?}") };
            taken.push((timer.path.clone(), timer.position));
        }
        assert_eq!(taken, [(child, 0), (root, 1)]);
        assert_eq!(timers.next_due(), Some(at(3)));
    }

    #[test]
    fn a_timer_that_is_set_again_is_due_at_its_new_time_only() {
        let root = Path::root();
        let mut timers = Timers::default();
        timers.set(timer(&root, 0, 5));
        timers.set(timer(&root, 0, 9));
        assert_eq!((timers.next_due(), timers.of(&root).count()), (Some(at(9)), 1));
        assert_eq!(timers.clear(&root, 0), Some(timer(&root, 0, 9)));
        assert_eq!((timers.next_due(), timers.clear(&root, 0)), (None, None));
    }

    #[test]
    fn what_is_withheld_does_not_fire() {
        let (root, child) = (Path::root(), Path::root().child(0));
        let mut timers: Timers = [timer(&root, 0, 1), timer(&root, 1, 2), timer(&child, 0, 3)].into_iter().collect();
        timers.withhold(&root);
        assert_eq!(timers.next_due(), Some(at(3)), "nor is it a reason to be claimed");
        assert_eq!(timers.of(&root).count(), 2, "it is kept");
        timers.restore(&root);
        assert_eq!(timers.next_due(), Some(at(1)), "it fires again");
        timers.withhold(&root);
        assert_eq!(timers.clear_all(&root).len(), 2);
        assert_eq!(timers.next_due(), Some(at(3)), "a child's are its own");
    }

    /// D2: a sleep that ended before the deadline lets nothing go on after it.
    #[test]
    fn deadlines_come_before_all_timers_that_are_due() {
        let (root, child) = (Path::root(), Path::root().child(0));
        let mut timers: Timers = [timer(&root, 0, 1), timer(&child, 0, 9)].into_iter().collect();
        for (path, second) in [(&root, 3), (&child, 2), (&root.child(1), 5)] {
            timers.set_deadline(path.clone(), at(second));
        }
        timers.withhold(&child);
        timers.clear_deadline(&root.child(1), at(5));
        assert_eq!((timers.next_due(), timers.has_any_that_fires()), (Some(at(1)), true));
        assert_eq!(timers.take_due(at(4)), Some(Due::Deadline(child, at(2))));
        assert_eq!(timers.take_due(at(4)), Some(Due::Deadline(root.clone(), at(3))));
        assert_eq!(timers.take_due(at(4)), Some(Due::Timer(timer(&root, 0, 1))));
        assert_eq!((timers.take_due(at(4)), timers.has_any_that_fires()), (None, false));
    }
}
