//! The worker's lease: renewed on a thread of its own, so that nothing the worker does can delay a renewal; and the watch
//! over the leases of the others.
//!
//! A lease is a length, and each side counts it on a monotonic clock of its own. No clock of the day is asked, so none
//! that is set kills or keeps alive anybody.
//!
//! ```text
//!   renewal           sent        counted     answered
//!                      │             │            │
//!   this worker        ├─── good for 0.8 of a lease ───┤ from here on it starts no side effect
//!                                    │
//!   a watcher                        │  sees it ├────────────── lease ──────────────┤ sees it stand still: it may bury
//! ```
//!
//! - This worker counts from the moment at which it *sent* the renewal, because the database cannot have counted it
//!   earlier. A watcher counts from the *answer* in which it first saw the count. So this worker's own count ends first,
//!   and no step starts while another worker may own the tree.
//! - If a renewal is late, this worker starts no side effect ([`LeaseWatch::is_good`]) until the next one is answered.
//!   If it was declared dead, it stops.
//! - A watcher forgets what it saw when its own renewals are broken. During an outage of the database no renewal
//!   succeeds, so after it every worker has a whole lease to renew, and an outage buries no worker (C2). A slow renewal
//!   counts as a break too: it is a sign of a stall that other workers may share.
//! - A worker whose process has ended needs no lease: it begins nothing more. So a watcher of its machine, where that can
//!   be proved (`process.rs`), buries it at once, and a process that is killed and started again goes on at once. A
//!   connection that has ended proves nothing, since its worker may live and open another one. It does not shorten the
//!   lease either: the worker would have to count the shorter one as well, and a failover, which ends the connections of
//!   all workers, would then bury who is slow to be back (C2).
//! - A burial may have to wait, for a commit of the dead that hangs. The renewals go on beside it.
//! - The lease decides nothing about commits; the fence does. Every commit names a fence, which a burial closes (C1).
//!   The lease only keeps the side effects of two owners apart in time.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use sapwood_core::WorkerId;
use sapwood_core::store::{Beat, Lease, Store, StoreErrorKind};
use tokio::sync::{Notify, mpsc, watch};

use crate::activation::panic_message;
use crate::clock::{StoreClock, Told};
use crate::due::Due;
use crate::environment::Environment;
use crate::life::{Life, Stopped};
use crate::outage::{Outage, User};

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

/// What a worker has seen of the others. Pure.
#[derive(Debug, Default)]
struct Watch {
    seen: HashMap<WorkerId, Seen>,
}

/// What was seen of one worker.
#[derive(Debug, Clone, Copy)]
struct Seen {
    renewals: u64,
    /// When this count was first seen.
    since: Duration,
}

impl Watch {
    /// Takes what a renewal showed that was sent and answered at these times. Returns the workers that have been silent
    /// for a whole lease: their own, and at least one of `lease`.
    fn saw(&mut self, others: &[Beat], sent: Duration, answered: Duration, lease: Duration) -> Vec<Beat> {
        let known = std::mem::take(&mut self.seen);
        let mut silent = Vec::new();
        for beat in others {
            let seen = match known.get(&beat.worker) {
                Some(seen) if seen.renewals == beat.renewals => *seen,
                _ => Seen { renewals: beat.renewals, since: answered },
            };
            self.seen.insert(beat.worker, seen);
            if sent.saturating_sub(seen.since) >= lease.max(beat.lease) {
                silent.push(*beat);
            }
        }
        silent
    }

    /// This worker's own renewals were broken: what others did meanwhile is not known.
    fn forget(&mut self) {
        self.seen.clear();
    }
}

/// Asks a heartbeat to renew at once, and waits for that.
pub(crate) struct Asked {
    /// Wakes the heartbeat.
    raised: Notify,
    /// How often it was asked.
    count: AtomicU64,
    /// The count that the last renewal had read before it was sent.
    served: watch::Sender<u64>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { raised: Notify::new(), count: AtomicU64::new(0), served: watch::Sender::new(0) }
    }
}

impl Asked {
    /// Returns once a renewal has ended that began after this was called.
    pub(crate) async fn renewal(&self) {
        let own = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.raised.notify_one();
        // The sender lives as long as this.
        let _ = self.served.subscribe().wait_for(|served| *served >= own).await;
    }
}

