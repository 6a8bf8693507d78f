//! A store that does not answer: what health shows of it, and the pauses between attempts.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood_core::retry::Backoff;
use sapwood_core::store::{StoreError, StoreResult};

use crate::environment::Environment;
use crate::life::Life;

/// The first pause: a lost connection can often be opened again at once.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause: the end of an outage is noticed at most this much later.
const LONGEST: Duration = Duration::from_secs(1);

/// Whether the store answers, as far as this engine knows.
pub(crate) struct Outage {
    /// Once it has ended, the store is no longer asked.
    life: Arc<Life>,
    /// Gives the jitter of the pauses.
    environment: Arc<dyn Environment>,
    /// The store's last passing error, until it answers again.
    error: Mutex<Option<String>>,
}

impl Outage {
    pub(crate) fn new(life: Arc<Life>, environment: Arc<dyn Environment>) -> Self {
        Self { life, environment, error: Mutex::default() }
    }

    /// The store's last error, until it answers again.
    pub(crate) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    /// The store failed with a passing error; health shows it until the store answers.
    pub(crate) fn failed(&self, error: &StoreError) {
        let mut last = self.error.lock();
        if last.is_none() {
            tracing::warn!("the store does not answer: {error}");
        }
        *last = Some(error.to_string());
    }

    /// The store answered.
    pub(crate) fn answered(&self) {
        if self.error.lock().take().is_some() {
            tracing::info!("the store answers again");
        }
    }

    /// The pauses of one call that is repeated until it succeeds.
    pub(crate) fn pause(&self) -> Pause<'_> {
        Pause { outage: self, backoff: Backoff::new(FIRST, LONGEST) }
    }

    /// Asks until the store answers, or its error does not pass, or the engine has ended.
    pub(crate) async fn outlast<T, A>(&self, mut ask: impl FnMut() -> A) -> StoreResult<T>
    where
        A: Future<Output = StoreResult<T>>,
    {
        let mut pause = self.pause();
        loop {
            match ask().await {
                Err(error) if pause.after(&error).await => {}
                answer => return answer,
            }
        }
    }
}

/// The pauses between attempts of one call.
pub(crate) struct Pause<'o> {
    outage: &'o Outage,
    backoff: Backoff,
}

impl Pause<'_> {
    /// Waits because of `error`, which health shows meanwhile. Returns whether to send the call again: not if the error
    /// does not pass, or the engine has ended.
    pub(crate) async fn after(&mut self, error: &StoreError) -> bool {
        if !error.is_passing() || self.outage.life.has_ended() {
            return false;
        }
        self.outage.failed(error);
        tokio::time::sleep(self.backoff.failed(self.outage.environment.fraction())).await;
        true
    }
}
