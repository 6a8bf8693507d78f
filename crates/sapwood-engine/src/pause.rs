//! Waits between tries against a store that does not answer: short at first, doubling to a bound.

use std::time::Duration;

use sapwood_core::store::StoreError;

use crate::engine::Inner;

/// The first pause: a connection that was lost is often back at once.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause: recovery is noticed that late at most.
const LONGEST: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Pause(Duration);

impl Pause {
    pub(crate) const fn new() -> Self {
        Self(FIRST)
    }

    /// Waits because of `error`, which health shows meanwhile. Says whether to try again: not where the error does
    /// not pass, or the engine has stopped.
    pub(crate) async fn after(&mut self, engine: &Inner, error: &StoreError) -> bool {
        if !error.is_passing() || engine.is_killed() {
            return false;
        }
        engine.store_failed(error);
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST);
        true
    }
}
