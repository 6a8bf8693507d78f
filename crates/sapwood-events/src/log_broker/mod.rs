//! The store's own log as a broker: the embedded default, for contexts that share one process.
//!
//! A topic's log lives in the store of the context that owns it, so publishing needs only the context's own store, and
//! a consumer reads from the store of another context. A topic has one partition. The consumer's store keeps the
//! offsets, as with any broker; a log does not know its readers.
//!
//! ```text
//!  relay of orders ──► store of orders: log of `orders.events` ──► intake of shipping ──► store of shipping
//! ```
//!
//! Members of one group share one `LogBroker`: the first to subscribe owns the partition, and the next takes over when
//! the first is dropped. A topic of a context that is not in this process is refused, because no relay would ever fill
//! it.

mod error;
mod subscription;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind, Record, Subscription};
use sapwood_core::store::{Hint, LogRecord, Store, StoreError, StoreErrorKind};
use sapwood_engine::{Environment, SystemEnvironment};
use tokio::sync::{Semaphore, watch};

use crate::pace;
use error::{broker_error, kind_of};
use subscription::{LogSubscription, Seat};

/// How often a reader looks without a wake-up. It can be slow, because appends of this process and hints of others wake
/// a reader at once; it only finds what a lost hint missed.
const PERIOD: Duration = Duration::from_secs(5);

/// How long a call of the log's store may take; then it is given up, and whoever asked repeats it.
const ANSWER: Duration = Duration::from_secs(30);

/// The logs of the contexts in this process.
pub struct LogBroker {
    /// By the name of the context that owns the topic.
    logs: BTreeMap<String, Arc<Log>>,
    /// The log of all topics that belong to none of these contexts; `None` refuses such topics.
    rest: Option<Arc<Log>>,
    /// One permit per group and topic: its holder owns the partition.
    seats: Mutex<HashMap<(String, String), Arc<Semaphore>>>,
    /// How often readers look without a wake-up.
    period: Duration,
    /// The source of jitter.
    environment: Arc<dyn Environment>,
}

/// The log of one context.
struct Log {
    store: Arc<dyn Store>,
    /// Wakes readers after each append of this process.
    appended: watch::Sender<()>,
}

impl LogBroker {
    /// A broker over the stores of the contexts in this process, by the context's name.
    #[must_use]
    pub fn new(stores: impl IntoIterator<Item = (String, Arc<dyn Store>)>) -> Self {
        let logs = stores.into_iter().map(|(context, store)| (context, Log::of(store))).collect();
        Self::over(logs, None)
    }

    /// A broker over one store, which takes any topic.
    #[must_use]
    pub fn of_one(store: Arc<dyn Store>) -> Self {
        Self::over(BTreeMap::new(), Some(Log::of(store)))
    }

    fn over(logs: BTreeMap<String, Arc<Log>>, rest: Option<Arc<Log>>) -> Self {
        let environment = Arc::new(SystemEnvironment::default());
        Self { logs, rest, seats: Mutex::default(), period: PERIOD, environment }
    }

