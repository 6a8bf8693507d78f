//! The choreography of one context: starts its relay and its intakes, reports their health, ends them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood_core::broker::Broker;
use sapwood_core::event::topic_of;
use sapwood_engine::Engine;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::LaunchError;
use crate::groups::Group;
use crate::health::{ChoreographyHealth, IntakeHealth, RelayHealth};
use crate::intake::IntakeTask;
use crate::relay::Relay;
use crate::{groups, topics};

/// How long a drain waits for all tasks: longer than the grace periods of each, which add up to ten seconds.
const DRAINED_WITHIN: Duration = Duration::from_secs(15);

/// How a choreography runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoreographyOptions {
    /// How often the outbox is read and lanes are claimed without a wake-up, and how often an intake asks whether the store
    /// still has its offsets. It bounds how late an event leaves if its process died right after the commit, and how many
    /// queries an idle context makes.
    pub period: Duration,
    /// How long a call of the store or of the broker may take, except a publication, which waits for the broker. Then
    /// it is given up and repeated: longer than an answer that is on its way, short enough for an outage.
    pub answer_within: Duration,
}

impl Default for ChoreographyOptions {
    fn default() -> Self {
        Self { period: Duration::from_secs(10), answer_within: Duration::from_secs(30) }
    }
}

/// The relay and the intakes of one context, at work.
///
/// End it with [`Self::drain`] before the engine drains, because the lanes are leased to the engine's worker. Dropping
/// it is like a crash, from which the next start recovers.
pub struct Choreography {
    /// Asked for its description only; the tasks use their own handles.
    broker: Arc<dyn Broker>,
    /// Becomes true when the choreography drains; every task watches it.
    stop: watch::Sender<bool>,
    /// Taken by the first drain, which awaits them.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// What the relay last reported.
    relay: watch::Receiver<RelayHealth>,
    /// What each intake last reported.
    intakes: Vec<watch::Receiver<IntakeHealth>>,
}

impl Choreography {
    /// Starts the choreography of the engine's context with the usual options.
    ///
    /// # Errors
    /// [`LaunchError`]. An outage of the broker or of the store is not an error: the tasks wait until it is over.
    pub async fn launch(engine: &Engine, broker: Arc<dyn Broker>) -> Result<Self, LaunchError> {
        Self::launch_with(engine, broker, ChoreographyOptions::default()).await
    }

    /// Starts the choreography of the engine's context.
    ///
    /// # Errors
    /// [`LaunchError`]. An outage of the broker or of the store is not an error: the tasks wait until it is over.
    pub async fn launch_with(
        engine: &Engine,
        broker: Arc<dyn Broker>,
        options: ChoreographyOptions,
    ) -> Result<Self, LaunchError> {
        let groups = groups::groups_of(engine.context(), engine.registry())?;
        let names = topics_of(engine.context(), &groups);
        let ready = topics::ensure(broker.as_ref(), &names).await.map_err(|source| LaunchError::Topics {
            context: engine.context().to_owned(),
            topics: names.clone(),
            source,
        })?;

        let (stop, stopped) = watch::channel(false);
        let (made, topics) = watch::channel(ready.clone());
        let mut tasks = vec![tokio::spawn(topics::ensure_in_time(
            Arc::clone(&broker),
            Arc::clone(engine.environment()),
            names,
            made,
            stopped.clone(),
        ))];
        let mut intakes = Vec::new();
        for group in groups {
            let starting = IntakeHealth::starting(group.name.to_owned(), group.topics(), ready.clone());
            let (health, shown) = watch::channel(starting);
            let (engine, broker) = (engine.clone(), Arc::clone(&broker));
            let (topics, stop) = (topics.clone(), stopped.clone());
            tasks.push(tokio::spawn(
                IntakeTask {
                    engine,
                    broker,
                    group,
                    health,
                    topics,
                    stop,
                    period: options.period,
                    answer_within: options.answer_within,
                }
                .run(),
            ));
            intakes.push(shown);
        }
        let (health, relay) = watch::channel(RelayHealth::starting(ready));
        let publisher = Relay {
            store: Arc::clone(engine.store()),
            worker: engine.worker(),
            environment: Arc::clone(engine.environment()),
            broker: Arc::clone(&broker),
            signal: engine.outbox_signal(),
            period: options.period,
            answer_within: options.answer_within,
            topics,
            health,
        };
        tasks.push(tokio::spawn(publisher.run(stopped)));
        Ok(Self { broker, stop, tasks: Mutex::new(tasks), relay, intakes })
    }

    /// The health of the relay and of every intake.
    #[must_use]
    pub fn health(&self) -> ChoreographyHealth {
        let relay = shown(&self.relay, |health| health.running = false);
        let intakes = self.intakes.iter().map(|intake| shown(intake, |health| health.running = false));
        ChoreographyHealth { broker: self.broker.describe(), relay, intakes: intakes.collect() }
    }

    /// The relay's health, as a channel that announces each change.
    #[must_use]
    pub fn relay(&self) -> watch::Receiver<RelayHealth> {
        self.relay.clone()
    }

    /// The health of a group's intake, as a channel that announces each change.
    #[must_use]
    pub fn intake(&self, group: &str) -> Option<watch::Receiver<IntakeHealth>> {
        self.intakes.iter().find(|intake| intake.borrow().group == group).cloned()
    }

    /// Takes in no more events, waits for flights within a grace period, records how far the lanes are published, and
    /// releases the lanes.
    pub async fn drain(&self) {
        self.stop.send_replace(true);
        self.join().await;
    }

    /// Aborts every task, as [`Self::kill`] does, and returns once none of them runs any longer: then another choreography
    /// of the context can begin in this process.
    pub async fn end(&self) {
        self.kill();
        self.join().await;
    }

    /// Waits until every task has ended, but not for ever.
    async fn join(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let end = Instant::now() + DRAINED_WITHIN;
        for mut task in tasks {
            match timeout_at(end, &mut task).await {
                Ok(Err(error)) if error.is_panic() => {
                    tracing::error!(%error, "a task of the choreography panicked");
                }
                Ok(_) => {}
                Err(_) => {
                    tracing::warn!("a task of the choreography does not end; it is ended as by a crash");
                    task.abort();
                }
            }
        }
    }

    /// Aborts every task at once, as a crash would. One that is just running goes on until it waits for the next time; see
    /// [`Self::end`].
    pub fn kill(&self) {
        self.tasks.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Choreography {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a task last reported. A task that ended without a report (it panicked, or was aborted) is shown as not running.
fn shown<H: Clone>(health: &watch::Receiver<H>, gone: fn(&mut H)) -> H {
    let mut now = health.borrow().clone();
    if health.has_changed().is_err() {
        gone(&mut now);
    }
    now
}

/// The context's own topic and those it subscribes to, each once.
fn topics_of(context: &str, groups: &[Group]) -> Vec<String> {
    let mut topics: Vec<_> = groups.iter().flat_map(Group::topics).chain([topic_of(context)]).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}
