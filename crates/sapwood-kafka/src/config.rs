//! The options of the broker, and the only place that knows the names of librdkafka's settings.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use sapwood_core::broker::{BrokerError, BrokerErrorKind};

/// How the members of a group share its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// The classic protocol with the cooperative assignor. It is the default, because every broker since 2.4 has it,
    /// 4.x included; because it reads twice as fast with librdkafka 2.12; and because the known faults of that version
    /// are in the newer protocol.
    #[default]
    Classic,
    /// KIP-848, for brokers since 4.0: the broker assigns partitions. The members of a group may move to it together or
    /// one by one.
    Consumer,
}

/// Where Kafka is and how to use it.
///
/// ```
/// let options = sapwood_kafka::KafkaOptions::from_url("kafka://kafka-1:9092,kafka-2:9092")?;
/// assert_eq!(options.bootstrap, "kafka-1:9092,kafka-2:9092");
/// # Ok::<(), sapwood_core::broker::BrokerError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    /// The first brokers to ask, `host:port[,host:port]`.
    pub bootstrap: String,
    /// The name this client gives in the broker's logs and metrics.
    pub client_id: String,
    /// Partitions of a topic that has to be created. It bounds how many members of a group can share the topic, and
    /// raising it later moves keys to other partitions, so it should be too high rather than too low.
    pub partitions: NonZeroU32,
    /// Replicas of a topic that has to be created; `None` is the broker's own default.
    pub replication: Option<NonZeroU32>,
    /// How the members of a group share its partitions.
    pub group_protocol: GroupProtocol,
    /// How long a member may be silent before its partitions go to others. The partitions of a dead process wait this
    /// long; with a shorter time, a member on a busy network is taken for dead.
    pub session_timeout: Duration,
    /// How long a question to the broker may take (`ping`, creating topics, looking up offsets).
    pub answer_timeout: Duration,
    /// Further settings of librdkafka by their own names, such as `sasl.username`. They cannot override the settings
    /// that the promises of this crate depend on.
    pub settings: BTreeMap<String, String>,
}

impl KafkaOptions {
    /// The default options for the brokers at `bootstrap`.
    #[must_use]
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            client_id: "sapwood".to_owned(),
            partitions: const { NonZeroU32::new(4).expect("is not zero") },
            replication: None,
            group_protocol: GroupProtocol::default(),
            session_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(5),
            settings: BTreeMap::new(),
        }
    }

    /// Reads `kafka://host[:port][,host[:port]]`; the port is 9092 if the URL has none.
    ///
    /// # Errors
    /// The text is not such a URL; the error says what is wrong with it.
    pub fn from_url(url: &str) -> Result<Self, BrokerError> {
        let refuse = |why: &str| {
            let message = format!("the broker's URL {why}; expected kafka://host:port[,host:port]");
            BrokerError::new(BrokerErrorKind::Refused, message)
        };
        let hosts = url.strip_prefix("kafka://").ok_or_else(|| refuse("does not begin with kafka://"))?;
        let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
        // These errors do not repeat the URL, because the text before an `@` may be a password.
        if hosts.contains('@') {
            return Err(refuse("contains a user, which belongs in the settings"));
        }
        if hosts.contains(['/', '?', '#']) {
            return Err(refuse("contains more than hosts"));
        }
        let brokers = hosts.split(',').map(|host| address(host.trim()).ok_or(host));
        let brokers: Vec<_> = brokers
            .collect::<Result<_, _>>()
            .map_err(|host| refuse(&format!("has the host `{host}`, which is not valid")))?;
        Ok(Self::new(brokers.join(",")))
    }

    /// The settings of the client that creates topics and asks questions.
    pub(crate) fn admin(&self) -> ClientConfig {
        self.client()
    }

    /// The settings of the producer.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            // Retries neither duplicate nor reorder.
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A record waits for the broker as long as necessary: the relay decides when to stop, because it has the
            // outbox.
            .set("message.timeout.ms", "0")
            // When the broker refuses a batch, no later batch of that partition passes until `producer` has seen the
            // refusal and decided what to send again. Without this setting later batches pass meanwhile, and a record
            // that was refused only because of another one in its batch could not be sent again in order.
            .set("enable.gapless.guarantee", "true")
            // The hash of the Java clients, so that a key has the same partition with every client.
            .set("partitioner", "murmur2_random")
            // Long enough to gather the records of concurrent publishes into one batch, too short to be noticed.
            .set("linger.ms", "1")
            .set("compression.codec", "lz4")
            // How long a topic may be unknown before its records are refused: not every broker knows a new topic at
            // once.
            .set("topic.metadata.propagation.max.ms", "5000")
            // Memory for unacknowledged records; when it is full, a publish waits.
            .set("queue.buffering.max.kbytes", "65536");
        config
    }

    /// The settings of a member of `group`.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            // The offsets that count are in the store; only offsets that it has are committed to Kafka.
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Every partition begins at an offset that the store or the broker gave. If it no longer exists, records
            // are lost, which must be reported and not skipped.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            // Topics and partitions that appear later are found within this time.
            .set("topic.metadata.refresh.interval.ms", "10000")
            // A partition that has just begun is in the next request for records, so a request without records must end
            // soon.
            .set("fetch.wait.max.ms", "100")
            // A pause discards what was fetched ahead, so little is fetched ahead, and a full queue is checked again
            // soon.
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", "20");
        match self.group_protocol {
            GroupProtocol::Classic => config
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                // Members learn of a rebalance from the answer to a heartbeat, so these are frequent.
                .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
                .set("heartbeat.interval.ms", (self.session_timeout / 10).as_millis().to_string()),
            // With this protocol the broker sets the timeouts, and refuses a client that sets them.
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
        };
        config
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.settings {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            // After an outage, work goes on within about a second.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("socket.keepalive.enable", "true")
            // Brokers close idle connections, which is normal.
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("bootstrap", &self.bootstrap)
            .field("client_id", &self.client_id)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("group_protocol", &self.group_protocol)
            .field("session_timeout", &self.session_timeout)
            .field("answer_timeout", &self.answer_timeout)
            // Only the names, because a value may be a password.
            .field("settings", &self.settings.keys())
            .finish()
    }
}

