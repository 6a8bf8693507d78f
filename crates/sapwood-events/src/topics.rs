//! Makes sure that the topics of a context exist: once, at its start, or as soon after that as the broker answers.
//!
//! It is done only once, because a topic that vanishes later must be reported as gone, not silently created again
//! (SEMANTICS H8).

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind};
use sapwood_engine::Environment;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::pace;

/// How long a start waits for the broker's answer. It is enough for a broker that is up, so that a refused topic fails
/// the start; in an outage the start goes on, and the answer is awaited in the background.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the topics exist; if not yet, why.
pub(crate) type Ready = Result<(), String>;

/// Asks once, for as long as a start waits.
///
/// # Errors
/// The broker refuses a topic permanently.
pub(crate) async fn ensure(broker: &dyn Broker, topics: &[String]) -> Result<Ready, BrokerError> {
    match timeout(PATIENCE, broker.topics_ensure(topics)).await {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(error)) if error.kind() == BrokerErrorKind::Refused => Err(error),
        Ok(Err(error)) => Ok(Err(error.to_string())),
        Err(_) => Ok(Err("the broker does not answer".to_owned())),
    }
}

/// Asks until the topics exist, and reports each answer in `ready`.
pub(crate) async fn ensure_in_time(
    broker: Arc<dyn Broker>,
    environment: Arc<dyn Environment>,
    topics: Vec<String>,
    ready: watch::Sender<Ready>,
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = pace::outage();
    while ready.borrow().is_err() {
        if !pace::rest(backoff.failed(environment.jitter()), &mut stop).await {
            return;
        }
        // After a refusal it is asked again too, because an operator may grant the permission.
        let answer = tokio::select! {
            biased;
            () = pace::stopped(&mut stop) => return,
            answer = pace::answered_by_broker(PATIENCE, broker.topics_ensure(&topics)) => answer,
        };
        ready.send_modify(|ready| *ready = answer.map_err(|error| error.to_string()));
    }
}

/// Waits until the topics exist; returns `false` if the stop came first. Passes each answer to `tell`.
pub(crate) async fn are_ready(
    ready: &mut watch::Receiver<Ready>,
    stop: &mut watch::Receiver<bool>,
    tell: impl Fn(Ready),
) -> bool {
    loop {
        let now = ready.borrow_and_update().clone();
        tell(now.clone());
        if now.is_ok() {
            return true;
        }
        tokio::select! {
            biased;
            () = pace::stopped(stop) => return false,
            // If the sender is gone, no answer comes any longer, but the stop does.
            Ok(()) = ready.changed() => {}
        }
    }
}
