//! The choreography of one context: starts its relay and its intakes, shows how they are, ends them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood_core::broker::Broker;
use sapwood_core::event::topic_of;
use sapwood_engine::Engine;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::LaunchError;
use crate::groups::Group;
use crate::health::{ChoreographyHealth, IntakeHealth, RelayHealth};
use crate::intake::IntakeTask;
use crate::relay::Relay;
use crate::{groups, topics};

/// How a choreography runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoreographyOptions {
    /// How often the outbox is looked at, and lanes are claimed, without a reason. It bounds how late an event of a
    /// process that died right after its commit is, and how much an idle context asks of its database.
    pub period: Duration,
}

impl Default for ChoreographyOptions {
    fn default() -> Self {
        Self { period: Duration::from_secs(10) }
    }
}

/// The relay and the intakes of one context, at work.
///
/// End it by [`Self::drain`] before the engine drains: the engine's worker holds the lanes. Dropping it is a crash,
/// of which the next start recovers.
pub struct Choreography {
    broker: Arc<dyn Broker>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    relay: watch::Receiver<RelayHealth>,
    intakes: Vec<watch::Receiver<IntakeHealth>>,
}

impl Choreography {
    /// Starts the choreography of the engine's context with the usual options.
    ///
    /// # Errors
    /// [`LaunchError`]; an outage of the broker or of the store is none.
    pub async fn launch(engine: &Engine, broker: Arc<dyn Broker>) -> Result<Self, LaunchError> {
        Self::launch_with(engine, broker, ChoreographyOptions::default()).await
    }

    /// Starts the choreography of the engine's context.
    ///
    /// # Errors
    /// [`LaunchError`]; an outage of the broker or of the store is none.
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
            tasks.push(tokio::spawn(IntakeTask { engine, broker, group, health, topics, stop }.run()));
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
            topics,
            health,
        };
        tasks.push(tokio::spawn(publisher.run(stopped)));
        Ok(Self { broker, stop, tasks: Mutex::new(tasks), relay, intakes })
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> ChoreographyHealth {
        let relay = shown(&self.relay, |health| health.running = false);
        let intakes = self.intakes.iter().map(|intake| shown(intake, |health| health.running = false));
        ChoreographyHealth { broker: self.broker.describe(), relay, intakes: intakes.collect() }
    }

    /// The relay's health, for who waits for a change of it.
    #[must_use]
    pub fn relay(&self) -> watch::Receiver<RelayHealth> {
        self.relay.clone()
    }

    /// The health of a group's intake, for who waits for a change of it.
    #[must_use]
    pub fn intake(&self, group: &str) -> Option<watch::Receiver<IntakeHealth>> {
        self.intakes.iter().find(|intake| intake.borrow().group == group).cloned()
    }

    /// Takes nothing more in, lets what is in flight land within a grace, writes the lanes back and releases them.
    pub async fn drain(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(%error, "a task of the choreography panicked");
            }
        }
    }

    /// Ends everything where it stands, as a crash would.
    pub fn kill(&self) {
        self.tasks.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Choreography {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a task last told. One that is gone without saying so (it panicked, or was killed) does not run.
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
