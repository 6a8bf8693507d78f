//! Assembles bounded contexts into one process: stores, engines, choreography and REST.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::Dependencies;
use sapwood_core::broker::Broker;
use sapwood_core::store::Store;
use sapwood_engine::{Engine, EngineOptions, Registry};
use sapwood_events::{Choreography, LogBroker};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::{BrokerUrl, Config};
use crate::error::{Result, StartupError};
use crate::hosted::{Host, Hosted, Launch, RunningContext, Worker, registry_error};
use crate::stores;

/// How long a broker may take to answer at the start. A wrong address should be reported soon, but a client's first
/// connection takes a moment.
const BROKER_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How long the connections to the stores may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// One process: the contexts that it runs, usually one in production and several in development.
#[derive(Default)]
pub struct App {
    contexts: Vec<Arc<dyn Hosted>>,
}

impl App {
    /// A process without contexts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the context that the dependencies belong to.
    #[must_use]
    pub fn context<D: Dependencies>(mut self, dependencies: D) -> Self {
        self.contexts.push(Arc::new(Host { dependencies: Arc::new(dependencies) }));
        self
    }

    /// Runs the command line: `serve` (the default), `migrate`, `openapi`, `backup`; `--help` shows more.
    ///
    /// # Errors
    /// [`StartupError`] has a stable code and names the setting to correct.
    pub async fn run(self) -> Result<()> {
        crate::cli::run(self).await
    }

    /// Opens the stores, joins them as workers, connects to the broker and listens.
    ///
    /// # Errors
    /// [`StartupError`] has a stable code and names the setting to correct.
    pub async fn launch(self, config: &Config) -> Result<Running> {
        self.check()?;
        let listener = listen(&config.listen).await?;
        let mut stores: Vec<(String, Arc<dyn Store>)> = Vec::new();
        for context in &self.contexts {
            let store = stores::open(config, context.as_ref(), config.migrate).await?;
            stores.push((context.name().to_owned(), store));
        }
        let broker = broker(&config.broker, &stores).await?;
        let (lose, lost) = watch::channel(None);
        let mut contexts = Vec::new();
        for (context, (_, store)) in self.contexts.iter().zip(stores) {
            let options = EngineOptions {
                name: worker_name(),
                concurrency: config.concurrency,
                committers: config.committers,
                transactions: config.transactions,
                step_timeout: config.step_timeout,
                ..EngineOptions::default()
            };
            let launch = Launch { host: Arc::clone(context), store, broker: Arc::clone(&broker), options };
            contexts.push(launch.run(lose.clone()).await?);
        }
        Running::begin(contexts, listener, lost, config.shutdown_timeout)
    }

    /// Migrates the stores of all contexts.
    pub(crate) async fn migrate(&self, config: &Config) -> Result<()> {
        for context in &self.contexts {
            let store = stores::open(config, context.as_ref(), true).await?;
            println!("{}: {} is up to date", context.name(), store.info().location);
            store.close().await;
        }
        Ok(())
    }

    /// Copies the SQLite database of one context.
    pub(crate) async fn backup(&self, config: &Config, context: Option<&str>, to: &Path) -> Result<()> {
        let names: Vec<&str> = self.contexts.iter().map(|context| context.name()).collect();
        let name = match (context, names.as_slice()) {
            (Some(name), names) if names.contains(&name) => name,
            (None, [only]) => only,
            (asked, names) => {
                let asked = asked.map_or_else(|| "is not given".to_owned(), |asked| format!("`{asked}` is not one"));
                let message = format!("--context {asked}; the contexts are {}", names.join(", "));
                return Err(StartupError::new("invalid_setting", message));
            }
        };
        stores::backup(config.store_of(name), name, to).await
    }

    /// The OpenAPI document of all contexts.
    pub(crate) fn openapi(&self) -> Result<String> {
        let registries: Vec<(&str, Registry)> = self
            .contexts
            .iter()
            .map(|context| Ok((context.name(), context.registry().map_err(registry_error)?)))
            .collect::<Result<_>>()?;
        let contexts: Vec<(&str, &Registry)> = registries.iter().map(|(name, registry)| (*name, registry)).collect();
        Ok(sapwood_api::openapi(&contexts))
    }

    fn check(&self) -> Result<()> {
        for (index, context) in self.contexts.iter().enumerate() {
            context.registry().map_err(registry_error)?;
            if self.contexts[..index].iter().any(|other| other.name() == context.name()) {
                let message = format!("the context `{}` is added twice", context.name());
                return Err(StartupError::new("duplicate_context", message));
            }
        }
        Ok(())
    }
}

/// A process that has started.
pub struct Running {
    contexts: Vec<RunningContext>,
    /// Kept, because port 0 stands for any free port.
    address: SocketAddr,
    /// Ends the server.
    hang_up: oneshot::Sender<()>,
    /// Awaited by the drain.
    server: JoinHandle<std::io::Result<()>>,
    /// Why a context cannot go on.
    lost: watch::Receiver<Option<String>>,
    /// How long a drain takes at most.
    shutdown_timeout: Duration,
}

