//! Intake: takes the events of one group into the store, each as a tree whose root is its consumer.
//!
//! There is one task per group. It never runs an author's code: a batch of the broker becomes one commit of offsets,
//! keys for dedupe and new trees, and from there the engine drives the trees (SEMANTICS H2). [`plan`] decides what to
//! do with a batch; this module does it.
//!
//! - **Back-pressure**: while a batch is not committed, nothing more is polled (H8).
//! - **The store is down**: the same batch is committed again until that succeeds. After a crash it is delivered again,
//!   and the keys dedupe it.
//! - **The store refuses offsets**: another member has the partition. The records are dropped here, because that member
//!   gets them too. If the broker does not revoke the partition in time, this member joins the group again.
//! - **The store went back**, after a failover or a restore: it refuses offsets that do not follow its own, and is asked
//!   for them in a slow period too. This member joins the group again, from where the store says; what comes again is
//!   deduped by the keys that the store still has.
//! - **The store refuses data permanently**: the batch is halved until the event is alone. The group stops at it,
//!   visibly, and commits it again at growing intervals.
//! - **The broker is down**: it is asked again; a client that can no longer be used is replaced.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind, Consumed, Delivery, Subscription, TopicPartition};
use sapwood_core::retry::{Backoff, jittered};
use sapwood_core::store::{AssignedPartition, Start, Started, StoreError, StoreErrorKind};
use sapwood_engine::Engine;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::groups::Group;
use crate::health::IntakeHealth;
use crate::pace;
use crate::topics::{self, Ready};
use plan::{Assignments, Item, Standing};

/// How long the broker may go on assigning a partition to this member after the store refused it; then this member
/// joins the group again. It is long enough for a rebalance, and for the session of a stalled member to end.
const LOST: Duration = Duration::from_secs(30);

/// The task that takes in the events of one group.
pub(crate) struct IntakeTask {
    /// Commits the batches, and drives the trees that they start.
    pub(crate) engine: Engine,
    /// Where the events come from.
    pub(crate) broker: Arc<dyn Broker>,
    /// Decides which consumer an event starts.
    pub(crate) group: Group,
    /// Read by the choreography.
    pub(crate) health: watch::Sender<IntakeHealth>,
    /// Whether the topics exist; the group is not joined before.
    pub(crate) topics: watch::Receiver<Ready>,
    /// Becomes true when the choreography drains.
    pub(crate) stop: watch::Receiver<bool>,
    /// How often the store is asked whether it still has the offsets that this task remembers.
    pub(crate) period: Duration,
    /// How long a call may take, except the wait for the next delivery.
    pub(crate) answer_within: Duration,
}

/// Why a membership ended.
enum End {
    /// The choreography drains, or this worker was declared dead.
    Stopped,
    /// The group is to be joined again, after a rest.
    Rejoin(BrokerError),
}

/// Whether the membership goes on.
type Flow = Result<(), End>;

impl IntakeTask {
    /// Takes events in until it is stopped, or its worker is declared dead.
    pub(crate) async fn run(mut self) {
        if self.topics_are_ready().await {
            self.take_part().await;
        }
        self.health.send_modify(|health| {
            health.running = false;
            health.partitions = 0;
        });
    }

    async fn topics_are_ready(&mut self) -> bool {
        let health = &self.health;
        let tell = |ready| health.send_modify(|health| health.broker = ready);
        topics::are_ready(&mut self.topics, &mut self.stop, tell).await
    }

    /// Joins the group, again and again, until the task is stopped.
    async fn take_part(&mut self) {
        let (mut outage, mut refusal) = (pace::outage(), pace::refusal());
        while let Err(End::Rejoin(error)) = self.belong(&mut outage).await {
            let wait = match error.kind() {
                BrokerErrorKind::Passing | BrokerErrorKind::Fatal => outage.failed(self.engine.environment().jitter()),
                BrokerErrorKind::Refused => refusal.failed(self.engine.environment().jitter()),
            };
            self.broker_is(Some(&error));
            self.health.send_modify(|health| health.partitions = 0);
            if !pace::rest(wait, &mut self.stop).await {
                return;
            }
        }
    }

