//! The relay: publishes a context's outbox, each lane in order, and writes back how far it came.
//!
//! One task an engine. What is done next is decided by [`lanes`]; here it is only begun, awaited and told back. At
//! most one call of each kind is under way, but for flights, of which each lane has at most one.
//!
//! - **Woken** by the engine, which tells of its own commits and of the hints of others, and by a slow period that
//!   finds what both missed.
//! - **The broker is down**: flights wait, and nothing else does; trees never notice (SEMANTICS E4). After a moment
//!   the broker is asked how it is, so that the health says so.
//! - **A record is refused for good**: its lane stops there, visibly, and tries it again at a growing distance. The
//!   other lanes go on. Nothing is skipped; but events behind it that were in the same flight may already be out.
//! - **Stopped**: nothing new is begun; what is in flight may land within a grace, lanes are written back and
//!   given back. What remains is in the outbox, for whoever publishes next.

mod lanes;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::FuturesUnordered;
use sapwood_core::WorkerId;
use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind};
use sapwood_core::retry::{Backoff, jittered};
use sapwood_core::store::{LaneAdvance, LaneLease, OutboxRow, Store, StoreError, StoreErrorKind, StoreResult};
use sapwood_engine::Environment;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::health::{RefusedEvent, RelayHealth};
use crate::pace;
use crate::topics::{self, Ready};
use lanes::{Flight, FlownRow, Lanes, Read};

/// How long a flight may be away before the broker is asked how it is.
const PATIENCE: Duration = Duration::from_secs(3);
/// The least distance between two writes of how far lanes are published. What a crash in between makes the next publisher send again is
/// deduped; a commit for each flight would cost as much as the trees' own.
const ROUND: Duration = Duration::from_millis(100);
/// How long what is in flight may take to land when the relay stops. The outbox keeps what does not.
const GRACE: Duration = Duration::from_secs(5);

/// What publishes the outbox of one context.
pub(crate) struct Relay {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) worker: WorkerId,
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) broker: Arc<dyn Broker>,
    /// Notified when the outbox has new rows: after commits of this process, and by hints of others.
    pub(crate) signal: Arc<Notify>,
    /// How often lanes are claimed and looked at without a reason.
    pub(crate) period: Duration,
    pub(crate) topics: watch::Receiver<Ready>,
    pub(crate) health: watch::Sender<RelayHealth>,
}

/// What came of something that was begun.
enum Done {
    Claimed(StoreResult<Vec<LaneLease>>),
    Read(Vec<(Read, StoreResult<Vec<OutboxRow>>)>),
    Advanced(Vec<LaneAdvance>, StoreResult<Vec<u16>>),
    Landed(Vec<FlownRow>, Vec<Result<(), BrokerError>>),
    Pinged(Result<(), BrokerError>),
}

/// The worker was declared dead: its lanes are another's.
struct Fenced;

/// A relay at work.
struct Run {
    relay: Relay,
    lanes: Lanes,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    next_period: Instant,
    claim: bool,
    claiming: bool,
    reading: bool,
    advancing: bool,
    next_advance: Instant,
    pinging: bool,
    /// Nothing is asked of the store before that.
    store_rests: Option<Instant>,
    store_backoff: Backoff,
    in_flight: usize,
    /// When a flight last left or landed, or the broker was last asked how it is.
    heard: Instant,
}

impl Relay {
    /// Publishes until it is stopped, or its worker is declared dead.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut run = Run::new(self);
        if run.topics_are_ready(&mut stop).await && run.publish(&mut stop).await.is_ok() {
            run.land().await;
        }
        run.relay.health.send_modify(|health| health.running = false);
    }
}

impl Run {
    fn new(relay: Relay) -> Self {
        Self {
            relay,
            lanes: Lanes::default(),
            work: FuturesUnordered::new(),
            next_period: Instant::now(),
            claim: true,
            claiming: false,
            reading: false,
            advancing: false,
            next_advance: Instant::now(),
            pinging: false,
            store_rests: None,
            store_backoff: pace::outage(),
            in_flight: 0,
            heard: Instant::now(),
        }
    }

    /// Waits for the topics. Lanes are left to workers that can publish them.
    async fn topics_are_ready(&mut self, stop: &mut watch::Receiver<bool>) -> bool {
        let health = &self.relay.health;
        let tell = |ready| health.send_modify(|health| health.broker = ready);
        topics::are_ready(&mut self.relay.topics, stop, tell).await
    }

