//! The thread that owns a consumer: it polls, assigns, begins and pauses. It never runs a reader's code, so that a slow
//! reader does not cost the group a member.
//!
//! One round of the loop:
//!
//! ```text
//!   commands ─► room? ─► poll what there is ─► rebalances ─► ids of new topics, watch over the known ones
//!               └ none: wait a little, then pause the partitions; polling goes on
//! ```
//!
//! A partition goes through these states; records are delivered in the last one only:
//!
//! ```text
//!   assigned (paused) ──► announced with its topic's id ──► begun: sought, resumed
//! ```
//!
//! librdkafka marks what it fetches with a version of the partition, which pause, seek and revoke increment, and drops
//! what has an older one. So nothing that was fetched before a seek is delivered after it.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use sapwood_core::broker::{BrokerError, BrokerErrorKind, Consumed};
use tokio::sync::oneshot;

use crate::KafkaOptions;
use crate::admin::{bounds_blocking, out_of_range};
use crate::deliveries::{Assignment, Deliveries, EndOnDrop, Partition, Waiting};
use crate::error::{fatal, kind_of, while_doing};
use crate::member::{Change, Member};
use crate::topic_watch::TopicWatch;

/// How long one poll waits for the first record. It is short, because a command may have to wait as long.
const POLL: Duration = Duration::from_millis(20);

/// The most records of one poll, so that a round stays short; the rest is taken in the next one.
const POLL_RECORDS: usize = 512;

/// How long to wait for room in a full queue before partitions are paused. A pause discards what was fetched ahead, so
/// a reader that is only a little slow should not cause one; the group's deadlines are far longer.
const PATIENCE: Duration = Duration::from_millis(250);

/// The longest that a seek may take. librdkafka does it without the broker, so this is only a safeguard.
const SEEK: Duration = Duration::from_secs(5);

/// What the async side asks for.
pub(crate) enum Command {
    /// Begin reading; the answer comes when reading has begun.
    Begin(Vec<Beginning>, oneshot::Sender<()>),
    /// Report these next offsets to the broker.
    Advise(Vec<(Partition, i64)>),
}

/// Where the reading of a partition begins.
pub(crate) struct Beginning {
    pub(crate) partition: Partition,
    /// The assignment it belongs to; a beginning for an earlier one is ignored.
    pub(crate) generation: u64,
    pub(crate) from: From,
}

/// Where reading begins, or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// At the oldest record there is.
    Oldest,
    /// At this offset.
    Offset(i64),
}

/// Joins the group on a thread of its own, which ends when the sender of `commands` is dropped.
///
/// The thread is not joined: leaving the group waits for the broker, and dropping a subscription must not block.
pub(crate) fn start(
    options: &KafkaOptions,
    group: &str,
    topics: &[String],
    deliveries: Deliveries,
    commands: Receiver<Command>,
) -> Result<(), BrokerError> {
    let doing = || format!("joining the group `{group}` on {topics:?}");
    let consumer = BaseConsumer::from_config_and_context(&options.consumer(group), Member::default())
        .map_err(|error| while_doing(doing(), error))?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&names).map_err(|error| while_doing(doing(), error))?;
    let options = options.clone();
    let answer_timeout = options.answer_timeout;
    let poll = move || {
        let ended = EndOnDrop(deliveries.clone());
        let thread = PollThread {
            consumer: &consumer,
            options,
            deliveries,
            commands,
            partitions: HashMap::new(),
            beginnings: Vec::new(),
            watch: TopicWatch::new(answer_timeout),
            assignments: 0,
            paused: false,
        };
        if let Err(error) = thread.run() {
            tracing::error!(%error, "a subscription to Kafka has ended");
            ended.0.end(error);
        }
    };
    let spawned = thread::Builder::new().name("kafka-consumer".to_owned()).spawn(poll);
    spawned.map(|_| ()).map_err(|error| fatal("starting the thread that reads from Kafka").caused_by(error))
}

/// A consumer on its thread, and what is known of its partitions.
struct PollThread<'consumer> {
    consumer: &'consumer BaseConsumer<Member>,
    /// For asking which offsets a partition has.
    options: KafkaOptions,
    /// The queue to the reader.
    deliveries: Deliveries,
    /// What the async side asks for.
    commands: Receiver<Command>,
    /// The partitions that are assigned to this member.
    partitions: HashMap<Partition, OwnedPartition>,
    /// Beginnings that are not done, because librdkafka was not ready; they are repeated in each round.
    beginnings: Vec<(Vec<Beginning>, oneshot::Sender<()>)>,
    /// Notices a topic that was deleted, or created again.
    watch: TopicWatch<'consumer>,
    /// Counts the assignments, to give each its generation.
    assignments: u64,
    /// Whether the begun partitions are paused because the queue is full.
    paused: bool,
}

/// A partition of this member.
struct OwnedPartition {
    /// Distinguishes this assignment from earlier ones of the same partition.
    generation: u64,
    /// Whether the assignment was pushed to the reader.
    announced: bool,
    /// Where reading goes on; `None` before it has begun.
    next: Option<From>,
}