    /// The same broker, with another source of chance.
    #[must_use]
    pub fn with_environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.environment = environment;
        self
    }

    /// The same broker, with another period at which readers look without a wake-up.
    #[must_use]
    pub const fn with_period(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    fn log_of(&self, topic: &str) -> Result<&Arc<Log>, BrokerError> {
        let owner = owner_of(topic);
        owner.and_then(|context| self.logs.get(context)).or(self.rest.as_ref()).ok_or_else(|| {
            let message = match owner {
                None => format!("topic `{topic}` belongs to no context: its name does not end in `.events`"),
                Some(context) => format!(
                    "topic `{topic}` belongs to context `{context}`, which is not in this process (here: {}); \
                     contexts in several processes need Kafka: set SAPWOOD_BROKER=kafka://…",
                    self.contexts()
                ),
            };
            BrokerError::new(BrokerErrorKind::Refused, message)
        })
    }

    fn contexts(&self) -> String {
        self.logs.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The seat of a group at a topic. The member that holds its one permit owns the partition.
    fn seat(&self, group: &str, topic: &str) -> Result<Seat, BrokerError> {
        let log = self.log_of(topic)?;
        let mut seats = self.seats.lock();
        let free = seats.entry((group.to_owned(), topic.to_owned())).or_insert_with(|| Arc::new(Semaphore::new(1)));
        Ok(Seat::new(topic.to_owned(), Arc::clone(&log.store), log.appended.subscribe(), Arc::clone(free)))
    }
}

/// The context whose events a topic carries.
fn owner_of(topic: &str) -> Option<&str> {
    topic.strip_suffix(".events").filter(|context| !context.is_empty())
}

#[async_trait]
impl Broker for LogBroker {
    fn describe(&self) -> String {
        match &self.rest {
            Some(log) => format!("the log in {}", log.store.info().location),
            None => format!("the logs in the stores of {}", self.contexts()),
        }
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        for log in self.logs.values().chain(&self.rest) {
            pace::answered(ANSWER, log.store.ping()).await.map_err(broker_error)?;
        }
        Ok(())
    }

    async fn topics_ensure(&self, topics: &[String]) -> Result<(), BrokerError> {
        // A log exists as soon as something is appended to it.
        topics.iter().try_for_each(|topic| self.log_of(topic).map(drop))
    }

    /// Appends, with one commit per run of records of one topic. An append whose answer was lost fails as passing; if
    /// it is repeated, its records may be in the log twice, as with any broker.
    async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), BrokerError>> {
        let mut results = Vec::with_capacity(records.len());
        for run in records.chunk_by(|a, b| a.topic == b.topic) {
            match self.log_of(&run[0].topic) {
                Ok(log) => results.extend(log.append(run).await),
                Err(error) => {
                    results.extend(run.iter().map(|_| Err(BrokerError::new(error.kind(), error.to_string()))))
                }
            }
        }
        results
    }

    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn Subscription>, BrokerError> {
        let seats = topics.iter().map(|topic| self.seat(group, topic)).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(LogSubscription::new(seats, self.period, Arc::clone(&self.environment))))
    }
}

impl Log {
    fn of(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, appended: watch::Sender::new(()) })
    }

    /// Appends records of one topic.
    async fn append(&self, records: &[Record]) -> Vec<Result<(), BrokerError>> {
        let results = match self.append_all(records).await {
            Ok(()) => records.iter().map(|_| Ok(())).collect(),
            // One of them is at fault, and only that one may be refused.
            Err(error) if error.kind() == StoreErrorKind::Permanent && records.len() > 1 => {
                let mut results: Vec<Result<(), BrokerError>> = Vec::with_capacity(records.len());
                for record in records {
                    // After a passing failure nothing more is appended, because it would overtake the failed record.
                    let result = match results.last() {
                        Some(Err(error)) if error.kind() != BrokerErrorKind::Refused => {
                            Err(BrokerError::new(error.kind(), error.to_string()))
                        }
                        _ => self.append_all(std::slice::from_ref(record)).await.map_err(broker_error),
                    };
                    results.push(result);
                }
                results
            }
            Err(error) => {
                let (kind, message) = (kind_of(error.kind()), error.to_string());
                records.iter().map(|_| Err(BrokerError::new(kind, message.clone()))).collect()
            }
        };
        self.appended.send_replace(());
        self.hint(records).await;
        results
    }

    async fn append_all(&self, records: &[Record]) -> Result<(), StoreError> {
        let logged = records.iter().cloned().map(|Record { topic, key, headers, content }| LogRecord {
            topic,
            key,
            headers,
            content,
        });
        pace::answered(ANSWER, self.store.log_append(&logged.collect::<Vec<_>>())).await
    }

    /// Wakes readers in other processes. A hint may be lost, because they also look periodically.
    async fn hint(&self, records: &[Record]) {
        let Some(Record { topic, .. }) = records.first() else { return };
        if let Err(error) = self.store.hint(&[Hint::Log(topic.clone())]).await {
            tracing::debug!(topic, %error, "no hint of new events was sent to other processes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_its_owner() {
        assert_eq!(owner_of("orders.events"), Some("orders"));
        assert_eq!(owner_of("back-office.events"), Some("back-office"));
        assert_eq!(owner_of(".events"), None);
        assert_eq!(owner_of("orders"), None);
    }
}