    async fn publish(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Fenced> {
        let signal = Arc::clone(&self.relay.signal);
        loop {
            self.begin();
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = pace::stopped(stop) => return Ok(()),
                Some(done) = self.work.next() => self.take(done)?,
                () = signal.notified() => self.lanes.look(),
                () = sleep_until(wake) => self.period(),
            }
        }
    }

    /// Something is due: the period, or the end of a rest, which [`Self::begin`] sees for itself.
    fn period(&mut self) {
        let now = Instant::now();
        if self.next_period <= now {
            self.next_period = now + jittered(self.relay.period, self.relay.environment.fraction());
            self.claim = true;
            self.lanes.look();
        }
    }

    fn next_wake(&self) -> Instant {
        let asks_broker = (self.in_flight > 0 && !self.pinging).then_some(self.heard + PATIENCE);
        let writes = (!self.advancing && !self.lanes.advances().is_empty()).then_some(self.next_advance);
        // While the store rests, nothing that needs it is due.
        let others = [self.store_rests.or(writes), self.lanes.next_try(), asks_broker];
        others.into_iter().flatten().fold(self.next_period, Instant::min)
    }

    /// Begins whatever there is to do and is not under way.
    fn begin(&mut self) {
        let now = Instant::now();
        if self.store_rests.is_none_or(|until| until <= now) {
            self.store_rests = None;
            self.begin_claim();
            self.begin_read();
            self.begin_advance(now);
        }
        while let Some(flight) = self.lanes.flight(now) {
            self.begin_flight(flight, now);
        }
        if self.in_flight > 0 && !self.pinging && self.heard + PATIENCE <= now {
            self.pinging = true;
            let broker = Arc::clone(&self.relay.broker);
            self.work.push(async move { Done::Pinged(broker.ping().await) }.boxed());
        }
    }

    fn begin_claim(&mut self) {
        if !self.claim || self.claiming {
            return;
        }
        (self.claim, self.claiming) = (false, true);
        let (store, worker) = (Arc::clone(&self.relay.store), self.relay.worker);
        // All that are free: a worker that joins later takes over what this one leaves behind.
        let limit = store.info().lanes;
        self.work.push(async move { Done::Claimed(store.lane_claim(worker, limit).await) }.boxed());
    }

    fn begin_read(&mut self) {
        if self.reading {
            return;
        }
        let reads = self.lanes.reads();
        if reads.is_empty() {
            return;
        }
        self.reading = true;
        let store = Arc::clone(&self.relay.store);
        let all = async move {
            let read = |read: Read| {
                let store = &store;
                async move { (read, store.outbox_read(read.lane, read.after, read.limit).await) }
            };
            Done::Read(join_all(reads.into_iter().map(read)).await)
        };
        self.work.push(all.boxed());
    }

    fn begin_advance(&mut self, now: Instant) {
        let advances = self.lanes.advances();
        if self.advancing || self.next_advance > now || advances.is_empty() {
            return;
        }
        self.advancing = true;
        self.next_advance = now + ROUND;
        let (store, worker) = (Arc::clone(&self.relay.store), self.relay.worker);
        self.work.push(
            async move {
                let lost = store.lane_advance(worker, &advances).await;
                Done::Advanced(advances, lost)
            }
            .boxed(),
        );
    }

    fn begin_flight(&mut self, flight: Flight, now: Instant) {
        let Flight { records, manifest } = flight;
        self.in_flight += records.len();
        self.heard = now;
        let broker = Arc::clone(&self.relay.broker);
        self.work.push(
            async move {
                let results = broker.publish(records).await;
                Done::Landed(manifest, results)
            }
            .boxed(),
        );
    }

