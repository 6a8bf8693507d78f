//! The store port: where a context keeps its trees, journal, timers and events.
//!
//! The port is narrow because one call carries a whole decision: the central one, [`Committer::commit`], takes a
//! batch of [`Turn`]s, each all or nothing. No method names a driver's type. Roles are separate traits, [`Store`] is
//! their sum; three objects with a connection of their own ([`Committer`], [`Starter`], [`Lease`]) hang off it.
//!
//! Fencing: a worker joins with a number of fence slots. A committer or a starter is bound to one slot, takes that
//! slot's row `for key share` in every commit and names that it is alive. Burying a worker takes its rows
//! `for update`, so after [`Membership::worker_bury`] returned, nothing of the dead worker is committed any more.

mod error;
mod events;
mod reading;
mod start;
mod turn;

use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use jiff::Timestamp;

pub use error::{StoreError, StoreErrorKind};
pub use events::{
    Assigned, LaneLease, LaneMove, LogRecord, LoggedRecord, OutboxEvent, OutboxRow, TopicPartition, headers_from_json,
    headers_to_json, lane_of,
};
pub use reading::{Outcome, TreeFilter};
pub use start::{Intake, KeyScope, NewTree, PositionMove, Start, StartKey, Started};
pub use turn::{Birth, InvocationChange, Next, Ownership, Recovered, Turn, Verdict};

use crate::tree::{InvocationImage, TreeImage, TreeRecord, TreeRow};
use crate::{Path, TreeId, WorkerId};

/// The result of every method of the port.
pub type StoreResult<T> = Result<T, StoreError>;

/// Everything a context asks of its store.
#[async_trait]
pub trait Store: Membership + Trees + Reading + Choreography + Send + Sync + 'static {
    /// What and where the store is; nothing secret.
    fn info(&self) -> StoreInfo;

    /// Whether the store answers.
    async fn ping(&self) -> StoreResult<()>;

    /// Hints from everybody on this store, this process included. A hint may be missing or wrong; whoever listens
    /// polls slowly besides. The stream ends when the store closes.
    fn hints(&self) -> BoxStream<'static, Hint>;

    /// Tells everybody on this store. Never part of a commit of trees.
    async fn hint(&self, hints: &[Hint]) -> StoreResult<()>;

    /// Closes all connections, after what is under way.
    async fn close(&self);
}

/// What and where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// `sqlite` or `postgres`.
    pub kind: &'static str,
    /// The file, or the server with database and schema, without credentials.
    pub place: String,
    /// Lanes of the outbox, fixed when the schema was created.
    pub lanes: u16,
    /// Committers that are of use; more only wait for each other.
    pub committers: u16,
    /// How durable a commit is, as the database says: pairs such as `("synchronous_commit", "on")`.
    pub durability: Vec<(String, String)>,
}

/// Something that may be worth a look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A tree without owner may be ready to be claimed.
    Ready,
    /// The outbox has new rows.
    Outbox,
    /// A topic of the store's own log has new records.
    Log(String),
    /// A tree has settled.
    Settled,
}

/// Who works on this store.
#[async_trait]
pub trait Membership {
    /// Registers a worker with `slots` fence rows, its lease running from now by the database's clock.
    async fn worker_join(&self, name: &str, slots: u16, lease: Duration) -> StoreResult<WorkerId>;

    /// What renews the worker's lease, on a connection of its own opened by the first renewal, so that it may live on
    /// a thread and a runtime of its own.
    fn lease(&self, worker: WorkerId) -> Box<dyn Lease>;

    /// Declares dead, for ever, those of `expired` whose lease is over by the database's clock; says which.
    ///
    /// Returns only when no commit of theirs is under way. Their trees are claimed as if nobody owned them.
    async fn worker_bury(&self, by: WorkerId, expired: &[WorkerId]) -> StoreResult<Vec<WorkerId>>;

    /// Ends a worker's life by its own will; what it still owns is claimed by others at once.
    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()>;
}

/// Renews one worker's lease.
#[async_trait]
pub trait Lease: Send {
    /// Moves the lease's end to now plus `lease`, by the database's clock, and names the other workers whose lease is
    /// over and who were not declared dead yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`] where this worker was declared dead.
    async fn renew(&mut self, lease: Duration) -> StoreResult<Vec<WorkerId>>;
}

/// Trees and their commits.
#[async_trait]
pub trait Trees {
    /// A committer on a connection of its own, bound to fence slot `slot` of `worker`.
    fn committer(&self, worker: WorkerId, slot: u16) -> Box<dyn Committer>;

    /// What starts trees and takes events in, on a connection of its own. With a worker and slot, the trees are
    /// inserted owned by it; without, they have no owner and are ready at once.
    fn starter(&self, owner: Option<(WorkerId, u16)>) -> Box<dyn Starter>;

