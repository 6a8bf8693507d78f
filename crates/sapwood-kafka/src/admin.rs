//! Creating topics, and asking whether the broker answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::Client;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use sapwood_core::broker::{BrokerError, BrokerErrorKind};

use crate::KafkaOptions;
use crate::deliveries::Partition;
use crate::elsewhere::drop_elsewhere;
use crate::error::{fatal, kind_of, passing, while_doing};
use crate::quiet::Quiet;
use crate::topic_id::{Question, TopicFound};

/// The topic to ask about when only an answer is needed. Every cluster that has consumers has it, and asking about all
/// topics would move megabytes on a large cluster.
const ANY_TOPIC: &str = "__consumer_offsets";

/// How long to wait before asking for offsets again. It is short, because a client soon knows a topic once it has
/// asked.
const AGAIN: Duration = Duration::from_millis(50);

/// The client that creates topics and asks questions.
pub(crate) struct Admin {
    // An option only so that `drop` can take it.
    client: Option<AdminClient<Quiet>>,
    /// Says how long an answer may take, and how topics are created.
    options: KafkaOptions,
}

impl Admin {
    /// A client that connects when it is first needed.
    pub(crate) fn new(options: &KafkaOptions) -> Result<Self, BrokerError> {
        let client = AdminClient::from_config_and_context(&options.admin(), Quiet::default())
            .map_err(|error| while_doing("configuring the client for Kafka's administration", error))?;
        Ok(Self { client: Some(client), options: options.clone() })
    }

    /// Runs `ask`, which blocks, on a thread that may block.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let admin = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || ask(&admin)).await;
        asked.unwrap_or_else(|error| Err(fatal("a question to Kafka was interrupted").caused_by(error)))
    }

    fn client(&self) -> &AdminClient<Quiet> {
        self.client.as_ref().expect("it is taken only by drop")
    }

    /// Checks that a broker answers.
    pub(crate) fn ping_blocking(&self) -> Result<(), BrokerError> {
        self.topics_find_blocking(&[ANY_TOPIC.to_owned()]).map(|_| ())
    }

    /// What the broker knows of `topics`.
    pub(crate) fn topics_find_blocking(&self, topics: &[String]) -> Result<HashMap<String, TopicFound>, BrokerError> {
        let timeout = self.options.answer_timeout;
        let question = Question::ask(self.client().inner(), topics, timeout)
            .map_err(|error| while_doing(format!("asking about the topics {topics:?}"), error))?;
        // librdkafka answers within the timeout by its own clock; the second half is for delivering the answer.
        let answer = question.answer(timeout * 2).ok_or_else(|| self.silent())?;
        answer.map_err(|code| match kind_of(code) {
            BrokerErrorKind::Passing => self.silent().caused_by(KafkaError::AdminOp(code)),
            kind => BrokerError::new(kind, format!("Kafka does not answer about the topics {topics:?}: {code}")),
        })
    }

    /// Creates `topics`; one that exists by now is not an error.
    pub(crate) async fn topics_create(&self, topics: &[String]) -> Result<(), BrokerError> {
        // Both numbers are far below the bound; -1 asks for the broker's default.
        let partitions = i32::try_from(self.options.partitions.get()).unwrap_or(i32::MAX);
        let replication = self.options.replication.map_or(-1, |n| i32::try_from(n.get()).unwrap_or(i32::MAX));
        let new: Vec<_> =
            topics.iter().map(|t| NewTopic::new(t, partitions, TopicReplication::Fixed(replication))).collect();
        let timeout = self.options.answer_timeout;
        // The broker answers when the topics can be used, not when it has begun to create them.
        let wait = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
        let results = self.client().create_topics(&new, &wait).await;
        for result in results.map_err(|error| while_doing(format!("creating the topics {topics:?}"), error))? {
            match result {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(BrokerError::new(kind_of(code), format!("cannot create the topic `{topic}`: {code}")));
                }
            }
        }
        Ok(())
    }

    /// The oldest offset of a partition, and the one that its next record will have.
    pub(crate) fn bounds_blocking(&self, topic: &str, partition: i32) -> Result<(i64, i64), BrokerError> {
        bounds_blocking(self.client().inner(), &self.options, topic, partition)
    }

    fn silent(&self) -> BrokerError {
        let KafkaOptions { bootstrap, answer_timeout, .. } = &self.options;
        passing(format!("no Kafka broker answers at {bootstrap} within {} s", answer_timeout.as_secs_f32()))
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop_elsewhere(self.client.take());
    }
}

/// Does what [`Admin::bounds_blocking`] does, with any client.
pub(crate) fn bounds_blocking<C: ClientContext>(
    client: &Client<C>,
    options: &KafkaOptions,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), BrokerError> {
    let deadline = Instant::now() + options.answer_timeout;
    loop {
        let error = match client.fetch_watermarks(topic, partition, options.answer_timeout) {
            Ok(bounds) => return Ok(bounds),
            Err(error) => error,
        };
        // A client that does not know a new topic or leader yet fails at once, so it is made to ask the broker.
        if Instant::now() < deadline && client.fetch_metadata(Some(topic), options.answer_timeout).is_ok() {
            thread::sleep(AGAIN);
            continue;
        }
        // The watch over the topics reports whether the topic is gone.
        let message = format!("Kafka does not report the offsets of `{topic}` [{partition}]");
        return Err(passing(message).caused_by(error));
    }
}

/// The error for an offset that the partition does not have: its records are gone, or never existed (SEMANTICS H8).
pub(crate) fn out_of_range(partition: &Partition, offset: i64, (oldest, next): (i64, i64)) -> BrokerError {
    let (topic, index) = partition;
    fatal(format!(
        "`{topic}` [{index}] should be read from offset {offset} on, but the broker has {oldest} to {next}: records \
         were deleted before they were read, or this is another topic"
    ))
}
