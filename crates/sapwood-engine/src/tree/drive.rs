//! The loop that drives one owned tree: polls what can run, commits what was recorded, waits, and gives the tree up
//! once nothing in it runs.
//!
//! Output commit: a completion is given to its function at once; a step starts only when everything the tree has
//! recorded is durable (R12). While the commit that a step waits for is under way the tree *holds*: steps in flight
//! run on, but nothing more is recorded, so that the step's turn comes with that commit's end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use sapwood_core::store::{Next, Outcome, Ownership, StoreResult, Verdict};
use sapwood_core::tree::{InvocationImage, TreeState};
use sapwood_core::{Position, TreeId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Sleep;

use super::node::Status;
use super::{Draft, Mailbox, NodeId, Signal, Tree};
use crate::activation::{Activation, BodyWaker, Cell, Polled, StartOrder, StepDone, Stop};
use crate::engine::Inner;
use crate::registry::Definition;
use crate::replay::{Replayed, Violation};

/// Polls of a body in a row before others get their turn; a body that wakes itself more often is spinning.
const POLLS_IN_A_ROW: u32 = 64;

/// How long a tree waits before it looks again whether its worker's lease is good.
const LEASE_PAUSE: Duration = Duration::from_millis(100);

/// How a drive ended.
pub(crate) enum Ended {
    /// Nobody owns the tree now; it may be kept as a cache of its bodies.
    Released { tree: Box<Tree>, ready_at: Option<jiff::Timestamp> },
    /// The tree has its outcome.
    Settled { tree: TreeId, outcome: Outcome },
    /// Its commit was refused: it was taken over, or changed from outside. What is in memory is worth nothing.
    Refused,
    /// The store refuses its commit for good.
    Failed(String),
    /// The engine stopped.
    Stopped,
}

/// What an operation outside of the tree's own task gave.
enum Outside {
    Slot(NodeId, Option<OwnedSemaphorePermit>),
    Loaded(NodeId, StoreResult<Option<InvocationImage>>),
    Started(NodeId, Position, Bytes, Option<Bytes>),
    LeaseLooksGood,
}

struct InFlight {
    releases: Option<Option<jiff::Timestamp>>,
    has_events: bool,
}

/// See the module.
pub(crate) struct Driver {
    tree: Box<Tree>,
    engine: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    ready: VecDeque<NodeId>,
    /// Nodes whose turn waits for the end of a hold.
    held: Vec<NodeId>,
    /// Steps that ended during a hold.
    deferred: Vec<(NodeId, StepDone)>,
    outside: FuturesUnordered<BoxFuture<'static, Outside>>,
    alarm: Option<Pin<Box<Sleep>>>,
    in_flight: Option<InFlight>,
    /// Told when the tree's first turn is durable.
    born: Option<oneshot::Sender<()>>,
    is_draining: bool,
    waits_for_lease: bool,
    /// A body used up its polls in a row.
    spins: bool,
}

enum Step {
    GoOn,
    End(Ended),
}

impl Driver {
    /// Of a tree that this worker owns; `born` is told when the tree's first turn is durable.
    pub(crate) fn new(tree: Box<Tree>, engine: Arc<Inner>, born: Option<oneshot::Sender<()>>) -> Self {
        let mailbox = Arc::clone(&tree.mailbox);
        let mut tree = tree;
        let mut ready = VecDeque::new();
        for (id, node) in &mut tree.nodes {
            // A cached tree may still have the mark of a queue that is gone.
            node.queued = node.status == Status::Runnable;
            ready.extend(node.queued.then_some(*id));
        }
        Self {
            tree,
            engine,
            mailbox,
            ready,
            held: Vec::new(),
            deferred: Vec::new(),
            outside: FuturesUnordered::new(),
            alarm: None,
            in_flight: None,
            born,
            is_draining: false,
            waits_for_lease: false,
            spins: false,
        }
    }

    /// The tree was claimed because something in it is due: so says the database's clock, which decides, also where
    /// this machine's is behind.
    pub(crate) fn claimed_when_due(mut self) -> Self {
        let due_at = self.tree.next_due();
        if let Some(due_at) = due_at.filter(|_| self.ready.is_empty()) {
            let woken = self.tree.fire_due(due_at);
            self.queue_all(woken);
        }
        self
    }

    /// Drives the tree until it is nobody's.
    pub(crate) async fn drive(mut self) -> Ended {
        loop {
            if self.engine.is_killed() {
                return Ended::Stopped;
            }
            self.is_draining |= self.engine.is_draining();
            // Once the tree is being given up, nothing more is recorded: it would be nobody's.
            if !self.is_releasing() {
                if !self.holds() {
                    self.fire_due();
                }
                self.work();
                self.commit();
            }
            if std::mem::take(&mut self.spins) {
                tokio::task::yield_now().await;
            }
            let signals = std::future::poll_fn(|context| self.poll_news(context)).await;
            for signal in signals {
                if let Step::End(ended) = self.take(signal) {
                    return ended;
                }
            }
        }
    }

    // ---- news -----------------------------------------------------------------------------------------------------

    fn poll_news(&mut self, context: &mut Context<'_>) -> Poll<Vec<Signal>> {
        let mut is_news = false;
        while let Poll::Ready(Some(outside)) = self.outside.poll_next_unpin(context) {
            self.take_outside(outside);
            is_news = true;
        }
        if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(context).is_ready()
        {
            self.alarm = None;
            is_news = true;
        }
        match self.mailbox.poll(context) {
            Poll::Pending if is_news => Poll::Ready(Vec::new()),
            signals => signals,
        }
    }

    fn take(&mut self, signal: Signal) -> Step {
        match signal {
            Signal::Woken(node) => self.woken(node),
            Signal::Poke => {}
            Signal::Drain => self.is_draining = true,
            Signal::Kill => return Step::End(Ended::Stopped),
            Signal::Verdict(verdict) => return self.take_verdict(verdict),
        }
        Step::GoOn
    }

    fn take_verdict(&mut self, verdict: Result<Verdict, String>) -> Step {
        let tree = self.tree.id();
        match verdict {
            Ok(Verdict::Committed) => {}
            Ok(Verdict::Refused | Verdict::Busy) => {
                tracing::info!(%tree, "the commit was refused; the tree is not as this worker knew it");
                return Step::End(Ended::Refused);
            }
            Err(error) => {
                tracing::error!(%tree, error, "the store refuses the commit for good; the tree is parked");
                return Step::End(Ended::Failed(error));
            }
        }
        let Some(in_flight) = self.in_flight.take() else { return Step::GoOn };
        self.tree.revision += 1;
        if let Some(born) = self.born.take() {
            // Nobody may wait any more; then nobody is told.
            let _ = born.send(());
        }
        if in_flight.has_events {
            self.engine.emitted();
        }
        if let Some(ready_at) = in_flight.releases {
            let empty = Box::new(Tree::empty(Arc::clone(&self.tree.facts)));
            let mut tree = std::mem::replace(&mut self.tree, empty);
            tree.put_down_active();
            return Step::End(match tree.outcome.clone() {
                Some(outcome) => Ended::Settled { tree: tree.id(), outcome },
                None => Ended::Released { tree, ready_at },
            });
        }
        if self.is_durable() {
            self.load_wanted();
            self.grant();
        }
        self.record_deferred();
        for node in std::mem::take(&mut self.held) {
            self.queue(node);
        }
        Step::GoOn
    }

    fn take_outside(&mut self, outside: Outside) {
        match outside {
            Outside::Slot(id, permit) => {
                if let Some(node) = self.tree.nodes.get_mut(&id) {
                    node.permit = permit;
                    node.status = Status::Runnable;
                    self.queue(id);
                }
            }
            Outside::Loaded(id, image) => self.loaded(id, image),
            Outside::Started(id, position, input, outcome) => match outcome {
                Some(outcome) if self.tree.cell(id).is_some_and(|cell| cell.awaits_order(position)) => {
                    self.tree.started(id, position, &input, outcome);
                    self.queue(id);
                }
                // It was not made; the body, if it still waits, orders it again.
                None => {
                    if let Some(cell) = self.tree.cell(id) {
                        cell.order_failed(position);
                        self.queue(id);
                    }
                }
                // A start of an attempt that is over.
                Some(_) => {}
            },
            Outside::LeaseLooksGood => {
                self.waits_for_lease = false;
                if self.is_durable() {
                    self.grant();
                }
            }
        }
    }

    fn record_deferred(&mut self) {
        for (node, done) in std::mem::take(&mut self.deferred) {
            self.tree.step_done(node, done);
            self.queue(node);
        }
    }

    /// A body asks to be polled. One that has left memory since asks for nothing: what its function waits for wakes it.
    fn woken(&mut self, id: NodeId) {
        if self.tree.cell(id).is_some() {
            self.queue(id);
        }
    }

    fn queue(&mut self, id: NodeId) {
        if let Some(node) = self.tree.nodes.get_mut(&id)
            && !std::mem::replace(&mut node.queued, true)
        {
            self.ready.push_back(id);
        }
    }

    fn queue_all(&mut self, nodes: Vec<NodeId>) {
        nodes.into_iter().for_each(|id| self.queue(id));
    }

    // ---- running --------------------------------------------------------------------------------------------------

    fn fire_due(&mut self) {
        if !self.tree.timers.is_empty() {
            let woken = self.tree.fire_due(self.tree.facts.clock.now());
            self.queue_all(woken);
        }
    }

    fn is_releasing(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.releases.is_some())
    }

    /// Runs all that can run now.
    fn work(&mut self) {
        loop {
            while let Some(id) = self.ready.pop_front() {
                self.run(id);
            }
            if !self.is_durable() {
                return;
            }
            self.load_wanted();
            self.grant();
            if self.ready.is_empty() {
                return;
            }
        }
    }

    /// Everything recorded is durable.
    fn is_durable(&self) -> bool {
        self.in_flight.is_none() && self.tree.draft.is_empty()
    }

    /// The commit that steps wait for is under way.
    fn holds(&self) -> bool {
        self.in_flight.is_some() && self.tree.draft.is_empty() && self.wants()
    }

    fn wants(&self) -> bool {
        let waits = |status| matches!(status, Status::Active | Status::LoadWanted);
        self.tree
            .nodes
            .values()
            .any(|node| waits(node.status) && node.activation.as_ref().is_none_or(|activation| activation.cell.wants()))
    }

    fn run(&mut self, id: NodeId) {
        let holds = self.holds();
        let Some(node) = self.tree.nodes.get_mut(&id) else { return };
        node.queued = false;
        match node.status {
            Status::Runnable | Status::Waiting | Status::Active => {}
            Status::AwaitingSlot
            | Status::LoadWanted
            | Status::Loading
            | Status::BackingOff
            | Status::Returned
            | Status::Parked => return,
        }
        if holds {
            return self.run_held(id);
        }
        let Some(definition) = node.definition.clone() else {
            node.status = Status::Runnable;
            self.tree.needs = Some(crate::replay::versioned(&node.function, node.version));
            return;
        };
        if node.permit.is_none() {
            match Arc::clone(self.engine.slots()).try_acquire_owned() {
                Ok(permit) => node.permit = Some(permit),
                Err(_) => return self.await_slot(id),
            }
        }
        if node.activation.is_none() {
            if !node.blank {
                node.status = Status::LoadWanted;
                return;
            }
            if !self.begin(id, &definition, Replayed::default()) {
                return;
            }
        }
        self.poll_body(id);
    }

    /// During a hold a step in flight runs on; everything else waits.
    fn run_held(&mut self, id: NodeId) {
        let Some(node) = self.tree.nodes.get_mut(&id) else { return };
        let Some(activation) = node.activation.as_mut().filter(|activation| activation.cell.is_busy()) else {
            return self.held.push(id);
        };
        let (polled, report) = activation.poll(false);
        let (returned, has_offer) = (!matches!(polled, Polled::Pending), activation.cell.has_offer());
        if returned || !report.fresh.is_empty() {
            // Only a body that awaits something foreign comes here; what it did is recorded as always.
            return self.after_poll(id, polled, report);
        }
        self.deferred.extend(report.steps_done.into_iter().map(|done| (id, done)));
        if has_offer {
            self.held.push(id);
        }
    }

    fn await_slot(&mut self, id: NodeId) {
        let Some(node) = self.tree.nodes.get_mut(&id) else { return };
        node.status = Status::AwaitingSlot;
        let slots = Arc::clone(self.engine.slots());
        self.outside.push(Box::pin(async move { Outside::Slot(id, slots.acquire_owned().await.ok()) }));
    }

    /// Reads the journals of nodes that wait for that.
    fn load_wanted(&mut self) {
        for (id, node) in self.tree.nodes.iter_mut().filter(|(_, node)| node.status == Status::LoadWanted) {
            node.status = Status::Loading;
            let (engine, tree, path, id) = (Arc::clone(&self.engine), self.tree.facts.tree, node.path.clone(), *id);
            self.outside.push(Box::pin(async move { Outside::Loaded(id, engine.invocation_load(tree, &path).await) }));
        }
    }

    fn loaded(&mut self, id: NodeId, image: StoreResult<Option<InvocationImage>>) {
        let Some(node) = self.tree.nodes.get_mut(&id) else { return };
        let image = match image {
            Ok(Some(image)) => image,
            // Nobody decides anything any more.
            _ if self.engine.is_killed() => return,
            other => {
                let why = other.err().map_or_else(|| "it has no row".to_owned(), |error| error.to_string());
                let violation = Violation::misuse(0, format!("a journal that cannot be read: {why}"), "");
                let woken = self.tree.park(id, &violation);
                return self.queue_all(woken);
            }
        };
        let Some(definition) = node.definition.clone() else { return };
        node.input = Some(image.invocation.input.clone());
        let woken = match Replayed::read(&image) {
            Ok(replayed) => {
                // A sleep may have ended, and been written, while the journal was read.
                node.next_seq = Some(replayed.next_seq.max(node.next_seq.unwrap_or(0)));
                if self.begin(id, &definition, replayed) {
                    self.queue(id);
                }
                return;
            }
            Err(error) => {
                let recorded = error.reason.clone();
                let violation = Violation { recorded, ..Violation::misuse(error.position, "a readable entry", "") };
                self.tree.park(id, &violation)
            }
        };
        self.queue_all(woken);
    }

    /// Makes a body at its first line. Says whether there is one.
    fn begin(&mut self, id: NodeId, definition: &Definition, replayed: Replayed) -> bool {
        let path_of = |node: &super::node::Node| node.path.clone();
        let Some(path) = self.tree.nodes.get(&id).map(path_of) else { return false };
        let backing_off: Vec<Position> = self
            .tree
            .timers
            .iter()
            .filter(|timer| timer.path == path && timer.kind == sapwood_core::tree::TimerKind::StepRetry)
            .map(|timer| timer.position)
            .collect();
        let cell = Arc::new(Cell::new(Arc::clone(&self.tree.facts), path, replayed, &backing_off));
        let Some(node) = self.tree.nodes.get_mut(&id) else { return false };
        for (position, number, completion) in node.late.drain(..) {
            cell.complete(position, number, completion);
        }
        node.blank = false;
        node.status = Status::Active;
        let input = node.input.clone().unwrap_or_default();
        match definition.begin(Arc::clone(&cell), self.engine.app(), &input) {
            Ok(body) => {
                let waker = BodyWaker::new(id, Arc::clone(&self.mailbox) as Arc<dyn crate::activation::Wakes>);
                node.activation = Some(Activation::new(cell, body, waker));
                true
            }
            Err(error) => {
                let woken = self.unreadable_input(id, definition, &error);
                self.queue_all(woken);
                false
            }
        }
    }

    /// An event nobody can read is dead at once; a parameter's changed type may be mended by a deploy.
    fn unreadable_input(&mut self, id: NodeId, definition: &Definition, error: &serde_json::Error) -> Vec<NodeId> {
        match definition.trigger {
            crate::registry::Trigger::Event(_) => self.tree.undecodable(id, error.to_string()),
            crate::registry::Trigger::Call => {
                let recorded = format!("an input that is not readable: {error}");
                let asked = format!("the input of {}", definition.versioned());
                self.tree.park(id, &Violation { recorded, ..Violation::misuse(0, asked, "") })
            }
        }
    }

    fn poll_body(&mut self, id: NodeId) {
        for _ in 0..POLLS_IN_A_ROW {
            let Some(activation) = self.tree.nodes.get_mut(&id).and_then(|node| node.activation.as_mut()) else {
                return;
            };
            // What the body did to itself is settled first: a replay, which has more to deliver, does the same.
            let deliver = !activation.is_woken();
            let (polled, report) = activation.poll(deliver);
            let is_pending = matches!(polled, Polled::Pending);
            self.after_poll(id, polled, report);
            let Some(activation) = self.tree.nodes.get(&id).and_then(|node| node.activation.as_ref()) else { return };
            if !is_pending {
                return;
            }
            if !activation.cell.has_offer() && !activation.is_woken() {
                return self.rest_body(id);
            }
        }
        if let Some(node) = self.tree.nodes.get_mut(&id) {
            node.status = Status::Active;
        }
        self.spins = true;
        self.mailbox.send(Signal::Woken(id));
    }

    fn after_poll(&mut self, id: NodeId, polled: Polled, mut report: crate::activation::Report) {
        let engine = Arc::clone(&self.engine);
        let registry = engine.registry();
        let woken = match (polled, report.stop.take()) {
            (_, Some(Stop::Violation(violation))) => self.tree.park(id, &violation),
            (_, Some(Stop::Limit(limit))) => self.tree.limited(id, &limit),
            (Polled::Pending | Polled::Stopped, None) => {
                let fresh = std::mem::take(&mut report.fresh);
                let mut woken = Vec::new();
                match self.tree.record(id, fresh, registry, &mut woken) {
                    Ok(()) => report.steps_done.into_iter().for_each(|done| self.tree.step_done(id, done)),
                    Err(limit) => woken.extend(self.tree.limited(id, &limit)),
                }
                woken
            }
            (Polled::Returned(result), None) => self.tree.returned(id, result, report, registry),
            (Polled::Panicked(message), None) => self.tree.panicked(id, &message),
        };
        self.queue_all(woken);
    }

    /// A body waits, and nothing that is recorded can wake it.
    fn rest_body(&mut self, id: NodeId) {
        let Some(cell) = self.tree.cell(id) else { return };
        if let Some(violation) = cell.script(crate::replay::Script::unasked) {
            self.tree.park(id, &violation);
            return;
        }
        if cell.wants() || cell.is_busy() {
            if let Some(node) = self.tree.nodes.get_mut(&id) {
                node.status = Status::Active;
            }
            return;
        }
        if !cell.script(crate::replay::Script::has_open) {
            let asked = "something that is not durable: await only what the context gives, or do it in a step";
            self.tree.park(id, &Violation::misuse(cell.cursor(), asked, ""));
            return;
        }
        self.tree.suspend(id);
        if self.engine.evicts() {
            self.tree.evict(id);
        }
    }

    /// Lets wanted steps begin: everything recorded is durable.
    fn grant(&mut self) {
        if self.is_draining || self.waits_for_lease || !self.wants() {
            return;
        }
        if !self.engine.may_start() {
            self.waits_for_lease = true;
            self.outside.push(Box::pin(async {
                tokio::time::sleep(LEASE_PAUSE).await;
                Outside::LeaseLooksGood
            }));
            return;
        }
        let mut granted = Vec::new();
        for (id, node) in &self.tree.nodes {
            let Some(activation) = node.activation.as_ref().filter(|_| node.status == Status::Active) else { continue };
            // A body in the middle of its replay may yet drop what it wants.
            if !activation.cell.wants() || activation.cell.has_offer() || activation.is_woken() {
                continue;
            }
            for (position, order) in activation.cell.grant() {
                let (engine, facts) = (Arc::clone(&self.engine), Arc::clone(&self.tree.facts));
                let (path, id) = (node.path.clone(), *id);
                self.outside.push(Box::pin(async move {
                    let StartOrder { input, .. } = order.clone();
                    let outcome =
                        engine.start_by_consumer(facts.tree, &facts.correlation, &path, position, order).await;
                    Outside::Started(id, position, input, outcome)
                }));
            }
            granted.push(*id);
        }
        // In the order of creation, so that who was called first begins first. All begin before the first result is
        // recorded: that is not durable yet.
        granted.sort_unstable();
        granted.into_iter().for_each(|id| self.run_held(id));
        self.record_deferred();
    }

    // ---- committing -----------------------------------------------------------------------------------------------

    /// Sends what was recorded, if nothing is under way; gives the tree up once nothing in it runs.
    fn commit(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        if self.tree.outcome.is_some() || !self.is_active() {
            return self.send(true);
        }
        if !self.tree.draft.is_empty() {
            self.send(false);
        }
        self.set_alarm();
    }

    fn is_active(&self) -> bool {
        let stopping = self.is_draining || self.tree.needs.is_some();
        self.tree.nodes.values().any(|node| match node.status {
            Status::Active if stopping => node.activation.as_ref().is_some_and(|activation| activation.cell.is_busy()),
            Status::Runnable => node.definition.is_some() && !stopping,
            Status::AwaitingSlot | Status::LoadWanted if stopping => false,
            _ => node.is_active(),
        })
    }

    fn send(&mut self, releases: bool) {
        let has_events = self.tree.draft.has_events();
        let settled = self.tree.outcome.is_some();
        let ready_at = if settled { None } else { self.ready_at() };
        let ready_now = releases && !settled && self.tree.nodes.values().any(super::node::Node::is_active);
        let state = if releases { self.tree.resting_state(ready_now) } else { TreeState::Running };
        let ownership = if releases {
            Ownership::Release { ready_at, needs: self.tree.needs.take().filter(|_| !settled) }
        } else {
            Ownership::Keep
        };
        let next = Next { state, number: self.tree.number, ownership };
        let turn = Draft::turn(&mut self.tree, next, releases);
        self.in_flight = Some(InFlight { releases: releases.then_some(ready_at), has_events });
        self.engine.submit(turn, Arc::clone(&self.mailbox));
    }

    /// When something in the tree is due, once nothing in it runs: now, if something could run elsewhere.
    fn ready_at(&self) -> Option<jiff::Timestamp> {
        if self.tree.nodes.values().any(super::node::Node::is_active) {
            return Some(self.tree.facts.clock.now());
        }
        self.tree.next_due()
    }

    /// Wakes the loop when the next timer of an owned tree is due.
    fn set_alarm(&mut self) {
        let Some(due_at) = self.tree.next_due() else { return };
        let wait = Duration::try_from(due_at.duration_since(self.tree.facts.clock.now())).unwrap_or_default();
        self.alarm = Some(Box::pin(tokio::time::sleep(wait)));
    }
}
