//! One handle of a store: what its clones share, and whether this one is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_core::stream::BoxStream;
use jiff::Timestamp;
use parking_lot::Mutex;
use sapwood_core::clock::Clock;
use sapwood_core::store::{Hint, StoreResult};

use crate::error::closed;
use crate::hints::Hints;
use crate::state::State;
use crate::time::stored;

/// What acts on the state for one handle, and for the committers, starters and leases that came from it.
pub(crate) struct Handle {
    shared: Arc<Shared>,
    /// Tells its listeners from those of other handles.
    number: u64,
    is_closed: AtomicBool,
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    hints: Hints,
    /// Handles that there ever were.
    handles: AtomicU64,
}

impl Handle {
    /// The first handle of an empty store.
    pub(crate) fn first(clock: Arc<dyn Clock>) -> Self {
        let shared =
            Shared { clock, state: Mutex::new(State::empty()), hints: Hints::default(), handles: AtomicU64::new(0) };
        Self::of(Arc::new(shared))
    }

    /// Another handle of the same store.
    pub(crate) fn another(&self) -> Self {
        Self::of(Arc::clone(&self.shared))
    }

    fn of(shared: Arc<Shared>) -> Self {
        let number = shared.handles.fetch_add(1, Ordering::Relaxed);
        Self { shared, number, is_closed: AtomicBool::new(false) }
    }

    /// Does one thing with the state, as of now. Others come before it or after it.
    pub(crate) fn act<T>(&self, work: impl FnOnce(&mut State, Timestamp) -> StoreResult<T>) -> StoreResult<T> {
        self.require_open()?;
        // The clock is the maker's, so it is not read under the lock.
        let now = stored(self.shared.clock.now());
        work(&mut self.shared.state.lock(), now)
    }

    pub(crate) fn hints(&self) -> BoxStream<'static, Hint> {
        self.shared.hints.listen(self.number, !self.is_closed())
    }

    pub(crate) fn hint(&self, hints: &[Hint]) -> StoreResult<()> {
        self.require_open()?;
        self.shared.hints.give(hints);
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.shared.hints.end(self.number);
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn require_open(&self) -> StoreResult<()> {
        if self.is_closed() { Err(closed()) } else { Ok(()) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
