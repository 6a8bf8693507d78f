//! How far an engine's life has come: it runs, it drains, it has ended. Tasks await it; it has no callbacks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use sapwood_core::store::StoreError;
use tokio::sync::Notify;

/// The life of one engine. It only goes forward: running, draining, leaving, ended.
#[derive(Default)]
pub(crate) struct Life {
    /// 0 while it runs, then [`DRAINING`], [`LEAVING`], [`ENDED`]: an order, so that it can only grow.
    stage: AtomicU8,
    changed: Notify,
    /// Why it ended, if not by a drain.
    reason: OnceLock<Stopped>,
}

/// Why an engine ended, if it was not drained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// Another worker declared it dead: it fell silent for a whole lease. Its trees go on elsewhere.
    #[error("another worker declared it dead")]
    DeclaredDead,
    /// A task of the engine ended that must not.
    #[error("{task} ended: {why}")]
    Broken {
        /// The task.
        task: String,
        /// What it says.
        why: String,
    },
    /// It was killed, as a test does.
    #[error("it was killed")]
    Killed,
}

/// It starts nothing more, and releases every tree once no step of it is in flight.
const DRAINING: u8 = 1;

/// Nothing runs here any longer, and the store is told so: what it refuses from now on is no trouble.
const LEAVING: u8 = 2;

/// It does nothing more: it has left, was killed, or was declared dead.
const ENDED: u8 = 3;

impl Life {
    pub(crate) fn is_draining(&self) -> bool {
        self.stage.load(Ordering::Acquire) >= DRAINING
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.stage.load(Ordering::Acquire) >= ENDED
    }

    pub(crate) fn drain(&self) {
        self.advance(DRAINING);
    }

    pub(crate) fn end(&self) {
        self.advance(ENDED);
    }

    pub(crate) fn leave(&self) {
        self.advance(LEAVING);
    }

    /// Ends because this worker was declared dead: others have its trees. A worker that leaves is refused as well, and
    /// that is the end that it asked for.
    pub(crate) fn end_fenced(&self, error: &StoreError) {
        if self.stage.load(Ordering::Acquire) < LEAVING {
            tracing::error!("this worker was declared dead and stops: {error}");
            self.end_because(Stopped::DeclaredDead);
        }
    }

    /// Ends for a reason, of which the first counts.
    pub(crate) fn end_because(&self, reason: Stopped) {
        let _ = self.reason.set(reason);
        self.end();
    }

    /// Why it ended; `None` while it lives, and after a drain.
    pub(crate) fn reason(&self) -> Option<Stopped> {
        self.reason.get().cloned()
    }

    /// Waits until the engine drains, or has ended.
    pub(crate) async fn drains(&self) {
        self.reaches(DRAINING).await;
    }

    /// Waits until the engine has ended.
    pub(crate) async fn ends(&self) {
        self.reaches(ENDED).await;
    }

    fn advance(&self, stage: u8) {
        if self.stage.fetch_max(stage, Ordering::AcqRel) < stage {
            self.changed.notify_waiters();
        }
    }

    async fn reaches(&self, stage: u8) {
        loop {
            // Listen first, then look: a change in between is noticed.
            let changed = self.changed.notified();
            if self.stage.load(Ordering::Acquire) >= stage {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_awaited_and_is_the_end_of_draining_too() {
        let life = Life::default();
        assert!(!life.is_draining() && !life.has_ended());
        let ((), ()) = tokio::join!(life.ends(), async {
            life.drain();
            life.drains().await;
            assert!(!life.has_ended());
            life.end();
        });
        life.drain();
        assert!(life.is_draining() && life.has_ended(), "it never goes back");
        life.drains().await;
    }
}
