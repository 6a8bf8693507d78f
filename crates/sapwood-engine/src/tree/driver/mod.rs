//! The loop that drives one owned tree: it polls what can run, commits what was recorded, waits, and releases the tree
//! once nothing in it runs.
//!
//! The driver is a thin shell around pure decisions: the [`Tree`] decides what a poll comes to, and the [`Hold`]
//! decides what waits for which commit. The driver owns what is not pure: the bodies, their slots, the alarm, and the
//! operations that run outside of the tree's own task.
//!
//! ```text
//!   created here, or claimed
//!        │
//!        ▼
//!   ┌─► fire    the timers that are due
//!   │   work    poll every body that can run; what it did goes into the tree's draft
//!   │   commit  send the draft as a turn, unless a turn is under way;
//!   │           if nothing in the tree runs, this turn releases it
//!   └── wait    for a wake of a body, the verdict on the turn, the alarm, a slot, a journal, the end of a start
//!        │
//!        ├─ the turn that releases the tree is durable
//!        │    ├─ and the root has its outcome ─► Settled
//!        │    └─ and it has none yet ──────────► Released: the tree is cached; a claim brings it back, on any worker
//!        ├─ a turn was refused ────────────────► Refused: what is in memory is out of date; `Trees` loads it again
//!        ├─ the store refuses a turn for good ─► Failed: `Trees` loads the tree again and parks it
//!        └─ the engine has ended ──────────────► Stopped
//! ```
//!
//! - *Hold.* If a turn is under way, nothing was recorded since, and a step waits for that turn, then nothing more is
//!   recorded until the turn is durable. Steps in flight run on; what ends meanwhile is deferred, and other nodes wait.
//!   [`Hold`] has the reason. A hold also ends early if a body records something all the same.
//! - *Release.* A worker owns a tree only while something in it runs. The turn that releases the tree names its inbox
//!   counter: if something outside settled meanwhile, the counter has moved, the turn is refused, and the tree is
//!   loaded again. So no wake-up is lost (S3). From the moment this turn is sent, nothing is polled or recorded,
//!   because no later turn could commit it.
//! - *Claimed again.* As soon as the release is durable, any worker may claim the tree, and so may this one before its
//!   driver has received the verdict. `Trees` keeps such a claim until the driver has ended, then drives the tree
//!   again.
//! - *Cache.* A released tree stays in memory with the bodies of its suspended nodes; all other bodies are dropped. The
//!   cache is never the truth: a claim uses it only if the claim is the first commit after the release, which the
//!   revision shows, and if the tree was not taken over from a dead worker. Otherwise the tree is loaded from its rows.

