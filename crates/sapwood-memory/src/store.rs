//! The handle of a store in memory, and what it is.

use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use sapwood_core::clock::Clock;
use sapwood_core::store::{Hint, Store, StoreInfo, StoreResult};

use crate::handle::Handle;
use crate::state::LANES;

/// A store in memory. A clone is another handle of the same store, as another process would have it: what one commits,
/// the others see, and closing one leaves the others open. The data is gone with the last handle.
///
/// # Examples
/// Every call answers at once, so none of them needs a runtime:
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use futures::FutureExt as _;
/// use sapwood_core::clock::SystemClock;
/// use sapwood_core::store::Membership as _;
/// use sapwood_memory::MemoryStore;
///
/// let store = MemoryStore::new(Arc::new(SystemClock));
/// let another = store.clone();
/// for store in [&store, &another] {
///     let joining = store.worker_join("a worker", 1, Duration::from_secs(3), None);
///     joining.now_or_never().expect("an answer at the first poll")?;
/// }
/// # Ok::<(), sapwood_core::store::StoreError>(())
/// ```
pub struct MemoryStore {
    handle: Arc<Handle>,
}

impl MemoryStore {
    /// An empty store. What is due and what is stamped goes by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { handle: Arc::new(Handle::first(clock)) }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self { handle: Arc::new(self.handle.another()) }
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            kind: "memory",
            location: ":memory:".to_owned(),
            lanes: LANES,
            // There is one lock; more committers would only wait for it.
            committers: 1,
            durability: Vec::new(),
        }
    }

    async fn ping(&self) -> StoreResult<()> {
        self.handle.act(|_, _| Ok(()))
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        self.handle.hints()
    }

    async fn hint(&self, hints: &[Hint]) -> StoreResult<()> {
        self.handle.hint(hints)
    }

    async fn close(&self) {
        self.handle.close();
    }
}
