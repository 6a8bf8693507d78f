//! The caller's side of starts that others may contest: with a caller's id, by a consumer, by an event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::json::canonical;
use sapwood_core::store::{
    Intake, KeyScope, NewTree, Start, StartKey, Started, Store, StoreError, StoreErrorKind, StoreResult,
};
use sapwood_core::tree::Cause;
use sapwood_core::{CallerId, Deadline, Path, Position, TreeId};
use tokio::sync::{RwLock, mpsc, oneshot};

use crate::activation::StartOrder;
use crate::clock::StoreClock;
use crate::definition::Definition;
use crate::environment::Environment;
use crate::error::StartError;
use crate::facts::Facts;
use crate::life::Life;
use crate::payload::StartOutcome;
use crate::registry::Registry;

/// Requests that may wait. Further callers wait for room, so that a burst of starts takes a bounded amount of memory.
const QUEUE: usize = 10_000;

/// The pause before a consumer orders a start again that was not made. The store does not answer, or this worker
/// drains, so the same order would fail again at once.
const START_PAUSE: Duration = Duration::from_millis(100);

/// A request to the starter.
pub(crate) enum Request {
    Start { start: Start, reply: oneshot::Sender<StoreResult<Started>> },
    Intake { batch: Intake, reply: oneshot::Sender<StoreResult<Vec<Started>>> },
}

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartReply {
    /// The tree.
    pub tree: TreeId,
    /// Whether this start created it.
    pub created: bool,
}

/// What a start says besides function and input.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// The caller's id: starting it again gives the same tree (P5).
    pub id: Option<CallerId>,
    /// What led to it.
    pub cause: Cause,
    /// When its root settles at the latest; without one, as its function declares.
    pub deadline: Option<Deadline>,
}

/// The time of a root's deadline.
///
/// # Errors
/// [`StartError::InvalidDeadline`] if it has passed, or is further away than what is recorded.
pub(crate) fn deadline_of_start(deadline: Option<Deadline>, now: Timestamp) -> Result<Option<Timestamp>, StartError> {
    let Some(deadline) = deadline else { return Ok(None) };
    let wrong = |message: String| Err(StartError::InvalidDeadline { message });
    match deadline.of_created(now) {
        Ok(time) if time > now => Ok(Some(time)),
        Ok(time) => wrong(format!("the deadline {time} has passed")),
        Err(error) => wrong(error.to_string()),
    }
}

/// A key for a start, with what goes with it.
pub(crate) struct Keyed {
    scope: KeyScope,
    key: String,
    cause: Cause,
    deadline: Option<Timestamp>,
}

impl Keyed {
    pub(crate) fn by_caller(id: CallerId, cause: Cause, deadline: Option<Timestamp>) -> Self {
        Self { scope: KeyScope::Caller, key: id.into(), cause, deadline }
    }
}

/// The caller's side of the starter: sends requests to it and awaits its answers.
pub(crate) struct Starts {
    requests: mpsc::Sender<Request>,
    /// Has the function that a consumer starts.
    registry: Arc<Registry>,
    /// Has the recorded input of a tree that has the key already.
    store: Arc<dyn Store>,
    /// Gives a new tree its id.
    environment: Arc<dyn Environment>,
    /// Deadlines count by it.
    clock: Arc<StoreClock>,
    /// A draining engine takes in no events.
    life: Arc<Life>,
    /// Read while a start is under way.
    open: RwLock<()>,
}

