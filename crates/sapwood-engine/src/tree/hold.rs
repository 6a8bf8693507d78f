//! What waits for which commit: the output commit of one tree, as a value. Pure.
//!
//! A completion is given to its function at once. A step, or a start, begins only when everything that its tree has
//! recorded is durable, and a journal is read only then (R12). So at each moment a tree is in one of five stages:
//!
//! ```text
//!            recorded              turn sent                  something waits, nothing was recorded since
//!   Durable ──────────► Drafted ─────────────► Committing ──────────────────────────────────────► Holding
//!      ▲                   ▲                     │    │                                              │
//!      │                   └───── durable, ──────┘    │ durable                                      │ durable
//!      │                     but more was recorded    │                                              │
//!      └──────────────────────────────────────────────┴──────────────────────────────────────────────┘
//!
//!   Durable, Drafted ── nothing in the tree runs: the turn sent releases it ──► Releasing
//! ```
//!
//! - *Durable* is the only stage in which a step or a start begins, or a journal is read.
//! - *Holding:* steps in flight run on; nothing is recorded. What ends is deferred, and nodes to be polled are held.
//! - *Releasing:* nothing is polled or recorded.
//!
//! Why the hold: a busy tree records something during every commit, so there would always be a next turn, and a step
//! would wait for one commit after another. With the hold it begins at the end of the commit that was under way.
//!
//! The stage is computed from the turn under way, the draft and what waits, and is not stored. If something is recorded
//! during a hold all the same, the tree is in *Committing* again.

use std::collections::{BTreeSet, VecDeque};

use jiff::Timestamp;
use sapwood_core::Position;

use super::node::NodeId;

/// A turn that was sent to its committer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Whether the turn releases the tree, and when the tree is due then.
    pub(crate) releases: Option<Option<Timestamp>>,
    /// Whether it has events: the relay is told of them once they are durable.
    pub(crate) has_events: bool,
    /// Whether it has the root's outcome and does not end the tree: who waits is told of it once it is durable.
    pub(crate) has_news: bool,
    /// The transactional step whose transaction commits it.
    pub(crate) transaction: Option<(NodeId, Position)>,
}

/// How far what a tree recorded is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// All of it is: steps may start.
    Durable,
    /// Some of it is not in a turn yet.
    Drafted,
    /// A turn is under way; more is recorded meanwhile.
    Committing,
    /// A turn is under way, and something waits for it alone: nothing is recorded until it is durable.
    Holding,
    /// The turn under way releases the tree: nothing runs.
    Releasing,
}

/// What waits for which commit. `E` is an end that is recorded later: of a step, of a start.
#[derive(Debug)]
pub(crate) struct Hold<E> {
    /// The turn under way; a tree has at most one.
    sent: Option<Sent>,
    /// Nodes whose poll waits for the end of a hold.
    held: BTreeSet<NodeId>,
    /// What ended during a hold, in the order in which it ended; `None` where it was taken out from among the others.
    deferred: VecDeque<Option<(NodeId, E)>>,
    /// The places of the ends of each node, counted from the first end of the tree.
    places: BTreeSet<(NodeId, u64)>,
    /// The place of the first in `deferred`.
    first_place: u64,
}

impl<E> Default for Hold<E> {
    fn default() -> Self {
        Self { sent: None, held: BTreeSet::new(), deferred: VecDeque::new(), places: BTreeSet::new(), first_place: 0 }
    }
}

impl<E> Hold<E> {
    /// The stage of a tree: `has_draft` if something is recorded that is in no turn yet, `wants` if something waits for
    /// durability, which is asked only if it matters.
    pub(crate) fn stage(&self, has_draft: bool, wants: impl FnOnce() -> bool) -> Stage {
        match self.sent {
            None if has_draft => Stage::Drafted,
            None => Stage::Durable,
            Some(Sent { releases: Some(_), .. }) => Stage::Releasing,
            Some(_) if has_draft || !wants() => Stage::Committing,
            Some(_) => Stage::Holding,
        }
    }

    /// Whether a turn is under way.
    pub(crate) const fn is_committing(&self) -> bool {
        self.sent.is_some()
    }

    /// The transactional step whose transaction commits the turn under way.
    pub(crate) fn transaction(&self) -> Option<(NodeId, Position)> {
        self.sent.and_then(|sent| sent.transaction)
    }

    /// A turn was sent.
    pub(crate) const fn sent(&mut self, sent: Sent) {
        self.sent = Some(sent);
    }