    fn take(&mut self, done: Done) -> Result<(), Fenced> {
        match done {
            Done::Claimed(leases) => {
                self.claiming = false;
                match leases {
                    Ok(leases) => {
                        self.lanes.leased(&leases);
                        self.store_answers();
                    }
                    Err(error) => {
                        self.claim = true;
                        self.store_fails(&error)?;
                    }
                }
            }
            Done::Read(reads) => {
                self.reading = false;
                for (read, rows) in reads {
                    match rows {
                        Ok(rows) => self.lanes.read(read, Some(rows)),
                        Err(error) => {
                            self.lanes.read(read, None);
                            self.store_fails(&error)?;
                        }
                    }
                }
            }
            Done::Advanced(advances, lost) => {
                self.advancing = false;
                match lost {
                    Ok(lost) => {
                        // Whoever has them may leave them behind again.
                        self.claim |= self.lanes.advanced(&advances, &lost);
                        self.store_answers();
                    }
                    Err(error) => self.store_fails(&error)?,
                }
            }
            Done::Landed(manifest, results) => self.landed(&manifest, results),
            Done::Pinged(answer) => {
                self.pinging = false;
                self.heard = Instant::now();
                self.broker_is(answer.as_ref().err());
            }
        }
        self.tell();
        Ok(())
    }

    fn landed(&mut self, manifest: &[FlownRow], results: Vec<Result<(), BrokerError>>) {
        self.in_flight -= manifest.len();
        let now = Instant::now();
        self.heard = now;
        // A refusal is an answer: the broker is there.
        let errors = results.iter().filter_map(|result| result.as_ref().err());
        self.broker_is(errors.into_iter().find(|error| error.kind() != BrokerErrorKind::Refused));
        self.lanes.landed(manifest, results, now, self.relay.environment.fraction());
    }

    fn store_answers(&mut self) {
        self.store_backoff.succeeded();
        self.relay.health.send_if_modified(|health| std::mem::replace(&mut health.store, Ok(())).is_err());
    }

    fn store_fails(&mut self, error: &StoreError) -> Result<(), Fenced> {
        if error.kind() == StoreErrorKind::Fenced {
            self.relay.health.send_modify(|health| health.store = Err(error.to_string()));
            return Err(Fenced);
        }
        if self.store_rests.is_none() {
            let wait = self.store_backoff.failed(self.relay.environment.fraction());
            self.store_rests = Some(Instant::now() + wait);
            tracing::warn!(%error, ?wait, "the outbox cannot be read or lanes written back; trying again");
        }
        self.relay.health.send_modify(|health| health.store = Err(error.to_string()));
        Ok(())
    }

    fn broker_is(&self, error: Option<&BrokerError>) {
        let now = error.map_or(Ok(()), |error| Err(error.to_string()));
        self.relay.health.send_if_modified(|health| {
            let before = std::mem::replace(&mut health.broker, now);
            match (&before, &health.broker) {
                (Ok(()), Err(error)) => tracing::warn!(error, "the broker takes no events; they wait in the outbox"),
                (Err(_), Ok(())) => tracing::info!("the broker takes events again"),
                (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
            }
            before != health.broker
        });
    }

    fn tell(&self) {
        let (lanes, refused) = (self.lanes.published_to(), self.lanes.refused());
        let (published, in_flight) = (self.lanes.published(), self.in_flight);
        self.relay.health.send_if_modified(|health| {
            for event in refused.iter().filter(|event| !health.refused.contains(event)) {
                let RefusedEvent { lane, id, cloud_type, topic, why } = event;
                tracing::error!(lane, id, cloud_type, topic, why, "the broker refuses an event; its lane waits");
            }
            let before = health.clone();
            *health = RelayHealth { lanes, refused, published, in_flight, ..before.clone() };
            *health != before
        });
    }

    /// Awaits what is under way, writes the lanes back and releases them, within the grace.
    async fn land(&mut self) {
        let end = Instant::now() + GRACE;
        while !self.work.is_empty() {
            match timeout_at(end, self.work.next()).await {
                Ok(Some(done)) => {
                    if self.take(done).is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let in_flight = self.in_flight;
                    tracing::warn!(in_flight, "stopping without the broker's answer; the events stay in the outbox");
                    break;
                }
            }
        }
        let (store, worker, advances) = (&self.relay.store, self.relay.worker, self.lanes.advances());
        let leave = async {
            if !advances.is_empty() {
                store.lane_advance(worker, &advances).await?;
            }
            store.lane_release(worker).await
        };
        // A store that does not answer frees the lanes when this worker's lease is over.
        let left = timeout_at(Instant::now() + GRACE, leave).await;
        if let Ok(Err(error)) = left {
            tracing::warn!(%error, "lanes were not given back; they are free once the lease is over");
        }
    }
}
