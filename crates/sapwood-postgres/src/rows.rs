//! The records of the port, read from rows by the names of their columns.

use jiff::Timestamp;
use sapwood_core::broker::TopicPartition;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::{
    AssignedPartition, LogRecord, LoggedRecord, OrderedRows, OutboxEvent, OutboxRow, StoreResult, TreeOutcome,
    UnreadableTree,
};
use sapwood_core::tree::{
    Cause, Closing, Invocation, InvocationRow, InvocationState, OpenInvocation, PromiseRow, PromiseState,
    SettledPromise, Timer, TimerKind, TreeRow, TreeState,
};
use sapwood_core::{EventId, Path};
use sqlx::postgres::PgRow;

use crate::fields::Fields;

pub(crate) fn tree_row(row: &Fields<'_>) -> StoreResult<TreeRow> {
    Ok(TreeRow {
        id: row.tree("id")?,
        function: row.function("function")?,
        version: row.unsigned("version")?,
        state: row.code("state", TreeState::from_code)?,
        closing: row.code("closing", Closing::from_code)?,
        owner: row.opt_worker("owner")?,
        revision: row.plain::<i64>("revision")?.cast_unsigned(),
        control: row.unsigned("control")?,
        applied: row.unsigned("applied")?,
        inbox: row.unsigned("inbox")?,
        number: row.unsigned("number")?,
        ready_at: row.opt_time("ready_at")?,
        needs: row.opt_function_version("needs")?,
        aside: row.plain("aside")?,
        cause: Cause {
            correlation: row.plain("correlation")?,
            causation: row.plain("causation")?,
            traceparent: row.plain("traceparent")?,
        },
        created_at: row.time("created_at")?,
        deadline: row.opt_time("deadline")?,
        settled_at: row.opt_time("settled_at")?,
    })
}

/// A row, or what names the tree whose row cannot be read.
pub(crate) fn tree_row_or_id(row: &Fields<'_>) -> StoreResult<Result<TreeRow, UnreadableTree>> {
    match tree_row(row) {
        Ok(row) => Ok(Ok(row)),
        Err(error) => Ok(Err(UnreadableTree { id: row.tree("id")?, reason: error.to_string() })),
    }
}

pub(crate) fn tree_outcome(row: &Fields<'_>) -> StoreResult<TreeOutcome> {
    Ok(TreeOutcome {
        state: row.code("state", TreeState::from_code)?,
        closing: row.code("closing", Closing::from_code)?,
        function: row.plain("function")?,
        version: row.unsigned("version")?,
        attempts: row.unsigned("attempt")?,
        outcome: row.opt_bytes("outcome")?,
    })
}

/// An external promise: the entry that made it, and how it was settled.
pub(crate) fn promise(row: &Fields<'_>) -> StoreResult<PromiseRow> {
    Ok(PromiseRow {
        path: row.path("path")?,
        position: row.unsigned("position")?,
        name: row.plain("name")?,
        made: row.bytes("payload")?,
        made_at: row.time("recorded_at")?,
        is_awaited: row.plain("awaited")?,
        deadline: row.opt_time("deadline")?,
        settled: match row.opt_time("settled_at")? {
            Some(_) => Some(settled_promise(row)?),
            None => None,
        },
    })
}

pub(crate) fn settled_promise(row: &Fields<'_>) -> StoreResult<SettledPromise> {
    Ok(SettledPromise {
        path: row.path("path")?,
        position: row.unsigned("position")?,
        name: row.plain("name")?,
        state: row.code("state", PromiseState::from_code)?,
        outcome: row.bytes("outcome")?,
        settled_at: row.time("settled_at")?,
        inbox: row.unsigned("inbox")?,
    })
}

/// An invocation, from the columns that it shares with journal entries: its function is a `name`, its input a
/// `payload`.
pub(crate) fn invocation(row: &Fields<'_>) -> StoreResult<Invocation> {
    Ok(Invocation {
        path: row.path("path")?,
        function: row.plain("name")?,
        version: row.unsigned("version")?,
        input: row.bytes("payload")?,
        undo: row.opt_function_version("undo")?,
        deadline: row.opt_time("deadline")?,
        state: invocation_state(row)?,
    })
}

pub(crate) fn invocation_row(row: &Fields<'_>) -> StoreResult<InvocationRow> {
    Ok(InvocationRow {
        invocation: invocation(row)?,
        created_at: row.time("at")?,
        settled_at: row.opt_time("settled_at")?,
    })
}

