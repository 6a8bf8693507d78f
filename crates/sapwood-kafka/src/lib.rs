//! The broker on Apache Kafka.
//!
//! [`KafkaBroker`] is [`Broker`](sapwood_core::broker::Broker) over librdkafka. Comments beside the code say what it
//! relies on, and why:
//!
//! | room | what is there |
//! |---|---|
//! | [`config`] | the options, and every name of a librdkafka setting |
//! | `producer` | publishing: order per key, one answer per record |
//! | `subscription` | the async side of a membership |
//! | `poll_thread` | the thread that owns the consumer: polls, assigns, pauses, never runs a reader's code |
//! | `deliveries` | the bounded queue between the two |
//! | `member` | librdkafka's callbacks: rebalances |
//! | `topic_watch` | notices a topic that was deleted, or created again |
//! | `topic_id` | the broker's id of a topic; the only unsafe code |
//! | `admin` | creating topics, asking whether the broker answers |
//! | `error` | classifies librdkafka's errors |
//! | `elsewhere` | drops a librdkafka client on another thread, because its drop blocks |
//! | `quiet` | librdkafka's log lines, at a bounded rate |

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod broker;
pub mod config;
mod deliveries;
mod elsewhere;
mod error;
mod member;
mod poll_thread;
mod producer;
mod quiet;
mod subscription;
#[allow(unsafe_code)] // DescribeTopics has no safe binding in rdkafka.
mod topic_id;
mod topic_watch;

pub use broker::KafkaBroker;
pub use config::{GroupProtocol, KafkaOptions};
