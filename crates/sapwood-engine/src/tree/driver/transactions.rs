//! Transactional steps: their results are committed on the connections of their authors' transactions (T1).
//!
//! While a transaction is open, no other turn of its tree is sent: on SQLite that turn would wait for the transaction, and
//! the transaction, at its end, for the turn. What is recorded meanwhile goes with it, or into the turn after it. The
//! driver does not leave its tree either, because nobody else polls what the transaction waits for.

use std::sync::Arc;

use sapwood_core::store::Turn;

use super::{Driver, End, Outside};
use crate::activation::{Activation, OpenTransaction, Polled, Report, StepEnd};
use crate::tree::hold::Sent;
use crate::tree::mailbox::Signal;
use crate::tree::node::NodeId;

impl Driver {
    /// Takes out of a report the ends that a transaction commits. Of a body that has ended nothing is committed so: nobody
    /// waits for it, and what is rolled back never was.
    pub(super) fn take_prepared(&mut self, id: NodeId, polled: &Polled, report: &mut Report) {
        let (prepared, others) = report.steps_ended.drain(..).partition(|end| end.transaction.is_some());
        report.steps_ended = others;
        let prepared: Vec<StepEnd> = prepared;
        if matches!(polled, Polled::Pending(..)) {
            self.prepared.extend(prepared.into_iter().map(|end| (id, end)));
        }
        if self.bodies.get(&id).is_some_and(Activation::has_transaction) {
            self.transacting.insert(id);
        }
    }

    /// Whether a transaction of the tree is open.
    pub(super) fn has_transaction(&mut self) -> bool {
        let bodies = &self.bodies;
        self.transacting.retain(|id| bodies.get(id).is_some_and(Activation::has_transaction));
        !self.transacting.is_empty()
    }

    /// Commits the next transaction that waits for it, with everything recorded so far. Returns whether there was one.
    pub(super) fn commit_prepared(&mut self) -> bool {
        while let Some((id, mut end)) = self.prepared.pop_front() {
            let position = end.position;
            // Nobody waits for it any longer: it is rolled back.
            let body = self.bodies.get(&id).filter(|body| !body.is_done(position));
            let (Some(body), Some(OpenTransaction(transaction))) = (body, end.transaction.take()) else { continue };
            body.commits_step(position);
            self.record(id, End::Step(end));
            self.queue(id);
            let (has_events, has_news) = (self.tree.drafts_events(), self.tree.has_news());
            let turn = self.tree.keep();
            self.hold.sent(Sent { has_events, has_news, transaction: Some((id, position)), ..Sent::default() });
            let (services, mailbox) = (Arc::clone(&self.services), Arc::clone(&self.mailbox));
            self.outside.push(Box::pin(async move {
                if let Some(transactor) = &services.transactor {
                    mailbox.send(match transactor.commit(transaction, &turn).await {
                        Ok(true) => Signal::Committed,
                        Ok(false) => Signal::Refused(Box::new(turn)),
                        Err(error) => Signal::Failed(error),
                    });
                }
                Outside::Transacted
            }));
            return true;
        }
        false
    }

    /// The tree is to be loaded again, once no transaction of it is open; `refused` is the turn that was refused. Nothing
    /// more is sent, and nothing more begins.
    pub(super) fn leave(&mut self, refused: Option<Turn>) {
        if let Some((id, position)) = self.hold.transaction()
            && refused.is_some()
        {
            self.void(id, position);
        }
        if !self.hold.is_committing() {
            self.hold.sent(Sent::default());
        }
        self.leaving.get_or_insert(refused);
    }

    /// Whether the tree can be left now.
    pub(super) fn may_leave(&mut self) -> bool {
        if self.leaving.is_none() {
            return false;
        }
        for (id, end) in std::mem::take(&mut self.prepared) {
            self.void(id, end.position);
        }
        !self.has_transaction()
    }

    /// The end of a step was never.
    fn void(&self, id: NodeId, position: sapwood_core::Position) {
        if let Some(body) = self.bodies.get(&id) {
            body.void_step(position);
        }
    }
}
