//! The broker on a real Kafka, with other people's clients beside it.
//!
//! The cases run on the broker that the environment names. librdkafka's mock broker stands in only if a real one
//! cannot be made to fail at will.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join, join_all};
use futures::poll;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind, Delivery, Record};
use sapwood_kafka::{GroupProtocol, KafkaBroker, KafkaOptions};
use sapwood_tests::conformance::broker::reader::{Reader, assert_ordered_by_key, numbers, sorted_numbers};
use sapwood_tests::conformance::broker::{
    Features, fresh_group, fresh_topic, numbered, numbered_over_keys, publish_all,
};
use sapwood_tests::kafka::{bootstrap, kafka_url, kcat};
use sapwood_tests::sqlite::TestFile;
use sapwood_tests::wait::PATIENCE;

const FEATURES: Features = Features { partitions: 4, refused_bytes: Some(2_000_000) };

fn options() -> KafkaOptions {
    let options = KafkaOptions::from_url(&kafka_url()).expect("kafka://host:port");
    // A machine that compiles something meanwhile makes the broker slow.
    KafkaOptions { answer_timeout: PATIENCE, ..options }
}

fn connect(options: KafkaOptions) -> Arc<dyn Broker> {
    Arc::new(KafkaBroker::connect(options).expect("the options are good"))
}

async fn fixture() -> (Arc<dyn Broker>, Features, ()) {
    (connect(options()), FEATURES, ())
}

sapwood_tests::on_a_broker!(kafka fixture);

/// The same on the protocol in which the broker assigns.
mod with_the_newer_group_protocol {
    use super::{Arc, Broker, FEATURES, Features, GroupProtocol, KafkaOptions, connect, options};

    async fn fixture() -> (Arc<dyn Broker>, Features, ()) {
        (connect(KafkaOptions { group_protocol: GroupProtocol::Consumer, ..options() }), FEATURES, ())
    }

    sapwood_tests::on_a_broker!(kafka fixture);
}

/// E7: what we publish is plain Kafka: another client reads key, headers and content.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn a_foreign_client_reads_what_we_publish() {
    let broker = connect(options());
    let topic = fresh_topic(&broker).await;
    publish_all(&broker, (0..3).map(|n| numbered(&topic, "order-1", n)).collect()).await;
    let read = kcat(&["-C", "-t", &topic, "-o", "beginning", "-e", "-q", "-f", "%k|%h|%s\\n"]).run().well();
    assert_eq!(read, "order-1|ce_id=order-1/0|0\norder-1|ce_id=order-1/1|1\norder-1|ce_id=order-1/2|2");
}

/// E7: a foreign producer's records come through, with headers or without, also if they have no key and no content.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn a_foreign_producers_records_are_delivered() {
    let broker = connect(options());
    let topic = fresh_topic(&broker).await;
    produce(&["-t", &topic, "-p", "0"], "neither key nor header\n");
    produce(&["-t", &topic, "-p", "0", "-K", "|", "-H", "ce_id=7", "-H", "ce_type=a.b.v1"], "order-7|{}\n");
    // `-Z` makes an empty content none at all: a tombstone.
    produce(&["-t", &topic, "-p", "0", "-K", "|", "-Z"], "order-7|\n");

    let read = Reader::join(&broker, &fresh_group(), &[&topic]).await.read(3).await;

    assert_eq!((read[0].key.as_ref(), read[0].headers.len()), (None, 0));
    assert_eq!(read[0].content, "neither key nor header");
    assert_eq!(read[1].key.as_deref(), Some(&b"order-7"[..]));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(read[1].headers, [header("ce_id", "7"), header("ce_type", "a.b.v1")]);
    assert_eq!(read[1].content, "{}");
    assert_eq!((read[2].key.as_deref(), read[2].content.len()), (Some(&b"order-7"[..]), 0));
}

