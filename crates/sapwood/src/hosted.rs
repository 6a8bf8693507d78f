//! One context of a process: its engine and its choreography, which are launched again if the worker is declared dead.

use std::sync::Arc;
use std::time::Duration;

use sapwood_api::{ContextApi, HealthPart, HealthState};
use sapwood_core::broker::Broker;
use sapwood_core::store::{Store, StoreErrorKind};
use sapwood_core::{BoundedContext, Dependencies};
use sapwood_engine::{Engine, EngineError, EngineOptions, Registry, RegistryError, Stopped};
use sapwood_events::{Choreography, LaunchError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Result, StartupError};

/// The pause before a context is launched again that could not be: its store may not answer yet.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a worker may take to leave that was launched in vain: it has hardly begun anything.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// A context of a process, whatever the type of its dependencies.
#[async_trait::async_trait]
pub(crate) trait Hosted: Send + Sync {
    fn name(&self) -> &'static str;
    /// The kind of store without which it cannot run.
    fn database(&self) -> Option<&'static str>;
    fn registry(&self) -> std::result::Result<Registry, RegistryError>;
    async fn launch(&self, store: Arc<dyn Store>, options: EngineOptions) -> std::result::Result<Engine, EngineError>;
}

/// A context with its dependencies, before it is launched.
pub(crate) struct Host<D> {
    pub(crate) dependencies: Arc<D>,
}

#[async_trait::async_trait]
impl<D: Dependencies> Hosted for Host<D> {
    fn name(&self) -> &'static str {
        D::Context::NAME
    }

    fn database(&self) -> Option<&'static str> {
        D::DATABASE
    }

    fn registry(&self) -> std::result::Result<Registry, RegistryError> {
        Registry::of::<D>()
    }

    async fn launch(&self, store: Arc<dyn Store>, options: EngineOptions) -> std::result::Result<Engine, EngineError> {
        Engine::launch(Arc::clone(&self.dependencies), store, options).await
    }
}

/// What a context is launched with, again and again.
pub(crate) struct Launch {
    pub(crate) host: Arc<dyn Hosted>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) options: EngineOptions,
}

/// A context that runs, as one worker.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    pub(crate) choreography: Arc<Choreography>,
}

/// A context that runs, for as long as the process does.
pub(crate) struct RunningContext {
    store: Arc<dyn Store>,
    worker: watch::Receiver<Worker>,
    /// Why a worker that was declared dead has not joined again yet.
    hindrance: watch::Receiver<Option<String>>,
    stop: watch::Sender<bool>,
    /// Watches the worker; awaited by the drain.
    watcher: JoinHandle<()>,
}

impl Launch {
    async fn worker(&self) -> std::result::Result<Worker, LaunchTrouble> {
        let engine = self.host.launch(Arc::clone(&self.store), self.options.clone()).await?;
        self.with_events(engine).await
    }

    /// The worker of this engine, which leaves the store again if its events are not set up.
    async fn with_events(&self, engine: Engine) -> std::result::Result<Worker, LaunchTrouble> {
        match Choreography::launch(&engine, Arc::clone(&self.broker)).await {
            Ok(choreography) => Ok(Worker { engine, choreography: Arc::new(choreography) }),
            Err(error) => {
                leave(&engine).await;
                Err(error.into())
            }
        }
    }

    /// Launches the context; `lost` is told if it cannot go on some day.
    pub(crate) async fn run(self, lost: watch::Sender<Option<String>>) -> Result<RunningContext> {
        let worker = self.worker().await.map_err(StartupError::from)?;
        let store = Arc::clone(&self.store);
        let (current, shown) = watch::channel(worker);
        let (hinder, hindrance) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let watcher = tokio::spawn(self.watch(current, hinder, stopped, lost));
        Ok(RunningContext { store, worker: shown, hindrance, stop, watcher })
    }

