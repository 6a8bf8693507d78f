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

/// A context of a process, whatever the type of its dependencies.
#[async_trait::async_trait]
pub(crate) trait Hosted: Send + Sync {
    fn name(&self) -> &'static str;
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
    stop: watch::Sender<bool>,
    /// Watches the worker; awaited by the drain.
    watcher: JoinHandle<()>,
}

impl Launch {
    async fn worker(&self) -> std::result::Result<Worker, LaunchTrouble> {
        let engine = self.host.launch(Arc::clone(&self.store), self.options.clone()).await?;
        let choreography = Choreography::launch(&engine, Arc::clone(&self.broker)).await?;
        Ok(Worker { engine, choreography: Arc::new(choreography) })
    }

    /// Launches the context; `lost` is told if it cannot go on some day.
    pub(crate) async fn run(self, lost: watch::Sender<Option<String>>) -> Result<RunningContext> {
        let worker = self.worker().await.map_err(StartupError::from)?;
        let store = Arc::clone(&self.store);
        let (current, shown) = watch::channel(worker);
        let (stop, stopped) = watch::channel(false);
        let watcher = tokio::spawn(self.watch(current, stopped, lost));
        Ok(RunningContext { store, worker: shown, stop, watcher })
    }

    /// Joins the store again as a new worker whenever the present one is declared dead, until the process drains.
    async fn watch(
        self,
        current: watch::Sender<Worker>,
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
            // What it publishes and takes in is another worker's now.
            worker.choreography.kill();
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
            match self.worker_again(&mut stop).await {
                Ok(Some(worker)) => {
                    tracing::info!(context = name, worker = %worker.engine.worker(), "joined again");
                    current.send_replace(worker);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(context = name, "the worker was declared dead and cannot join again: {error:?}");
                    lost.send_replace(Some(format!("the context `{name}` cannot join its store again: {error}")));
                    return;
                }
            }
        }
    }

    /// Launches until it succeeds; `None` if the process drains meanwhile.
    async fn worker_again(&self, stop: &mut watch::Receiver<bool>) -> Result<Option<Worker>> {
        loop {
            let error = tokio::select! {
                worker = self.worker() => match worker {
                    Ok(worker) => return Ok(Some(worker)),
                    Err(error) => error,
                },
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            };
            if !error.passes() {
                return Err(error.into());
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            }
        }
    }
}

impl RunningContext {
    /// The worker that the context has now.
    pub(crate) fn worker(&self) -> Worker {
        self.worker.borrow().clone()
    }

    pub(crate) fn api(&self) -> ContextApi {
        let (engine, choreography) = (self.worker.clone(), self.worker.clone());
        ContextApi::following(move || engine.borrow().engine.clone()).health(move || {
            let trouble = choreography.borrow().choreography.health().check().err();
            let state = if trouble.is_some() { HealthState::Degraded } else { HealthState::Up };
            vec![HealthPart { name: "events".to_owned(), state, detail: trouble }]
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