impl Running {
    fn begin(
        contexts: Vec<RunningContext>,
        listener: TcpListener,
        lost: watch::Receiver<Option<String>>,
        shutdown_timeout: Duration,
    ) -> Result<Self> {
        let address = listener.local_addr().map_err(|error| {
            StartupError::new("invalid_setting", "SAPWOOD_LISTEN is not an address").caused_by(error)
        })?;
        let router = sapwood_api::router(contexts.iter().map(RunningContext::api).collect());
        let (hang_up, hung_up) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            // The server ends when it is told to, or when the sender is dropped.
            axum::serve(listener, router).with_graceful_shutdown(async { drop(hung_up.await) }).await
        });
        Ok(Self { contexts, address, hang_up, server, lost, shutdown_timeout })
    }

    /// Where REST listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The engine of a context of this process, as it is now: one that was declared dead is replaced.
    #[must_use]
    pub fn engine(&self, context: &str) -> Option<Engine> {
        self.worker(context).map(|worker| worker.engine)
    }

    /// The choreography of a context of this process, as it is now.
    #[must_use]
    pub fn choreography(&self, context: &str) -> Option<Arc<Choreography>> {
        self.worker(context).map(|worker| worker.choreography)
    }

    fn worker(&self, context: &str) -> Option<Worker> {
        self.contexts.iter().map(RunningContext::worker).find(|worker| worker.engine.context() == context)
    }

    /// Waits until a context of this process cannot go on, and says why. The process should drain and end with
    /// [`EXIT_LOST`](crate::shutdown::EXIT_LOST): something that starts it again helps.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // Every watcher has ended without a loss: the process drains.
            Err(_) => std::future::pending().await,
        }
    }

    /// Shuts down: publishes what is under way, lets steps in flight end, releases every tree, so that the next process
    /// goes on at once, and answers the requests under way. What has not ended within the `shutdown_timeout` of the
    /// configuration is left to the next process.
    pub async fn drain(self) {
        let Self { mut contexts, hang_up, server, shutdown_timeout, .. } = self;
        let until = tokio::time::Instant::now() + shutdown_timeout;
        let events = futures::future::join_all(contexts.iter_mut().map(RunningContext::drain_events));
        if tokio::time::timeout_at(until, events).await.is_err() {
            tracing::warn!("events were not published in time; the next process goes on with them");
        }
        let rest = until.saturating_duration_since(tokio::time::Instant::now());
        futures::future::join_all(contexts.iter().map(|context| context.drain_trees(rest))).await;
        // An error means that the server has already ended. Long polls may wait for a minute, so the drain does not
        // await them for longer than this.
        let _ = hang_up.send(());
        let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
        let closing = futures::future::join_all(contexts.iter().map(RunningContext::close));
        if tokio::time::timeout(CLOSE_WITHIN, closing).await.is_err() {
            tracing::warn!("the connections to the stores were not closed in time");
        }
    }
}

async fn listen(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let (code, message) = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                ("address_in_use", format!("{address} is taken by another process; set SAPWOOD_LISTEN to another port"))
            }
            _ => ("invalid_setting", format!("SAPWOOD_LISTEN: cannot listen on {address}")),
        };
        StartupError::new(code, message).caused_by(error)
    })
}

async fn broker(url: &BrokerUrl, stores: &[(String, Arc<dyn Store>)]) -> Result<Arc<dyn Broker>> {
    let broker: Arc<dyn Broker> = match url {
        BrokerUrl::Log => Arc::new(LogBroker::new(stores.iter().cloned())),
        BrokerUrl::Kafka(url) => kafka(url)?,
    };
    let unavailable = |message: String| StartupError::new("broker_unavailable", message);
    match tokio::time::timeout(BROKER_ANSWERS_WITHIN, broker.ping()).await {
        Ok(Ok(())) => Ok(broker),
        Ok(Err(error)) => {
            Err(unavailable(format!("SAPWOOD_BROKER: {} does not answer", broker.describe())).caused_by(error))
        }
        Err(_) => Err(unavailable(format!(
            "SAPWOOD_BROKER: {} does not answer within {} s",
            broker.describe(),
            BROKER_ANSWERS_WITHIN.as_secs()
        ))),
    }
}

#[cfg(feature = "kafka")]
fn kafka(url: &str) -> Result<Arc<dyn Broker>> {
    let invalid = |error| StartupError::new("invalid_setting", "SAPWOOD_BROKER is not usable").caused_by(error);
    let options = sapwood_kafka::KafkaOptions::from_url(url).map_err(invalid)?;
    Ok(Arc::new(sapwood_kafka::KafkaBroker::connect(options).map_err(invalid)?))
}

#[cfg(not(feature = "kafka"))]
fn kafka(_: &str) -> Result<Arc<dyn Broker>> {
    let message = "SAPWOOD_BROKER names Kafka, and this binary was built without it: build with `--features kafka`";
    Err(StartupError::new("feature_missing", message))
}

fn worker_name() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned());
    format!("{host}-{}", std::process::id())
}
