//! The one writer: a thread with the one connection that writes, and a queue in front of it.
//!
//! While a transaction is under way, what arrives waits in the queue. All of it then goes into the next transaction, so
//! committers, starts and leases share one fsync. Each caller gets its answer after the commit. After an error that
//! needs a rollback, each piece of work of the transaction is tried again in one of its own, so that none fails because
//! of the row of another.
//!
//! The writer lives on a thread of its own, with a runtime of its own: callers come from several runtimes (a lease is
//! renewed from another thread), and a dropped caller or a stopped runtime must not leave a transaction open.

use std::sync::Arc;

use async_trait::async_trait;
use sapwood_core::clock::Clock;
use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::Checkpoints;
use crate::db::{Db, stored};
use crate::error::{again, classify, closed, permanent};
use crate::identity::Identity;
use crate::lent::{self, Lent};
use crate::lock::FileLock;
use crate::options::SqliteOptions;
use crate::reads::Reads;
use crate::work::Work;
use crate::{connect, schema};

/// Work that may wait. Callers are few (committers, starters, leases) and each waits for its answer, so the queue is
/// short by nature; the bound is for many clients that start trees at once.
const QUEUE: usize = 256;

/// Pieces of work in one transaction, which bounds how long the first of them waits for the last.
const GROUP: usize = 64;

/// The handle of the writer. The thread ends after [`Self::close`], or with the last handle.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Command>,
}

enum Command {
    Run(Box<dyn Job>),
    Migrate(oneshot::Sender<StoreResult<u16>>),
    Lend(oneshot::Sender<StoreResult<Lent>>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread. The lock on the file is released after the connection is closed.
    pub(crate) fn start(
        connection: SqliteConnection,
        options: SqliteOptions,
        identity: Option<Identity>,
        lock: Option<FileLock>,
        reads: Reads,
    ) -> StoreResult<Self> {
        let (queue, commands) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| permanent("cannot start the SQLite writer").caused_by(error))?;
        let clock = Arc::clone(&options.clock);
        let checkpoints = Checkpoints::of(&options, reads);
        let desk = Desk { connection: Some(connection), identity, checkpoints, options, clock };
        std::thread::Builder::new()
            .name("sqlite-queue".to_owned())
            .spawn(move || {
                runtime.block_on(desk.serve(commands));
                drop(lock);
            })
            .map_err(|error| permanent("cannot start the SQLite writer").caused_by(error))?;
        Ok(Self { queue })
    }