    /// One membership in the group, from joining to its end. Never returns `Ok`.
    async fn belong(&mut self, outage: &mut Backoff) -> Flow {
        let mut subscription = self.join().await?;
        let mut assignments = Assignments::default();
        let mut next_look = self.next_look();
        loop {
            let rejoin = assignments.lost_since().map_or_else(far_off, |since| since + LOST);
            let delivery = tokio::select! {
                biased;
                () = pace::stopped(&mut self.stop) => return Err(End::Stopped),
                () = sleep_until(next_look) => {
                    self.look(&assignments).await?;
                    next_look = self.next_look();
                    continue;
                }
                delivery = subscription.next() => delivery,
                () = sleep_until(rejoin) => return Err(End::Rejoin(lost())),
            };
            match delivery {
                Ok(delivery) => {
                    self.deliver(delivery, &mut assignments, subscription.as_mut()).await?;
                    // Only after the first delivery: a membership that never gets that far must not reset the backoff.
                    outage.succeeded();
                    self.broker_is(None);
                }
                Err(error) if error.kind() == BrokerErrorKind::Passing => {
                    self.broker_is(Some(&error));
                    self.rest(outage).await?;
                }
                Err(error) => return Err(End::Rejoin(error)),
            }
        }
    }

    fn next_look(&self) -> Instant {
        Instant::now() + jittered(self.period, self.engine.environment().jitter())
    }