mod bodies;
mod ending;
mod inbox;
mod starts;
mod transactions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use sapwood_core::store::{StoreResult, TreeOutcome, Turn};
use sapwood_core::tree::{InvocationImage, PromiseState, SettledPromise};
use sapwood_core::{Path, Position, TreeId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Sleep;

use super::carried::Carried;
use super::hold::{Hold, Sent, Stage};
use super::live::LiveTree;
use super::mailbox::{Mailbox, Signal};
use super::model::Tree;
use super::node::{Move, NodeId, Status};
use crate::activation::{Activation, StepEnd};
use crate::error::StartError;
use crate::payload::{StartOutcome, Started};
use crate::replay::Replay;
use crate::services::Services;

/// Polls of a tree in a row before other tasks run. Each completion takes a poll of its own, and a tree may have
/// thousands of bodies, so many in a row are normal; none of it must keep its thread.
const POLLS_IN_A_ROW: u32 = 64;

/// Timers that fire in a row before other tasks run: each costs far less than the poll that follows it.
const FIRES_IN_A_ROW: usize = 256;

/// The pause before a tree checks its worker's lease again: short compared with a lease, long compared with the check.
const LEASE_PAUSE: Duration = Duration::from_millis(100);

/// The way to the caller of a start: told when the tree is durable, or that the store refuses it for good.
pub(crate) type Created = oneshot::Sender<Result<(), StartError>>;

/// How a driver ended.
pub(crate) enum Ended {
    /// No worker owns the tree now; it may be kept as a cache of its bodies.
    Released { tree: Box<LiveTree>, ready_at: Option<Timestamp> },
    /// The tree has its outcome.
    Settled {
        tree: TreeId,
        revision: u64,
        /// `None` if it had that before, and something of it was undone again.
        outcome: Option<TreeOutcome>,
    },
    /// Its turn was refused: the tree was taken over, or changed from outside. What is in memory is out of date.
    Refused {
        /// The last revision that is known to be durable.
        committed: u64,
        /// What goes on, if this worker still owns the tree.
        carried: Carried,
        /// The turn named times, so this worker may be wrong about the store's.
        has_times: bool,
    },
    /// The store refuses its turn for good.
    Failed(String),
    /// The engine has ended.
    Stopped,
}

/// How an operation outside of the tree's own task ended.
enum Outside {
    Slot(NodeId, Option<OwnedSemaphorePermit>),
    Loaded(NodeId, Box<StoreResult<Option<InvocationImage>>>),
    Started {
        node: NodeId,
        position: Position,
        function: &'static str,
        input: Bytes,
        outcome: Option<StartOutcome>,
    },
    Heard(StoreResult<Vec<SettledPromise>>),
    LeaseLooksGood,
    /// The driver was told what became of it.
    Transacted,
}

/// Something that ended during a hold and is recorded after it.
enum End {
    Step(StepEnd),
    Start { position: Position, function: &'static str, started: Started },
}

/// Drives one owned tree.
pub(crate) struct Driver {
    tree: Tree,
    /// The bodies in memory, of active and of suspended nodes.
    bodies: BTreeMap<NodeId, Activation>,
    /// Where wakers, the committer and the engine report to this driver.
    mailbox: Arc<Mailbox>,
    services: Arc<Services>,
    /// Nodes to be polled, in the order in which they were woken.
    ready: VecDeque<NodeId>,
    /// The slots of the active nodes.
    permits: BTreeMap<NodeId, OwnedSemaphorePermit>,
    /// The turn under way, and what waits for it.
    hold: Hold<End>,
    /// Ends of transactional steps that wait for the commit of their transactions.
    prepared: VecDeque<(NodeId, StepEnd)>,
    /// Nodes that may have a transaction open.
    transacting: BTreeSet<NodeId>,
    /// The tree is to be loaded again, after the turn that was refused, if there is one.
    leaving: Option<Option<Turn>>,
    /// Operations outside of the tree's own task; the driver awaits them all.
    outside: FuturesUnordered<BoxFuture<'static, Outside>>,
    /// Wakes the loop when the next timer is due.
    alarm: Option<Pin<Box<Sleep>>>,
    /// The caller of a start, told when the tree's first turn is durable.
    created: Option<Created>,
    /// The engine drains: no step begins, and the tree is released once nothing is in flight.
    is_draining: bool,
    /// A request was made for the tree that this worker has not read: it loads the tree again.
    is_outdated: bool,
    /// The last number of the inbox counter that it was told of; what settled up to that is read, if it was not.
    told: u32,
    /// What has settled is being read.
    is_hearing: bool,
    /// The lease was not good when a step wanted to start; it is checked again after a pause.
    awaits_lease: bool,
    /// The time for which the tree was claimed: the database judged that it has come.
    judged: Option<Timestamp>,
    /// Polls since other tasks could run.
    polls: u32,
    /// How steps ended before the tree was loaded, which is recorded first.
    ends: Vec<(Path, StepEnd)>,
}

/// How far [`Driver::work`] came.
#[derive(PartialEq, Eq)]
enum Worked {
    /// Nothing more can run now.
    All,
    /// More can run, after other tasks.
    ForAWhile,
    /// More can run, once what was recorded so far is in a turn.
    ToTheBrim,
}

impl Driver {
    /// The driver of a tree that this worker owns; `created` is told when the tree's first turn is durable.
    pub(crate) fn new(live: LiveTree, services: Arc<Services>, created: Option<Created>) -> Self {
        let LiveTree { mut tree, bodies, mailbox, ends } = live;
        let ready = tree.requeue().into();
        Self {
            tree,
            bodies,
            mailbox,
            services,
            ready,
            permits: BTreeMap::new(),
            hold: Hold::default(),
            prepared: VecDeque::new(),
            transacting: BTreeSet::new(),
            leaving: None,
            outside: FuturesUnordered::new(),
            alarm: None,
            created,
            is_draining: false,
            is_outdated: false,
            told: 0,
            is_hearing: false,
            awaits_lease: false,
            judged: None,
            polls: 0,
            ends,
        }
    }

    /// Something that the tree waits for has settled, up to this number of its inbox counter.
    pub(crate) const fn told(mut self: Box<Self>, inbox: u32) -> Box<Self> {
        self.told = inbox;
        self
    }

    /// Fires the timer for which the tree was claimed, if it was for a timer. The database's clock found it due, and that
    /// clock decides, even if what this worker knows of it is a moment behind.
    pub(crate) fn claimed_when_due(mut self: Box<Self>) -> Box<Self> {
        let is_for_time = self.ready.is_empty() && !self.has_news() && self.tree.waits_for_time();
        self.judged = self.tree.next_due().filter(|_| is_for_time);
        self.fire_due();
        self
    }

    /// Drives the tree until this worker no longer owns it.
    pub(crate) async fn drive(mut self: Box<Self>) -> Ended {
        let services = Arc::clone(&self.services);
        // A reader may have settled it by its deadline.
        self.announce();
        self.tree.tick(self.services.clock.now());
        for (path, end) in std::mem::take(&mut self.ends) {
            if let Some(id) = self.tree.at(&path) {
                self.tree.step_ended(id, end);
            }
        }
        // What is past its deadline times out, whatever was asked of it since.
        while self.fire_due() {}
        let woken = self.tree.carry_out();
        self.go_on(woken);
        loop {
            if services.life.has_ended() {
                return Ended::Stopped;
            }
            if self.is_outdated && !self.hold.is_committing() {
                self.leave(None);
            }
            if self.may_leave() {
                let refused = self.leaving.take().flatten();
                return self.refused(refused);
            }
            self.is_draining |= services.life.is_draining();
            self.tree.tick(self.services.clock.now());
            let stage = self.stage();
            // Once the tree is being released, nothing more is recorded: no commit could carry it.
            if stage != Stage::Releasing {
                self.look_into_inbox(stage);
                let more_is_due = stage != Stage::Holding && self.fire_due();
                let worked = self.work().await;
                if worked == Worked::ForAWhile || worked == Worked::All && more_is_due {
                    self.give_way().await;
                    continue;
                }
                self.commit();
                if worked == Worked::ToTheBrim && !self.tree.is_full() {
                    self.give_way().await;
                    continue;
                }
            }
            if self.is_outdated && !self.hold.is_committing() || self.may_leave() {
                continue;
            }
            let signals = std::future::poll_fn(|task| self.poll_news(task)).await;
            if services.life.has_ended() {
                return Ended::Stopped;
            }
            for signal in signals {
                if let Some(ended) = self.take(signal).await {
                    return ended;
                }
            }
        }
    }

    /// Lets other tasks run.
    async fn give_way(&mut self) {
        self.polls = 0;
        tokio::task::yield_now().await;
    }

    // ---- news -----------------------------------------------------------------------------------------------------

    fn poll_news(&mut self, task: &mut Context<'_>) -> Poll<Vec<Signal>> {
        let mut is_news = false;
        while let Poll::Ready(Some(outside)) = self.outside.poll_next_unpin(task) {
            self.take_outside(outside);
            is_news = true;
        }
        if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(task).is_ready()
        {
            self.alarm = None;
            is_news = true;
        }
        match self.mailbox.poll(task) {
            Poll::Pending if is_news => Poll::Ready(Vec::new()),
            signals => signals,
        }
    }

    async fn take(&mut self, signal: Signal) -> Option<Ended> {
        match signal {
            Signal::Woken(node) => self.woken(node),
            Signal::Poke => {}
            Signal::Drain => self.is_draining = true,
            Signal::Kill => return Some(Ended::Stopped),
            Signal::Governed(control) => self.is_outdated |= control > self.tree.control(),
            Signal::Settled(inbox) => self.told = self.told.max(inbox),
            Signal::Committed => return self.committed().await,
            Signal::Refused(turn) => {
                tracing::info!(tree = %self.tree.id(), "the commit was refused; the tree is not as this worker knew it");
                self.leave(Some(*turn));
            }
            Signal::Failed(error) => return Some(self.failed(error)),
        }
        None
    }

    async fn committed(&mut self) -> Option<Ended> {
        let tree = self.tree.id();
        let sent = self.hold.landed()?;
        self.tree.committed();
        self.services.quarantine.committed(tree);
        if let Some(created) = self.created.take() {
            // The caller may have stopped waiting.
            let _ = created.send(Ok(()));
        }
        if let Some((id, _)) = sent.transaction {
            // A hold may have kept it from being told.
            self.queue(id);
        }
        if sent.has_events {
            self.services.outbox.emitted();
        }
        if sent.has_news {
            self.announce();
        }
        if let Some(ready_at) = sent.releases {
            return Some(self.released(ready_at));
        }
        if self.stage() == Stage::Durable {
            self.load_wanted();
            self.grant().await;
        }
        self.record_deferred();
        for node in self.hold.take_held() {
            self.queue(node);
        }
        None
    }

    /// Tells who waits outside the root's outcome, which is durable before the tree is closed (D2).
    fn announce(&mut self) {
        if let Some(outcome) = self.tree.take_news() {
            self.services.announce(self.tree.id(), &outcome);
        }
    }

    fn take_outside(&mut self, outside: Outside) {
        match outside {
            Outside::Slot(id, permit) => {
                if let Some(permit) = permit.filter(|_| self.tree.on(id, Move::SlotGiven)) {
                    self.permits.insert(id, permit);
                    self.queue(id);
                }
            }
            Outside::Loaded(id, image) => self.loaded(id, *image),
            Outside::Started { node, position, function, input, outcome } => {
                self.has_started(node, position, function, &input, outcome);
            }
            Outside::Heard(settled) => self.heard(settled),
            Outside::LeaseLooksGood => {
                // The next round of the loop grants what waits.
                self.awaits_lease = false;
            }
            Outside::Transacted => {}
        }
    }

    /// Records an end, now or after the hold.
    fn end(&mut self, id: NodeId, end: End) {
        match self.stage() {
            Stage::Holding | Stage::Releasing => self.hold.defer(id, end),
            Stage::Durable | Stage::Drafted | Stage::Committing => self.record(id, end),
        }
    }

    fn record(&mut self, id: NodeId, end: End) {
        match end {
            End::Step(end) => {
                // The handle may have been dropped while the end was deferred, or the function does not go forward: then no
                // other attempt follows. A body that was left behind because its tree was loaded again says nothing.
                let is_done = self.bodies.get(&id).is_some_and(|body| body.is_done(end.position));
                let goes_on = self.tree.node(id).is_some_and(|node| node.state.promise == PromiseState::Pending);
                let retry_at = end.retry_at.filter(|_| !is_done && goes_on);
                self.tree.step_ended(id, StepEnd { retry_at, ..end });
            }
            End::Start { position, function, started } => self.tree.started(id, position, function, &started),
        }
    }

    fn record_deferred(&mut self) {
        // A turn that is full by then brings a verdict, and with it the rest.
        while !self.tree.is_full()
            && let Some((id, end)) = self.hold.take_deferred()
        {
            self.record(id, end);
            self.queue(id);
        }
    }

    /// A body asks to be polled. If it has left memory since, the completion that it waits for brings it back instead.
    fn woken(&mut self, id: NodeId) {
        if self.bodies.contains_key(&id) {
            self.queue(id);
        }
    }

    fn queue(&mut self, id: NodeId) {
        if self.tree.enqueue(id) {
            self.ready.push_back(id);
        }
    }

    fn queue_all(&mut self, nodes: Vec<NodeId>) {
        nodes.into_iter().for_each(|id| self.queue(id));
    }

    // ---- running --------------------------------------------------------------------------------------------------

    fn stage(&self) -> Stage {
        self.hold.stage(self.tree.has_draft(), || self.tree.wants())
    }

    /// Fires timers that are due; returns whether more are.
    fn fire_due(&mut self) -> bool {
        let Some(due_at) = self.tree.next_due() else { return false };
        let now = self.services.clock.now();
        let now = self.judged.map_or(now, |judged| now.max(judged));
        if self.is_late(now) {
            return false;
        }
        if due_at <= now {
            let woken = self.tree.fire_due(now, FIRES_IN_A_ROW);
            self.go_on(woken);
        }
        self.tree.next_due().is_some_and(|due_at| due_at <= now)
    }

    /// Whether what was recorded comes too late for a deadline. Then it is void, as a turn with it would be refused, and the
    /// tree is loaded again.
    fn is_late(&mut self, now: Timestamp) -> bool {
        let is_late = self.tree.is_late(now);
        self.is_outdated |= is_late;
        is_late
    }

    /// Runs what can run now.
    async fn work(&mut self) -> Worked {
        loop {
            while !self.ready.is_empty() {
                if self.tree.is_full() {
                    return Worked::ToTheBrim;
                }
                if self.polls >= POLLS_IN_A_ROW {
                    return Worked::ForAWhile;
                }
                self.ready.pop_front().into_iter().for_each(|id| self.run(id));
            }
            if self.stage() != Stage::Durable {
                return Worked::All;
            }
            self.load_wanted();
            self.grant().await;
            if self.ready.is_empty() {
                return Worked::All;
            }
        }
    }

    fn run(&mut self, id: NodeId) {
        let stage = self.stage();
        self.tree.dequeue(id);
        match self.tree.status(id) {
            Some(Status::Runnable | Status::Suspended | Status::Active) => {}
            Some(Status::Finishing) => return self.finish(id),
            Some(
                Status::AwaitingSlot
                | Status::LoadWanted
                | Status::Loading
                | Status::BackingOff
                | Status::Closing
                | Status::UndosWanted
                | Status::UndosLoading
                | Status::Parked,
            )
            | None => return,
        }
        // Its deadline fires next.
        if self.tree.is_overdue(id, self.services.clock.now()) {
            return;
        }
        let Some(node) = self.tree.node(id) else { return };
        // During a hold a step in flight runs on; everything else waits.
        if stage == Stage::Holding && !(node.work.is_in_flight && self.bodies.contains_key(&id)) {
            return self.hold.hold(id);
        }
        let Some(definition) = node.definition.clone() else { return self.tree.lacks_version(id) };
        let is_blank = node.is_blank;
        if !self.permits.contains_key(&id) {
            match Arc::clone(&self.services.slots).try_acquire_owned() {
                Ok(permit) => {
                    self.permits.insert(id, permit);
                }
                Err(_) => return self.await_slot(id),
            }
        }
        if stage == Stage::Holding {
            if let Some((polled, report)) = self.poll_held(id) {
                self.after_poll(id, polled, report);
                self.queue(id);
            }
            return;
        }
        if !self.bodies.contains_key(&id) {
            if !is_blank {
                self.tree.on(id, Move::JournalNeeded);
                return;
            }
            if !self.begin(id, &definition, Replay::default()) {
                return;
            }
        }
        self.poll_body(id);
    }

    fn await_slot(&mut self, id: NodeId) {
        self.tree.on(id, Move::SlotLacking);
        let slots = Arc::clone(&self.services.slots);
        self.outside.push(Box::pin(async move { Outside::Slot(id, slots.acquire_owned().await.ok()) }));
    }

    /// Reads the journals that are wanted.
    fn load_wanted(&mut self) {
        for (id, path) in self.tree.take_loads() {
            let (services, tree) = (Arc::clone(&self.services), self.tree.id());
            self.outside.push(Box::pin(async move {
                Outside::Loaded(id, Box::new(services.invocation_load(tree, &path).await))
            }));
        }
    }

    /// Lets wanted steps and starts begin: everything recorded is durable. It gives way to other tasks meanwhile, but to
    /// nothing of this tree.
    async fn grant(&mut self) {
        let mut last = None;
        while let Some(id) = self.tree.wanting_after(last)
            && self.may_grant()
        {
            last = Some(id);
            if self.polls >= POLLS_IN_A_ROW {
                self.give_way().await;
                // Much may have happened meanwhile, so it is asked again whether anything may begin.
                if !self.may_grant() {
                    break;
                }
            }
            if self.tree.is_overdue(id, self.services.clock.now()) {
                continue;
            }
            let Some(orders) = self.bodies.get_mut(&id).and_then(Activation::grant) else { continue };
            for (position, order) in orders {
                let start = self.start(id, position, order);
                self.outside.push(start);
            }
            // All of them begin before the first result is recorded, because that result is not durable yet; but if a body
            // has done something that is to be recorded at once, no other step begins before that is durable (R12).
            if let Some((polled, report)) = self.poll_held(id) {
                self.after_poll(id, polled, report);
                self.queue(id);
                break;
            }
        }
        if last.is_none() {
            return;
        }
        self.record_deferred();
        if !self.hold.is_committing() {
            // No verdict is to come that would bring them back.
            for id in self.hold.take_held() {
                self.queue(id);
            }
        }
    }

    /// Whether steps and starts may begin, as far as this worker is concerned.
    fn may_grant(&mut self) -> bool {
        let life = &self.services.life;
        if self.is_draining || self.awaits_lease || life.is_draining() || life.has_ended() {
            return false;
        }
        if !self.services.lease.is_good() {
            self.awaits_lease = true;
            self.outside.push(Box::pin(async {
                tokio::time::sleep(LEASE_PAUSE).await;
                Outside::LeaseLooksGood
            }));
            return false;
        }
        true
    }

    // ---- committing -----------------------------------------------------------------------------------------------

    /// Sends what was recorded, if no turn is under way; releases the tree once nothing in it runs.
    fn commit(&mut self) {
        if self.hold.is_committing() || self.is_late(self.services.clock.now()) {
            return;
        }
        if self.commit_prepared() {
            return;
        }
        if self.has_transaction() {
            return self.set_alarm();
        }
        let (has_events, has_news) = (self.tree.drafts_events(), self.tree.has_news());
        let sent = Sent { has_events, has_news, ..Sent::default() };
        // What is still in the queue has something to do, though it may have no more than a completion to be told of.
        let is_idle = self.ready.is_empty() && !self.has_news() && !self.tree.is_active(self.is_draining);
        if self.tree.outcome().is_some() || is_idle {
            let (turn, ready_at) = self.tree.release(self.services.clock.now());
            self.hold.sent(Sent { releases: Some(ready_at), ..sent });
            return self.services.committers.submit(turn, Arc::clone(&self.mailbox));
        }
        if self.tree.has_draft() {
            let turn = self.tree.keep();
            self.hold.sent(sent);
            self.services.committers.submit(turn, Arc::clone(&self.mailbox));
        }
        self.set_alarm();
    }

    /// Sets the alarm for the next timer of an owned tree.
    fn set_alarm(&mut self) {
        let Some(due_at) = self.tree.next_due() else { return };
        self.alarm = Some(Box::pin(tokio::time::sleep(self.services.clock.until(due_at))));
    }
}
