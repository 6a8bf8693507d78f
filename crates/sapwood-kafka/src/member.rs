//! librdkafka's callbacks inside `poll`, above all rebalances: they are kept here for the poll thread's loop.

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::deliveries::Partition;
use crate::quiet::Quiet;

/// Takes librdkafka's callbacks, which run inside `poll`, and keeps them for the loop.
#[derive(Default)]
pub(crate) struct Member {
    quiet: Quiet,
    /// What rebalances did since the loop last asked.
    changes: Mutex<Vec<Change>>,
    /// The text of the last error, which the error itself does not carry.
    reason: Mutex<Option<String>>,
}

/// What a rebalance did.
pub(crate) enum Change {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
    Failed(KafkaError),
}

impl Member {
    /// What rebalances did since the last call, in order.
    pub(crate) fn changes(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock())
    }

    /// The text of the last error.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.lock().take()
    }

    /// Takes partitions over, paused: nothing is read before the reader has said where to begin.
    ///
    /// They start at the end, so that librdkafka neither asks for the committed offset, which is only advice, nor
    /// reports an error if there is none. Retention may have deleted the records at any other offset, and a fetch may
    /// already be under way before the pause.
    fn assign(consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        list.set_all_offsets(Offset::End)?;
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list)?,
        }
        consumer.pause(list)
    }

    fn unassign(consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
        }
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, kind: &str, line: &str) {
        self.quiet.log(level, kind, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        *self.reason.lock() = Some(reason.to_owned());
        self.quiet.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = list.elements().iter().map(|part| (part.topic().to_owned(), part.partition())).collect();
        let (done, change) = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                (Self::assign(consumer, list), Change::Assigned(partitions))
            }
            _ => (Self::unassign(consumer, list), Change::Revoked(partitions)),
        };
        let mut changes = self.changes.lock();
        changes.push(change);
        changes.extend(done.err().map(Change::Failed));
    }

    fn commit_callback(&self, result: KafkaResult<()>, _positions: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "Kafka did not take the group's offsets");
        }
    }
}