impl PollThread<'_> {
    fn run(mut self) -> Result<(), BrokerError> {
        loop {
            if !self.obey()? {
                return Ok(());
            }
            self.begin()?;
            self.keep_room()?;
            self.poll()?;
            self.rebalanced()?;
            self.watch()?;
        }
    }

    /// Takes the commands; returns false once the subscription is dropped.
    fn obey(&mut self) -> Result<bool, BrokerError> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Begin(beginnings, done)) => self.beginnings.push((beginnings, done)),
                Ok(Command::Advise(positions)) => self.advise(positions),
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    fn advise(&self, positions: Vec<(Partition, i64)>) {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for ((topic, index), offset) in positions {
            // The only possible error is an offset that is not valid.
            _ = list.add_partition_offset(&topic, index, Offset::Offset(offset));
        }
        if list.count() == 0 {
            return;
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "the group's offsets were not reported to Kafka");
        }
    }

    /// Begins what was asked for, and keeps what librdkafka is not ready for.
    fn begin(&mut self) -> Result<(), BrokerError> {
        for (beginnings, done) in std::mem::take(&mut self.beginnings) {
            let mut rest = Vec::new();
            for beginning in beginnings {
                if !self.begin_one(&beginning)? {
                    rest.push(beginning);
                }
            }
            if rest.is_empty() {
                // If the call was dropped, the answer has no receiver.
                _ = done.send(());
            } else {
                self.beginnings.push((rest, done));
            }
        }
        Ok(())
    }

    /// Begins a partition; returns false if that must be repeated.
    fn begin_one(&mut self, beginning: &Beginning) -> Result<bool, BrokerError> {
        let Beginning { partition, generation, from } = beginning;
        // The assignment has ended, so there is nothing to begin; the reader will get a later delivery that says so.
        if self.partitions.get(partition).is_none_or(|owned| owned.generation != *generation) {
            return Ok(true);
        }
        if !self.seek(partition, *from)? {
            return Ok(false);
        }
        self.deliveries.forget(partition);
        if let Some(owned) = self.partitions.get_mut(partition) {
            owned.next = Some(*from);
        }
        if !self.paused {
            self.resume(&[(partition.clone(), *from)])?;
        }
        Ok(true)
    }

    /// Moves librdkafka's offset; returns false if it is not ready for that.
    fn seek(&self, partition: &Partition, to: From) -> Result<bool, BrokerError> {
        let doing = || format!("seeking {to:?} of `{}` [{}]", partition.0, partition.1);
        let offset = match to {
            From::Oldest => Offset::Beginning,
            From::Offset(offset) => Offset::Offset(offset),
        };
        let mut list = TopicPartitionList::with_capacity(1);
        let added = list.add_partition_offset(&partition.0, partition.1, offset);
        added.map_err(|error| while_doing(doing(), error))?;
        let sought = self.consumer.seek_partitions(list, SEEK).map_err(|error| while_doing(doing(), error))?;
        for element in sought.elements() {
            match element.error().map_err(|error| error.rdkafka_error_code()) {
                Ok(()) => {}
                // The fetcher is not started yet, or is still being stopped after a revoke.
                Err(Some(Code::State | Code::PreviousInProgress | Code::OperationTimedOut)) => return Ok(false),
                Err(code) => return Err(fatal(format!("{}: {code:?}", doing()))),
            }
        }
        Ok(true)
    }

    /// Resumes partitions that were paused.
    ///
    /// The seek to the current offset wakes librdkafka's thread for the broker. Without it, that thread would notice
    /// the resume up to a second later.
    fn resume(&self, partitions: &[(Partition, From)]) -> Result<(), BrokerError> {
        let list = list_of(partitions.iter().map(|(partition, _)| partition));
        self.consumer.resume(&list).map_err(|error| while_doing("resuming partitions", error))?;
        for (partition, at) in partitions {
            self.seek(partition, *at)?;
        }
        Ok(())
    }

    /// Pauses the begun partitions when the queue stays full, and resumes them when there is room again.
    fn keep_room(&mut self) -> Result<(), BrokerError> {
        let change = match self.paused {
            false => !self.deliveries.has_room() && !self.deliveries.wait_for_room(PATIENCE),
            true => self.deliveries.is_half_empty(),
        };
        if !change {
            return Ok(());
        }
        self.paused = !self.paused;
        let begun = self.partitions.iter().filter_map(|(partition, owned)| Some((partition.clone(), owned.next?)));
        let begun: Vec<_> = begun.collect();
        if !self.paused {
            return self.resume(&begun);
        }
        let list = list_of(begun.iter().map(|(partition, _)| partition));
        self.consumer.pause(&list).map_err(|error| while_doing("pausing partitions", error))
    }

    /// Takes what was fetched, up to a bound or to the next rebalance.
    fn poll(&mut self) -> Result<(), BrokerError> {
        let mut records = Vec::new();
        let mut wait = POLL;
        while records.len() < POLL_RECORDS {
            // `None` also follows a rebalance, which must be handled before the next record.
            let Some(polled) = self.consumer.poll(wait) else { break };
            wait = Duration::ZERO;
            match polled {
                Ok(message) => records.extend(self.accept(&message)),
                Err(error) => self.heed(error)?,
            }
        }
        self.deliveries.push_records(records);
        Ok(())
    }

    /// Returns the record, unless its partition has not begun, or begins after the record.
    fn accept(&mut self, message: &BorrowedMessage<'_>) -> Option<Consumed> {
        let partition = (message.topic().to_owned(), message.partition());
        let next = self.partitions.get_mut(&partition)?.next.as_mut()?;
        if matches!(next, From::Offset(next) if message.offset() < *next) {
            return None;
        }
        *next = From::Offset(message.offset() + 1);
        Some(consumed(partition, message))
    }

    /// Ends the subscription if the error will not pass.
    fn heed(&mut self, error: KafkaError) -> Result<(), BrokerError> {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => Err(self.lost(error)),
            // A missing topic may still be created; one that existed is watched.
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => Ok(()),
            Some(code) if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                let lost = fatal(format!("Kafka's consumer can no longer be used: {}", self.consumer_reason(code)));
                Err(lost.caused_by(error))
            }
            Some(code) if kind_of(code) == BrokerErrorKind::Refused => {
                Err(while_doing(format!("reading from Kafka: {}", self.consumer_reason(code)), error))
            }
            _ => Ok(()),
        }
    }

    fn consumer_reason(&self, code: Code) -> String {
        self.consumer.context().reason().unwrap_or_else(|| code.to_string())
    }

    /// Finds which offset no longer exists, and why; librdkafka's error names none. The partition is no longer fetched,
    /// so the subscription ends in any case.
    fn lost(&mut self, error: KafkaError) -> BrokerError {
        // The whole topic may be gone.
        let assigned = self.partitions.keys().map(|(topic, _)| topic.as_str());
        if let Err(stopped) = self.watch.look_now_blocking(self.consumer.client(), assigned) {
            return stopped.caused_by(error);
        }
        let lost = self.partitions.iter().find_map(|(partition, owned)| {
            let From::Offset(next) = owned.next? else { return None };
            let (topic, index) = partition;
            let bounds = bounds_blocking(self.consumer.client(), &self.options, topic, *index).ok()?;
            (!(bounds.0..=bounds.1).contains(&next)).then(|| out_of_range(partition, next, bounds))
        });
        lost.unwrap_or_else(|| fatal("an offset no longer exists on the broker")).caused_by(error)
    }

    /// Takes over what the rebalances of the last poll did.
    fn rebalanced(&mut self) -> Result<(), BrokerError> {
        let changes = self.consumer.context().changes();
        for change in changes {
            match change {
                Change::Assigned(assigned) => self.assigned(assigned),
                Change::Revoked(revoked) => self.revoked(revoked),
                Change::Failed(error) => return Err(while_doing("taking over partitions", error)),
            }
        }
        Ok(())
    }

    fn assigned(&mut self, assigned: Vec<Partition>) {
        for partition in assigned {
            self.assignments += 1;
            self.partitions
                .insert(partition, OwnedPartition { generation: self.assignments, announced: false, next: None });
        }
        self.watch.look_again();
    }

    fn revoked(&mut self, revoked: Vec<Partition>) {
        let mut untold = Vec::new();
        for partition in revoked {
            self.deliveries.forget(&partition);
            if self.partitions.remove(&partition).is_some_and(|owned| owned.announced) {
                untold.push(partition);
            }
        }
        if !untold.is_empty() {
            self.deliveries.push(Waiting::Revoked(untold));
        }
        // The topic may be gone.
        self.watch.look_again();
    }

    /// Watches the topics, and announces the partitions whose topic's id is known.
    fn watch(&mut self) -> Result<(), BrokerError> {
        let hurry = self.partitions.values().any(|owned| !owned.announced);
        let assigned = self.partitions.keys().map(|(topic, _)| topic.as_str());
        if self.watch.look(self.consumer.client(), assigned, hurry)? {
            self.announce();
        }
        Ok(())
    }

    /// Announces to the reader the partitions whose topic's id is known now.
    fn announce(&mut self) {
        let mut announced = Vec::new();
        for (partition, owned) in self.partitions.iter_mut().filter(|(_, owned)| !owned.announced) {
            let Some(topic_id) = self.watch.id(&partition.0) else { continue };
            owned.announced = true;
            announced.push(Assignment { partition: partition.clone(), topic_id, generation: owned.generation });
        }
        if !announced.is_empty() {
            announced.sort_by(|a, b| a.partition.cmp(&b.partition));
            self.deliveries.push(Waiting::Assigned(announced));
        }
    }
}

fn list_of<'p>(partitions: impl Iterator<Item = &'p Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, index) in partitions {
        list.add_partition(topic, *index);
    }
    list
}

fn consumed((topic, partition): Partition, message: &BorrowedMessage<'_>) -> Consumed {
    let text = |value: Option<&[u8]>| value.and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned);
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Consumed {
        topic,
        partition,
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice),
        headers: headers.filter_map(|h| Some((h.key.to_owned(), text(h.value)?))).collect(),
        content: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
    }
}
