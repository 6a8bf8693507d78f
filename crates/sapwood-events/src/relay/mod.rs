//! The relay: publishes a context's outbox, each lane in order, and records how far each lane is published.
//!
//! There is one task per engine. [`lanes`] decides what to do next; this module begins it, awaits it and passes the
//! result back. At most one call of each kind is under way, except flights, of which each lane has at most one.
//!
//! - **Wake-ups** come from the engine, after its own commits and for the hints of others, and from a slow period that
//!   finds what both missed.
//! - **No answer comes**: each call but a flight is given up after a while and repeated. A flight waits for the broker.
//! - **The broker is down**: only flights wait; no tree is affected (SEMANTICS E4). After a few seconds the broker is
//!   pinged, so that the health shows the outage.
//! - **A record is refused permanently**: its lane stops there, visibly, and publishes it again at growing intervals.
//!   The other lanes go on. Nothing is skipped, but later events of the same flight may already be published.
//! - **A row cannot be read** by this build: its lane stops before it, visibly, and reads it again in each period.
//! - **The store went back**, after a failover or a restore: the lanes begin again at its cursors, and health says so
//!   until the process ends, because an operator has to look at what consumers know and the store does not.
//! - **Stop**: nothing new begins; flights may land within a grace period, then how far the lanes are published is
//!   recorded, and the lanes are released. The rest stays in the outbox, for the next publisher.

mod lanes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::FuturesUnordered;
use sapwood_core::WorkerId;
use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind};
use sapwood_core::retry::{Backoff, jittered};
use sapwood_core::store::{
    LaneAdvance, LaneLease, OrderedRows, OutboxRow, Store, StoreError, StoreErrorKind, StoreResult,
};
use sapwood_engine::Environment;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::health::{RefusedEvent, RelayHealth, Setback, UnreadableEvent};
use crate::pace;
use crate::topics::{self, Ready};
use lanes::{Flight, FlownRow, Lanes, Read};

/// How long a flight may take before the broker is pinged: longer than a broker that is up needs, short enough for the
/// health to show an outage soon.
const PATIENCE: Duration = Duration::from_secs(3);
/// The shortest time between two writes of how far lanes are published, because a commit per flight would cost as much
/// as the trees' own commits. After a crash the next publisher sends some events again, and consumers dedupe them.
const ROUND: Duration = Duration::from_millis(100);
/// How long a relay that stops waits for its flights, and then for the store. The outbox keeps what has not landed.
const GRACE: Duration = Duration::from_secs(5);

/// The relay of one context, before it runs.
pub(crate) struct Relay {
    /// Has the outbox and the lanes.
    pub(crate) store: Arc<dyn Store>,
    /// The worker that the lanes are leased to.
    pub(crate) worker: WorkerId,
    /// The source of jitter.
    pub(crate) environment: Arc<dyn Environment>,
    /// Where the events are published.
    pub(crate) broker: Arc<dyn Broker>,
    /// Notified when the outbox has new rows: after commits of this process, and by hints of others.
    pub(crate) signal: Arc<Notify>,
    /// How often lanes are claimed and read without a wake-up.
    pub(crate) period: Duration,
    /// How long a call may take, except a flight.
    pub(crate) answer_within: Duration,
    /// Whether the topics exist; nothing is published before.
    pub(crate) topics: watch::Receiver<Ready>,
    /// Read by the choreography.
    pub(crate) health: watch::Sender<RelayHealth>,
}

/// The result of a call that was begun.
enum Done {
    /// With what the store had confirmed when it was asked.
    Claimed(BTreeMap<u16, i64>, StoreResult<Vec<LaneLease>>),
    Read(Vec<(Read, StoreResult<OrderedRows<OutboxRow>>)>),
    Advanced(Vec<LaneAdvance>, StoreResult<Vec<u16>>),
    Landed(Vec<FlownRow>, Vec<Result<(), BrokerError>>),
    Pinged(Result<(), BrokerError>),
}

/// The worker was declared dead, so other workers may publish its lanes.
struct Fenced;

/// A relay that runs.
struct Run {
    relay: Relay,
    /// Decides what to do next.
    lanes: Lanes,
    /// The calls under way.
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// When lanes are next claimed and read without a wake-up.
    next_period: Instant,
    /// A claim is due.
    claim: bool,
    /// A claim is under way.
    claiming: bool,
    /// Reads are under way, one per lane at most.
    reading: bool,
    /// A write of how far lanes are published is under way.
    advancing: bool,
    /// The next such write is not begun before that.
    next_advance: Instant,
    /// A ping of the broker is under way.
    pinging: bool,
    /// Set after a failure of the store, which is not called before that.
    store_rests: Option<Instant>,
    /// How long the store rests after its next failure.
    store_backoff: Backoff,
    /// Records in flights, for the health.
    in_flight: usize,
    /// When a flight last left or landed, or the broker last answered a ping; the next ping is due some time after
    /// that.
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

