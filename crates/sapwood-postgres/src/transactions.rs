//! Transactions of authors: what a transactional step writes, and the turn that records it, are one commit (T1).
//!
//! ```text
//!   begin ── the author's SQL ── check ── the committing statement of one turn ── commit
//! ```
//!
//! An author's SQL is planned as the server plans by itself; only what follows it is planned as for all other connections.
//! Each connection has a fence of its own, as a committer has, and the committing statement is the last one before the
//! commit. So a worker that was declared dead commits nothing of its authors either, and what became of a commit whose
//! answer was lost is found out in the same way.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{
    Committer, Database, Recovered, StepTransaction, StoreError, StoreErrorKind, StoreResult, Transactions, Turn,
    Unprepared, Verdict,
};
use sqlx::PgConnection;
use sqlx::postgres::PgTransactionManager;
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::committer::PostgresCommitter;
use crate::connect::Connector;
use crate::error::{failed, is_of_a_failed_transaction, is_of_the_connection, unanswered};
use crate::fenced::Session;
use crate::fields::Fields;

/// PostgreSQL, as where authors write: `#[dependencies(of = Orders, database = sapwood::Postgres)]`.
#[derive(Debug, Clone, Copy)]
pub struct Postgres;

impl Database for Postgres {
    type Connection = PgConnection;
    type Error = sqlx::Error;
    const KIND: &'static str = "postgres";
}

/// Transactions on a few connections, which are opened when they are needed.
pub(crate) struct PostgresTransactions {
    places: Arc<Places>,
    permits: Arc<Semaphore>,
}

/// The connections on which no transaction is open.
struct Places(Mutex<Vec<PostgresCommitter>>);

impl Places {
    fn lock(&self) -> MutexGuard<'_, Vec<PostgresCommitter>> {
        // Nothing that holds this lock can panic half way, so what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PostgresTransactions {
    /// Opens nothing yet.
    pub(crate) fn new(connector: &Connector, worker: WorkerId, fences: Range<u16>) -> Self {
        let permits = Arc::new(Semaphore::new(fences.len()));
        let places = fences.map(|fence| PostgresCommitter::of_author(connector.clone(), worker, fence)).collect();
        Self { places: Arc::new(Places(Mutex::new(places))), permits }
    }
}

#[async_trait]
impl Transactions for PostgresTransactions {
    async fn begin(&self) -> StoreResult<Box<dyn StepTransaction>> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| gone())?;
        // The one that was given back last: its connection is the warmest.
        let committer = self.places.lock().pop().ok_or_else(gone)?;
        let mut transaction = PostgresTransaction {
            committer: Some(committer),
            places: Arc::clone(&self.places),
            begun: 0,
            is_over: false,
            none: (),
            _permit: permit,
        };
        transaction.begun = transaction.begin().await?;
        Ok(Box::new(transaction))
    }
}

/// A transaction on one of the connections.
struct PostgresTransaction {
    /// `None` only while it is dropped.
    committer: Option<PostgresCommitter>,
    places: Arc<Places>,
    /// The time of the transaction, by which it is known again.
    begun: i64,
    /// It was committed or rolled back, and its connection can be used again.
    is_over: bool,
    /// What is lent if the connection is gone.
    none: (),
    _permit: OwnedSemaphorePermit,
}

/// It was asked for something after its end.
fn gone() -> StoreError {
    StoreError::new(StoreErrorKind::Transient, "the connection of the transaction is gone")
}

impl PostgresTransaction {
    fn committer(&mut self) -> StoreResult<&mut PostgresCommitter> {
        self.committer.as_mut().ok_or_else(gone)
    }

    fn session(&mut self) -> StoreResult<&mut Session> {
        self.committer()?.fenced.session().ok_or_else(gone)
    }

    async fn begin(&mut self) -> StoreResult<i64> {
        let committer = self.committer()?;
        let open = committer.fenced.sql(include_str!("../queries/transaction_open.sql"));
        let doing = "begin a transaction";
        let row = committer.fenced.run(doing, async |session| {
            PgTransactionManager::begin(&mut session.connection, None).await?;
            sqlx::query(open).fetch_one(&mut session.connection).await
        });
        Fields::of(&row.await?, doing).plain("begun")
    }

