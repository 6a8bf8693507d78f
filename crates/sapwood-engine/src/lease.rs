//! The worker's lease: renewed on a thread of its own, so that nothing the worker does can starve it.
//!
//! Whoever renews late starts no side effect ([`LeaseWatch::is_good`]); whoever was declared dead stops. A worker
//! declares another dead only after one full lease of its own unbroken renewals, so that an outage of the database,
//! which everybody sees, buries nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sapwood_core::WorkerId;
use sapwood_core::store::StoreErrorKind;

use crate::engine::Inner;

/// When the lease was renewed last, on the monotonic clock.
pub(crate) struct LeaseWatch {
    origin: Instant,
    renewed_ms: AtomicU64,
    good_for: Duration,
}

impl LeaseWatch {
    /// A lease that has begun now. It is good for its length less a margin, for what begins just before its end is to
    /// be under way before others may believe this worker dead.
    pub(crate) fn begun(lease: Duration) -> Self {
        Self { origin: Instant::now(), renewed_ms: AtomicU64::new(0), good_for: lease.mul_f64(0.8) }
    }

    pub(crate) fn is_good(&self) -> bool {
        let renewed = Duration::from_millis(self.renewed_ms.load(Ordering::Acquire));
        self.origin.elapsed().saturating_sub(renewed) < self.good_for
    }

    /// Renewed by a call that was sent at `sent`: the lease may have begun that early.
    fn renewed(&self, sent: Instant) {
        let ms = u64::try_from(sent.duration_since(self.origin).as_millis()).unwrap_or(u64::MAX);
        self.renewed_ms.store(ms, Ordering::Release);
    }
}

/// Begins the heartbeat on a thread of its own. It ends with the engine.
pub(crate) fn begin(engine: Arc<Inner>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = format!("sapwood-lease-{}", engine.worker().0);
    std::thread::Builder::new().name(name).spawn(move || runtime.block_on(beat(&engine)))?;
    Ok(())
}

async fn beat(engine: &Inner) {
    let mut lease = engine.store().lease(engine.worker());
    let options = engine.options();
    let mut unbroken_since: Option<Instant> = None;
    while !engine.is_killed() {
        let sent = Instant::now();
        // A renewal that hangs must not hide that the lease is over.
        match tokio::time::timeout(options.lease, lease.renew(options.lease)).await {
            Ok(Ok(expired)) => {
                engine.lease.renewed(sent);
                engine.store_answered();
                // A renewal that was slow tells of a stall that others may share: their renewals may be on their way.
                if sent.elapsed() > options.heartbeat {
                    unbroken_since = None;
                }
                let since = *unbroken_since.get_or_insert(sent);
                if !expired.is_empty() && since.elapsed() >= options.lease {
                    bury(engine, &expired).await;
                }
            }
            Ok(Err(error)) if error.kind() == StoreErrorKind::Fenced => return engine.fenced(&error),
            Ok(Err(error)) => {
                unbroken_since = None;
                engine.store_failed(&error);
            }
            Err(_) => unbroken_since = None,
        }
        tokio::select! {
            () = engine.until_stopped() => return,
            () = tokio::time::sleep(options.heartbeat) => {}
        }
    }
}

async fn bury(engine: &Inner, expired: &[WorkerId]) {
    match engine.store().worker_bury(engine.worker(), expired).await {
        Ok(dead) if dead.is_empty() => {}
        Ok(dead) => {
            tracing::warn!(?dead, "declared dead; their trees are taken over");
            engine.claim_signal.raise();
        }
        Err(error) => engine.store_failed(&error),
    }
}
