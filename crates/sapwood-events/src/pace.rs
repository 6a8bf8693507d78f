//! How long the tasks here wait: after failures, and until they are stopped.

use std::time::Duration;

use sapwood_core::retry::Backoff;
use tokio::sync::watch;

/// For what cannot be reached: soon at first, because most outages are short.
pub(crate) const fn outage() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
}

/// For what was refused for good: a person has to act, which takes its time.
pub(crate) const fn refusal() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
}

/// Returns once the owner of the tasks says stop, or is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever could want this task to go on.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits; `false` where stop came first.
pub(crate) async fn rest(wait: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        () = stopped(stop) => false,
        () = tokio::time::sleep(wait) => true,
    }
}
