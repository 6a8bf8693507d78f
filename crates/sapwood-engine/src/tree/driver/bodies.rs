//! The bodies of an owned tree: how they begin, what becomes of a poll, and how they rest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sapwood_core::store::StoreResult;
use sapwood_core::tree::InvocationImage;

use super::{Driver, End, POLLS_IN_A_ROW};
use crate::activation::{Activation, BodyWaker, Cell, Polled, Report, Stand, Wakes, Work, panic_message};
use crate::definition::Definition;
use crate::payload::{Parked, ParkedCode, PayloadError};
use crate::replay::Replay;
use crate::tree::draft::TURN_BYTES;
use crate::tree::hold::Stage;
use crate::tree::mailbox::Signal;
use crate::tree::node::{Move, Node, NodeId, Status};
use crate::tree::undo::Undos;
use crate::trigger::Trigger;

impl Driver {
    pub(super) fn loaded(&mut self, id: NodeId, image: StoreResult<Option<InvocationImage>>) {
        // It may have been cancelled meanwhile, or killed.
        let is_awaited = |status| matches!(status, Status::Loading | Status::UndosLoading);
        let Some(node) = self.tree.node(id).filter(|node| is_awaited(node.status())) else { return };
        let closes = node.status() == Status::UndosLoading;
        let definition = node.definition.clone();
        let location = definition.as_ref().map_or("", |definition| definition.location);
        let image = match image {
            Ok(Some(image)) => image,
            // An engine that has ended decides nothing.
            _ if self.services.life.has_ended() => return,
            other => {
                let why = other.err().map_or_else(|| "it has no row".to_owned(), |error| error.to_string());
                let message = format!("its journal cannot be read: {why}");
                return self.park(id, &Parked::new(ParkedCode::Unreadable, message, 0, location));
            }
        };
        if closes {
            return match Undos::read(&image) {
                Ok(undos) => {
                    let woken = self.tree.undos_read(id, undos);
                    self.go_on(woken);
                }
                Err((position, error)) => {
                    let message = format!("what it has to undo cannot be read: {error}");
                    self.park(id, &Parked::new(ParkedCode::Unreadable, message, position, location));
                }
            };
        }
        let Some(definition) = definition else { return };
        match Replay::read(&image) {
            Ok(replay) => {
                self.tree.journal_read(id, image.invocation.input);
                if self.begin(id, &definition, replay) {
                    self.queue(id);
                }
            }
            Err(error) => {
                let parked = Parked::new(ParkedCode::Unreadable, error.to_string(), error.position, location);
                self.park(id, &parked);
            }
        }
    }

    /// Creates a body at its first line. Returns whether there is one: its input may not be readable.
    pub(super) fn begin(&mut self, id: NodeId, definition: &Definition, replay: Replay) -> bool {
        let Some(node) = self.tree.node(id) else { return false };
        let (path, input) = (node.path.clone(), node.input.clone().unwrap_or_default());
        let backing_off = self.tree.backing_off(&path);
        let (facts, deadline) = (Arc::clone(&self.tree.facts), self.tree.deadline_of(id));
        let cell = Arc::new(Cell::new(facts, (path, deadline), definition.location, replay, &backing_off));
        self.tree.begun(id);
        // To read the input is an author's code, which may panic.
        let begin = || definition.begin(Arc::clone(&cell), &self.services.dependencies, &input);
        let begun = catch_unwind(AssertUnwindSafe(begin));
        let begun = begun.unwrap_or_else(|payload| Err(PayloadError::Panic(panic_message(payload))));
        match begun {
            Ok(body) => {
                let waker = BodyWaker::new(id, Arc::clone(&self.mailbox) as Arc<dyn Wakes>);
                self.bodies.insert(id, Activation::new(cell, body, waker));
                true
            }
            Err(error) => {
                self.unreadable_input(id, definition, &error);
                false
            }
        }
    }

    /// A consumer that cannot read its event is rejected at once. A function that cannot read its input is parked: the
    /// type of a parameter was changed, which a deploy can mend.
    fn unreadable_input(&mut self, id: NodeId, definition: &Definition, error: &PayloadError) {
        match definition.trigger {
            Trigger::Event(_) => {
                let woken = self.tree.undecodable(id, error.to_string());
                self.go_on(woken);
            }
            Trigger::Call => {
                let message = format!("the input of {} is not readable: {error}", definition.versioned());
                self.park(id, &Parked::new(ParkedCode::Unreadable, message, 0, definition.location));
            }
        }
    }

    pub(super) fn poll_body(&mut self, id: NodeId) {
        self.tree.on(id, Move::Polled);
        self.tell(id);
        for _ in 0..POLLS_IN_A_ROW {
            let deliver = !self.polls_in_vain();
            let Some((polled, report)) = self.poll(id, deliver) else { return };
            match self.after_poll(id, polled, report) {
                Some(Stand::Offered | Stand::Woken) => {}
                Some(stand) => return self.rest(id, stand),
                None => return,
            }
        }
        self.mailbox.send(Signal::Woken(id));
    }

    /// Whether a poll delivers nothing though it could. A poll may always be one too many, and no two runs have the same
    /// number of those; the test mode has more of them, to find a body that counts them.
    fn polls_in_vain(&self) -> bool {
        self.services.evicts && self.services.environment.random() & 1 == 0
    }

