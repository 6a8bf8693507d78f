//! `cx.transaction`: a step whose effect is in the context's own database, in one commit with its result.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use sapwood_core::json::NotRecordable;
use sapwood_core::retry::RetryPolicy;
use sapwood_core::store::{Database, StepTransaction, StoreResult, Unprepared};
use sapwood_core::{Failure, Position, Transactional};
use tokio::time::Sleep;

use super::Cx;
use super::result::StepResult;
use super::step::timed_out;
use crate::activation::{Cell, OpenTransaction, StepKind, StepPoll, StepWaker};
use crate::function::Recordable;
use crate::payload::{BodyError, BodyResult, record_and_read};
use crate::replay::{Asked, OpKind};
use crate::transaction::{Place, Transaction};

/// How long an attempt may take, with the wait for a connection: what a transaction holds others wait for.
const TIMEOUT: Duration = Duration::from_secs(30);

impl<D: Transactional> Cx<D> {
    /// Runs SQL in the context's own database, and commits it together with the step's result: both are durable or neither
    /// is, whatever crashes. So what `run` writes is written once, without an idempotency key.
    ///
    /// `run` is given a transaction, which is committed when it returns `Ok` and rolled back when it returns an error. It
    /// may nest transactions in it, and does not end it. Isolation is `read committed`; deferred constraints are checked as
    /// `run` returns. Everything else is as of a [step](Self::step): it begins when everything recorded before is durable, and
    /// never runs again once its result is. What else is recorded of the tree waits while a transaction of it is open; on
    /// SQLite, everything that writes does.
    ///
    /// A cancellation, or a deadline, rolls back what is under way. If the connection is lost, `run` is called again, whatever it
    /// returned.
    ///
    /// ```text
    /// let entry = cx.transaction("ledger", async |mut tx| ledger::insert(&mut tx, &payment).await).await?;
    /// ```
    ///
    /// # Errors
    /// The handle gives the last error of `run`, or of the database as it checks what `run` did.
    #[track_caller]
    pub fn transaction<'a, T, E, Fut, Run>(
        &mut self,
        name: &str,
        mut run: Run,
    ) -> TransactionHandle<'a, D::Database, T, E>
    where
        T: Recordable,
        E: Failure + From<<D::Database as Database>::Error>,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
        Run: FnMut(Transaction<D::Database>) -> Fut + Send + 'a,
    {
        let location = Location::caller();
        let (position, _) = self.cell.ask(&Asked { kind: OpKind::Step, name, input: None, location });
        TransactionHandle {
            cell: Arc::clone(&self.cell),
            position,
            location,
            policy: RetryPolicy::STEP,
            timeout: TIMEOUT,
            run: Box::new(move |transaction| Box::pin(run(transaction)) as Work<'a, T, E>),
            attempt: None,
            result: StepResult::new(),
            waker: None,
        }
    }
}

/// What an author does in a transaction.
type Work<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// How far an attempt under way has come.
enum Phase<'a, B: Database, T, E> {
    /// It waits for a transaction.
    Begins(BoxFuture<'static, Result<(Transaction<B>, Place), String>>),
    /// Its author works in the transaction, which comes back to its place.
    Works(Work<'a, T, E>, Place),
    /// It is judged, or rolled back.
    Ends(BoxFuture<'static, Ending<T>>),
}

/// An attempt under way.
struct Attempt<'a, B: Database, T, E> {
    phase: Phase<'a, B, T, E>,
    /// Ends it.
    timer: Pin<Box<Sleep>>,
}

/// How an attempt ends.
enum Ending<T> {
    /// With this result.
    Ended(Result<BodyResult, NotRecordable>),
    /// With a result that waits for its commit; beside it as it is read from its stored form.
    Prepared(BodyResult, T, OpenTransaction),
    /// With what no author may do.
    Misused(String),
    /// The store failed, and nothing was applied: it begins again.
    Lost,
}

/// A transactional step. Await it for its result.
#[must_use = "a step does nothing unless it is awaited"]
pub struct TransactionHandle<'a, B: Database, T, E> {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
    policy: RetryPolicy,
    timeout: Duration,
    run: Box<dyn FnMut(Transaction<B>) -> Work<'a, T, E> + Send + 'a>,
    /// The attempt under way; `None` between two attempts.
    attempt: Option<Attempt<'a, B, T, E>>,
    result: StepResult<T, E>,
    /// What the attempt was last polled with.
    waker: Option<StepWaker>,
}

impl<B: Database, T, E> TransactionHandle<'_, B, T, E> {
    /// Gives the step a retry policy of its own instead of [`RetryPolicy::STEP`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Gives each attempt this time instead of 30 seconds, with the wait for a connection. One that takes longer is rolled
    /// back, and counts like a transient error, as [`StepHandle::timeout`](super::StepHandle::timeout) says.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<B, T, E> Future for TransactionHandle<'_, B, T, E>
where
    B: Database,
    T: Recordable,
    E: Failure + From<B::Error>,
{
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.cell.poll_step(this.position, task.waker(), this.location, StepKind::Transactional) {
            StepPoll::Ready(completion) => {
                Poll::Ready(this.result.read(&this.cell, (this.position, this.location), completion))
            }
            StepPoll::Wait => Poll::Pending,
            StepPoll::Run => {
                let ending = this.run_on(task);
                let (result, transaction) = match ending {
                    Some(Ending::Misused(misuse)) => this.misuse(&misuse),
                    Some(Ending::Ended(result)) => (Some(result), None),
                    Some(Ending::Prepared(result, read, transaction)) => {
                        this.result.keep(read);
                        (Some(Ok(result)), Some(transaction))
                    }
                    Some(Ending::Lost) | None => (None, None),
                };
                this.cell.leave_step(this.position, &this.policy, this.location, result, transaction);
                Poll::Pending
            }
        }
    }
}

