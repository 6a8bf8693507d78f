//! The worker's lease: renewed on a thread of its own, so that nothing the worker does can starve it.
//!
//! A lease says for how long the others believe that this worker is alive. It is a length of time, and each side counts
//! it on a clock of its own:
//!
//! ```text
//!   the database     ├──────── lease ────────┤ after this, another worker may bury this one
//!                    ▲
//!   renewal ────sent─┴──answered
//!                │
//!   this worker  ├────── lease less a margin ──────┤ after this, it starts no side effect
//! ```
//!
//! - This worker counts from the moment it *sent* the renewal: the database may have counted from then. So its own
//!   count is over before the database's is, and a step never starts while another worker may own the tree.
//! - A worker that renews late starts no side effect ([`LeaseWatch::is_good`]); one that was declared dead stops.
//! - A worker declares another dead only after one full lease of its own unbroken renewals: an outage of the database,
//!   which every worker sees, then buries none. A renewal that was slow breaks the row: it is a sign of a stall that the
//!   others may share, and their renewals may be on their way.
//! - The fence decides, not the lease: every commit names a fence, which a burial closes. The lease only keeps side
//!   effects of two owners apart in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sapwood_core::WorkerId;
use sapwood_core::store::{Lease, Store, StoreErrorKind};

use crate::due::Due;
use crate::environment::Environment;
use crate::life::Life;
use crate::outage::Outage;

/// The part of a lease for which it is good. The rest is the margin in which a side effect that began just before the
/// end gets under way, before others may believe this worker dead: 0.6 s of the default lease.
const GOOD_FOR: f64 = 0.8;

/// When the lease was renewed last, on the monotonic clock.
pub(crate) struct LeaseWatch {
    environment: Arc<dyn Environment>,
    renewed_ms: AtomicU64,
    good_for: Duration,
}

impl LeaseWatch {
    /// A lease that has begun now.
    pub(crate) fn begun(environment: Arc<dyn Environment>, lease: Duration) -> Self {
        let watch = Self { environment, renewed_ms: AtomicU64::new(0), good_for: lease.mul_f64(GOOD_FOR) };
        watch.renewed(watch.environment.monotonic());
        watch
    }

    /// Whether a side effect may begin.
    pub(crate) fn is_good(&self) -> bool {
        let renewed = Duration::from_millis(self.renewed_ms.load(Ordering::Acquire));
        self.environment.monotonic().saturating_sub(renewed) < self.good_for
    }

    /// Renewed by a call that was sent at `sent`: the lease may have begun that early.
    fn renewed(&self, sent: Duration) {
        let ms = u64::try_from(sent.as_millis()).unwrap_or(u64::MAX);
        self.renewed_ms.store(ms, Ordering::Release);
    }
}

/// What renews the lease.
pub(crate) struct Heartbeat {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) worker: WorkerId,
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) watch: Arc<LeaseWatch>,
    pub(crate) life: Arc<Life>,
    pub(crate) outage: Arc<Outage>,
    /// Told when a worker was buried: its trees can be claimed.
    pub(crate) due: Arc<Due>,
    pub(crate) lease: Duration,
    /// The time between two renewals.
    pub(crate) period: Duration,
}

impl Heartbeat {
    /// Begins on a thread of its own. It ends with the engine.
    pub(crate) fn begin(self) -> std::io::Result<()> {
        let environment = Arc::clone(&self.environment);
        let name = format!("sapwood-lease-{}", self.worker.0);
        environment.spawn_apart(name, Box::pin(self.beat()))
    }

    async fn beat(self) {
        let mut lease = self.store.lease(self.worker);
        let mut unbroken_since = None;
        while !self.life.has_ended() {
            if let Some(expired) = self.renew(lease.as_mut(), &mut unbroken_since).await {
                self.bury(&expired).await;
            }
            tokio::select! {
                () = self.life.ends() => return,
                () = tokio::time::sleep(self.period) => {}
            }
        }
    }

    /// Renews; returns the workers to be buried, if this worker may.
    async fn renew(&self, lease: &mut dyn Lease, unbroken_since: &mut Option<Duration>) -> Option<Vec<WorkerId>> {
        let sent = self.environment.monotonic();
        let since = |at: Duration| self.environment.monotonic().saturating_sub(at);
        // A renewal that hangs must not hide that the lease is over.
        match tokio::time::timeout(self.lease, lease.renew(self.lease)).await {
            Ok(Ok(expired)) => {
                self.watch.renewed(sent);
                self.outage.answered();
                if since(sent) > self.period {
                    *unbroken_since = None;
                }
                let begun = *unbroken_since.get_or_insert(sent);
                return Some(expired).filter(|expired| !expired.is_empty() && since(begun) >= self.lease);
            }
            Ok(Err(error)) if error.kind() == StoreErrorKind::Fenced => self.life.end_fenced(&error),
            Ok(Err(error)) => {
                *unbroken_since = None;
                self.outage.failed(&error);
            }
            Err(_) => *unbroken_since = None,
        }
        None
    }

    async fn bury(&self, expired: &[WorkerId]) {
        match self.store.worker_bury(self.worker, expired).await {
            Ok(dead) if dead.is_empty() => {}
            Ok(dead) => {
                tracing::warn!(?dead, "declared dead; their trees are taken over");
                self.due.raise();
            }
            Err(error) => self.outage.failed(&error),
        }
    }
}
