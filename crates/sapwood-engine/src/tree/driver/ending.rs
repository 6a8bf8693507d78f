//! How a driver leaves its tree: released, refused by the store, or given up.

use std::sync::Arc;

use jiff::Timestamp;
use sapwood_core::store::Turn;

use super::{Driver, End, Ended};
use crate::error::StartError;
use crate::tree::carried::{Carried, ends_of};
use crate::tree::live::LiveTree;
use crate::tree::model::Tree;

impl Driver {
    pub(super) fn failed(&mut self, error: String) -> Ended {
        tracing::error!(tree = %self.tree.id(), error, "the store refuses the commit for good; the tree is parked");
        if let Some(created) = self.created.take() {
            let _ = created.send(Err(StartError::Refused { message: error.clone() }));
        }
        Ended::Failed(error)
    }

    /// The tree is not as this worker knew it: what no turn has made durable is void, but for steps that are in flight or
    /// have ended. `refused` is the turn that was under way.
    pub(super) fn refused(&mut self, refused: Option<Turn>) -> Ended {
        if let Some(created) = self.created.take_if(|_| self.tree.root_deadline() <= Some(self.services.clock.now())) {
            let message = "its deadline passed before the store could take it".to_owned();
            let _ = created.send(Err(StartError::InvalidDeadline { message }));
        }
        let transaction = self.hold.landed().and_then(|sent| sent.transaction);
        let transaction = transaction.and_then(|(id, position)| Some((self.tree.node(id)?.path.clone(), position)));
        let has_times = refused.as_ref().is_some_and(|turn| turn.not_before.or(turn.only_before).is_some());
        let drafted = self.tree.has_draft().then(|| self.tree.keep());
        let mut ends: Vec<_> = refused.into_iter().chain(drafted).flat_map(ends_of).collect();
        // What its transaction wrote was rolled back with the turn.
        ends.retain(|(path, end)| transaction.as_ref().is_none_or(|(of, at)| (path, end.position) != (of, *at)));
        let path = |tree: &Tree, id| tree.node(id).map(|node| node.path.clone());
        while let Some((id, end)) = self.hold.take_deferred() {
            if let (Some(path), End::Step(end)) = (path(&self.tree, id), end) {
                ends.push((path, end));
            }
        }
        let bodies = std::mem::take(&mut self.bodies).into_iter().filter(|(_, body)| body.is_left_behind());
        let bodies = bodies.filter_map(|(id, body)| Some((path(&self.tree, id)?, body))).collect();
        let (revision, mailbox) = (self.tree.revision(), Arc::clone(&self.mailbox));
        Ended::Refused { committed: revision, carried: Carried { revision, mailbox, bodies, ends }, has_times }
    }

    pub(super) fn released(&mut self, ready_at: Option<Timestamp>) -> Ended {
        let outcome = self.tree.outcome().cloned();
        if outcome.is_some() || self.tree.is_over() {
            let (tree, revision) = (self.tree.id(), self.tree.revision());
            return Ended::Settled { tree, revision, outcome };
        }
        for id in self.tree.put_down_active() {
            self.bodies.remove(&id);
        }
        // A drain may have left some, and the next driver makes a queue of its own.
        self.ready.drain(..).for_each(|id| self.tree.dequeue(id));
        let empty = Tree::empty(Arc::clone(&self.tree.facts), Arc::clone(&self.services.registry));
        let tree = std::mem::replace(&mut self.tree, empty);
        let (bodies, mailbox) = (std::mem::take(&mut self.bodies), Arc::clone(&self.mailbox));
        let live = LiveTree { tree, bodies, mailbox, ends: Vec::new() };
        Ended::Released { tree: Box::new(live), ready_at }
    }
}