/// E4: a key has the partition that Java's clients give it, so that other producers may write to the same topic.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn a_key_has_the_partition_of_javas_hash() {
    let broker = connect(options());
    let topic = fresh_topic(&broker).await;
    let keys = ["21", "foobar", "a-little-bit-long-string"];
    publish_all(&broker, keys.iter().enumerate().map(|(n, key)| numbered(&topic, key, n)).collect()).await;
    let read = Reader::join(&broker, &fresh_group(), &[&topic]).await.read(keys.len()).await;
    // The hashes stand in the tests of Kafka's own murmur2: -973932308, -790332482, -985981536; positive, modulo 4.
    let hashes = BTreeMap::from([("21", -973_932_308_i32), ("foobar", -790_332_482), (keys[2], -985_981_536)]);
    for record in read {
        let key = record.key.expect("a key");
        let hash = hashes[std::str::from_utf8(&key).expect("text")];
        assert_eq!(record.partition, (hash & 0x7fff_ffff) % 4, "{key:?}");
    }
}

/// E4: publishes that wait together keep the order of their calls.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn publishes_keep_the_order_of_their_calls_also_where_there_is_no_room() {
    let mut options = options();
    options.settings.insert("queue.buffering.max.messages".to_owned(), "10".to_owned());
    let broker = connect(options);
    let topic = fresh_topic(&broker).await;
    let publishes = (0..20).map(|n| publish_all(&broker, numbered_over_keys(&topic, n * 50..n * 50 + 50)));
    join_all(publishes).await;
    let read = Reader::join(&broker, &fresh_group(), &[&topic]).await.read(1_000).await;
    assert_ordered_by_key(&read);
    assert_eq!(sorted_numbers(&read), (0..1_000).collect::<Vec<_>>());
}

/// E4: if the broker itself refuses a batch, only the record that is to blame is refused, and the order stays.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn a_batch_that_the_broker_refuses_costs_only_the_record_to_blame() {
    let broker = connect(options());
    let (narrow, wide) = (format!("{}.narrow", fresh_group()), fresh_topic(&broker).await);
    let topic = NewTopic::new(&narrow, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "2000");
    admin().create_topics([&topic], &AdminOptions::new()).await.expect("an answer")[0].as_ref().expect("created");

    let mut records: Vec<_> = (0..30).map(|n| numbered(&narrow, "key", n)).collect();
    records[10].content = noise(4_000, 10);
    let (answers, ()) = join(broker.publish(records), publish_all(&broker, numbered_over_keys(&wide, 0..100))).await;

    let refused: Vec<_> = answers.iter().enumerate().filter_map(|(n, a)| Some((n, a.as_ref().err()?.kind()))).collect();
    assert_eq!(refused, [(10, BrokerErrorKind::Refused)], "{answers:?}");
    publish_all(&broker, vec![numbered(&narrow, "key", 30)]).await;
    let read = Reader::join(&broker, &fresh_group(), &[&narrow]).await.read(30).await;
    assert_eq!(numbers(&read), (0..31).filter(|n| *n != 10).collect::<Vec<_>>());
    let read = Reader::join(&broker, &fresh_group(), &[&wide]).await.read(100).await;
    assert_ordered_by_key(&read);
}

/// E4: a topic that is not there refuses its own records and no others.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn a_record_for_no_topic_is_refused_and_the_others_go_through() {
    let broker = connect(options());
    let topic = fresh_topic(&broker).await;
    let answers = broker.publish(vec![numbered("there-is-no.events", "key", 0), numbered(&topic, "key", 1)]).await;
    let error = answers[0].as_ref().expect_err("there is no such topic");
    assert_eq!(error.kind(), BrokerErrorKind::Refused);
    assert!(error.to_string().contains("there-is-no.events"), "{error}");
    assert!(answers[1].is_ok());
}