impl Starts {
    /// The caller's side, and the channel from which the starter receives.
    pub(crate) fn new(
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
        environment: Arc<dyn Environment>,
        clock: &Arc<StoreClock>,
        life: Arc<Life>,
    ) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(QUEUE);
        let clock = Arc::clone(clock);
        (Self { requests, registry, store, environment, clock, life, open: RwLock::new(()) }, received)
    }

    /// Waits until no start is under way.
    pub(crate) async fn all_answered(&self) {
        drop(self.open.write().await);
    }

    /// Starts a root under a key, or finds the tree that has the key.
    pub(crate) async fn keyed(
        &self,
        definition: &Definition,
        input: Bytes,
        keyed: Keyed,
    ) -> Result<StartReply, StartError> {
        let Keyed { scope, key, cause, deadline } = keyed;
        let new = new_tree(self.environment.as_ref(), definition, input.clone(), cause, deadline);
        let id = new.id;
        let start = Start { tree: new, key: StartKey { scope, key, digest: canonical::digest(&input) } };
        let (reply, answer) = oneshot::channel();
        let stopped = || StartError::of_life(&self.life);
        // Until the answer is there, a drain waits: what is inserted by then is driven here, or owned by no worker.
        let _open = self.open.read().await;
        if self.life.is_draining() {
            return Err(stopped());
        }
        self.requests.send(Request::Start { start, reply }).await.map_err(|_| stopped())?;
        match answer.await.map_err(|_| stopped())?.map_err(StartError::Store)? {
            Started::Created => Ok(StartReply { tree: id, created: true }),
            Started::Existing { tree, function, same_digest } => {
                self.check_same(tree, &function, same_digest, definition, &input).await?;
                Ok(StartReply { tree, created: false })
            }
        }
    }

    /// Checks that the tree that has a key is the one that was to be started. If the digests differ, it
    /// decides what the function's type of today makes of the recorded input: fields with defaults may have been added
    /// since (P5).
    async fn check_same(
        &self,
        tree: TreeId,
        function: &str,
        same_digest: bool,
        definition: &Definition,
        input: &[u8],
    ) -> Result<(), StartError> {
        let conflict = |message: String| Err(StartError::Conflict { tree, message });
        if function != definition.name {
            return conflict(format!("whose function is `{function}`"));
        }
        if same_digest {
            return Ok(());
        }
        let image = self.store.invocation_load(tree, &Path::root()).await.map_err(StartError::Store)?;
        let Some(image) = image else { return conflict("which has no input any longer".to_owned()) };
        match definition.read_input(&image.invocation.input) {
            Ok(recorded) if canonical::equals(&recorded, input) => Ok(()),
            Ok(_) => conflict("which was started with another input".to_owned()),
            Err(error) => conflict(format!("whose input cannot be compared: {error}")),
        }
    }

    /// Starts a root for a consumer. `None` if it is not known whether the root exists: its handle orders it again.
    pub(crate) async fn by_consumer(
        &self,
        facts: &Facts,
        path: &Path,
        position: Position,
        order: StartOrder,
    ) -> Option<StartOutcome> {
        let definition = self.registry.find(order.function, order.version)?;
        let cause =
            Cause { correlation: facts.correlation.clone(), causation: Some(facts.causation(path)), traceparent: None };
        let deadline = deadline_of_start(order.deadline, self.clock.now());
        let id = order.id.as_deref().map(str::parse::<CallerId>).transpose();
        let started = match (id, deadline) {
            (Err(error), _) => Err(error.into()),
            (_, Err(error)) => Err(error),
            (Ok(Some(id)), Ok(deadline)) => {
                self.keyed(definition, order.input, Keyed::by_caller(id, cause, deadline)).await
            }
            (Ok(None), Ok(deadline)) => {
                let (scope, key) = (KeyScope::Operation, facts.causation(&path.child(position)));
                self.keyed(definition, order.input, Keyed { scope, key, cause, deadline }).await
            }
        };
        match started {
            Ok(reply) => Some(StartOutcome::Tree(reply.tree)),
            Err(StartError::Store(error)) if error.is_passing() => not_started(facts.tree, &error).await,
            Err(error @ (StartError::Draining | StartError::Stopped(_))) => not_started(facts.tree, &error).await,
            Err(error) => Some(StartOutcome::Refused { message: error.to_string() }),
        }
    }

    /// Takes in a batch of events.
    pub(crate) async fn intake(&self, batch: Intake) -> StoreResult<Vec<Started>> {
        let stopped = || StoreError::new(StoreErrorKind::Fenced, "this worker has stopped");
        let _open = self.open.read().await;
        if self.life.is_draining() {
            return Err(stopped());
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Intake { batch, reply }).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// Pauses before a start is ordered again.
async fn not_started(tree: TreeId, error: &(dyn std::fmt::Display + Sync)) -> Option<StartOutcome> {
    tracing::warn!(%tree, "a start was not made and is ordered again: {error}");
    tokio::time::sleep(START_PAUSE).await;
    None
}

/// A tree that is to be created. Without a correlation it takes its own id as one.
pub(crate) fn new_tree(
    environment: &dyn Environment,
    definition: &Definition,
    input: Bytes,
    cause: Cause,
    deadline: Option<Timestamp>,
) -> NewTree {
    let id = environment.tree_id();
    let correlation = if cause.correlation.is_empty() { id.to_string() } else { cause.correlation };
    NewTree {
        id,
        function: definition.name.to_owned(),
        version: definition.version,
        input,
        cause: Cause { correlation, ..cause },
        deadline,
    }
}
