//! The worker's lease: renewed on a thread of its own, so that nothing the worker does can delay a renewal.
//!
//! A lease is the time for which the other workers believe that this worker is alive after a renewal. Each side counts
//! it on a clock of its own:
//!
//! ```text
//!   renewal           sent        applied     answered
//!                      │             │            │
//!   this worker        ├─── good for 0.8 of a lease ───┤ from here on it starts no side effect
//!                                    │
//!   the database                     ├────────────── lease ──────────────┤ from here on it may be buried
//! ```
//!
//! - This worker counts from the moment at which it *sent* the renewal, because the database cannot have applied it
//!   earlier. So its own count ends before the database's, and no step starts while another worker may own the tree.
//! - If a renewal is late, this worker starts no side effect ([`LeaseWatch::is_good`]) until the next one is answered.
//!   If it was declared dead, it stops.
//! - A worker buries another only after its own renewals have been unbroken for one full lease. During an outage of the
//!   database no renewal succeeds, so after it every worker has that long to renew, and an outage buries no worker
//!   (C2). A slow renewal counts as a break too: it is a sign of a stall that other workers may share, and their
//!   renewals may still be on their way.
//! - The lease decides nothing about commits; the fence does. Every commit names a fence, which a burial closes (C1).
//!   The lease only keeps the side effects of two owners apart in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sapwood_core::WorkerId;
use sapwood_core::store::{Lease, Store, StoreErrorKind};

use crate::due::Due;
use crate::environment::Environment;
use crate::life::Life;
use crate::outage::Outage;

/// The part of a lease for which it is good. The rest is a margin, 0.6 s of the default lease: a side effect that began
/// at the last moment gets under way before other workers may believe this one dead.
const GOOD_FOR: f64 = 0.8;

/// This worker's own view of its lease, which drivers ask before a side effect begins.
pub(crate) struct LeaseWatch {
    environment: Arc<dyn Environment>,
    /// When the last answered renewal was sent, in milliseconds of the monotonic clock. The heartbeat's thread writes
    /// it, drivers read it.
    renewed_ms: AtomicU64,
    good_for: Duration,
}

impl LeaseWatch {
    /// A lease that begins now.
    pub(crate) fn begun(environment: Arc<dyn Environment>, joined: Duration, lease: Duration) -> Self {
        let watch = Self { environment, renewed_ms: AtomicU64::new(0), good_for: lease.mul_f64(GOOD_FOR) };
        watch.renewed(joined);
        watch
    }

    /// Whether a side effect may begin.
    pub(crate) fn is_good(&self) -> bool {
        let renewed = Duration::from_millis(self.renewed_ms.load(Ordering::Acquire));
        self.environment.monotonic().saturating_sub(renewed) < self.good_for
    }

    /// The lease was renewed by a call that was sent at `sent`; the new lease may have begun as early as that.
    fn renewed(&self, sent: Duration) {
        let ms = u64::try_from(sent.as_millis()).unwrap_or(u64::MAX);
        self.renewed_ms.store(ms, Ordering::Release);
    }
}

/// Renews the lease, and buries workers whose lease is over.
pub(crate) struct Heartbeat {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) worker: WorkerId,
    pub(crate) environment: Arc<dyn Environment>,
    /// Told of each renewal.
    pub(crate) watch: Arc<LeaseWatch>,
    /// Ended if this worker was declared dead.
    pub(crate) life: Arc<Life>,
    /// Told whether the store answers: an idle worker asks it nothing else.
    pub(crate) outage: Arc<Outage>,
    /// Raised when a worker was buried: its trees can be claimed.
    pub(crate) due: Arc<Due>,
    pub(crate) lease: Duration,
    /// The time between two renewals.
    pub(crate) period: Duration,
}

impl Heartbeat {
    /// Begins on a thread of its own, which ends with the engine.
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

    /// Renews; returns the workers to be buried, if this worker may bury now.
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
