//! A connection bound to a fence slot.
//!
//! Each new connection gives its slot a new incarnation first, and every commit names it. So a statement of an earlier
//! connection, whose answer never came, is either over before the new connection does anything, or refused.

use std::future::Future;

use sapwood_core::WorkerId;
use sapwood_core::store::StoreResult;
use sqlx::PgConnection;
use tokio::time::timeout;

use crate::connect::Connector;
use crate::error::{failed, fenced, is_usable_after, silent};

/// A connection and the incarnation its statements name.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    /// 0 where there is no fence.
    pub(crate) incarnation: i64,
}

/// Opens a session when one is needed, and forgets one whose state is unknown.
pub(crate) struct Fenced {
    connector: Connector,
    role: &'static str,
    pub(crate) slot: Option<(WorkerId, u16)>,
    session: Option<Session>,
}

impl Fenced {
    /// Opens nothing yet.
    pub(crate) const fn new(connector: Connector, role: &'static str, slot: Option<(WorkerId, u16)>) -> Self {
        Self { connector, role, slot, session: None }
    }

    /// The worker, as a parameter.
    pub(crate) fn worker(&self) -> Option<i64> {
        self.slot.map(|(worker, _)| worker.0)
    }

    /// The slot, as a parameter.
    pub(crate) fn slot_number(&self) -> Option<i16> {
        self.slot.map(|(_, slot)| slot.cast_signed())
    }

    /// Runs `work` on the session. Where it is cut short, by a lost connection, silence, or because the caller drops
    /// the future, the session is gone and the next call opens another.
    pub(crate) async fn run<T>(
        &mut self,
        doing: &str,
        work: impl AsyncFnOnce(&mut Session) -> sqlx::Result<T>,
    ) -> StoreResult<T> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open().await?,
        };
        let worked = timeout(self.connector.answer_within, work(&mut session)).await.map_err(|_| silent(doing))?;
        if worked.as_ref().err().is_none_or(is_usable_after) {
            self.session = Some(session);
        }
        worked.map_err(|error| failed(doing, error))
    }

    /// Forgets the session, so that the next call opens another with a new incarnation.
    pub(crate) fn forget(&mut self) {
        self.session = None;
    }

    async fn open(&self) -> StoreResult<Session> {
        let mut connection = self.connector.open(self.role).await?;
        let Some((worker, slot)) = self.slot else {
            return Ok(Session { connection, incarnation: 0 });
        };
        let doing = "renew a fence slot";
        let renewed: Option<i64> = answered(
            self.connector.answer_within,
            doing,
            sqlx::query_scalar(include_str!("../queries/fence_renew.sql"))
                .bind(worker.0)
                .bind(slot.cast_signed())
                .fetch_optional(&mut connection),
        )
        .await?;
        let incarnation = renewed.ok_or_else(|| fenced(worker))?;
        Ok(Session { connection, incarnation })
    }
}

async fn answered<T>(
    within: std::time::Duration,
    doing: &str,
    work: impl Future<Output = sqlx::Result<T>>,
) -> StoreResult<T> {
    timeout(within, work).await.map_err(|_| silent(doing))?.map_err(|error| failed(doing, error))
}