    /// Carries work out and answers once it is durable. Work that is queued is carried out even if this is dropped.
    pub(crate) async fn run<W: Work>(&self, work: W) -> StoreResult<W::Answer> {
        let (reply, answer) = oneshot::channel();
        let job = Pending { work, outcome: None, reply };
        self.queue.send(Command::Run(Box::new(job))).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Lends the connection, within a transaction that has just begun. What else is queued waits until it is given back.
    pub(crate) async fn borrow(&self) -> StoreResult<Lent> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Command::Lend(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Brings the schema up to date; returns how many lanes it has.
    pub(crate) async fn migrate(&self) -> StoreResult<u16> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Command::Migrate(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Carries out what is queued, closes the connection and releases the lock.
    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Command::Close(reply)).await.is_ok() {
            // An error means that the thread has ended already, and then all is closed too.
            let _ = answer.await;
        }
    }
}

/// Work of any type, with the caller that waits for it.
#[async_trait]
trait Job: Send {
    /// Carries it out. An error asks for a rollback; a refusal is an answer.
    async fn run(&mut self, db: &mut Db<'_>) -> StoreResult<()>;

    /// Answers the caller, after the commit.
    fn answer(self: Box<Self>);

    /// Tells the caller that nothing was applied, or that the outcome is unknown.
    fn fail(self: Box<Self>, error: StoreError);
}

struct Pending<W: Work> {
    work: W,
    outcome: Option<StoreResult<W::Answer>>,
    reply: oneshot::Sender<StoreResult<W::Answer>>,
}

#[async_trait]
impl<W: Work> Job for Pending<W> {
    async fn run(&mut self, db: &mut Db<'_>) -> StoreResult<()> {
        match self.work.run(db).await {
            Ok(answer) => self.outcome = Some(Ok(answer)),
            Err(error) if matches!(error.kind(), StoreErrorKind::Fenced | StoreErrorKind::Refused) => {
                self.outcome = Some(Err(error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // It fails if the caller has stopped waiting.
            let _ = self.reply.send(outcome);
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// What the thread works with.
struct Desk {
    /// None after a connection was given up, until the next use opens another.
    connection: Option<SqliteConnection>,
    /// The file that was opened first; `None` in memory. Nothing is acknowledged while another is at its path.
    identity: Option<Identity>,
    /// The bound on the write-ahead log; `None` in memory.
    checkpoints: Option<Checkpoints>,
    /// For opening the connection again.
    options: SqliteOptions,
    clock: Arc<dyn Clock>,
}

/// What a transaction failed of.
enum Failed {
    /// A piece of work: nothing was applied, and the others may succeed without it.
    Within(StoreError),
    /// Its begin, its commit or its connection: all share the error.
    Whole(StoreError),
}

impl Desk {
    async fn serve(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.recv().await {
            let (group, other) = gather(first, &mut commands);
            self.commit(group).await;
            if let Some(checkpoints) = &mut self.checkpoints {
                checkpoints.keep().await;
            }
            match other {
                None | Some(Command::Run(_)) => {}
                Some(Command::Migrate(reply)) => {
                    let migrated = self.migrate().await;
                    let _ = reply.send(migrated);
                }
                Some(Command::Lend(reply)) => self.lend(reply).await,
                Some(Command::Close(reply)) => {
                    self.close().await;
                    // The lock on the file is released when the thread ends, a moment after this answer.
                    let _ = reply.send(());
                    return;
                }
            }
        }
        self.close().await;
    }

    /// Commits a group in one transaction; if a piece of it fails, each piece alone.
    async fn commit(&mut self, mut group: Vec<Box<dyn Job>>) {
        if group.is_empty() {
            return;
        }
        match self.attempt(&mut group).await {
            Ok(()) => group.into_iter().for_each(|job| job.answer()),
            Err(Failed::Within(_)) if group.len() > 1 => {
                for job in group {
                    self.commit_alone(job).await;
                }
            }
            Err(Failed::Within(error) | Failed::Whole(error)) => fail_all(group, error),
        }
    }

    async fn commit_alone(&mut self, job: Box<dyn Job>) {
        let mut group = vec![job];
        match self.attempt(&mut group).await {
            Ok(()) => group.into_iter().for_each(|job| job.answer()),
            Err(Failed::Within(error) | Failed::Whole(error)) => fail_all(group, error),
        }
    }

    /// One transaction.
    async fn attempt(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let clock = Arc::clone(&self.clock);
        let connection = self.connection().await.map_err(Failed::Whole)?;
        match transact(connection, clock.as_ref(), group).await {
            // What was committed to a file that is gone is lost with it.
            Ok(()) => self.check_file().map_err(Failed::Whole),
            Err(failed) => {
                self.roll_back().await;
                Err(failed)
            }
        }
    }

    /// The connection; a new one if the last was given up.
    async fn connection(&mut self) -> StoreResult<&mut SqliteConnection> {
        if self.connection.is_none() {
            // Before, or an empty file would be made where the database was.
            self.check_file()?;
            self.connection = Some(connect::writer(&self.options).await?);
        }
        self.connection.as_mut().ok_or_else(closed)
    }

    fn check_file(&self) -> StoreResult<()> {
        self.identity.as_ref().map_or(Ok(()), Identity::check)
    }

    /// Ends a failed transaction. If SQLite has ended it by itself (a full disk, a failed write), this fails too, and
    /// the connection is given up: the next one reads what the file says. One in memory is kept, because it is the
    /// database.
    async fn roll_back(&mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        if let Err(error) = sqlx::query("rollback").execute(connection).await
            && self.options.file.is_some()
        {
            tracing::warn!(%error, "the SQLite connection is opened again");
            self.connection = None;
        }
    }

    /// Lends the connection and waits for it. A caller that has stopped waiting gives it back at once.
    async fn lend(&mut self, reply: oneshot::Sender<StoreResult<Lent>>) {
        let connection = match self.begin().await {
            Ok(connection) => connection,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let (back, given_back) = oneshot::channel();
        let _ = reply.send(Ok(Lent::new(connection, back, self.identity.clone(), Arc::clone(&self.clock))));
        let Ok(mut connection) = given_back.await else { return };
        let is_as_before = lent::roll_back(&mut connection).await;
        if is_as_before || self.options.file.is_none() {
            self.connection = Some(connection);
        } else {
            tracing::warn!("the SQLite connection is opened again");
        }
    }

    async fn begin(&mut self) -> StoreResult<SqliteConnection> {
        lent::begin(self.connection().await?).await?;
        self.connection.take().ok_or_else(closed)
    }

    async fn migrate(&mut self) -> StoreResult<u16> {
        let (location, now) = (self.options.location(), stored(self.clock.now()));
        let connection = self.connection().await?;
        schema::migrate(connection, &location, now).await
    }

    async fn close(&mut self) {
        if let Some(checkpoints) = self.checkpoints.take() {
            checkpoints.close().await;
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the SQLite database was not closed cleanly");
        }
    }
}

/// The work that is queued now, and the first command after it that is not work.
fn gather(first: Command, commands: &mut mpsc::Receiver<Command>) -> (Vec<Box<dyn Job>>, Option<Command>) {
    let mut group = Vec::new();
    let mut next = Some(first);
    while let Some(command) = next.take() {
        match command {
            Command::Run(job) => group.push(job),
            other => return (group, Some(other)),
        }
        if group.len() < GROUP {
            next = commands.try_recv().ok();
        }
    }
    (group, None)
}

async fn transact(
    connection: &mut SqliteConnection,
    clock: &dyn Clock,
    group: &mut [Box<dyn Job>],
) -> Result<(), Failed> {
    let whole = |error| Failed::Whole(classify(error));
    sqlx::query("begin immediate").execute(&mut *connection).await.map_err(whole)?;
    // Read under the write lock, so times ascend with commits as far as those of the clock do.
    let mut db = Db::new(&mut *connection, stored(clock.now()));
    for job in group {
        job.run(&mut db).await.map_err(|error| match error.kind() {
            StoreErrorKind::Connection => Failed::Whole(error),
            _ => Failed::Within(error),
        })?;
    }
    sqlx::query("commit").execute(&mut *connection).await.map_err(whole)?;
    Ok(())
}

fn fail_all(group: Vec<Box<dyn Job>>, error: StoreError) {
    let mut group = group.into_iter();
    let first = group.next();
    group.for_each(|job| job.fail(again(&error)));
    if let Some(job) = first {
        job.fail(error);
    }
}
