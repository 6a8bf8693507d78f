//! What waits for which commit: the output commit of one tree, as a value. Pure.
//!
//! A completion is given to its function at once; a step starts only when everything that its tree recorded is durable
//! (R12). So at each moment a tree is in one of five stages:
//!
//! ```text
//!                 record                       send a turn
//!   Durable ───────────────► Drafted ───────────────────────► Committing ◄──┐ record
//!      ▲  steps may start                                      │      │     │ (until something wants
//!      │                                                       │      └─────┘  to start)
//!      │                                                       ▼
//!      │                            nothing was recorded since, and a step wants to start
//!      │                                                       ▼
//!      └──────────────── the turn is durable ──────────── Holding: steps in flight run on, nothing is recorded
//!
//!   Drafted ── nothing in the tree runs: the turn releases it ──► Releasing: nothing runs at all
//! ```
//!
//! Without the hold a busy tree would record something during every commit, and its steps would wait for one commit
//! after another. With it, a step starts at the end of the commit that was under way when it was wanted.

use jiff::Timestamp;

use super::node::NodeId;

/// A turn that was sent to its committer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Whether the turn releases the tree, and when the tree is due then.
    pub(crate) releases: Option<Option<Timestamp>>,
    /// Whether it has events: then the relay is told.
    pub(crate) has_events: bool,
}

/// How far what a tree recorded is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// All of it is: steps may start.
    Durable,
    /// Some of it is in no turn yet.
    Drafted,
    /// A turn is under way; more is recorded meanwhile.
    Committing,
    /// A turn is under way and a step waits for it alone: nothing is recorded until it is durable.
    Holding,
    /// The turn under way releases the tree: nothing runs.
    Releasing,
}

/// What waits for which commit. `E` is an end that is recorded later: of a step, of a start.
#[derive(Debug)]
pub(crate) struct Hold<E> {
    sent: Option<Sent>,
    /// Nodes whose poll waits for the end of a hold.
    held: Vec<NodeId>,
    /// What ended during a hold, in the order in which it ended.
    deferred: Vec<(NodeId, E)>,
}

impl<E> Default for Hold<E> {
    fn default() -> Self {
        Self { sent: None, held: Vec::new(), deferred: Vec::new() }
    }
}

impl<E> Hold<E> {
    /// The stage of a tree that has something recorded in no turn (`has_draft`), and in which something waits for
    /// durability (`wants`, asked only if it matters).
    pub(crate) fn stage(&self, has_draft: bool, wants: impl FnOnce() -> bool) -> Stage {
        match self.sent {
            None if has_draft => Stage::Drafted,
            None => Stage::Durable,
            Some(Sent { releases: Some(_), .. }) => Stage::Releasing,
            Some(_) if has_draft || !wants() => Stage::Committing,
            Some(_) => Stage::Holding,
        }
    }

    /// Whether a turn is under way; a tree has one at a time.
    pub(crate) const fn is_committing(&self) -> bool {
        self.sent.is_some()
    }

    /// A turn was sent.
    pub(crate) const fn sent(&mut self, sent: Sent) {
        self.sent = Some(sent);
    }

    /// A node is polled after the hold.
    pub(crate) fn hold(&mut self, node: NodeId) {
        self.held.push(node);
    }

    /// An end is recorded after the hold.
    pub(crate) fn defer(&mut self, node: NodeId, end: E) {
        self.deferred.push((node, end));
    }

    /// The turn under way is durable. `None` if none was.
    pub(crate) const fn landed(&mut self) -> Option<Sent> {
        self.sent.take()
    }

    /// The ends to be recorded now.
    pub(crate) fn take_deferred(&mut self) -> Vec<(NodeId, E)> {
        std::mem::take(&mut self.deferred)
    }

    /// The nodes to be polled now.
    pub(crate) fn take_held(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPS: Sent = Sent { releases: None, has_events: false };
    const RELEASES: Sent = Sent { releases: Some(None), has_events: false };

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
        hold.defer(7, "first");
        hold.defer(2, "second");
        assert_eq!(hold.stage(false, || true), Stage::Holding);
        assert_eq!(hold.landed(), Some(KEEPS));
        assert_eq!(hold.stage(false, || true), Stage::Durable);
        assert_eq!(hold.take_deferred(), [(7, "first"), (2, "second")]);
        assert_eq!(hold.take_held(), [4]);
        assert!(hold.take_deferred().is_empty() && hold.take_held().is_empty());
        assert_eq!(hold.landed(), None);
    }
}