/// H4: records of a transaction that was aborted are not delivered, and the gaps they leave mean nothing.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn only_what_is_committed_is_delivered() {
    let broker = connect(options());
    let topic = fresh_topic(&broker).await;
    let to = topic.clone();
    tokio::task::spawn_blocking(move || {
        let mut config = client_config();
        let producer: BaseProducer = config.set("transactional.id", fresh_group()).create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("transactions");
        for (n, commits) in [true, false, true].into_iter().enumerate() {
            producer.begin_transaction().expect("a transaction");
            let content = n.to_string();
            producer.send(BaseRecord::to(&to).key("key").payload(&content)).map_err(|(error, _)| error).expect("sent");
            producer.flush(PATIENCE).expect("delivered");
            if commits { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) }
                .expect("ended");
        }
    })
    .await
    .expect("the transactions ran");
    let read = Reader::join(&broker, &fresh_group(), &[&topic]).await.read(2).await;
    assert_eq!(numbers(&read), [0, 2]);
    assert!(read[1].offset > read[0].offset + 1, "markers and aborted records have offsets: {read:?}");
}

/// H8: a topic that is deleted while it is read stops its reader; so does one that was created again.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn a_topic_that_is_gone_or_another_one_stops_its_reader() {
    for again in [false, true] {
        let broker = connect(options());
        let topic = fresh_topic(&broker).await;
        publish_all(&broker, numbered_over_keys(&topic, 0..20)).await;
        let mut reader = Reader::join(&broker, &fresh_group(), &[&topic]).await;
        reader.read(20).await;
        let id = reader.assigned[0].topic_id.clone();
        assert!(id.is_some() && reader.assigned.len() == FEATURES.partitions);

        let deleted = admin().delete_topics(&[&topic], &AdminOptions::new()).await.expect("an answer");
        deleted[0].as_ref().expect("deleted");
        if again {
            topic_again(&broker, &topic, id).await;
            publish_all(&broker, numbered_over_keys(&topic, 0..40)).await;
        }

        let error = fatal_error(&mut reader).await;
        assert!(error.to_string().contains(&topic), "{error}");
    }
}

/// H8: records that retention drops before they are read stop the reader, at the beginning and on the way.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
async fn records_dropped_before_they_are_read_are_reported() {
    let broker = connect(options());
    let topic = fresh_topic(&broker).await;
    let mut reader = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    reader.assigned(FEATURES.partitions).await;
    let assigned = reader.assigned.clone();
    reader.begin(&assigned).await.expect("reading begins");
    // 60 MB: more than the reader takes ahead, so that it has to come back for what is dropped.
    for round in 0..12_u64 {
        let large = |n| Record { content: noise(10_000, round * 500 + n), ..numbered(&topic, "key", 0) };
        publish_all(&broker, (0..500).map(large).collect()).await;
    }
    let Ok(Delivery::Batch(first)) = reader.next().await else { panic!("records") };
    let (partition, kept) = (first[0].partition, 5_990);
    let mut until = TopicPartitionList::new();
    until.add_partition_offset(&topic, partition, Offset::Offset(kept)).expect("an offset");
    let dropped = admin().delete_records(&until, &AdminOptions::new()).await.expect("an answer");
    dropped.elements()[0].error().expect("dropped");

    let error = fatal_error(&mut reader).await;
    assert!(error.to_string().contains(&format!("`{topic}` [{partition}]")), "{error}");
    assert!(error.to_string().contains(&kept.to_string()), "{error}");

    let mut late = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    late.positions.insert((topic.clone(), partition), 5);
    late.assigned(FEATURES.partitions).await;
    let error = late.begin(&assigned).await.expect_err("offset 5 is gone");
    assert_eq!(error.kind(), BrokerErrorKind::Fatal);
    assert!(error.to_string().contains(&topic), "{error}");
}

/// E4: a retriable error of the broker is retried unseen, and the order stays.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_pass_are_absorbed_and_the_order_stays() {
    let (mock, broker) = mocked();
    let topic = "orders.events";
    mock.create_topic(topic, 1, 1).expect("a topic");
    publish_all(&broker, vec![numbered(topic, "key", 0)]).await;
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    };
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        ],
    );
    let publishes = (0..10).map(|n| publish_all(&broker, vec![numbered(topic, "key", n + 1)]));
    join_all(publishes).await;
    assert_eq!(read_from(&mock, topic, 11).await, (0..11).collect::<Vec<_>>());
}