/// Renews the lease, and buries workers that have been silent for a lease, or whose process has ended.
pub(crate) struct Heartbeat {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) worker: WorkerId,
    pub(crate) environment: Arc<dyn Environment>,
    /// Told of each renewal.
    pub(crate) watch: Arc<LeaseWatch>,
    /// Told the store's time with each renewal.
    pub(crate) clock: Arc<StoreClock>,
    /// Called when the store's clock was set: waits for what is due are computed anew.
    pub(crate) on_clock_set: Box<dyn Fn() + Send + Sync>,
    /// Renews at once when it is asked to.
    pub(crate) asked: Arc<Asked>,
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
        let life = Arc::clone(&self.life);
        let beat = async move {
            if let Err(panic) = AssertUnwindSafe(self.beat()).catch_unwind().await {
                let why = panic_message(panic);
                tracing::error!("the heartbeat panicked and the engine ends: {why}");
                life.end_because(Stopped::Broken { task: "heartbeat".to_owned(), why });
            }
        };
        environment.spawn_apart(name, Box::pin(beat))
    }

    async fn beat(self) {
        // One burial at a time: who is silent still is found again at the next renewal.
        let (silent, to_bury) = mpsc::channel(1);
        tokio::select! {
            biased;

            () = self.life.ends() => {}
            () = self.renew_for_ever(silent) => {}
            () = self.bury_all(to_bury) => {}
        }
    }

    async fn renew_for_ever(&self, silent: mpsc::Sender<Vec<Beat>>) {
        let mut lease = self.store.lease(self.worker);
        let mut watch = Watch::default();
        loop {
            let asked = self.asked.count.load(Ordering::Acquire);
            let found = self.renew(lease.as_mut(), &mut watch).await;
            self.asked.served.send_replace(asked);
            if !found.is_empty() {
                // Full while a burial is under way.
                let _ = silent.try_send(found);
            }
            tokio::select! {
                biased;

                () = self.asked.raised.notified() => {}
                () = tokio::time::sleep(self.period) => {}
            }
        }
    }

    /// Renews; returns the workers to be buried.
    async fn renew(&self, lease: &mut dyn Lease, watch: &mut Watch) -> Vec<Beat> {
        let sent = self.environment.monotonic();
        // A renewal that hangs must not hide that the lease is over.
        let renewal = match tokio::time::timeout(self.lease, lease.renew(self.lease)).await {
            Ok(Ok(renewal)) => renewal,
            Ok(Err(error)) => {
                watch.forget();
                match error.kind() {
                    StoreErrorKind::Fenced => self.life.end_fenced(&error),
                    _ => self.outage.of(User::Lease).failed(&error),
                }
                return Vec::new();
            }
            Err(_) => {
                watch.forget();
                return Vec::new();
            }
        };
        let answered = self.environment.monotonic();
        self.watch.renewed(sent);
        self.outage.of(User::Lease).answered();
        if self.clock.told(Told { now: renewal.now, sent, answered }) {
            tracing::info!("the store's clock was set");
            (self.on_clock_set)();
        }
        if answered.saturating_sub(sent) > self.period {
            watch.forget();
        }
        let silent = watch.saw(&renewal.others, sent, answered, self.lease);
        let has_ended = |beat: &Beat| beat.process.is_some_and(|process| self.environment.has_ended(process));
        renewal.others.into_iter().filter(|beat| silent.contains(beat) || has_ended(beat)).collect()
    }

    async fn bury_all(&self, mut to_bury: mpsc::Receiver<Vec<Beat>>) {
        while let Some(silent) = to_bury.recv().await {
            let buried = self.store.worker_bury(self.worker, &silent).await;
            self.outage.of(User::Burials).heard(&buried);
            match buried {
                Ok(dead) if dead.is_empty() => {}
                Ok(dead) => {
                    tracing::warn!(?dead, "declared dead; their trees are taken over");
                    self.due.raise();
                }
                Err(error) => tracing::debug!("nobody was buried: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    fn beat(worker: i64, renewals: u64) -> Beat {
        Beat { worker: WorkerId(worker), renewals, lease: LEASE, process: None }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// C2: dead is whose count stood still for a whole lease of the watcher's own clock, from the answer that first showed
    /// it to the sending of the call that still does.
    #[test]
    fn a_worker_is_silent_once_its_count_stood_still_for_a_lease() {
        let mut watch = Watch::default();
        assert_eq!(watch.saw(&[beat(1, 7), beat(2, 1)], at(0), at(100), LEASE), []);
        assert_eq!(watch.saw(&[beat(1, 7), beat(2, 2)], at(3_099), at(3_100), LEASE), []);
        assert_eq!(watch.saw(&[beat(1, 7), beat(2, 2)], at(3_100), at(3_101), LEASE), [beat(1, 7)]);
        assert_eq!(watch.saw(&[beat(1, 8), beat(2, 2)], at(3_200), at(3_201), LEASE), [], "it renewed after all");
        assert_eq!(watch.saw(&[beat(2, 2)], at(6_100), at(6_101), LEASE), [beat(2, 2)]);
    }

    /// C2: a watcher whose own renewals were broken begins anew; and the longer of the two leases counts.
    #[test]
    fn a_watch_that_was_broken_begins_anew() {
        let mut watch = Watch::default();
        assert_eq!(watch.saw(&[beat(1, 7)], at(0), at(0), LEASE), []);
        watch.forget();
        assert_eq!(watch.saw(&[beat(1, 7)], at(60_000), at(60_000), LEASE), []);
        assert_eq!(watch.saw(&[beat(1, 7)], at(62_999), at(62_999), LEASE), []);
        let patient = Beat { lease: 2 * LEASE, ..beat(1, 7) };
        assert_eq!(watch.saw(&[patient], at(65_999), at(65_999), LEASE), []);
        assert_eq!(watch.saw(&[patient], at(66_000), at(66_000), LEASE), [patient]);
        assert_eq!(watch.saw(&[beat(1, 7)], at(66_000), at(66_000), 3 * LEASE), []);
    }
}
