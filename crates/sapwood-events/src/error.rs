//! Why a choreography does not start: each tells what to change.

use sapwood_core::broker::BrokerError;

/// A choreography that cannot start. An outage is none of these: it is waited out, and shown in the health.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Two consumers would react to one event as one group, of which each event reaches one.
    #[error(
        "consumers `{first}` and `{second}` of context `{context}` both subscribe to `{cloud_type}` in group `{group}`; \
         give one of them a group of its own"
    )]
    TwoConsumers {
        /// The context.
        context: String,
        /// The group.
        group: String,
        /// The type of the event.
        cloud_type: String,
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// The broker refuses a topic that the context publishes to or subscribes to.
    #[error("context `{context}` cannot use its topics {topics:?}")]
    Topics {
        /// The context.
        context: String,
        /// The topics.
        topics: Vec<String>,
        /// What the broker says.
        #[source]
        source: BrokerError,
    },
}
