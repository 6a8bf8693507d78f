//! Why a choreography does not start; each error says what to change.

use sapwood_core::broker::BrokerError;

/// Why a choreography cannot start. An outage is not among these: the choreography starts, waits until the outage is
/// over, and shows it in its health.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Two consumers of one group subscribe to one event, but each event of a group reaches one consumer only.
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
        /// One of the consumers.
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
        /// The broker's reason.
        #[source]
        source: BrokerError,
    },
}
