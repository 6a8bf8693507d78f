//! How the tasks of this crate wait: after failures, and until they are stopped.

use std::time::Duration;

use sapwood_core::broker::{BrokerError, BrokerErrorKind};
use sapwood_core::retry::Backoff;
use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};
use tokio::sync::watch;
use tokio::time::timeout;

/// The backoff in an outage: short at first, because most outages are short, and never so long that the end of a long
/// one is noticed late.
pub(crate) const fn outage() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
}

/// The backoff after a permanent refusal: long, because an operator has to act first.
pub(crate) const fn refusal() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
}

/// What a call of a store gives, or an error of the connection if it gives nothing in time: a network may lose an answer
/// without a word, and no call may be waited for for ever.
pub(crate) async fn answered<T>(within: Duration, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    let silence = || StoreError::new(StoreErrorKind::Connection, "the store does not answer in time");
    timeout(within, call).await.unwrap_or_else(|_| Err(silence()))
}

/// The same for a call of a broker.
pub(crate) async fn answered_by_broker<T>(
    within: Duration,
    call: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    let silence = || BrokerError::new(BrokerErrorKind::Passing, "the broker does not answer in time");
    timeout(within, call).await.unwrap_or_else(|_| Err(silence()))
}

/// Returns when the owner of the tasks asks them to stop, or is dropped.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped: the task has no owner any longer, so it ends as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits; returns `false` if the stop came first.
pub(crate) async fn rest(wait: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        () = stopped(stop) => false,
        () = tokio::time::sleep(wait) => true,
    }
}