    /// Records what a poll did. Returns how the body goes on, if it waits.
    pub(super) fn after_poll(&mut self, id: NodeId, polled: Polled, report: Report) -> Option<Stand> {
        let (woken, waits) = match polled {
            Polled::Pending(stand, work) => {
                let report = self.cut(id, report);
                (self.tree.paused(id, report), Some((stand, work)))
            }
            Polled::Finished(finish) => {
                for end in self.hold.take_deferred_of(id) {
                    self.record(id, end);
                }
                (self.tree.finished(id, finish, report), None)
            }
        };
        self.go_on(woken);
        if !self.bodies.contains_key(&id) {
            return None;
        }
        // What was recorded may have made one of its handles ready.
        let (stand, work) = self.tell(id).or(waits)?;
        self.tree.set_work(id, work);
        Some(stand)
    }

    /// Leaves the steps that ended in one poll to later turns if with what is recorded they are too much for one.
    fn cut(&mut self, id: NodeId, mut report: Report) -> Report {
        let mut bytes = self.tree.draft_bytes();
        let kept = report.steps_ended.iter().take_while(|end| {
            let fits = bytes < TURN_BYTES;
            bytes += end.bytes();
            fits
        });
        let kept = kept.count();
        for end in report.steps_ended.split_off(kept) {
            self.hold.defer(id, End::Step(end));
        }
        report
    }

    /// Tells a body what became of its operations. `None` if there is no news, or no body.
    pub(super) fn tell(&mut self, id: NodeId) -> Option<(Stand, Work)> {
        // A node without a body keeps its notices for the next one.
        if self.tree.node(id).is_none_or(|node| node.notices.is_empty()) {
            return None;
        }
        let body = self.bodies.get_mut(&id)?;
        Some(body.tell(self.tree.take_notices(id)))
    }

    /// A body waits, and does not go on at once.
    pub(super) fn rest(&mut self, id: NodeId, stand: Stand) {
        match stand {
            Stand::Offered | Stand::Woken => {}
            Stand::Working => self.lend(id),
            Stand::Stuck(parked) => self.park(id, &parked),
            Stand::Suspended => {
                self.tree.suspend(id);
                self.permits.remove(&id);
                if self.services.evicts {
                    self.bodies.remove(&id);
                }
            }
        }
    }

    pub(super) fn park(&mut self, id: NodeId, parked: &Parked) {
        self.tree.park(id, parked);
        self.go_on(Vec::new());
    }

    /// After a decision: drops the bodies that do not go on, and puts these nodes into the queue.
    pub(super) fn go_on(&mut self, woken: Vec<NodeId>) {
        for id in self.tree.take_put_down() {
            self.bodies.remove(&id);
            self.permits.remove(&id);
        }
        self.queue_all(woken);
    }

    /// Polls a body that does not go on, as long as something of it is in flight: what ends is recorded, what else the
    /// body does is not (K4). It needs no slot, because it begins nothing.
    pub(super) fn finish(&mut self, id: NodeId) {
        self.hear(id);
        if self.tree.node(id).is_some_and(Node::is_kept_by_work)
            && let Some((polled, report)) = self.poll(id, false)
        {
            let work = match polled {
                Polled::Pending(_, work) => work,
                Polled::Finished(_) => Work::default(),
            };
            self.tree.set_work(id, work);
            for end in report.steps_ended {
                self.end(id, End::Step(end));
            }
            self.hear(id);
        }
        if self.stage() == Stage::Holding {
            return self.hold.hold(id);
        }
        let woken = self.tree.left_behind(id);
        self.go_on(woken);
    }

    fn hear(&mut self, id: NodeId) {
        if let Some((_, work)) = self.tell(id) {
            self.tree.set_work(id, work);
        }
    }

    /// Polls a body without delivering to it: during a hold, or to let its steps begin. Returns what the poll did if it
    /// has to be recorded at once: only a body that returned, or that awaits a future which is not one of `cx`'s handles,
    /// does such.
    pub(super) fn poll_held(&mut self, id: NodeId) -> Option<(Polled, Report)> {
        self.tree.on(id, Move::Polled);
        let (polled, report) = self.poll(id, false)?;
        match polled {
            Polled::Pending(stand, work) if report.fresh.is_empty() => {
                self.tree.set_work(id, work);
                for end in report.steps_ended {
                    self.hold.defer(id, End::Step(end));
                }
                match stand {
                    Stand::Offered => self.hold.hold(id),
                    Stand::Working => self.lend(id),
                    // A grant that was not used may leave nothing to wait for but what `rest` decides.
                    Stand::Suspended | Stand::Stuck(_) => self.hold.hold(id),
                    Stand::Woken => {}
                }
                None
            }
            polled => Some((polled, report)),
        }
    }

    fn poll(&mut self, id: NodeId, deliver: bool) -> Option<(Polled, Report)> {
        self.polls += 1;
        let (polled, mut report) = self.bodies.get_mut(&id)?.poll(deliver);
        self.take_prepared(id, &polled, &mut report);
        Some((polled, report))
    }

    /// The slot of a body that waits with a step in flight goes to what it waits for; it takes one again before it is
    /// polled on (S2, S5).
    pub(super) fn lend(&mut self, id: NodeId) {
        if self.tree.node(id).is_some_and(|node| node.work.lends()) {
            self.permits.remove(&id);
        }
    }
}