    /// Claims at most `limit` trees for `worker`: those without owner whose time has come, and those whose owner is
    /// not alive; only where `needs` is null or among `versions`. Each claim moves the revision on by one, clears
    /// `ready_at` and `needs` and sets the state to running. Skips trees that somebody holds locked.
    async fn trees_claim(&self, worker: WorkerId, limit: usize, versions: &[String]) -> StoreResult<Claims>;

    /// What is needed to go on with a claimed tree.
    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>>;

    /// All that one activation reads, in one round trip where the database allows.
    async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>>;
}

/// What a claim took, and when to come again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// The rows of the trees claimed, as they are now.
    pub trees: Vec<Claimed>,
    /// The earliest `ready_at` of the trees without owner that are left.
    pub next_ready_at: Option<Timestamp>,
}

/// A claimed tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its row, as it is now.
    pub row: TreeRow,
    /// Whether it was taken from a worker that is not alive: then what ran there is found and run again.
    pub taken_over: bool,
}

/// Commits turns on a connection of its own.
#[async_trait]
pub trait Committer: Send {
    /// Commits a batch, each turn all or nothing: one verdict a turn, in order.
    ///
    /// A turn is accepted if and only if this worker's fence slot is alive, the tree's owner is this worker, and
    /// revision, control counter and (where the turn names it) inbox counter are as the turn expects; or, for a turn
    /// with a [`Birth`], if the tree is new. At most one turn of a tree is in a batch.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`]: the fence was refused, nothing was applied, nothing ever will be.
    /// [`StoreErrorKind::Connection`]: the outcome is unknown; ask [`Self::recover`].
    /// [`StoreErrorKind::Transient`], [`StoreErrorKind::Permanent`]: nothing was applied.
    async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>>;

    /// Finds out what became of a batch whose outcome is unknown: on a new connection takes the fence row
    /// `for update`, which waits for the old statement, gives it a new incarnation, which every commit names, and
    /// reads the revisions.
    ///
    /// # Errors
    /// [`StoreErrorKind::Connection`] while the database cannot be reached: ask again later.
    async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>>;
}

/// Starts trees whose existence is contested: with a caller's id, or by an event.
#[async_trait]
pub trait Starter: Send {
    /// Starts each tree whose key is free; tells for each what holds its key. Idempotent for starts with a key: after
    /// an unknown outcome send the same again, with the same tree ids.
    async fn start(&mut self, starts: &[Start]) -> StoreResult<Vec<Started>>;

    /// Accepts a poll batch of events: positions, keys for dedupe and new trees in one commit.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] where a position's epoch is not the one of the last assignment: nothing was
    /// applied, another member has the partition.
    async fn intake(&mut self, batch: &Intake) -> StoreResult<Vec<Started>>;
}

/// What readers ask.
#[async_trait]
pub trait Reading {
    /// A tree's row.
    async fn tree_row(&self, tree: TreeId) -> StoreResult<Option<TreeRow>>;

    /// A whole tree, as of one moment.
    async fn tree_read(&self, tree: TreeId) -> StoreResult<Option<TreeRecord>>;

    /// Rows of trees, newest first.
    async fn tree_list(&self, filter: &TreeFilter) -> StoreResult<Vec<TreeRow>>;

    /// The tree that holds a key.
    async fn key_find(&self, scope: &KeyScope, key: &str) -> StoreResult<Option<TreeId>>;

    /// The outcome of a tree's root, `None` where there is no such tree.
    async fn outcome_read(&self, tree: TreeId) -> StoreResult<Option<Outcome>>;
}

/// Outbox, positions of consumers, and the store's own log.
#[async_trait]
pub trait Choreography {
    /// Leases lanes that no live worker publishes, at most `limit`; returns all lanes the worker then holds.
    async fn lanes_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>>;

    /// Rows of a lane after `after`, in order, at most `limit`.
    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<Vec<OutboxRow>>;

    /// Writes cursors back; returns the lanes that were lost to another publisher, whose cursors did not move.
    async fn lanes_advance(&self, worker: WorkerId, moves: &[LaneMove]) -> StoreResult<Vec<u16>>;

    /// Gives all lanes of a worker back.
    async fn lanes_release(&self, worker: WorkerId) -> StoreResult<()>;

    /// Takes partitions for `group`, giving each the next epoch, and says where to go on.
    async fn intake_assign(&self, group: &str, partitions: &[TopicPartition]) -> StoreResult<Vec<Assigned>>;

    /// Appends to the store's own log: the embedded default's broker. Offsets follow commit order within a topic.
    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()>;

    /// Records of a topic from `offset` on, in order, at most `limit`.
    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<Vec<LoggedRecord>>;
}
