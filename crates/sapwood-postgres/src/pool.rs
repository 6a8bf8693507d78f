//! Pools of connections, and the one way that every call on them goes.
//!
//! A call gets a connection, works on it and gives it back, each within a time. Whatever ends in another way (silence, a
//! caller that stops waiting, an error that may be a matter of the session) closes the connection instead. A connection
//! that is lost takes those with it that wait in the pool, because what ended it has most likely ended them too.
//!
//! The pool of the driver is not used: it tests each connection with a round trip when it is taken and another when it is
//! given back, and neither these nor its closing have a bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::connect::Connector;
use crate::error::{failed, is_usable_after, unanswered};

/// A connection that has waited longer is asked first whether it still answers: one that a restart or a firewall has ended
/// must not cost its next caller an error. In a busy pool none waits so long.
const ASKED_AFTER: Duration = Duration::from_secs(1);

/// A connection that nobody needed for so long is closed.
const IDLE_FOR: Duration = Duration::from_secs(10 * 60);

/// A session collects plans and caches on the server, so none lives for ever.
const LIVES_FOR: Duration = Duration::from_secs(30 * 60);

/// How long a connection may take to say goodbye. Closing without it harms nobody.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Connections for one purpose, opened when they are needed.
pub(crate) struct Pool {
    connector: Connector,
    purpose: &'static str,
    size: u32,
    permits: Semaphore,
    /// The one that was given back last is taken first, so that those too many grow old.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    opened_at: Instant,
    since: Instant,
}

impl Pool {
    /// Opens nothing yet.
    pub(crate) fn new(connector: &Connector, purpose: &'static str, size: u32) -> Self {
        let permits = Semaphore::new(usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS));
        Self { connector: connector.clone(), purpose, size, permits, idle: Mutex::default() }
    }

    /// A statement of a file, with the schema written in.
    pub(crate) fn sql(&self, file: &'static str) -> AssertSqlSafe<Arc<str>> {
        self.connector.sql(file)
    }

    /// Runs `work` on a connection. A transaction that it begins it must also end, but for errors.
    pub(crate) async fn run<T>(
        &self,
        doing: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> StoreResult<T> {
        let permit = timeout(self.connector.connect_within, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| self.busy(doing))?.map_err(|_| failed(doing, sqlx::Error::PoolClosed))?;
        let (mut connection, opened_at) = match self.take().await {
            Some(taken) => taken,
            None => (self.connector.open(self.purpose).await?, Instant::now()),
        };
        let answer_within = self.connector.answer_within;
        let Ok(worked) = timeout(answer_within, work(&mut connection)).await else {
            self.forget();
            return Err(unanswered(doing));
        };
        match worked {
            Ok(done) => {
                self.give_back(connection, opened_at);
                Ok(done)
            }
            Err(error) => {
                // A transaction that failed half way is rolled back with the next message.
                if is_usable_after(&error) && matches!(timeout(answer_within, connection.ping()).await, Ok(Ok(()))) {
                    self.give_back(connection, opened_at);
                }
                let error = failed(doing, error);
                if error.kind() == StoreErrorKind::Connection {
                    self.forget();
                }
                Err(error)
            }
        }
    }

    /// Refuses further calls, waits for those under way, and closes all connections.
    pub(crate) async fn close(&self) {
        // A call that takes longer than it may closes its own connection.
        let all = timeout(self.connector.answer_within, self.permits.acquire_many(self.size)).await;
        self.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for Idle { connection, .. } in idle {
            // The server notices the end of the connection without a goodbye too.
            let _ = timeout(CLOSE_WITHIN, connection.close()).await;
        }
    }

    /// A connection that waits, if there is one that still answers.
    async fn take(&self) -> Option<(PgConnection, Instant)> {
        loop {
            let Idle { mut connection, opened_at, since } = self.idle().pop()?;
            if opened_at.elapsed() > LIVES_FOR {
                continue;
            }
            if since.elapsed() < ASKED_AFTER {
                return Some((connection, opened_at));
            }
            if let Ok(Ok(())) = timeout(self.connector.connect_within, connection.ping()).await {
                return Some((connection, opened_at));
            }
            self.forget();
        }
    }

    fn give_back(&self, connection: PgConnection, opened_at: Instant) {
        if self.permits.is_closed() {
            return;
        }
        let mut idle = self.idle();
        idle.retain(|idle| idle.since.elapsed() < IDLE_FOR);
        idle.push(Idle { connection, opened_at, since: Instant::now() });
    }

    /// Closes what waits.
    fn forget(&self) {
        self.idle().clear();
    }

    /// Nothing was sent.
    fn busy(&self, doing: &str) -> StoreError {
        let message = format!(
            "could not {doing}: all {} connections of the pool `{}` were busy for {:?}",
            self.size, self.purpose, self.connector.connect_within
        );
        StoreError::new(StoreErrorKind::Transient, message)
    }

    /// Nothing that holds this lock can panic half way, so what a poisoned lock guards is whole.
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