/// `host:port` of a host with or without a port.
fn address(host: &str) -> Option<String> {
    // An IPv6 address is in brackets, as in every URL.
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, "")) => (host, None),
        Some((inside, port)) => (&host[..inside.len() + 2], Some(port.strip_prefix(':')?)),
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map_or(Ok(9092), str::parse::<u16>).ok()?;
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_its_brokers() {
        let bootstrap = |url: &str| KafkaOptions::from_url(url).map(|options| options.bootstrap);
        assert_eq!(bootstrap("kafka://a:1,b:2").unwrap(), "a:1,b:2");
        assert_eq!(bootstrap("kafka://a").unwrap(), "a:9092");
        assert_eq!(bootstrap("kafka://[::1]:9093/").unwrap(), "[::1]:9093");
        assert_eq!(bootstrap("kafka://[::1]").unwrap(), "[::1]:9092");
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_its_secrets() {
        for url in ["", "http://a:1", "kafka://", "kafka://a:x", "kafka://a:1,,b:1", "kafka://a:1/topic", "kafka://a b"]
        {
            let error = KafkaOptions::from_url(url).unwrap_err();
            assert_eq!(error.kind(), BrokerErrorKind::Refused, "{url}");
        }
        let error = KafkaOptions::from_url("kafka://joe:secret@a:1").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn further_settings_do_not_change_what_promises_rest_on() {
        let mut options = KafkaOptions::new("a:1");
        options.settings.insert("acks".to_owned(), "1".to_owned());
        options.settings.insert("sasl.username".to_owned(), "joe".to_owned());
        assert_eq!(options.producer().get("acks"), Some("all"));
        assert_eq!(options.producer().get("sasl.username"), Some("joe"));
        assert!(!format!("{options:?}").contains("joe"), "values are not shown");
    }

    #[test]
    fn librdkafka_takes_the_settings() {
        for group_protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
            let options = KafkaOptions { group_protocol, ..KafkaOptions::new("127.0.0.1:1") };
            options.producer().create_native_config().unwrap();
            options.consumer("group").create_native_config().unwrap();
        }
    }
}