    /// Compares what this member remembers with what the store has. A store that does not answer is asked again in the
    /// next period.
    async fn look(&mut self, assignments: &Assignments) -> Flow {
        let partitions = assignments.all_mine();
        if partitions.is_empty() {
            return Ok(());
        }
        let read = self.engine.store().partition_read(self.group.name, &partitions);
        let stored = tokio::select! {
            biased;
            () = pace::stopped(&mut self.stop) => return Err(End::Stopped),
            stored = pace::answered(self.answer_within, read) => stored,
        };
        let Ok(stored) = stored else { return Ok(()) };
        for partition in &partitions {
            let row = stored.iter().find(|row| row.partition == *partition);
            if assignments.standing(partition, row) == Standing::WentBack {
                return Err(self.went_back(partition));
            }
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<Box<dyn Subscription>, End> {
        let topics = self.group.topics();
        let group = broker_group(self.engine.context(), self.group.name);
        tokio::select! {
            biased;
            () = pace::stopped(&mut self.stop) => Err(End::Stopped),
            subscription = pace::answered_by_broker(self.answer_within, self.broker.subscribe(&group, &topics)) => {
                subscription.map_err(End::Rejoin)
            }
        }
    }

    async fn deliver(
        &mut self,
        delivery: Delivery,
        assignments: &mut Assignments,
        subscription: &mut dyn Subscription,
    ) -> Flow {
        match delivery {
            Delivery::Assigned(partitions) => {
                self.goes_on(&partitions);
                let assigned = self.assign(&partitions).await?;
                assignments.assigned(&assigned);
                let from: Vec<_> = assigned.into_iter().map(|at| (at.partition, at.next_offset)).collect();
                self.begin(&from, subscription).await?;
            }
            Delivery::Revoked(partitions) => {
                self.goes_on(&partitions);
                assignments.revoked(&partitions);
            }
            Delivery::Batch(records) => {
                self.health.send_modify(|health| {
                    health.stopped.retain(|name, _| !records.iter().any(|of| *name == named(&of.topic, of.partition)));
                });
                self.take_in(records, assignments, subscription).await?;
            }
            Delivery::Stopped { partition, reason } => self.stopped(&partition, reason),
        }
        self.health.send_modify(|health| health.partitions = assignments.count());
        Ok(())
    }

    /// Records in the store that the partitions are assigned to this member; waits for the store as long as necessary.
    async fn assign(&mut self, partitions: &[TopicPartition]) -> Result<Vec<AssignedPartition>, End> {
        let mut backoff = pace::outage();
        loop {
            let assign = self.engine.store().partition_assign(self.group.name, partitions);
            let assigned = tokio::select! {
                biased;
                () = pace::stopped(&mut self.stop) => return Err(End::Stopped),
                assigned = pace::answered(self.answer_within, assign) => assigned,
            };
            match assigned {
                Ok(assigned) => {
                    self.store_is(None);
                    return Ok(assigned);
                }
                Err(error) => self.wait_for_store(&error, &mut backoff).await?,
            }
        }
    }

    async fn begin(&mut self, from: &[(TopicPartition, Option<i64>)], subscription: &mut dyn Subscription) -> Flow {
        let mut backoff = pace::outage();
        loop {
            let begun = tokio::select! {
                biased;
                () = pace::stopped(&mut self.stop) => return Err(End::Stopped),
                begun = pace::answered_by_broker(self.answer_within, subscription.begin(from)) => begun,
            };
            match begun {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == BrokerErrorKind::Passing => {
                    self.broker_is(Some(&error));
                    self.rest(&mut backoff).await?;
                }
                Err(error) => return Err(End::Rejoin(error)),
            }
        }
    }

    async fn take_in(
        &mut self,
        records: Vec<Consumed>,
        assignments: &mut Assignments,
        subscription: &mut dyn Subscription,
    ) -> Flow {
        let mut commits = plan::cut(plan::items_of(&self.group, records, &|| self.engine.environment().tree_id()));
        let (mut outage, mut refusal) = (pace::outage(), pace::refusal());
        while let Some(items) = commits.pop_front() {
            let Some(intake) = plan::intake_of(&self.group, assignments, &items) else { continue };
            let offsets: Vec<_> =
                intake.offsets.iter().map(|advance| (advance.partition.clone(), advance.next_offset)).collect();
            let starts = intake.starts.clone();
            // The engine repeats a batch until the store answers. A stop does not wait for that: the batch is durable or
            // comes again.
            let taken = tokio::select! {
                biased;
                () = pace::stopped(&mut self.stop) => return Err(End::Stopped),
                taken = self.engine.intake(intake) => taken,
            };
            match taken {
                Ok(started) => {
                    (outage, refusal) = (pace::outage(), pace::refusal());
                    assignments.advanced(&offsets);
                    self.taken(items.len(), &starts, &started);
                    self.advise(offsets, subscription).await;
                }
                Err(error) => match error.kind() {
                    StoreErrorKind::Connection | StoreErrorKind::Transient => {
                        commits.push_front(items);
                        self.wait_for_store(&error, &mut outage).await?;
                    }
                    StoreErrorKind::Fenced => return Err(self.fenced(&error)),
                    StoreErrorKind::Refused => {
                        let new_id = || self.engine.environment().tree_id();
                        let mut parts = plan::by_partition(items, &new_id);
                        match parts.as_slice() {
                            [only] => self.refused(only, assignments).await?,
                            _ => parts.drain(..).rev().for_each(|part| commits.push_front(part)),
                        }
                    }
                    StoreErrorKind::Permanent | StoreErrorKind::Unreadable if items.len() > 1 => {
                        let mut first = items;
                        let second = first.split_off(first.len() / 2);
                        commits.push_front(second);
                        commits.push_front(first);
                    }
                    StoreErrorKind::Permanent | StoreErrorKind::Unreadable => {
                        self.stuck(&items, &error);
                        commits.push_front(items);
                        self.rest(&mut refusal).await?;
                    }
                },
            }
        }
        Ok(())
    }

    fn taken(&self, records: usize, starts: &[Start], started: &[Started]) {
        let mut duplicates = 0;
        for (start, started) in starts.iter().zip(started) {
            let Started::Existing { tree, same_digest, .. } = started else { continue };
            // A commit that is repeated because its answer was lost finds its own trees.
            if *tree == start.tree.id {
                continue;
            }
            duplicates += 1;
            if !same_digest {
                let event = &start.key.key;
                tracing::warn!(group = self.group.name, event, %tree, "an event came again with other content; it is ignored");
            }
        }
        self.health.send_modify(|health| {
            health.taken += starts.len() as u64 - duplicates;
            health.duplicates += duplicates;
            health.skipped += records.saturating_sub(starts.len()) as u64;
            health.stuck = None;
            health.store = Ok(());
        });
    }

    /// Reports the offsets to the broker, for its own tools only: the offsets that count are in the store.
    async fn advise(&self, offsets: Vec<(TopicPartition, i64)>, subscription: &mut dyn Subscription) {
        let advised = pace::answered_by_broker(self.answer_within, subscription.advise(&offsets)).await;
        if let Err(error) = advised {
            tracing::debug!(group = self.group.name, %error, "the group's offsets were not reported to the broker");
        }
    }

    /// The store refused offsets of this partition: another member has it, or the store went back.
    async fn refused(&mut self, items: &[Item], assignments: &mut Assignments) -> Flow {
        let Some(Item { topic, partition, .. }) = items.first() else { return Ok(()) };
        let is_of = |of: &TopicPartition| of.topic == *topic && of.partition == *partition;
        let Some(of) = assignments.all_mine().into_iter().find(is_of) else { return Ok(()) };
        let mut backoff = pace::outage();
        loop {
            let read = self.engine.store().partition_read(self.group.name, std::slice::from_ref(&of));
            let stored = tokio::select! {
                biased;
                () = pace::stopped(&mut self.stop) => return Err(End::Stopped),
                stored = pace::answered(self.answer_within, read) => stored,
            };
            match stored {
                Ok(stored) if assignments.standing(&of, stored.first()) == Standing::Taken => {
                    self.lost(items, assignments);
                    return Ok(());
                }
                Ok(_) => return Err(self.went_back(&of)),
                Err(error) => self.wait_for_store(&error, &mut backoff).await?,
            }
        }
    }

    /// The store no longer has what this member remembers: it begins again with what the store has.
    fn went_back(&self, partition: &TopicPartition) -> End {
        let name = named(&partition.topic, partition.partition);
        let message =
            format!("the store went back: it no longer has the offset of {name}, which is read again from its own");
        tracing::error!(group = self.group.name, "{message}");
        End::Rejoin(BrokerError::new(BrokerErrorKind::Passing, message))
    }

    fn lost(&self, items: &[Item], assignments: &mut Assignments) {
        let Some(Item { topic, partition, .. }) = items.first() else { return };
        tracing::info!(group = self.group.name, topic, partition, "another member has the partition");
        assignments.lost(topic, *partition, Instant::now());
    }

    fn stuck(&self, items: &[Item], error: &StoreError) {
        let Some(Item { topic, partition, offset, .. }) = items.first() else { return };
        tracing::error!(group = self.group.name, topic, partition, offset, %error, "the store refuses an event");
        self.health.send_modify(|health| health.stuck = Some(format!("{topic}/{partition}/{offset}: {error}")));
    }

    /// The broker gives no more of a partition.
    fn stopped(&self, partition: &TopicPartition, reason: String) {
        let name = named(&partition.topic, partition.partition);
        self.health.send_if_modified(|health| {
            if health.stopped.get(&name) == Some(&reason) {
                return false;
            }
            tracing::error!(group = self.group.name, partition = name, reason, "a record cannot be read");
            health.stopped.insert(name, reason);
            true
        });
    }

    fn goes_on(&self, partitions: &[TopicPartition]) {
        self.health.send_modify(|health| {
            partitions.iter().for_each(|at| drop(health.stopped.remove(&named(&at.topic, at.partition))));
        });
    }

    async fn wait_for_store(&mut self, error: &StoreError, backoff: &mut Backoff) -> Flow {
        if error.kind() == StoreErrorKind::Fenced {
            return Err(self.fenced(error));
        }
        self.store_is(Some(error));
        self.rest(backoff).await
    }

    async fn rest(&mut self, backoff: &mut Backoff) -> Flow {
        if pace::rest(backoff.failed(self.engine.environment().jitter()), &mut self.stop).await {
            Ok(())
        } else {
            Err(End::Stopped)
        }
    }

    fn fenced(&self, error: &StoreError) -> End {
        self.store_is(Some(error));
        End::Stopped
    }

    fn store_is(&self, error: Option<&StoreError>) {
        let now = error.map_or(Ok(()), |error| Err(error.to_string()));
        self.health.send_if_modified(|health| {
            let before = std::mem::replace(&mut health.store, now);
            if let (Ok(()), Err(error)) = (&before, &health.store) {
                tracing::warn!(group = self.group.name, error, "events cannot be taken in; they wait at the broker");
            }
            before != health.store
        });
    }

    fn broker_is(&self, error: Option<&BrokerError>) {
        let now = error.map_or(Ok(()), |error| Err(error.to_string()));
        self.health.send_if_modified(|health| {
            let before = std::mem::replace(&mut health.broker, now);
            match (&before, &health.broker) {
                (Ok(()), Err(error)) => tracing::warn!(group = self.group.name, error, "the broker delivers no events"),
                (Err(_), Ok(())) => tracing::info!(group = self.group.name, "the broker delivers events again"),
                (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
            }
            before != health.broker
        });
    }
}

/// The group's name at the broker. It includes the context, because a consumer is a context and a group (H1): two
/// contexts may use one name.
pub(crate) fn broker_group(context: &str, group: &str) -> String {
    format!("{context}.{group}")
}

fn named(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}")
}

fn lost() -> BrokerError {
    BrokerError::new(BrokerErrorKind::Passing, "another member has a partition that the broker assigns to this one")
}

/// A time in the far future, for a branch that must not be taken.
fn far_off() -> Instant {
    Instant::now() + Duration::from_secs(24 * 3_600)
}