    /// Waits until the topics exist. No lane is claimed before, so that workers that can publish get the lanes.
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

    /// Handles a time that has come: begins the next period if it is due. The end of a rest needs nothing here, because
    /// [`Self::begin`] checks it.
    fn period(&mut self) {
        let now = Instant::now();
        if self.next_period <= now {
            self.next_period = now + jittered(self.relay.period, self.relay.environment.jitter());
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

    /// Begins everything that is due and not under way.
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
            let (broker, within) = (Arc::clone(&self.relay.broker), self.relay.answer_within);
            self.work.push(async move { Done::Pinged(pace::answered_by_broker(within, broker.ping()).await) }.boxed());
        }
    }

    fn begin_claim(&mut self) {
        if !self.claim || self.claiming {
            return;
        }
        (self.claim, self.claiming) = (false, true);
        let (store, worker) = (Arc::clone(&self.relay.store), self.relay.worker);
        // All free lanes: a worker that joins later takes over those that this one releases, or leaves when it dies.
        let limit = store.info().lanes;
        let confirmed = self.lanes.confirmed();
        let within = self.relay.answer_within;
        let claim = async move { pace::answered(within, store.lane_claim(worker, limit)).await };
        self.work.push(async move { Done::Claimed(confirmed, claim.await) }.boxed());
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
        let (store, within) = (Arc::clone(&self.relay.store), self.relay.answer_within);
        let all = async move {
            let read = |read: Read| {
                let store = &store;
                async move {
                    let rows = pace::answered(within, store.outbox_read(read.lane, read.after, read.limit)).await;
                    (read, rows)
                }
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
        let within = self.relay.answer_within;
        self.work.push(
            async move {
                let lost = pace::answered(within, store.lane_advance(worker, &advances)).await;
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
            Done::Claimed(confirmed, leases) => {
                self.claiming = false;
                match leases {
                    Ok(leases) => {
                        let setbacks = self.lanes.leased(&leases, &confirmed);
                        self.tell_setbacks(setbacks);
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
                self.claim |= self.lanes.has_doubts();
            }
            Done::Advanced(advances, lost) => {
                self.advancing = false;
                match lost {
                    Ok(lost) => {
                        // Claims again, because the new publisher may release them soon.
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
        // A refusal is an answer, so the broker is up.
        let errors = results.iter().filter_map(|result| result.as_ref().err());
        self.broker_is(errors.into_iter().find(|error| error.kind() != BrokerErrorKind::Refused));
        self.lanes.landed(manifest, results, now, self.relay.environment.jitter());
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
        // It may be another server now, and may have gone back.
        self.lanes.store_failed();
        self.claim = true;
        if self.store_rests.is_none() {
            let wait = self.store_backoff.failed(self.relay.environment.jitter());
            self.store_rests = Some(Instant::now() + wait);
            tracing::warn!(%error, ?wait, "the outbox cannot be read, or lanes not be written back; repeating");
        }
        self.relay.health.send_modify(|health| health.store = Err(error.to_string()));
        Ok(())
    }

    fn tell_setbacks(&self, setbacks: Vec<Setback>) {
        for Setback { lane, published, stored } in &setbacks {
            tracing::error!(
                lane,
                published,
                stored,
                "the store went back: events beyond its cursor were published already, and those that it lost are known to consumers alone; the lane goes on from the cursor"
            );
        }
        self.relay.health.send_if_modified(|health| {
            health.setbacks.retain(|before| !setbacks.iter().any(|setback| setback.lane == before.lane));
            let told = !setbacks.is_empty();
            health.setbacks.extend(setbacks);
            told
        });
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
        let (lanes, refused, unreadable) = (self.lanes.published_to(), self.lanes.refused(), self.lanes.unreadable());
        let (published, in_flight) = (self.lanes.published(), self.in_flight);
        self.relay.health.send_if_modified(|health| {
            for event in refused.iter().filter(|event| !health.refused.contains(event)) {
                let RefusedEvent { lane, id, cloud_type, topic, why } = event;
                tracing::error!(lane, id, cloud_type, topic, why, "the broker refuses an event; its lane is stopped");
            }
            for event in unreadable.iter().filter(|event| !health.unreadable.contains(event)) {
                let UnreadableEvent { lane, seq, why } = event;
                tracing::error!(lane, seq, why, "a row of the outbox cannot be read; its lane is stopped");
            }
            let before = health.clone();
            *health = RelayHealth { lanes, refused, unreadable, published, in_flight, ..before.clone() };
            *health != before
        });
    }

    /// Awaits what is under way, records how far the lanes are published and releases them, within the grace period.
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
        // If the store does not answer, the lanes become free when this worker's lease expires.
        let left = timeout_at(Instant::now() + GRACE, leave).await;
        if let Ok(Err(error)) = left {
            tracing::warn!(%error, "lanes were not released; they become free when the lease expires");
        }
    }
}
