//! Hints among the clones of a store; one process has the database, so nothing else is needed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_core::stream::BoxStream;
use sapwood_core::store::Hint;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// Hints that a slow listener may be behind. Past it the oldest are lost, which hints may be.
const BEHIND: usize = 1024;

/// The hints of one store.
pub(crate) struct Hints {
    /// None once the store is closed, which ends the streams.
    sender: Mutex<Option<broadcast::Sender<Hint>>>,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self { sender: Mutex::new(Some(broadcast::Sender::new(BEHIND))) }
    }

    /// All hints from now on.
    pub(crate) fn subscribe(&self) -> BoxStream<'static, Hint> {
        let receiver = self.sender().as_ref().map(broadcast::Sender::subscribe);
        match receiver {
            Some(receiver) => Box::pin(BroadcastStream::new(receiver).filter_map(Result::ok)),
            None => Box::pin(tokio_stream::empty()),
        }
    }

    /// Sends hints.
    pub(crate) fn notify(&self, hints: &[Hint]) {
        if let Some(sender) = self.sender().as_ref() {
            for hint in hints {
                // It fails only if there is no stream just now: streams come and go.
                let _ = sender.send(hint.clone());
            }
        }
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        self.sender().take();
    }

    /// Nothing panics while the lock is held, so what a poisoned lock guards is whole.
    fn sender(&self) -> MutexGuard<'_, Option<broadcast::Sender<Hint>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