    /// Joins the store again as a new worker whenever the present one is declared dead, until the process drains.
    async fn watch(
        self,
        current: watch::Sender<Worker>,
        hinder: watch::Sender<Option<String>>,
        mut stop: watch::Receiver<bool>,
        lost: watch::Sender<Option<String>>,
    ) {
        let name = self.host.name();
        loop {
            let worker = current.borrow().clone();
            let why = tokio::select! {
                why = worker.engine.stopped() => why,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Some(why) = why else { return };
            // What it publishes and takes in is another worker's now; none of it goes on beside the next one.
            worker.choreography.end().await;
            match why {
                Stopped::DeclaredDead => {
                    tracing::warn!(context = name, "the worker was declared dead; it joins again as a new worker");
                }
                why => {
                    tracing::error!(context = name, "the worker has stopped: {why}");
                    lost.send_replace(Some(format!("the context `{name}` has stopped: {why}")));
                    return;
                }
            }
            match self.worker_again(&hinder, &mut stop).await {
                Ok(Some(worker)) => {
                    tracing::info!(context = name, worker = %worker.engine.worker(), "joined again");
                    current.send_replace(worker);
                    hinder.send_replace(None);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(context = name, "the worker was declared dead and cannot join again: {error:?}");
                    lost.send_replace(Some(format!("the context `{name}` cannot join its store again: {error:?}")));
                    return;
                }
            }
        }
    }

    /// Launches until it succeeds; `None` if the process drains meanwhile. A worker that was not completed by then has
    /// left.
    async fn worker_again(
        &self,
        hinder: &watch::Sender<Option<String>>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Worker>> {
        loop {
            let engine = tokio::select! {
                engine = self.host.launch(Arc::clone(&self.store), self.options.clone()) => engine,
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            };
            let worker = match engine {
                Err(error) => Err(error.into()),
                Ok(engine) => {
                    let worker = tokio::select! {
                        worker = self.with_events(engine.clone()) => Some(worker),
                        _ = stop.wait_for(|stop| *stop) => None,
                    };
                    let Some(worker) = worker else {
                        leave(&engine).await;
                        return Ok(None);
                    };
                    worker
                }
            };
            let error = match worker {
                Ok(worker) => return Ok(Some(worker)),
                Err(error) if !error.passes() => return Err(error.into()),
                Err(error) => in_full(&error),
            };
            hinder.send_if_modified(|hindrance| {
                let is_new = hindrance.as_ref() != Some(&error);
                if is_new {
                    tracing::warn!(context = self.host.name(), "the worker cannot join again yet: {error}");
                    *hindrance = Some(error);
                }
                is_new
            });
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            }
        }
    }
}

/// Ends an engine that nobody has been told of. What it claimed meanwhile is free again.
async fn leave(engine: &Engine) {
    if let Err(error) = engine.drain_within(LEAVE_WITHIN).await {
        tracing::warn!("a worker that was not needed did not leave; its lease must expire first: {error}");
    }
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl RunningContext {
    /// The worker that the context has now.
    pub(crate) fn worker(&self) -> Worker {
        self.worker.borrow().clone()
    }

    pub(crate) fn api(&self) -> ContextApi {
        let (engine, choreography, hindrance) = (self.worker.clone(), self.worker.clone(), self.hindrance.clone());
        let part = |name: &str, state, detail| HealthPart { name: name.to_owned(), state, detail };
        ContextApi::following(move || engine.borrow().engine.clone()).health(move || {
            let trouble = choreography.borrow().choreography.health().check().err();
            let state = if trouble.is_some() { HealthState::Degraded } else { HealthState::Up };
            let events = part("events", state, trouble);
            let hindrance = hindrance.borrow().clone().map(|why| {
                part("joining", HealthState::Down, Some(format!("the worker cannot join its store again yet: {why}")))
            });
            std::iter::once(events).chain(hindrance).collect()
        })
    }

    /// Stops joining again, and takes in and publishes no more events.
    pub(crate) async fn drain_events(&mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.watcher).await {
            tracing::error!("the watch over the worker panicked: {error}");
        }
        self.worker().choreography.drain().await;
    }

    /// Releases every tree, and leaves.
    pub(crate) async fn drain_trees(&self, within: Duration) {
        if let Err(error) = self.worker().engine.drain_within(within).await {
            tracing::warn!("the store does not know that this worker has ended; its lease must expire first: {error}");
        }
    }

    pub(crate) async fn close(&self) {
        self.store.close().await;
    }
}

/// Why a context was not launched.
#[derive(Debug, thiserror::Error)]
enum LaunchTrouble {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Events(#[from] LaunchError),
}

impl LaunchTrouble {
    /// Whether trying again may help.
    fn passes(&self) -> bool {
        match self {
            Self::Engine(EngineError::Store(error)) => error.is_passing() || error.kind() == StoreErrorKind::Fenced,
            Self::Engine(_) => false,
            Self::Events(_) => true,
        }
    }
}

impl From<LaunchTrouble> for StartupError {
    fn from(trouble: LaunchTrouble) -> Self {
        match trouble {
            LaunchTrouble::Engine(EngineError::Registry(error)) => registry_error(error),
            LaunchTrouble::Engine(error @ EngineError::WrongDatabase { .. }) => {
                Self::new("wrong_database", format!("SAPWOOD_STORE: {error}"))
            }
            LaunchTrouble::Engine(error) => {
                Self::new("store_unavailable", "the store did not take this process as a worker").caused_by(error)
            }
            LaunchTrouble::Events(error) => {
                Self::new("invalid_functions", "the context's events are not set up").caused_by(error)
            }
        }
    }
}

/// The context's functions contradict each other.
pub(crate) fn registry_error(error: RegistryError) -> StartupError {
    StartupError::new("invalid_functions", error.to_string())
}
