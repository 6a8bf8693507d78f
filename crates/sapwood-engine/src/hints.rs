//! Hints across the processes of a store: heard as they come, told coalesced, and never part of a commit of trees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use sapwood_core::store::Hint;
use tokio::sync::Notify;

use crate::engine::Inner;

/// How long hints are gathered: a busy worker tells others so often at most.
const GATHER: Duration = Duration::from_millis(50);

/// What is to be told.
#[derive(Default)]
pub(crate) struct Hinter {
    settled: AtomicBool,
    emitted: AtomicBool,
    raised: Notify,
}

impl Hinter {
    /// A tree has settled.
    pub(crate) fn settled(&self) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.raised.notify_one();
        }
    }

    /// Events were committed here: whoever publishes their lanes may be elsewhere.
    pub(crate) fn emitted(&self) {
        if !self.emitted.swap(true, Ordering::AcqRel) {
            self.raised.notify_one();
        }
    }

    fn take(&self) -> Vec<Hint> {
        let settled = self.settled.swap(false, Ordering::AcqRel).then_some(Hint::Settled);
        let emitted = self.emitted.swap(false, Ordering::AcqRel).then_some(Hint::Outbox);
        settled.into_iter().chain(emitted).collect()
    }
}

/// Hears until the store closes.
pub(crate) async fn listen(engine: Arc<Inner>) {
    let mut hints = engine.store().hints();
    while let Some(hint) = hints.next().await {
        match hint {
            Hint::Ready => engine.claim_signal.raise(),
            Hint::Outbox => engine.outbox_signal().notify_one(),
            Hint::Settled => engine.look_again(),
            Hint::Log(_) => {}
        }
    }
}

/// Tells until the engine stops.
pub(crate) async fn tell(engine: Arc<Inner>) {
    loop {
        engine.hinter.raised.notified().await;
        tokio::time::sleep(GATHER).await;
        let hints = engine.hinter.take();
        // A hint that is not told costs others a poll.
        if !hints.is_empty()
            && let Err(error) = engine.store().hint(&hints).await
        {
            tracing::debug!("hints were not told: {error}");
        }
    }
}
