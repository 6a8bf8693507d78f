//! The committing statement, and what became of a commit whose outcome is unknown (W1, W2).
//!
//! A batch is one autocommit statement over arrays: one round trip, one flush of the log. The arrays are written
//! straight from the turns, one per column. A batch without timers or events sends empty arrays for them, which cost
//! next to nothing.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sapwood_core::store::{Committer, NewTree, Ownership, Recovered, StoreError, StoreResult, Turn, Verdict};
use sapwood_core::{TreeId, WorkerId};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgBindIterExt};
use sqlx::query::Query;
use uuid::Uuid;

use crate::connect::Connector;
use crate::error::fenced;
use crate::fenced::Fenced;
use crate::fields::{Fields, Stamp};

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A [`Committer`] on a connection of its own.
pub(crate) struct PostgresCommitter {
    worker: WorkerId,
    fence: u16,
    pub(crate) fenced: Fenced,
}

impl PostgresCommitter {
    pub(crate) fn new(connector: Connector, worker: WorkerId, fence: u16) -> Self {
        Self { worker, fence, fenced: Fenced::new(connector, "committer", Some((worker, fence))) }
    }

    /// One that commits what authors wrote on its connection.
    pub(crate) fn of_author(connector: Connector, worker: WorkerId, fence: u16) -> Self {
        Self { worker, fence, fenced: Fenced::of_author(connector, (worker, fence)) }
    }
}

#[async_trait]
impl Committer for PostgresCommitter {
    async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>> {
        if turns.is_empty() {
            return Ok(Vec::new());
        }
        let (worker, fence) = (self.worker, self.fence);
        let doing = "commit turns";
        let sql = self.fenced.sql(include_str!("../queries/turn_commit.sql"));
        let row = self
            .fenced
            .run(doing, async |session| {
                let statement = sqlx::query(sql).bind(worker.0).bind(fence.cast_signed()).bind(session.incarnation);
                bind_turns(statement, turns).fetch_one(&mut session.connection).await
            })
            .await
            .map_err(named)?;
        verdicts(worker, turns, &Fields::of(&row, doing))
    }

    async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>> {
        // Opening the next session waits for the old statement, or shuts it out.
        self.fenced.forget();
        let doing = "read the revisions of trees";
        let sql = self.fenced.sql(include_str!("../queries/tree_revision.sql"));
        let rows = self
            .fenced
            .run(doing, async |session| {
                sqlx::query(sql)
                    .bind(turns.iter().map(|turn| turn.tree.uuid()).bind_iter())
                    .fetch_all(&mut session.connection)
                    .await
            })
            .await?;
        let found = rows
            .iter()
            .map(|row| revision(&Fields::of(row, doing)))
            .collect::<StoreResult<HashMap<TreeId, (u64, Option<WorkerId>)>>>()?;
        Ok(turns.iter().map(|turn| recovered(self.worker, turn, found.get(&turn.tree).copied())).collect())
    }
}

/// The state of a text that is no number: the statement makes one of what is wrong with a batch.
const NO_NUMBER: &str = "22P02";

/// The same error, in the statement's own words if it is the statement that refuses the batch.
fn named(error: StoreError) -> StoreError {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<sqlx::Error>());
    let refusal = source.and_then(sqlx::Error::as_database_error);
    let words = refusal
        .filter(|refusal| refusal.code().as_deref() == Some(NO_NUMBER))
        .and_then(|refusal| refusal.message().split('"').nth(1));
    match words {
        Some(words) => StoreError::new(error.kind(), words),
        None => error,
    }
}

fn verdicts(worker: WorkerId, turns: &[Turn], answer: &Fields<'_>) -> StoreResult<Vec<Verdict>> {
    if !answer.plain::<bool>("alive")? {
        return Err(fenced(worker));
    }
    if answer.plain::<bool>("every")? {
        return Ok(vec![Verdict::Committed; turns.len()]);
    }
    let set = |column| Ok(answer.plain::<Vec<Uuid>>(column)?.into_iter().map(TreeId::from).collect::<HashSet<_>>());
    let (taken, busy) = (set("taken")?, set("busy")?);
    let verdict = |turn: &Turn| match turn.tree {
        tree if taken.contains(&tree) => Verdict::Committed,
        tree if busy.contains(&tree) => Verdict::Busy,
        _ => Verdict::Refused,
    };
    Ok(turns.iter().map(verdict).collect())
}

fn revision(row: &Fields<'_>) -> StoreResult<(TreeId, (u64, Option<WorkerId>))> {
    let owner = row.opt_worker("owner")?;
    Ok((row.tree("id")?, (row.plain::<i64>("revision")?.cast_unsigned(), owner)))
}

/// While a worker is alive, only its own committer moves its tree from n to n+1, so n+1 can only be the turn's own
/// commit. If the tree is further on, a turn that released it may have been committed before another claim took it: the
/// turn counts as refused, and the worker that reloads the tree reads what happened since.
fn recovered(worker: WorkerId, turn: &Turn, found: Option<(u64, Option<WorkerId>)>) -> Recovered {
    match found {
        None if turn.created.is_some() => Recovered::Lost,
        None => Recovered::Refused,
        Some((revision, _)) if revision == turn.revision + 1 => Recovered::Committed,
        Some((revision, owner)) if turn.created.is_none() && revision == turn.revision && owner == Some(worker) => {
            Recovered::Lost
        }
        Some(_) => Recovered::Refused,
    }
}

