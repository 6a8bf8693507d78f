//! Hints among the clones of a store: within one process nothing else is needed.

use futures_core::stream::BoxStream;
use sapwood_core::store::Hint;
use std::sync::Mutex;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// Hints a slow listener may be behind; past that it misses some, as it may, and polls.
const BEHIND: usize = 1024;

/// Sends hints to all who listen.
pub(crate) struct Hints {
    /// `None` once the store is closed: then the listeners' streams end.
    sender: Mutex<Option<broadcast::Sender<Hint>>>,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self { sender: Mutex::new(Some(broadcast::Sender::new(BEHIND))) }
    }

    pub(crate) fn listen(&self) -> BoxStream<'static, Hint> {
        let receiver = self.sender().as_ref().map(broadcast::Sender::subscribe);
        match receiver {
            Some(receiver) => Box::pin(BroadcastStream::new(receiver).filter_map(Result::ok)),
            None => Box::pin(tokio_stream::empty()),
        }
    }

    pub(crate) fn tell(&self, hints: &[Hint]) {
        if let Some(sender) = self.sender().as_ref() {
            for hint in hints {
                // Nobody listening is no error.
                let _ = sender.send(hint.clone());
            }
        }
    }

    pub(crate) fn close(&self) {
        self.sender().take();
    }

    fn sender(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<Hint>>> {
        // Nothing panics while it is held, and an option cannot be half written.
        self.sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
