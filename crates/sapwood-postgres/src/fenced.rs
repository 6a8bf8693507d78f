//! A connection bound to a fence, which refuses the commits of a dead worker.
//!
//! A worker that was declared dead may still be running. It was only slow, and its commits may still be on their way.
//! None of them may be applied after another worker has begun to read its trees. Each committing connection of a worker
//! therefore has a row of its own in `fence`, and every commit locks that row before anything else:
//!
//! ```text
//!   commit    select … where state = 'alive' and incarnation = n for key share
//!   burial    select … for update, then set state = 'dead'
//!
//!   commit 1  ├─ key share ── writes ── flush ─┤                        accepted
//!   burial        ├─ for update ── waits ──────┼─ 'dead' ─┤             then its trees are claimed and read
//!   commit 2            ├─ key share ── waits ────────────┼─ no row ─┤  refused whole
//! ```
//!
//! `for key share` and `for update` conflict, so a burial waits for each commit that is under way. A commit that waited
//! for the burial judges the row again as it is afterwards: it is not `alive`, and nothing is written. So when the
//! burial has returned, what was committed is final.
//!
//! The same lock answers what became of a commit whose connection was lost. Each new connection first takes the row
//! `for update` and moves its *incarnation* on. So a statement of the earlier connection is either over before the new
//! one does anything, or arrives later and is refused by the incarnation it names.
//!
//! - Rejected: reading the row without a lock, which lets a stale worker write after the takeover; and `for share`,
//!   which conflicts with every update of a row.
//! - Each connection has a row of its own, so that a recovery on one connection holds up no other one.
//! - Renewals of the lease touch the row of the worker, never those of its fences.

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::WorkerId;
use sapwood_core::store::StoreResult;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::timeout;

use crate::connect::Connector;
use crate::error::{failed, fenced, is_usable_after, unanswered};

/// A connection, and the incarnation that its statements name.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    /// 0 if there is no fence.
    pub(crate) incarnation: i64,
}

/// Opens a session when one is needed, and forgets one whose state is unknown.
pub(crate) struct Fenced {
    connector: Connector,
    /// Names the connection in `pg_stat_activity`.
    role: &'static str,
    /// None for what starts trees without an owner.
    pub(crate) fence: Option<(WorkerId, u16)>,
    /// Whether its statements are planned as the store wants it.
    is_configured: bool,
    /// None before the first statement, and after one that was cut short.
    session: Option<Session>,
}

impl Fenced {
    /// Opens nothing yet.
    pub(crate) const fn new(connector: Connector, role: &'static str, fence: Option<(WorkerId, u16)>) -> Self {
        Self { connector, role, fence, is_configured: true, session: None }
    }

    /// One on whose connection authors work: their statements are planned as the server plans by itself.
    pub(crate) const fn of_author(connector: Connector, fence: (WorkerId, u16)) -> Self {
        Self { connector, role: "author", fence: Some(fence), is_configured: false, session: None }
    }

    /// The worker, as a parameter.
    pub(crate) fn worker(&self) -> Option<i64> {
        self.fence.map(|(worker, _)| worker.0)
    }

    /// The fence, as a parameter.
    pub(crate) fn fence_number(&self) -> Option<i16> {
        self.fence.map(|(_, fence)| fence.cast_signed())
    }

    /// A statement of a file, with the schema written in.
    pub(crate) fn sql(&self, file: &'static str) -> AssertSqlSafe<Arc<str>> {
        self.connector.sql(file)
    }

    /// Runs `work` on the session. If it is cut short, by a lost connection, by silence, or because the caller drops
    /// the future, or fails of what may be a matter of the session, the session is gone and the next call opens another.
    pub(crate) async fn run<T>(
        &mut self,
        doing: &str,
        work: impl AsyncFnOnce(&mut Session) -> sqlx::Result<T>,
    ) -> StoreResult<T> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open().await?,
        };
        let worked = timeout(self.connector.commit_within, work(&mut session)).await.map_err(|_| unanswered(doing))?;
        if worked.as_ref().err().is_none_or(is_usable_after) {
            self.session = Some(session);
        }
        worked.map_err(|error| failed(doing, error))
    }

    /// The session, if one is open.
    pub(crate) const fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    pub(crate) const fn session_ref(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How long a statement may go without an answer.
    pub(crate) const fn answers_within(&self) -> Duration {
        self.connector.commit_within
    }

    /// Forgets the session, so that the next call opens another with a new incarnation.
    pub(crate) fn forget(&mut self) {
        self.session = None;
    }

    async fn open(&self) -> StoreResult<Session> {
        let mut connection = match self.is_configured {
            true => self.connector.open(self.role).await?,
            false => self.connector.open_plain(self.role).await?,
        };
        let Some((worker, fence)) = self.fence else {
            return Ok(Session { connection, incarnation: 0 });
        };
        let doing = "renew a fence";
        let renewing = sqlx::query_scalar(self.sql(include_str!("../queries/fence_renew.sql")))
            .bind(worker.0)
            .bind(fence.cast_signed())
            .fetch_optional(&mut connection);
        let renewed: Option<i64> = timeout(self.connector.commit_within, renewing)
            .await
            .map_err(|_| unanswered(doing))?
            .map_err(|error| failed(doing, error))?;
        let incarnation = renewed.ok_or_else(|| fenced(worker))?;
        Ok(Session { connection, incarnation })
    }
}