/// E4: a record that is refused only for its company goes through by itself, and the order stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_refused_for_its_company_goes_through_record_by_record() {
    let (mock, broker) = mocked();
    let topic = "orders.events";
    mock.create_topic(topic, 1, 1).expect("a topic");
    publish_all(&broker, vec![numbered(topic, "key", 0)]).await;
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    publish_all(&broker, (1..20).map(|n| numbered(topic, "key", n)).collect()).await;
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    publish_all(&broker, vec![numbered(topic, "key", 20)]).await;
    assert_eq!(read_from(&mock, topic, 21).await, (0..21).collect::<Vec<_>>());
}

/// E4: while the broker is away a publish waits, and goes through when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_waits_for_a_broker_that_is_away() {
    let (mock, broker) = mocked();
    let topic = "orders.events";
    mock.create_topic(topic, 1, 1).expect("a topic");
    publish_all(&broker, vec![numbered(topic, "key", 0)]).await;
    mock.broker_down(1).expect("down");
    let mut publish = std::pin::pin!(publish_all(&broker, vec![numbered(topic, "key", 1)]));
    assert!(poll!(publish.as_mut()).is_pending());
    let error = broker.ping().await.expect_err("nothing answers");
    assert_eq!(error.kind(), BrokerErrorKind::Passing);
    mock.broker_up(1).expect("up");
    publish.await;
    assert_eq!(read_from(&mock, topic, 2).await, [0, 1]);
}

/// G2: a broker that cannot be reached is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_be_reached_is_named() {
    let quickly = Duration::from_millis(300);
    let broker = connect(KafkaOptions { answer_timeout: quickly, ..KafkaOptions::new("127.0.0.1:1") });
    let topics = ["orders.events".to_owned()];
    for answer in [broker.ping().await, broker.topics_ensure(&topics).await] {
        let error = answer.expect_err("nothing is there");
        assert_eq!(error.kind(), BrokerErrorKind::Passing);
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}

fn client_config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    config
}

fn admin() -> AdminClient<DefaultClientContext> {
    client_config().create().expect("a client")
}

/// Bytes that no compression makes fewer.
fn noise(count: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Lets the foreign client send these lines, each a record.
fn produce(arguments: &[&str], lines: &str) {
    let file = TestFile::fresh();
    std::fs::write(file.path(), lines).expect("a file is written");
    let _ = kcat(arguments).arguments(["-P", "-l"]).arguments([file.path()]).run().well();
}

/// The error that ends a subscription.
async fn fatal_error(reader: &mut Reader) -> BrokerError {
    loop {
        if let Err(error) = reader.next().await {
            assert_eq!(error.kind(), BrokerErrorKind::Fatal, "{error}");
            return error;
        }
    }
}

/// Creates a topic that was just deleted, which the broker may not have forgotten yet.
async fn topic_again(broker: &Arc<dyn Broker>, topic: &str, old: Option<String>) {
    loop {
        broker.topics_ensure(&[topic.to_owned()]).await.expect("created");
        let mut reader = Reader::join(broker, &fresh_group(), &[topic]).await;
        reader.assigned(FEATURES.partitions).await;
        if reader.assigned[0].topic_id != old {
            return;
        }
    }
}

fn mocked() -> (MockCluster<'static, DefaultMock>, Arc<dyn Broker>) {
    let mock = MockCluster::new(1).expect("a mock broker");
    let options =
        KafkaOptions { answer_timeout: Duration::from_millis(500), ..KafkaOptions::new(mock.bootstrap_servers()) };
    (mock, connect(options))
}

type DefaultMock = rdkafka::producer::DefaultProducerContext;

/// Reads a topic of one partition from a mock broker, which does not serve groups.
async fn read_from(mock: &MockCluster<'static, DefaultMock>, topic: &'static str, count: usize) -> Vec<usize> {
    use rdkafka::Message;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", mock.bootstrap_servers()).set("group.id", "reads");
    let read = move || {
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
        consumer.assign(&from).expect("assigned");
        let records = consumer.iter().map(|record| record.expect("a record").detach()).take(count);
        records
            .map(|record| String::from_utf8_lossy(record.payload().unwrap_or_default()).parse().expect("a number"))
            .collect()
    };
    tokio::task::spawn_blocking(read).await.expect("read")
}
