//! The broker on Apache Kafka.
//!
//! [`KafkaBroker`] is [`Broker`](sapwood_core::broker::Broker) over librdkafka. What it relies on, and why, stands
//! beside the code:
//!
//! | room | what is there |
//! |---|---|
//! | [`config`] | the options, and every name of a librdkafka setting |
//! | `producer` | publishing: order per key, one answer a record |
//! | `subscription` | a membership as async code sees it |
//! | `poll_thread` | the thread that owns the consumer: polls, assigns, pauses, never runs anybody else's code |
//! | `deliveries` | the bounded queue between the two |
//! | `member` | what librdkafka calls back: rebalances |
//! | `topic_watch` | notices a topic that is gone, or another one |
//! | `topic_id` | the broker's id of a topic; the only unsafe code |
//! | `admin` | creating topics, asking whether the broker answers |
//! | `error` | what an error of librdkafka asks for |
//! | `elsewhere` | dropping what waits when it is dropped |
//! | `quiet` | librdkafka's log lines, without the flood |

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
