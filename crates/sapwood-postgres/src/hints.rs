//! `LISTEN` and a coalesced `NOTIFY`.
//!
//! One task of the store holds the listening connection and gives what arrives to all streams. The first stream starts
//! it, [`Hints::close`] ends it. While its connection is down, hints are missed, so once it is back it gives out
//! [`Hint::Missed`] itself.
//!
//! A `NOTIFY` takes a lock of the whole database when it commits. So it is never part of a commit of trees, and hints
//! that come while one is on its way wait for it together and go out as one statement.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_core::stream::BoxStream;
use sapwood_core::TreeId;
use sapwood_core::store::{Hint, StoreResult};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::connect::Connector;
use crate::error::{failed, unanswered};
use crate::pool::Pool;

/// Hints that a slow stream may be behind. Past it the oldest are lost, which hints may be.
const BEHIND: usize = 256;

/// Between two attempts to listen again: short beside the period of the polls that go on meanwhile, long enough to leave a
/// server that restarts alone.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a listening connection may be silent before it is asked whether it still answers. A hint that is lost
/// meanwhile is made up for by polls.
const ASKED_AFTER: Duration = Duration::from_secs(30);

/// How long a listening connection may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The hints of one store.
pub(crate) struct Hints {
    /// A name per schema: channels belong to the database.
    channel: String,
    connector: Connector,
    sending: Arc<Pool>,
    /// Ends the task.
    closing: watch::Sender<bool>,
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
    pub(crate) fn new(connector: &Connector, sending: Arc<Pool>) -> Self {
        Self {
            channel: format!("sapwood_{}", connector.schema),
            connector: connector.clone(),
            sending,
            closing: watch::Sender::new(false),
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
            let task = listen(self.connector.clone(), self.channel.clone(), hints.clone(), self.closing.subscribe());
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
        let notify = sqlx::query(self.sending.sql(include_str!("../queries/hint_notify.sql")))
            .bind(&self.channel)
            .bind(payloads);
        self.sending.run("send hints", async |connection| notify.execute(connection).await).await.map(drop)
    }

    /// Ends all streams.
    pub(crate) async fn close(&self) {
        let listener = std::mem::replace(&mut *lock(&self.listener), Listener::Closed);
        self.closing.send_replace(true);
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

/// Listens until the store closes, on one connection after the other.
async fn listen(
    connector: Connector,
    channel: String,
    hints: broadcast::Sender<Hint>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        // A pool for each connection: one that a lost connection has not left yet would give none.
        let pool = connector.direct_pool("hints");
        let listening = listen_once(&connector, &pool, &channel, &hints);
        let ended = tokio::select! {
            ended = listening => Some(ended),
            // An error means that the store is gone.
            _ = closing.wait_for(|closing| *closing) => None,
        };
        // Without a goodbye the server notices that the connection has ended too.
        let _ = timeout(CLOSE_WITHIN, pool.close()).await;
        match ended {
            None => return,
            Some(Err(error)) => tracing::warn!(%error, "cannot listen for hints just now; polls go on"),
            Some(Ok(never)) => match never {},
        }
        if timeout(PAUSE, closing.wait_for(|closing| *closing)).await.is_ok() {
            return;
        }
    }
}

async fn listen_once(
    connector: &Connector,
    pool: &PgPool,
    channel: &str,
    hints: &broadcast::Sender<Hint>,
) -> StoreResult<Infallible> {
    let doing = "listen for hints";
    let within = connector.answer_within;
    let begin = async {
        let mut listener = PgListener::connect_with(pool).await?;
        // What is missed while a connection is opened again is looked for, so the driver must not do that by itself.
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(listener)
    };
    let mut listener = answered(within, doing, begin).await?;
    // Streams that were there before the first `LISTEN`, or while the connection was down, may have missed something.
    let _ = hints.send(Hint::Missed);
    loop {
        match timeout(ASKED_AFTER.min(within), listener.try_recv()).await {
            Ok(received) => match received.map_err(|error| failed(doing, error))? {
                Some(notification) => {
                    if let Some(hint) = hint(notification.payload()) {
                        // It fails only if there is no stream just now: streams come and go.
                        let _ = hints.send(hint);
                    }
                }
                None => return Err(failed(doing, sqlx::Error::Io(ErrorKind::ConnectionReset.into()))),
            },
            Err(_) => {
                let ping = sqlx::query(include_str!("../queries/store_ping.sql")).execute(&mut listener);
                answered(within, doing, ping).await?;
            }
        }
    }
}

async fn answered<T>(within: Duration, doing: &str, work: impl Future<Output = sqlx::Result<T>>) -> StoreResult<T> {
    timeout(within, work).await.map_err(|_| unanswered(doing))?.map_err(|error| failed(doing, error))
}

fn payload(hint: &Hint) -> String {
    match hint {
        Hint::Ready => "ready".to_owned(),
        Hint::Outbox => "outbox".to_owned(),
        Hint::Settled => "settled".to_owned(),
        Hint::Missed => "missed".to_owned(),
        Hint::Log(topic) => format!("log:{topic}"),
        Hint::Governed(tree, control) => format!("governed:{tree}:{control}"),
        Hint::Inbox(tree, inbox) => format!("inbox:{tree}:{inbox}"),
    }
}

fn hint(payload: &str) -> Option<Hint> {
    match payload {
        "ready" => Some(Hint::Ready),
        "outbox" => Some(Hint::Outbox),
        "settled" => Some(Hint::Settled),
        "missed" => Some(Hint::Missed),
        _ => match payload.split_once(':')? {
            ("log", topic) => Some(Hint::Log(topic.to_owned())),
            ("governed", request) => counter(request).map(|(tree, control)| Hint::Governed(tree, control)),
            ("inbox", settle) => counter(settle).map(|(tree, inbox)| Hint::Inbox(tree, inbox)),
            _ => None,
        },
    }
}

/// A tree, and where a counter of it stands.
fn counter(payload: &str) -> Option<(TreeId, u32)> {
    let (tree, counter) = payload.split_once(':')?;
    Some((tree.parse().ok()?, counter.parse().ok()?))
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
        let log = Hint::Log("orders.events".to_owned());
        let counters = [Hint::Governed(TreeId::fresh(), 7), Hint::Inbox(TreeId::fresh(), u32::MAX)];
        for each in [Hint::Ready, Hint::Outbox, Hint::Settled, Hint::Missed, log].into_iter().chain(counters) {
            assert_eq!(hint(&payload(&each)), Some(each));
        }
        assert_eq!((hint("something newer"), hint("newer:still"), hint("governed:7")), (None, None, None));
    }
}