/// Binds the columns in the order of the statement's parameters.
fn bind_turns<'q>(statement: Statement<'q>, turns: &'q [Turn]) -> Statement<'q> {
    let mut turns: Vec<&'q Turn> = turns.iter().collect();
    // The statement locks in this order; given it, its sort finds nothing to do.
    turns.sort_unstable_by_key(|turn| turn.tree);
    let (created, known): (Vec<&'q Turn>, Vec<&'q Turn>) = turns.iter().partition(|turn| turn.created.is_some());
    let statement = bind_known(statement, &known);
    let statement = bind_created(statement, &created);
    let statement = bind_invocations(statement, &turns);
    let statement = bind_changes(statement, &turns);
    let statement = bind_entries(statement, &turns);
    let statement = bind_timers(statement, &turns);
    bind_events(statement, &turns)
}

fn bind_known<'q>(statement: Statement<'q>, turns: &[&'q Turn]) -> Statement<'q> {
    let statement = statement
        .bind(turns.iter().map(|turn| turn.tree.uuid()).bind_iter())
        .bind(turns.iter().map(|turn| turn.revision.cast_signed()).bind_iter())
        .bind(turns.iter().map(|turn| turn.control.cast_signed()).bind_iter())
        .bind(turns.iter().map(|turn| turn.inbox.map(u32::cast_signed)).bind_iter())
        .bind(turns.iter().map(|turn| turn.not_before.map(Stamp)).bind_iter())
        .bind(turns.iter().map(|turn| turn.only_before.map(Stamp)).bind_iter());
    bind_next(statement, turns)
}

fn bind_created<'q>(statement: Statement<'q>, turns: &[&'q Turn]) -> Statement<'q> {
    let trees = || turns.iter().filter_map(|turn: &&'q Turn| -> Option<&'q NewTree> { turn.created.as_ref() });
    let statement = statement
        .bind(trees().map(|tree| tree.id.uuid()).bind_iter())
        .bind(trees().map(|tree| tree.function.as_str()).bind_iter())
        .bind(trees().map(|tree| tree.version.cast_signed()).bind_iter())
        .bind(trees().map(|tree| tree.cause.correlation.as_str()).bind_iter())
        .bind(trees().map(|tree| tree.cause.causation.as_deref()).bind_iter())
        .bind(trees().map(|tree| tree.cause.traceparent.as_deref()).bind_iter())
        .bind(turns.iter().map(|turn| turn.only_before.map(Stamp)).bind_iter())
        .bind(trees().map(|tree| tree.deadline.map(Stamp)).bind_iter());
    bind_next(statement, turns)
}

/// State, number and ownership: the same columns for trees that exist and for those that a turn creates.
fn bind_next<'q>(statement: Statement<'q>, turns: &[&'q Turn]) -> Statement<'q> {
    let released = |turn: &&'q Turn| match &turn.next.ownership {
        Ownership::Keep => (None, None),
        Ownership::Release { ready_at, needs } => (*ready_at, needs.as_ref().map(ToString::to_string)),
    };
    statement
        .bind(turns.iter().map(|turn| turn.next.state.code()).bind_iter())
        .bind(turns.iter().map(|turn| turn.next.number.cast_signed()).bind_iter())
        .bind(turns.iter().map(|turn| turn.next.ownership == Ownership::Keep).bind_iter())
        .bind(turns.iter().map(|turn| released(turn).0.map(Stamp)).bind_iter())
        .bind(turns.iter().map(|turn| released(turn).1).bind_iter())
        .bind(turns.iter().map(|turn| turn.next.closing.code()).bind_iter())
}

fn bind_invocations<'q>(statement: Statement<'q>, turns: &[&'q Turn]) -> Statement<'q> {
    let called = || turns.iter().flat_map(|turn| turn.invocations.iter());
    let trees = turns.iter().flat_map(|turn| turn.invocations.iter().map(|_| turn.tree.uuid()));
    let states = || called().map(|invocation| &invocation.state);
    let undos = called().map(|invocation| invocation.undo.as_ref().map(ToString::to_string));
    statement
        .bind(trees.bind_iter())
        .bind(called().map(|invocation| invocation.path.to_bytes()).bind_iter())
        .bind(called().map(|invocation| invocation.function.as_str()).bind_iter())
        .bind(called().map(|invocation| invocation.version.cast_signed()).bind_iter())
        .bind(called().map(|invocation| &invocation.input[..]).bind_iter())
        .bind(states().map(|state| state.attempt.cast_signed()).bind_iter())
        .bind(states().map(|state| state.promise.code()).bind_iter())
        .bind(states().map(|state| state.closing.code()).bind_iter())
        .bind(states().map(|state| state.number.map(u32::cast_signed)).bind_iter())
        .bind(states().map(|state| state.seen.map(u32::cast_signed)).bind_iter())
        .bind(states().map(|state| state.outcome.as_deref()).bind_iter())
        .bind(states().map(|state| state.parked.as_deref()).bind_iter())
        .bind(undos.bind_iter())
        .bind(called().map(|invocation| invocation.deadline.map(Stamp)).bind_iter())
}

fn bind_changes<'q>(statement: Statement<'q>, turns: &[&'q Turn]) -> Statement<'q> {
    let changes = || turns.iter().flat_map(|turn| turn.changes.iter());
    let trees = turns.iter().flat_map(|turn| turn.changes.iter().map(|_| turn.tree.uuid()));
    let states = || changes().map(|change| &change.state);
    statement
        .bind(trees.bind_iter())
        .bind(changes().map(|change| change.path.to_bytes()).bind_iter())
        .bind(states().map(|state| state.attempt.cast_signed()).bind_iter())
        .bind(states().map(|state| state.promise.code()).bind_iter())
        .bind(states().map(|state| state.closing.code()).bind_iter())
        .bind(states().map(|state| state.number.map(u32::cast_signed)).bind_iter())
        .bind(states().map(|state| state.seen.map(u32::cast_signed)).bind_iter())
        .bind(states().map(|state| state.outcome.as_deref()).bind_iter())
        .bind(states().map(|state| state.parked.as_deref()).bind_iter())
}

fn bind_entries<'q>(statement: Statement<'q>, turns: &[&'q Turn]) -> Statement<'q> {
    let pairs = || turns.iter().flat_map(|turn| turn.entries.iter());
    let entries = || pairs().map(|(_, entry)| entry);
    let trees = turns.iter().flat_map(|turn| turn.entries.iter().map(|_| turn.tree.uuid()));
    statement
        .bind(trees.bind_iter())
        .bind(pairs().map(|(path, _)| path.to_bytes()).bind_iter())
        .bind(entries().map(|entry| entry.seq.cast_signed()).bind_iter())
        .bind(entries().map(|entry| entry.kind.code()).bind_iter())
        .bind(entries().map(|entry| entry.position.cast_signed()).bind_iter())
        .bind(entries().map(|entry| entry.number.map(u32::cast_signed)).bind_iter())
        .bind(entries().map(|entry| entry.attempt.cast_signed()).bind_iter())
        .bind(entries().map(|entry| entry.name.as_str()).bind_iter())
        .bind(entries().map(|entry| &entry.payload[..]).bind_iter())
}

fn bind_timers<'q>(statement: Statement<'q>, turns: &[&'q Turn]) -> Statement<'q> {
    let set = || turns.iter().flat_map(|turn| turn.timers_set.iter().map(|timer| (turn.tree, timer)));
    // A timer that is done and set anew in one turn is not cleared, because setting it overwrites the row.
    let stays: HashSet<_> = set().map(|(tree, timer)| (tree, &timer.path, timer.position)).collect();
    let (mut trees, mut paths, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for turn in turns {
        for (path, position) in turn.timers_cleared.iter().filter(|(path, at)| !stays.contains(&(turn.tree, path, *at)))
        {
            trees.push(turn.tree.uuid());
            paths.push(path.to_bytes());
            positions.push(position.cast_signed());
        }
    }
    statement
        .bind(set().map(|(tree, _)| tree.uuid()).bind_iter())
        .bind(set().map(|(_, timer)| timer.path.to_bytes()).bind_iter())
        .bind(set().map(|(_, timer)| timer.position.cast_signed()).bind_iter())
        .bind(set().map(|(_, timer)| timer.kind.code()).bind_iter())
        .bind(set().map(|(_, timer)| Stamp(timer.due_at)).bind_iter())
        .bind(trees)
        .bind(paths)
        .bind(positions)
}

fn bind_events<'q>(statement: Statement<'q>, turns: &[&'q Turn]) -> Statement<'q> {
    let events = || turns.iter().flat_map(|turn| turn.events.iter());
    // The tree of the turn, not the one that the event names: an event goes with the commit of its own turn only.
    let trees = turns.iter().flat_map(|turn| turn.events.iter().map(|_| turn.tree.uuid()));
    statement
        .bind(events().map(|event| event.lane.cast_signed()).bind_iter())
        .bind(events().map(|event| event.id.as_str()).bind_iter())
        .bind(events().map(|event| event.topic.as_str()).bind_iter())
        .bind(events().map(|event| event.key.as_str()).bind_iter())
        .bind(events().map(|event| event.cloud_type.as_str()).bind_iter())
        .bind(events().map(|event| event.source.as_str()).bind_iter())
        .bind(events().map(|event| Stamp(event.time)).bind_iter())
        .bind(trees.bind_iter())
        .bind(events().map(|event| event.correlation.as_str()).bind_iter())
        .bind(events().map(|event| event.causation.as_str()).bind_iter())
        .bind(events().map(|event| event.traceparent.as_deref()).bind_iter())
        .bind(events().map(|event| &event.content[..]).bind_iter())
}
