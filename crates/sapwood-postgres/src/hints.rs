//! `LISTEN` and a coalesced `NOTIFY`.
//!
//! One task of the store holds the listening connection and gives what arrives to all streams. The first stream starts
//! it, [`Hints::close`] ends it. While its connection is down, hints are missed, so once it is back it gives out one
//! hint of each kind itself.
//!
//! A `NOTIFY` takes a lock of the whole database when it commits. So it is never part of a commit of trees, and hints
//! that come while one is on its way wait for it together and go out as one statement.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_core::stream::BoxStream;
use sapwood_core::store::{Hint, StoreResult};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::connect::Connector;
use crate::error::failed;

/// Hints that a slow stream may be behind. Past it the oldest are lost, which hints may be.
const BEHIND: usize = 256;

/// Between two attempts to listen again: short beside the period of the polls that go on meanwhile, long enough to leave a
/// server that restarts alone.
const PAUSE: Duration = Duration::from_millis(500);

/// The hints of one store.
pub(crate) struct Hints {
    /// A name per schema: channels belong to the database.
    channel: String,
    /// A pool of one, because `PgListener` connects again by itself through a pool.
    listening: PgPool,
    /// The store's shared pool.
    sending: PgPool,
    /// A stream may be asked for on another runtime, which may end before the store does.
    runtime: Handle,
    listener: Mutex<Listener>,
    /// Hints that wait for the next notification.
    pending: Mutex<HashSet<Hint>>,
    /// Held while a notification is on its way.
    sender: tokio::sync::Mutex<()>,
}

enum Listener {
    Idle,
    Running { hints: broadcast::Sender<Hint>, task: JoinHandle<()> },
    Closed,
}

impl Hints {
    /// Listens to nothing yet. To be called on the runtime on which the listening task is to live.
    pub(crate) fn new(connector: &Connector, sending: PgPool) -> Self {
        Self {
            channel: format!("sapwood_{}", connector.schema),
            listening: connector.pool("hints", 1),
            sending,
            runtime: Handle::current(),
            listener: Mutex::new(Listener::Idle),
            pending: Mutex::default(),
            sender: tokio::sync::Mutex::default(),
        }
    }

    /// All hints from now on.
    pub(crate) fn subscribe(&self) -> BoxStream<'static, Hint> {
        let mut listener = lock(&self.listener);
        if matches!(*listener, Listener::Idle) {
            let hints = broadcast::Sender::new(BEHIND);
            let task = listen(self.listening.clone(), self.channel.clone(), hints.clone());
            *listener = Listener::Running { hints, task: self.runtime.spawn(task) };
        }
        match &*listener {
            // A stream that fell behind has lost hints, nothing else.
            Listener::Running { hints, .. } => Box::pin(BroadcastStream::new(hints.subscribe()).filter_map(Result::ok)),
            Listener::Idle | Listener::Closed => Box::pin(tokio_stream::empty()),
        }
    }

    /// Sends hints, together with those of other callers that wait meanwhile. Returns once they are sent.
    pub(crate) async fn notify(&self, hints: &[Hint]) -> StoreResult<()> {
        lock(&self.pending).extend(hints.iter().cloned());
        let _sender = self.sender.lock().await;
        let pending = std::mem::take(&mut *lock(&self.pending));
        if pending.is_empty() {
            // The caller before this one has sent them along with its own.
            return Ok(());
        }
        let payloads: Vec<String> = pending.iter().map(payload).collect();
        sqlx::query(include_str!("../queries/hint_notify.sql"))
            .bind(&self.channel)
            .bind(payloads)
            .execute(&self.sending)
            .await
            .map(drop)
            .map_err(|error| failed("send hints", error))
    }

    /// Ends all streams.
    pub(crate) async fn close(&self) {
        let listener = std::mem::replace(&mut *lock(&self.listener), Listener::Closed);
        // Closing the pool ends the wait of the task, which then gives its connection back.
        self.listening.close().await;
        if let Listener::Running { task, hints } = listener {
            drop(hints);
            if let Err(error) = task.await {
                tracing::error!(%error, "the task that listens for hints did not end well");
            }
        }
    }
}

/// A store that is dropped without being closed leaves no task behind.
impl Drop for Hints {
    fn drop(&mut self) {
        if let Listener::Running { task, .. } = &*lock(&self.listener) {
            task.abort();
        }
    }
}

async fn listen(pool: PgPool, channel: String, hints: broadcast::Sender<Hint>) {
    while !pool.is_closed() {
        match listen_once(&pool, &channel, &hints).await {
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot listen for hints just now; polls go on");
                tokio::time::sleep(PAUSE).await;
            }
            Ok(never) => match never {},
        }
    }
}

async fn listen_once(
    pool: &PgPool,
    channel: &str,
    hints: &broadcast::Sender<Hint>,
) -> sqlx::Result<std::convert::Infallible> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    // Streams that were there before the first `LISTEN`, or while the connection was down, may have missed something.
    look_once(hints);
    loop {
        match listener.try_recv().await? {
            Some(notification) => {
                if let Some(hint) = hint(notification.payload()) {
                    // It fails only if there is no stream just now: streams come and go.
                    let _ = hints.send(hint);
                }
            }
            None => look_once(hints),
        }
    }
}

/// Sends one hint of each kind that names nothing.
fn look_once(hints: &broadcast::Sender<Hint>) {
    for hint in [Hint::Ready, Hint::Outbox, Hint::Settled] {
        let _ = hints.send(hint);
    }
}

fn payload(hint: &Hint) -> String {
    match hint {
        Hint::Ready => "ready".to_owned(),
        Hint::Outbox => "outbox".to_owned(),
        Hint::Settled => "settled".to_owned(),
        Hint::Log(topic) => format!("log:{topic}"),
    }
}

fn hint(payload: &str) -> Option<Hint> {
    match payload {
        "ready" => Some(Hint::Ready),
        "outbox" => Some(Hint::Outbox),
        "settled" => Some(Hint::Settled),
        _ => payload.strip_prefix("log:").map(|topic| Hint::Log(topic.to_owned())),
    }
}

/// Nothing that holds these locks can panic half way, so what a poisoned lock guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_survives_its_payload() {
        for each in [Hint::Ready, Hint::Outbox, Hint::Settled, Hint::Log("orders.events".to_owned())] {
            assert_eq!(hint(&payload(&each)), Some(each));
        }
        assert_eq!(hint("something newer"), None);
    }
}
