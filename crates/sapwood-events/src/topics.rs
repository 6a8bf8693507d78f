//! The topics of a context: made sure of once, at its start, or as soon after that as the broker answers.
//!
//! Never again after that: a topic that vanishes later is to be seen as gone, not silently made anew (SEMANTICS H8).

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind};
use sapwood_engine::Environment;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::pace;

/// How long a start waits for the broker's answer; after that it is waited for in the background.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the topics are there, or why not yet.
pub(crate) type Ready = Result<(), String>;

/// Asks once, within the patience of a start.
///
/// # Errors
/// Where the broker refuses a topic for good.
pub(crate) async fn ensure(broker: &dyn Broker, topics: &[String]) -> Result<Ready, BrokerError> {
    match timeout(PATIENCE, broker.topics_ensure(topics)).await {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(error)) if error.kind() == BrokerErrorKind::Refused => Err(error),
        Ok(Err(error)) => Ok(Err(error.to_string())),
        Err(_) => Ok(Err("the broker does not answer".to_owned())),
    }
}

/// Asks until it is so, and tells.
pub(crate) async fn ensure_in_time(
    broker: Arc<dyn Broker>,
    environment: Arc<dyn Environment>,
    topics: Vec<String>,
    ready: watch::Sender<Ready>,
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = pace::outage();
    while ready.borrow().is_err() {
        if !pace::rest(backoff.failed(environment.fraction()), &mut stop).await {
            return;
        }
        // Refused, it is asked again too: somebody may give the permission.
        let answer = tokio::select! {
            biased;
            () = pace::stopped(&mut stop) => return,
            answer = broker.topics_ensure(&topics) => answer,
        };
        ready.send_modify(|ready| *ready = answer.map_err(|error| error.to_string()));
    }
}

/// Waits until the topics are there; `false` where stop came first. Tells of each reason why not.
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
            // Without a sender nobody will ever say yes; stop comes then.
            Ok(()) = ready.changed() => {}
        }
    }
}
