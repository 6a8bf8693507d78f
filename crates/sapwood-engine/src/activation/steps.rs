//! The steps of one body that have no result yet, and which of them may begin. Pure.
//!
//! ```text
//!   polled ──► Wanted ── everything recorded is durable ──► Granted ── polled ──► InFlight ──► Ended ──► BackingOff
//!                ▲                                             │                                             │
//!                │                            not polled: taken back, until it is polled again          due again
//!                └───────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A grant holds for one poll, because only then nothing was recorded that is not durable (R12).

use std::collections::{BTreeMap, BTreeSet};

use sapwood_core::Position;

/// How far a step without a result has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepState {
    /// It was polled, and waits until everything recorded is durable.
    Wanted,
    /// Its closure may begin in the poll under way.
    Granted,
    /// An attempt is under way.
    InFlight,
    /// An attempt is over and not recorded yet.
    Ended,
    /// It waits until its next attempt is due.
    BackingOff,
}

/// The steps of one body that have no result yet and were polled.
#[derive(Debug, Default)]
pub(super) struct Steps {
    states: BTreeMap<Position, StepState>,
    wanted: BTreeSet<Position>,
    granted: BTreeSet<Position>,
    /// Attempts that are under way, or are not recorded yet.
    in_flight: usize,
    /// Steps whose attempts a cancellation drops.
    interruptible: BTreeSet<Position>,
    /// Steps that have a transaction open, which may be one that waits for its commit.
    transacting: BTreeSet<Position>,
    backing_off: usize,
}

impl Steps {
    /// The steps of a body that begins while these wait for their next attempt.
    pub(super) fn backing_off(positions: &[Position]) -> Self {
        let mut steps = Self::default();
        positions.iter().for_each(|position| steps.set(*position, StepState::BackingOff));
        steps
    }

    pub(super) fn state(&self, position: Position) -> Option<StepState> {
        self.states.get(&position).copied()
    }

    pub(super) fn set(&mut self, position: Position, state: StepState) {
        let before = self.states.insert(position, state);
        self.leaves(position, before);
        match state {
            StepState::Wanted => {
                self.wanted.insert(position);
            }
            StepState::Granted => {
                self.granted.insert(position);
            }
            StepState::InFlight | StepState::Ended => self.in_flight += 1,
            StepState::BackingOff => self.backing_off += 1,
        }
    }

    /// It has a result, or nobody awaits it any longer.
    pub(super) fn remove(&mut self, position: Position) {
        let before = self.states.remove(&position);
        self.leaves(position, before);
    }

    fn leaves(&mut self, position: Position, state: Option<StepState>) {
        if state.is_some_and(|state| matches!(state, StepState::InFlight | StepState::Ended)) {
            self.transacting.remove(&position);
        }
        match state {
            None => {}
            Some(StepState::Wanted) => {
                self.wanted.remove(&position);
            }
            Some(StepState::Granted) => {
                self.granted.remove(&position);
            }
            Some(StepState::InFlight | StepState::Ended) => self.in_flight -= 1,
            Some(StepState::BackingOff) => self.backing_off -= 1,
        }
    }

    /// Lets every wanted step begin in the next poll; returns them in program order.
    pub(super) fn grant(&mut self) -> Vec<Position> {
        let granted: Vec<Position> = self.wanted.iter().copied().collect();
        granted.iter().for_each(|position| self.set(*position, StepState::Granted));
        granted
    }

    /// The poll of a grant is over. A step that it did not poll waits until its handle is polled again.
    pub(super) fn take_back(&mut self) {
        while let Some(position) = self.granted.first().copied() {
            self.remove(position);
        }
    }

    pub(super) fn is_any_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub(super) const fn is_any_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// A cancellation drops the attempts of this step.
    pub(super) fn may_be_interrupted(&mut self, position: Position) {
        self.interruptible.insert(position);
    }

    /// The attempt of this step that is under way, or that has just ended, has a transaction open.
    pub(super) fn transacts(&mut self, position: Position) {
        self.transacting.insert(position);
    }

    /// The transaction of this step is committed now, and no longer open.
    pub(super) fn commits(&mut self, position: Position) {
        self.transacting.remove(&position);
    }

    pub(super) fn is_any_transacting(&self) -> bool {
        !self.transacting.is_empty()
    }

    /// Whether a cancellation waits for an attempt: for one that is under way and may not be interrupted, or is over and not
    /// recorded yet.
    pub(super) fn is_any_binding(&self) -> bool {
        let dropped = self.interruptible.iter().filter(|position| self.state(**position) == Some(StepState::InFlight));
        self.in_flight > dropped.count()
    }

    pub(super) const fn is_any_backing_off(&self) -> bool {
        self.backing_off > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R12: a step that was granted and not polled begins in no later poll before it is granted again.
    #[test]
    fn a_grant_that_is_not_used_is_taken_back() {
        let mut steps = Steps::default();
        for position in [7, 3] {
            steps.set(position, StepState::Wanted);
        }
        assert_eq!(steps.grant(), [3, 7], "in program order");
        assert!(!steps.is_any_wanted());
        steps.set(3, StepState::InFlight);
        steps.take_back();
        assert_eq!((steps.state(3), steps.state(7)), (Some(StepState::InFlight), None));
        assert!(steps.is_any_in_flight());
        steps.set(7, StepState::Wanted);
        assert_eq!(steps.grant(), [7]);
    }

    #[test]
    fn what_is_in_flight_or_backs_off_is_counted() {
        let mut steps = Steps::backing_off(&[1, 2]);
        assert!(steps.is_any_backing_off() && !steps.is_any_in_flight());
        steps.set(1, StepState::Wanted);
        steps.grant();
        steps.set(1, StepState::InFlight);
        steps.set(1, StepState::Ended);
        steps.remove(2);
        assert!(steps.is_any_in_flight() && !steps.is_any_backing_off());
        steps.set(1, StepState::BackingOff);
        assert!(steps.is_any_backing_off() && !steps.is_any_in_flight());
        steps.remove(1);
        steps.remove(1);
        assert!(!steps.is_any_backing_off() && !steps.is_any_wanted());
    }
}