    /// A node is polled after the hold.
    pub(crate) fn hold(&mut self, node: NodeId) {
        self.held.insert(node);
    }

    /// An end is recorded after the hold.
    pub(crate) fn defer(&mut self, node: NodeId, end: E) {
        self.places.insert((node, self.first_place + self.deferred.len() as u64));
        self.deferred.push_back(Some((node, end)));
    }

    /// The turn under way is durable: takes it. `None` if no turn was under way.
    pub(crate) const fn landed(&mut self) -> Option<Sent> {
        self.sent.take()
    }

    /// The end to be recorded next.
    pub(crate) fn take_deferred(&mut self) -> Option<(NodeId, E)> {
        loop {
            let place = self.first_place;
            let first = self.deferred.pop_front()?;
            self.first_place += 1;
            if let Some((node, end)) = first {
                self.places.remove(&(node, place));
                return Some((node, end));
            }
        }
    }

    /// The ends of one node that are to be recorded now, because its activation is over.
    pub(crate) fn take_deferred_of(&mut self, node: NodeId) -> Vec<E> {
        let places: Vec<_> = self.places.range((node, 0)..=(node, u64::MAX)).copied().collect();
        let take = |(_, place): &(NodeId, u64)| {
            self.places.remove(&(node, *place));
            let index = usize::try_from(place - self.first_place).ok()?;
            self.deferred.get_mut(index)?.take().map(|(_, end)| end)
        };
        places.iter().filter_map(take).collect()
    }

    /// The nodes to be polled now.
    pub(crate) fn take_held(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPS: Sent = Sent { releases: None, has_events: false, has_news: false, transaction: None };
    const RELEASES: Sent = Sent { releases: Some(None), ..KEEPS };

    /// R12: steps start only in the stage in which all that is recorded is durable.
    #[test]
    fn the_stage_follows_from_what_is_sent_drafted_and_wanted() {
        let table: [(Option<Sent>, bool, bool, Stage); 12] = [
            (None, false, false, Stage::Durable),
            (None, false, true, Stage::Durable),
            (None, true, false, Stage::Drafted),
            (None, true, true, Stage::Drafted),
            (Some(KEEPS), false, false, Stage::Committing),
            (Some(KEEPS), false, true, Stage::Holding),
            (Some(KEEPS), true, false, Stage::Committing),
            (Some(KEEPS), true, true, Stage::Committing),
            (Some(RELEASES), false, false, Stage::Releasing),
            (Some(RELEASES), false, true, Stage::Releasing),
            (Some(RELEASES), true, false, Stage::Releasing),
            (Some(RELEASES), true, true, Stage::Releasing),
        ];
        for (sent, has_draft, wants, stage) in table {
            let hold = Hold::<()> { sent, ..Hold::default() };
            assert_eq!(hold.stage(has_draft, || wants), stage, "{sent:?} draft {has_draft} wants {wants}");
        }
    }

    /// R12: what ends during a hold is recorded after it, in order, and what waits is polled after it, once.
    #[test]
    fn what_is_held_comes_back_once_when_the_turn_has_landed() {
        let mut hold = Hold::default();
        hold.sent(KEEPS);
        hold.hold(4);
        hold.hold(4);
        hold.defer(7, "first");
        hold.defer(2, "second");
        assert_eq!(hold.stage(false, || true), Stage::Holding);
        assert_eq!(hold.landed(), Some(KEEPS));
        assert_eq!(hold.stage(false, || true), Stage::Durable);
        assert_eq!([hold.take_deferred(), hold.take_deferred()], [Some((7, "first")), Some((2, "second"))]);
        assert_eq!(hold.take_held(), BTreeSet::from([4]));
        assert!(hold.take_deferred().is_none() && hold.take_held().is_empty());
        assert_eq!(hold.landed(), None);
    }

    /// What one node ended is taken out from among the others, which keep their order.
    #[test]
    fn the_ends_of_one_node_leave_and_the_others_stay_in_order() {
        let mut hold = Hold::default();
        for (node, end) in [(7, "a"), (2, "b"), (7, "c"), (3, "d"), (7, "e")] {
            hold.defer(node, end);
        }
        assert_eq!(hold.take_deferred(), Some((7, "a")));
        assert_eq!(hold.take_deferred_of(7), ["c", "e"]);
        assert!(hold.take_deferred_of(7).is_empty());
        hold.defer(2, "f");
        let rest: Vec<_> = std::iter::from_fn(|| hold.take_deferred()).collect();
        assert_eq!(rest, [(2, "b"), (3, "d"), (2, "f")]);
    }
}
