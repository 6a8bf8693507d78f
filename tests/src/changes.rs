//! What tells a test that its stores have changed, so that it need not ask again and again; and what keeps claims apart
//! from a jump of the clock.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{RwLock, watch};

use crate::wait::within;

/// How often `look` runs without being told: a call that was given up may still change the store without telling.
const LOOK: Duration = Duration::from_secs(1);

/// The changes of one test's place, whichever of its processes makes them.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    told: watch::Sender<()>,
    /// Read by each claim, written by a jump of the clock.
    claims: Arc<RwLock<()>>,
    /// Is called at each change, before anything else happens.
    look: Arc<OnceLock<Look>>,
}

struct Look(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

impl Changes {
    /// Something has changed.
    pub fn tell(&self) {
        self.look();
        self.told.send_replace(());
    }

    /// Lets what looks at each change look now, though nothing has changed.
    pub fn look(&self) {
        if let Some(Look(look)) = self.look.get() {
            look();
        }
    }

    /// Lets `look` see each change when it has been made, before anything else happens. Only the first one is.
    pub fn at_each(&self, look: impl Fn() + Send + Sync + 'static) {
        let _ = self.look.set(Look(Box::new(look)));
    }

    /// Tells when what is returned is dropped: at the end of a call, also of one that was given up.
    #[must_use]
    pub fn tell_at_the_end(&self) -> impl Drop + use<> {
        AtTheEnd(self.clone())
    }

    /// Claims while the clock does not jump.
    pub async fn claiming<T>(&self, claim: impl Future<Output = T>) -> T {
        let _no_jump = self.claims.read().await;
        claim.await
    }

    /// Lets the clock jump while nothing is claimed. A worker that claimed by the new time before it knew that time would
    /// begin the next sleep by the old one.
    pub async fn jump<T>(&self, jump: impl Future<Output = T>) -> T {
        let _no_claim = self.claims.write().await;
        jump.await
    }

    /// What `look` sees, once it sees something. It looks now, and after each change.
    pub async fn seen<T>(&self, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let mut told = self.told.subscribe();
        loop {
            told.mark_unchanged();
            if let Some(seen) = look().await {
                return seen;
            }
            // An error of the channel would mean that this sender is gone.
            let _ = tokio::time::timeout(LOOK, told.changed()).await;
        }
    }

    /// Waits until it is so.
    ///
    /// # Panics
    /// If it never is.
    pub async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        within(what, self.seen(async || is_so().await.then_some(()))).await;
    }
}

struct AtTheEnd(Changes);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        self.0.tell();
    }
}