pub(crate) fn open_invocation(row: &Fields<'_>) -> StoreResult<OpenInvocation> {
    Ok(OpenInvocation {
        path: row.path("path")?,
        function: row.function("function")?,
        version: row.unsigned("version")?,
        state: invocation_state(row)?,
        latest: row.unsigned("latest")?,
        next_seq: row.unsigned("next_seq")?,
        deadline: row.opt_time("deadline")?,
    })
}

fn invocation_state(row: &Fields<'_>) -> StoreResult<InvocationState> {
    Ok(InvocationState {
        attempt: row.unsigned("attempt")?,
        promise: row.code("state", PromiseState::from_code)?,
        closing: row.code("closing", Closing::from_code)?,
        number: row.opt_unsigned("number")?,
        seen: row.opt_unsigned("seen")?,
        outcome: row.opt_bytes("outcome")?,
        parked: row.opt_bytes("parked")?,
    })
}

pub(crate) fn entry(row: &Fields<'_>) -> StoreResult<Entry> {
    Ok(Entry {
        seq: row.unsigned("seq")?,
        kind: row.code("kind", EntryKind::from_code)?,
        position: row.unsigned("position")?,
        number: row.opt_unsigned("number")?,
        attempt: row.unsigned("attempt")?,
        name: row.plain("name")?,
        payload: row.bytes("payload")?,
    })
}

pub(crate) fn entry_of_tree(row: &Fields<'_>) -> StoreResult<(Path, Timestamp, Entry)> {
    Ok((row.path("path")?, row.time("at")?, entry(row)?))
}

pub(crate) fn timer(row: &Fields<'_>) -> StoreResult<Timer> {
    Ok(Timer {
        path: row.path("path")?,
        position: row.unsigned("position")?,
        kind: row.code("kind", TimerKind::from_code)?,
        due_at: row.time("due_at")?,
    })
}

pub(crate) fn outbox_row(row: &Fields<'_>) -> StoreResult<OutboxRow> {
    let event = OutboxEvent {
        id: EventId::from(row.plain::<String>("event_id")?),
        topic: row.plain("topic")?,
        key: row.plain("key")?,
        lane: row.plain::<i16>("lane")?.cast_unsigned(),
        cloud_type: row.plain("cloud_type")?,
        source: row.plain("source")?,
        time: row.time("time")?,
        tree: row.tree("tree_id")?,
        correlation: row.plain("correlation")?,
        causation: row.plain("causation")?,
        traceparent: row.plain("traceparent")?,
        content: row.bytes("content")?,
    };
    event.check().map_err(|why| row.unreadable("event", why))?;
    Ok(OutboxRow { seq: row.plain("seq")?, event })
}

/// Rows in the order of the column that is their place, up to the first that cannot be read.
pub(crate) fn ordered<T>(
    found: &[PgRow],
    doing: &'static str,
    place: &str,
    read: impl Fn(&Fields<'_>) -> StoreResult<T>,
) -> StoreResult<OrderedRows<T>> {
    let found = found.iter().map(|row| Fields::of(row, doing));
    let found: Vec<_> = found.map(|row| Ok((row.plain(place)?, read(&row)))).collect::<StoreResult<_>>()?;
    Ok(OrderedRows::until_unreadable(found))
}

pub(crate) fn assigned_partition(row: &Fields<'_>) -> StoreResult<AssignedPartition> {
    let topic_id: String = row.plain("topic_id")?;
    let partition = TopicPartition {
        topic: row.plain("topic")?,
        partition: row.plain("partition")?,
        topic_id: (!topic_id.is_empty()).then_some(topic_id),
    };
    Ok(AssignedPartition { partition, epoch: row.plain("epoch")?, next_offset: row.plain("next_offset")? })
}

pub(crate) fn logged_record(row: &Fields<'_>) -> StoreResult<LoggedRecord> {
    let headers = LogRecord::headers_of(row.plain("headers")?).map_err(|error| row.unreadable("headers", error))?;
    Ok(LoggedRecord {
        offset: row.plain("log_offset")?,
        time: row.time("time")?,
        record: LogRecord {
            topic: row.plain("topic")?,
            key: row.plain("key")?,
            headers,
            content: row.bytes("content")?,
        },
    })
}
