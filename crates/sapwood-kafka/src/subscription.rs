//! The async side of a membership.
//!
//! It remembers which assignment of each partition was delivered to its reader, so that a `begin` that crosses a revoke
//! is not applied to the next assignment.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};

use async_trait::async_trait;
use sapwood_core::broker::{BrokerError, Delivery, Subscription, TopicPartition};
use tokio::sync::oneshot;

use crate::KafkaOptions;
use crate::admin::{Admin, out_of_range};
use crate::deliveries::{Assignment, Deliveries, Partition, Waiting};
use crate::error::fatal;
use crate::poll_thread::{self, Beginning, Command, From};

/// A membership in a group; dropping it leaves.
pub(crate) struct KafkaSubscription {
    /// Asked which offsets exist before a partition begins.
    admin: Arc<Admin>,
    /// The queue from the poll thread.
    deliveries: Deliveries,
    /// The poll thread leaves the group once this is gone.
    commands: mpsc::Sender<Command>,
    /// The generations of the assignments that were delivered to the reader.
    known: HashMap<Partition, u64>,
}

impl KafkaSubscription {
    /// Starts the thread that joins `group`.
    pub(crate) fn join(
        options: &KafkaOptions,
        admin: Arc<Admin>,
        group: &str,
        topics: &[String],
    ) -> Result<Self, BrokerError> {
        let deliveries = Deliveries::default();
        let (commands, received) = mpsc::channel();
        poll_thread::start(options, group, topics, deliveries.clone(), received)?;
        Ok(Self { admin, deliveries, commands, known: HashMap::new() })
    }

    fn told(&mut self, assigned: Vec<Assignment>) -> Vec<TopicPartition> {
        let tell = |Assignment { partition, topic_id, generation }: Assignment| {
            let (topic, index) = partition.clone();
            self.known.insert(partition, generation);
            TopicPartition { topic, partition: index, topic_id }
        };
        assigned.into_iter().map(tell).collect()
    }

    fn untold(&mut self, revoked: Vec<Partition>) -> Vec<TopicPartition> {
        let untell = |partition: Partition| {
            self.known.remove(&partition);
            TopicPartition { topic: partition.0, partition: partition.1, topic_id: None }
        };
        revoked.into_iter().map(untell).collect()
    }

    /// Where to begin, checked against what the broker has.
    async fn beginning(&self, of: &TopicPartition, offset: Option<i64>) -> Result<Option<Beginning>, BrokerError> {
        let partition = (of.topic.clone(), of.partition);
        // Revoked meanwhile, or never assigned: there is nothing to begin.
        let Some(generation) = self.known.get(&partition).copied() else { return Ok(None) };
        let Some(offset) = offset else { return Ok(Some(Beginning { partition, generation, from: From::Oldest })) };
        let (topic, index) = partition.clone();
        let (oldest, next) = self.admin.ask(move |admin| admin.bounds_blocking(&topic, index)).await?;
        if !(oldest..=next).contains(&offset) {
            return Err(out_of_range(&partition, offset, (oldest, next)));
        }
        Ok(Some(Beginning { partition, generation, from: From::Offset(offset) }))
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        Ok(match self.deliveries.take().await? {
            Waiting::Assigned(assigned) => Delivery::Assigned(self.told(assigned)),
            Waiting::Revoked(revoked) => Delivery::Revoked(self.untold(revoked)),
            Waiting::Batch(batch) => Delivery::Batch(batch),
        })
    }

    async fn begin(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), BrokerError> {
        let mut beginnings = Vec::with_capacity(partitions.len());
        for (partition, offset) in partitions {
            beginnings.extend(self.beginning(partition, *offset).await?);
        }
        let (done, wait) = oneshot::channel();
        let sent = self.commands.send(Command::Begin(beginnings, done));
        let gone = || fatal("the thread that reads from Kafka has ended");
        sent.map_err(|_| gone())?;
        wait.await.map_err(|_| gone())
    }

    async fn advise(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), BrokerError> {
        let known = |(of, offset): &(TopicPartition, i64)| {
            let partition = (of.topic.clone(), of.partition);
            self.known.contains_key(&partition).then_some((partition, *offset))
        };
        let offsets: Vec<_> = offsets.iter().filter_map(known).collect();
        // If the thread has ended, that is not an error here: `next` returns the reason.
        _ = self.commands.send(Command::Advise(offsets));
        Ok(())
    }
}