    /// Asks for everything that only a commit would check, and whether the transaction is still the one that was begun.
    async fn check(&mut self) -> Result<Option<String>, sqlx::Error> {
        let begun = self.begun;
        let Some(committer) = self.committer.as_mut() else { return Err(sqlx::Error::PoolClosed) };
        let check = committer.fenced.sql(include_str!("../queries/transaction_check.sql"));
        let configure = committer.fenced.sql(include_str!("../queries/connection_configure.sql"));
        let Some(session) = committer.fenced.session() else { return Err(sqlx::Error::PoolClosed) };
        let connection = &mut session.connection;
        if PgTransactionManager::get_transaction_depth(connection) > 1 {
            return Ok(Some("it leaves a transaction open that it began within the step's".to_owned()));
        }
        sqlx::raw_sql("set constraints all immediate").execute(&mut *connection).await?;
        let row = sqlx::query(check).bind(begun).fetch_one(&mut *connection).await?;
        let row = Fields::of(&row, "check a transaction");
        let read = |error: StoreError| sqlx::Error::Decode(error.into());
        if !row.plain::<bool>("is_same").map_err(read)? {
            return Ok(Some("it ends the transaction by itself: the step does that".to_owned()));
        }
        if let Some(table) = row.plain::<Option<String>>("written").map_err(read)? {
            return Ok(Some(format!("it writes to {table}, which is the engine's")));
        }
        sqlx::query(configure).bind(true).execute(&mut *connection).await?;
        Ok(None)
    }
}

#[async_trait]
impl StepTransaction for PostgresTransaction {
    fn connection(&self) -> &(dyn Any + Send) {
        match self.committer.as_ref().and_then(|committer| committer.fenced.session_ref()) {
            Some(session) => &session.connection,
            None => &self.none,
        }
    }

    fn connection_mut(&mut self) -> &mut (dyn Any + Send) {
        match self.committer.as_mut().and_then(|committer| committer.fenced.session()) {
            Some(session) => &mut session.connection,
            None => &mut self.none,
        }
    }

    async fn prepare(&mut self) -> Result<(), Unprepared> {
        let doing = "check a transaction";
        let within = self.committer().map_err(Unprepared::Store)?.fenced.answers_within();
        let checked = timeout(within, self.check()).await.map_err(|_| Unprepared::Store(unanswered(doing)))?;
        match checked {
            Ok(None) => Ok(()),
            Ok(Some(misuse)) => Err(Unprepared::Misused(misuse)),
            Err(error) if is_of_a_failed_transaction(&error) => {
                let why =
                    "it passes over an error of the database, after which nothing of its transaction can be committed";
                Err(Unprepared::Misused(why.to_owned()))
            }
            Err(error) if is_of_the_connection(&error) => Err(Unprepared::Store(failed(doing, error))),
            Err(error) => Err(Unprepared::Refused(Box::new(error))),
        }
    }

    async fn commit(&mut self, turn: &Turn) -> StoreResult<Verdict> {
        let committer = self.committer()?;
        let verdicts = committer.commit(std::slice::from_ref(turn)).await?;
        match verdicts.first() {
            Some(Verdict::Committed) => {
                let commit = async |session: &mut Session| PgTransactionManager::commit(&mut session.connection).await;
                committer.fenced.run("commit a transaction", commit).await?;
                self.is_over = true;
                Ok(Verdict::Committed)
            }
            Some(Verdict::Busy) => Ok(Verdict::Busy),
            Some(Verdict::Refused) | None => Ok(Verdict::Refused),
        }
    }

    async fn recover(&mut self, turn: &Turn) -> StoreResult<Recovered> {
        let recovered = self.committer()?.recover(std::slice::from_ref(turn)).await?;
        // The session is another one: nothing of the transaction is left.
        self.is_over = true;
        Ok(recovered.first().copied().unwrap_or(Recovered::Refused))
    }

    async fn roll_back(mut self: Box<Self>) -> StoreResult<()> {
        let doing = "roll a transaction back";
        let within = self.committer()?.fenced.answers_within();
        let session = self.session()?;
        let connection = &mut session.connection;
        let rolling_back = async {
            while PgTransactionManager::get_transaction_depth(connection) > 0 {
                PgTransactionManager::rollback(connection).await?;
            }
            sqlx::Result::<()>::Ok(())
        };
        // A connection that cannot be used again is closed, and with it the transaction.
        let rolled_back = timeout(within, rolling_back).await.map_err(|_| unanswered(doing))?;
        rolled_back.map_err(|error| failed(doing, error))?;
        self.is_over = true;
        Ok(())
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        let Some(mut committer) = self.committer.take() else { return };
        if !self.is_over {
            committer.fenced.forget();
        }
        self.places.lock().push(committer);
    }
}
