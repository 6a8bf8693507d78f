//! What a tree has recorded since its last turn: rows, merged to one a key.

use std::collections::HashMap;

use sapwood_core::journal::Entry;
use sapwood_core::store::{Birth, InvocationChange, NewTree, Next, OutboxEvent, Turn};
use sapwood_core::tree::{Invocation, InvocationState, Timer};
use sapwood_core::{Path, Position};

use super::Tree;

/// See the module.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) birth: Option<NewTree>,
    born: Vec<Invocation>,
    changed: HashMap<Path, InvocationState>,
    entries: Vec<(Path, Entry)>,
    timers_set: Vec<Timer>,
    timers_cleared: Vec<(Path, Position)>,
    events: Vec<OutboxEvent>,
}

impl Draft {
    pub(crate) fn is_empty(&self) -> bool {
        self.birth.is_none()
            && self.born.is_empty()
            && self.changed.is_empty()
            && self.entries.is_empty()
            && self.timers_set.is_empty()
            && self.timers_cleared.is_empty()
            && self.events.is_empty()
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(crate) fn born(&mut self, invocation: Invocation) {
        self.born.push(invocation);
    }

    pub(crate) fn changed(&mut self, path: &Path, state: &InvocationState) {
        match self.born.iter_mut().find(|invocation| invocation.path == *path) {
            Some(invocation) => invocation.state = state.clone(),
            None => {
                self.changed.insert(path.clone(), state.clone());
            }
        }
    }

    pub(crate) fn entry(&mut self, path: &Path, entry: Entry) {
        self.entries.push((path.clone(), entry));
    }

    pub(crate) fn event(&mut self, event: OutboxEvent) {
        self.events.push(event);
    }

    /// A timer cleared and set again in one turn is set: setting replaces.
    pub(crate) fn timer_set(&mut self, timer: Timer) {
        self.timers_cleared.retain(|(path, position)| *path != timer.path || *position != timer.position);
        self.timers_set.push(timer);
    }

    /// A timer set and cleared in one turn leaves no trace.
    pub(crate) fn timer_cleared(&mut self, timer: &Timer) {
        let before = self.timers_set.len();
        self.timers_set.retain(|set| set.path != timer.path || set.position != timer.position);
        if self.timers_set.len() == before {
            self.timers_cleared.push((timer.path.clone(), timer.position));
        }
    }

    /// The turn that says all this, and leaves the draft empty.
    pub(crate) fn turn(tree: &mut Tree, next: Next, names_inbox: bool) -> Turn {
        let draft = std::mem::take(&mut tree.draft);
        Turn {
            tree: tree.facts.tree,
            revision: tree.revision,
            control: tree.control,
            inbox: names_inbox.then_some(tree.inbox),
            birth: draft.birth.map(|tree| Birth { tree }),
            invocations: draft.born,
            changes: draft.changed.into_iter().map(|(path, state)| InvocationChange { path, state }).collect(),
            entries: draft.entries,
            timers_set: draft.timers_set,
            timers_cleared: draft.timers_cleared,
            events: draft.events,
            next,
        }
    }
}
