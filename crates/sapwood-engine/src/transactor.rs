//! The transactions of authors, as a worker begins and commits them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood_core::retry::Backoff;
use sapwood_core::store::{Recovered, StepTransaction, StoreError, StoreErrorKind, Transactions, Turn, Verdict};

use crate::environment::Environment;
use crate::life::Life;
use crate::outage::{Outage, Pause, User};

/// The first pause before a turn is tried again whose tree's row is locked: about the length of a commit.
const BUSY_FIRST: Duration = Duration::from_millis(1);

/// The longest such pause.
const BUSY_LONGEST: Duration = Duration::from_millis(250);

/// How often a turn is tried whose tree's row stays locked. Then its transaction is rolled back: what it holds others may
/// wait for.
const BUSY_TRIES: u32 = 20;

/// Begins and commits the transactions of a worker's authors.
pub(crate) struct Transactor {
    /// `None` once the engine has ended.
    transactions: Mutex<Option<Arc<dyn Transactions>>>,
    environment: Arc<dyn Environment>,
    life: Arc<Life>,
    outage: Arc<Outage>,
}

impl Transactor {
    pub(crate) fn new(
        transactions: Box<dyn Transactions>,
        environment: &Arc<dyn Environment>,
        life: &Arc<Life>,
        outage: &Arc<Outage>,
    ) -> Self {
        let (environment, life, outage) = (Arc::clone(environment), Arc::clone(life), Arc::clone(outage));
        Self { transactions: Mutex::new(Some(transactions.into())), environment, life, outage }
    }

    /// Begins a transaction, once the store answers and a connection is free. Never returns once the engine has ended.
    pub(crate) async fn begin(&self) -> Box<dyn StepTransaction> {
        let transactions = self.transactions.lock().clone();
        let Some(transactions) = transactions else { return std::future::pending().await };
        match self.outage.of(User::Transactions).outlast(|| transactions.begin()).await {
            Ok(transaction) => transaction,
            Err(error) => {
                if matches!(error.kind(), StoreErrorKind::Fenced | StoreErrorKind::Refused) {
                    self.life.end_fenced(&error);
                }
                tracing::warn!("no transaction of a step begins: {error}");
                std::future::pending().await
            }
        }
    }

    /// The engine has ended: connections that are not in use are closed.
    pub(crate) fn close(&self) {
        self.transactions.lock().take();
    }

    /// The store failed while a transaction was open: pauses before the next.
    pub(crate) async fn failed(&self, error: &StoreError) {
        self.outage.of(User::Transactions).pause().after(error).await;
    }

    /// Commits a turn with a transaction: whether it was committed, or an error if the store refuses the turn for good.
    pub(crate) async fn commit(&self, mut transaction: Box<dyn StepTransaction>, turn: &Turn) -> Result<bool, String> {
        let store = self.outage.of(User::Transactions);
        let mut pause = store.pause();
        let mut busy = Backoff::new(BUSY_FIRST, BUSY_LONGEST);
        for _ in 0..BUSY_TRIES {
            let error = match transaction.commit(turn).await {
                Ok(Verdict::Busy) => {
                    tokio::time::sleep(busy.failed(self.environment.jitter())).await;
                    continue;
                }
                Ok(verdict) => {
                    store.answered();
                    return Ok(verdict == Verdict::Committed);
                }
                Err(error) => error,
            };
            return match error.kind() {
                StoreErrorKind::Permanent | StoreErrorKind::Unreadable => {
                    store.answered();
                    Err(error.to_string())
                }
                StoreErrorKind::Connection => Ok(self.recovered(transaction.as_mut(), turn, &error, &mut pause).await),
                StoreErrorKind::Transient => {
                    pause.after(&error).await;
                    Ok(false)
                }
                StoreErrorKind::Fenced | StoreErrorKind::Refused => {
                    self.life.end_fenced(&error);
                    Ok(false)
                }
            };
        }
        Ok(false)
    }

    /// Whether a turn was committed whose answer was lost. If it was not, what its transaction wrote is lost with it, so that
    /// it is never sent again.
    async fn recovered(
        &self,
        transaction: &mut dyn StepTransaction,
        turn: &Turn,
        error: &StoreError,
        pause: &mut Pause<'_>,
    ) -> bool {
        if !pause.after(error).await {
            return false;
        }
        loop {
            match transaction.recover(turn).await {
                Ok(recovered) => return recovered == Recovered::Committed,
                Err(error) if pause.after(&error).await => {}
                Err(error) => {
                    self.life.end_fenced(&error);
                    return false;
                }
            }
        }
    }
}
