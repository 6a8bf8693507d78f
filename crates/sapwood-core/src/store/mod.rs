//! The store port: where a context keeps its trees, journal, timers and events.
//!
//! The port is narrow because one call carries a whole decision: the central one, [`Committer::commit`], takes a batch
//! of [`Turn`]s, each all or nothing. No method names a type of a database's driver. Each role is a trait in a file of
//! its own, beside the types that it takes and gives; [`Store`] is the sum of the roles.
//!
//! | room | role | what it does |
//! |---|---|---|
//! | `membership` | [`Membership`], [`Lease`] | the workers of this store, and which of them are alive |
//! | `trees` | [`Trees`] | claims, and what a worker loads of a tree |
//! | `turn` | [`Committer`] | commits what trees recorded |
//! | `starting` | [`Starter`] | starts trees whose existence others may contest, and takes events in |
//! | `governing` | [`Governing`] | requests for trees from outside |
//! | `promises` | [`Promises`] | external promises, and settling them from outside |
//! | `reading` | [`Reading`] | the queries of readers |
//! | `outbox` | [`Outbox`] | events that wait to be published, and their publishers |
//! | `offsets` | [`GroupOffsets`] | how far each group has read |
//! | `log` | [`EventLog`] | the store's own log, the broker of the embedded default |
//!
//! Fencing: a worker joins with a number of fences. A committer or a starter is bound to one of them. It takes the
//! row of that fence `for key share` in every commit, and the commit names the fence as alive. Burying a worker takes
//! its rows `for update`, so after [`Membership::worker_bury`] has returned, nothing of the dead worker is committed.

mod error;
mod governing;
mod log;
mod membership;
mod offsets;
mod ordered;
mod outbox;
mod promises;
mod reading;
mod schema;
mod starting;
mod transactions;
mod trees;
mod turn;

use async_trait::async_trait;
use futures_core::stream::BoxStream;

pub use error::{StoreError, StoreErrorKind};
pub use governing::{Governed, GovernedNode, Governing, NoEffect, Ruling, judge};
pub use log::{EventLog, LogRecord, LoggedRecord};
pub use membership::{Beat, Joined, Lease, Membership, Renewal};
pub use offsets::{AssignedPartition, GroupOffsets, OffsetAdvance};
pub use ordered::{OrderedRows, UnreadableRow};
pub use outbox::{LaneAdvance, LaneLease, Outbox, OutboxEvent, OutboxRow, lane_of};
pub use promises::{Promises, Settling, TIMED_OUT, settle};
pub use reading::{ListedTree, Reading, TreeFilter, TreeOutcome};
pub use schema::{AppliedMigration, SchemaFit};
pub use starting::{Intake, KeyScope, NewTree, Start, StartKey, Started, Starter};
pub use transactions::{Database, StepTransaction, Transactions, Unprepared};
pub use trees::{Claimed, Claims, OwnedTree, Suspects, Trees, UnreadableTree};
pub use turn::{Committer, InvocationChange, Next, Ownership, Recovered, Turn, Verdict};

use crate::TreeId;

/// The result of every method of the port.
pub type StoreResult<T> = Result<T, StoreError>;

/// Everything a context asks of its store.
#[async_trait]
pub trait Store:
    Membership + Trees + Governing + Promises + Reading + Outbox + GroupOffsets + EventLog + Send + Sync + 'static
{
    /// What and where the store is, without secrets.
    fn info(&self) -> StoreInfo;

    /// Whether the store answers.
    async fn ping(&self) -> StoreResult<()>;

    /// Hints from all processes on this store, this one included. A hint may be missing or wrong, so a listener also
    /// polls slowly. The stream ends when the store closes.
    fn hints(&self) -> BoxStream<'static, Hint>;

    /// Sends hints to all processes on this store. Never part of a commit of trees.
    async fn hint(&self, hints: &[Hint]) -> StoreResult<()>;

    /// Closes all connections, once what is under way has ended.
    async fn close(&self);
}

/// What and where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// `sqlite`, `postgres` or `memory`.
    pub kind: &'static str,
    /// The file, or the server with database and schema, without credentials; `:memory:` for neither.
    pub location: String,
    /// Lanes of the outbox, fixed when the schema was created.
    pub lanes: u16,
    /// The most committers that are useful; more would only wait for each other.
    pub committers: u16,
    /// How durable a commit is, as the database reports it: pairs such as `("synchronous_commit", "on")`.
    pub durability: Vec<(String, String)>,
}

impl StoreInfo {
    /// What a crash may cost that a durable store would keep, in words; empty if its settings are as they should be.
    #[must_use]
    pub fn durability_warnings(&self) -> Vec<String> {
        let warning = |(setting, value): &(String, String)| {
            let lost = match (setting.as_str(), value.as_str()) {
                ("fsync", "off") => "a crash of its machine can lose or damage the whole database",
                ("full_page_writes", "off") => "a crash of its machine can damage tables",
                ("synchronous_commit", "off") => "a crash can lose what was committed just before, and told to callers",
                ("synchronous", "off" | "normal") => "a crash of the machine can lose what was committed just before",
                _ => return None,
            };
            Some(format!("{setting} is {value}: {lost}"))
        };
        self.durability.iter().filter_map(warning).collect()
    }
}

/// Something that may be worth a look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A tree without an owner may be ready to be claimed.
    Ready,
    /// The outbox has new rows.
    Outbox,
    /// A topic of the store's own log has new records.
    Log(String),
    /// A tree has settled.
    Settled,
    /// A request was made for a tree; with the number that it gave the tree's control counter.
    Governed(TreeId, u32),
    /// Something outside settled what a tree waits for; with the number that it gave the tree's inbox counter.
    Inbox(TreeId, u32),
    /// Any of these may have been missed: the store began to listen, or listens again.
    Missed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_a_crash_may_make_one_pay_for_is_said() {
        let info = |durability: &[(&str, &str)]| StoreInfo {
            kind: "postgres",
            location: String::new(),
            lanes: 16,
            committers: 1,
            durability: durability.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let sound =
            [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "local"), ("synchronous", "full")];
        assert!(info(&sound).durability_warnings().is_empty());
        for (name, value) in
            [("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "off"), ("synchronous", "normal")]
        {
            let warnings = info(&[sound[0], (name, value)]).durability_warnings();
            assert!(matches!(&warnings[..], [one] if one.starts_with(&format!("{name} is {value}: "))), "{warnings:?}");
        }
    }
}
