//! What stops a body before something of it is recorded, and what is only found: names given twice, and limits.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::MutexGuard;
use sapwood_core::Deadline;
use sapwood_core::clock::LATEST;

use super::cell::Cell;
use super::report::{Fresh, Stop};
use super::state::State;
use crate::facts::{Bound, is_near};
use crate::findings::FindingCode;
use crate::payload::{self, Found, Parked, ParkedCode};
use crate::replay::{Asked, OpKind};

impl Cell {
    /// Stops the body if it has made a promise of this name before: the name is its identity.
    pub(super) fn check_promise<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        asked: &Asked<'_>,
    ) -> MutexGuard<'a, State> {
        let position = state.script.next_position();
        let Some(first) = state.promises.insert(asked.name.to_owned(), position) else { return state };
        let message = format!(
            "there is a promise `{}` at position {first} already: each promise of a function needs a name of its own",
            payload::excerpt(asked.name)
        );
        let parked = Parked::new(ParkedCode::DuplicatePromise, message, position, asked.location.to_string());
        self.stop(state, Stop::Parked(parked))
    }

    pub(super) fn check_entries<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        operation: impl FnOnce() -> String,
        entries: usize,
    ) -> MutexGuard<'a, State> {
        let limit = self.facts.limits.entries;
        if entries > limit {
            self.stop_for_limit(state, operation(), Bound::Entries.name(), entries, limit);
        }
        self.near(&mut state, Bound::Entries, entries, limit);
        state
    }

    pub(super) fn check_payload<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        kind: OpKind,
        name: &str,
        bytes: usize,
    ) -> MutexGuard<'a, State> {
        let (bound, limit) = match kind {
            OpKind::Emit => (Bound::EventBytes, self.facts.limits.event_bytes),
            _ => (Bound::PayloadBytes, self.facts.limits.payload_bytes),
        };
        if bytes > limit {
            self.stop_for_limit(state, format!("{} {name}", kind.name()), bound.name(), bytes, limit);
        }
        self.near(&mut state, bound, bytes, limit);
        state
    }

    /// The time of a deadline that counts from now. Stops the body if no store can hold it.
    pub(super) fn check_deadline<'a>(
        &self,
        state: MutexGuard<'a, State>,
        operation: impl FnOnce() -> String,
        deadline: Deadline,
    ) -> (MutexGuard<'a, State>, Timestamp) {
        let now = self.facts.clock.now();
        if let Ok(time) = deadline.of_created(now) {
            return (state, time);
        }
        let seconds = |wait: Duration| usize::try_from(wait.as_secs()).unwrap_or(usize::MAX);
        let until = |time: Timestamp| Duration::try_from(time.duration_since(now)).unwrap_or_default();
        let found = match deadline {
            Deadline::After(length) => length,
            Deadline::At(time) => until(time),
        };
        self.stop_for_limit(state, operation(), "seconds until the deadline", seconds(found), seconds(until(LATEST)))
    }

    /// Finds that a bound is near.
    pub(super) fn near(&self, state: &mut State, bound: Bound, found: usize, limit: usize) {
        if is_near(found, limit) {
            let message = format!("near the limit of a tree: {found} of {limit} {}", bound.name());
            self.finds(state, FindingCode::NearLimit, bound.name().to_owned(), message);
        }
    }

    /// Something was found that the function's author should know; it is recorded once in an invocation.
    pub(super) fn finds(&self, state: &mut State, code: FindingCode, about: String, message: String) {
        if !state.found.insert((code, about.clone())) {
            return;
        }
        self.facts.findings.log(self.facts.tree, &self.path, state.function, code, &about, &message);
        let position = state.script.next_position();
        state.report.fresh.push(Fresh::Found { position, code, found: Found { about, message } });
    }

    /// Counts what a poll writes; all of it goes into one turn, whatever the operations are. Stops the body at the
    /// limit.
    pub(super) fn write<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        operation: impl FnOnce() -> String,
        bytes: usize,
    ) -> MutexGuard<'a, State> {
        state.poll_bytes += bytes;
        let (found, limit) = (state.poll_bytes, self.facts.limits.poll_bytes);
        if found > limit {
            self.stop_for_limit(state, operation(), Bound::PollBytes.name(), found, limit);
        }
        self.near(&mut state, Bound::PollBytes, found, limit);
        state
    }
}