impl<B, T, E> TransactionHandle<'_, B, T, E>
where
    B: Database,
    T: Recordable,
    E: Failure + From<B::Error>,
{
    /// Polls the attempt under way; begins one if there is none. `None` while it goes on.
    fn run_on(&mut self, task: &mut Context<'_>) -> Option<Ending<T>> {
        let waker = StepWaker::of(task.waker(), &mut self.waker);
        let task = &mut Context::from_waker(&waker);
        loop {
            let ending = match self.go_on(task) {
                Poll::Pending => return None,
                Poll::Ready(ending) => ending,
            };
            self.attempt = None;
            if !matches!(ending, Ending::Lost) {
                return Some(ending);
            }
        }
    }

    fn go_on(&mut self, task: &mut Context<'_>) -> Poll<Ending<T>> {
        let (cell, timeout) = (&self.cell, self.timeout);
        let attempt = self.attempt.get_or_insert_with(|| Attempt {
            phase: Phase::Begins(begin(cell)),
            timer: Box::pin(tokio::time::sleep(timeout)),
        });
        loop {
            let next = match &mut attempt.phase {
                Phase::Begins(begins) => match begins.as_mut().poll(task) {
                    Poll::Pending => break,
                    Poll::Ready(Err(misuse)) => return Poll::Ready(Ending::Misused(misuse)),
                    Poll::Ready(Ok((transaction, place))) => Phase::Works((self.run)(transaction), place),
                },
                Phase::Works(work, place) => match work.as_mut().poll(task) {
                    Poll::Pending => break,
                    Poll::Ready(worked) => match place.take() {
                        Some(transaction) => Phase::Ends(end::<B, T, E>(cell, transaction, worked)),
                        None => {
                            let why = "its transaction is still in use when its closure has returned";
                            return Poll::Ready(Ending::Misused(why.to_owned()));
                        }
                    },
                },
                Phase::Ends(ends) => match ends.as_mut().poll(task) {
                    Poll::Pending => break,
                    Poll::Ready(ending) => return Poll::Ready(ending),
                },
            };
            attempt.phase = next;
        }
        match attempt.timer.as_mut().poll(task) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Ending::Ended(timed_out::<E>(cell, self.position, timeout))),
        }
    }

    fn misuse(&self, misuse: &str) -> ! {
        let message = format!("step {}: {misuse}", self.cell.step(self.position).0);
        self.cell.misuse(self.position, self.location, &message)
    }
}

impl<B: Database, T, E> Drop for TransactionHandle<'_, B, T, E> {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}

/// Waits for a transaction.
fn begin<B: Database>(cell: &Cell) -> BoxFuture<'static, Result<(Transaction<B>, Place), String>> {
    let transactor = cell.facts().transactor.clone();
    Box::pin(async move {
        let Some(transactor) = transactor else {
            return Err("the store of this context takes no transactions of authors".to_owned());
        };
        let transaction = transactor.begin().await;
        Transaction::of(transaction)
            .ok_or_else(|| "the store's transactions are not of the database that the context declares".to_owned())
    })
}

/// Judges what an author did, or rolls it back.
fn end<B, T, E>(
    cell: &Cell,
    transaction: Box<dyn StepTransaction>,
    worked: Result<T, E>,
) -> BoxFuture<'static, Ending<T>>
where
    B: Database,
    T: Recordable,
    E: Failure + From<B::Error>,
{
    let transactor = cell.facts().transactor.clone();
    Box::pin(async move {
        match judge::<B, T, E>(transaction, worked).await {
            Ok(ending) => ending,
            Err(error) => {
                if let Some(transactor) = transactor {
                    transactor.failed(&error).await;
                }
                Ending::Lost
            }
        }
    })
}

/// # Errors
/// The store's, if it was lost meanwhile. Whatever the author says of that is no error of the author's.
async fn judge<B, T, E>(mut transaction: Box<dyn StepTransaction>, worked: Result<T, E>) -> StoreResult<Ending<T>>
where
    B: Database,
    T: Recordable,
    E: Failure + From<B::Error>,
{
    let recorded = match &worked {
        Ok(value) => record_and_read(value).map(Ok),
        Err(error) => BodyError::of(error).map(Err),
    };
    let (stored, read) = match recorded {
        Ok(Ok(recorded)) => recorded,
        Ok(Err(error)) => return transaction.roll_back().await.map(|()| Ending::Ended(Ok(Err(error)))),
        Err(error) => return transaction.roll_back().await.map(|()| Ending::Ended(Err(error))),
    };
    match transaction.prepare().await {
        Ok(()) => Ok(Ending::Prepared(Ok(stored), read, OpenTransaction(transaction))),
        Err(Unprepared::Misused(misuse)) => Ok(Ending::Misused(misuse)),
        Err(Unprepared::Refused(error)) => {
            transaction.roll_back().await?;
            Ok(match error.downcast::<B::Error>() {
                Ok(error) => Ending::Ended(BodyError::of(&E::from(*error)).map(Err)),
                Err(_) => Ending::Misused("the database's error is not of the kind that it declares".to_owned()),
            })
        }
        Err(Unprepared::Store(error)) => Err(error),
    }
}
