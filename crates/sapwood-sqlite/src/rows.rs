//! The records of the port, read from rows. Each function reads the columns that its queries select, in their order.

use std::time::Duration;

use jiff::Timestamp;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::{
    Beat, LogRecord, LoggedRecord, OrderedRows, OutboxEvent, OutboxRow, StoreResult, TreeOutcome, UnreadableTree,
};
use sapwood_core::tree::{
    Cause, Closing, Invocation, InvocationRow, InvocationState, OpenInvocation, PromiseRow, PromiseState,
    SettledPromise, Timer, TimerKind, TreeRow, TreeState,
};
use sapwood_core::{EventId, Path, WorkerId};
use sqlx::sqlite::SqliteRow;

use crate::error::unreadable;
use crate::fields::Fields;

pub(crate) fn tree_row(row: &SqliteRow) -> StoreResult<TreeRow> {
    let mut fields = Fields::of(row);
    Ok(TreeRow {
        id: fields.tree()?,
        function: fields.function()?,
        version: fields.number()?,
        state: fields.code(TreeState::from_code)?,
        closing: fields.code(Closing::from_code)?,
        owner: fields.opt_worker()?,
        revision: fields.number()?,
        control: fields.number()?,
        applied: fields.number()?,
        inbox: fields.number()?,
        number: fields.number()?,
        ready_at: fields.opt_time()?,
        needs: fields.opt_function_version()?,
        aside: fields.opt_text()?,
        cause: Cause { correlation: fields.text()?, causation: fields.opt_text()?, traceparent: fields.opt_text()? },
        created_at: fields.time()?,
        deadline: fields.opt_time()?,
        settled_at: fields.opt_time()?,
    })
}

/// A row, or what names the tree whose row cannot be read: its id is a UUID, as the schema checks.
pub(crate) fn tree_row_or_id(row: &SqliteRow) -> StoreResult<Result<TreeRow, UnreadableTree>> {
    match tree_row(row) {
        Ok(row) => Ok(Ok(row)),
        Err(error) => Ok(Err(UnreadableTree { id: Fields::of(row).tree()?, reason: error.to_string() })),
    }
}

/// An external promise: the entry that made it, and how it was settled.
pub(crate) fn promise(row: &SqliteRow) -> StoreResult<PromiseRow> {
    let mut fields = Fields::of(row);
    let (path, position, name) = (fields.path()?, fields.number()?, fields.text()?);
    let (made, made_at, is_awaited) = (fields.blob()?, fields.time()?, fields.int()? != 0);
    let deadline = fields.opt_time()?;
    let state = fields.opt_int()?;
    let settled = match state {
        Some(code) => {
            let state = i16::try_from(code).ok().and_then(PromiseState::from_code);
            let state = state.ok_or_else(|| fields.wrong(format_args!("unknown code {code}")))?;
            let (path, name) = (path.clone(), name.clone());
            let (outcome, settled_at, inbox) = (fields.blob()?, fields.time()?, fields.number()?);
            Some(SettledPromise { path, position, name, state, outcome, settled_at, inbox })
        }
        None => None,
    };
    Ok(PromiseRow { path, position, name, made, made_at, is_awaited, deadline, settled })
}

pub(crate) fn settled_promise(row: &SqliteRow) -> StoreResult<SettledPromise> {
    let mut fields = Fields::of(row);
    Ok(SettledPromise {
        path: fields.path()?,
        position: fields.number()?,
        name: fields.text()?,
        state: fields.code(PromiseState::from_code)?,
        outcome: fields.blob()?,
        settled_at: fields.time()?,
        inbox: fields.number()?,
    })
}

/// An outcome, and whether it is late.
pub(crate) fn tree_outcome(row: &SqliteRow) -> StoreResult<(TreeOutcome, bool)> {
    let mut fields = Fields::of(row);
    let outcome = TreeOutcome {
        state: fields.code(TreeState::from_code)?,
        closing: fields.code(Closing::from_code)?,
        function: fields.text()?,
        version: fields.number()?,
        attempts: fields.number()?,
        outcome: fields.opt_blob()?,
    };
    Ok((outcome, fields.int()? != 0))
}

pub(crate) fn invocation(row: &SqliteRow) -> StoreResult<Invocation> {
    read_invocation(&mut Fields::of(row))
}

pub(crate) fn invocation_row(row: &SqliteRow) -> StoreResult<InvocationRow> {
    let mut fields = Fields::of(row);
    Ok(InvocationRow {
        invocation: read_invocation(&mut fields)?,
        created_at: fields.time()?,
        settled_at: fields.opt_time()?,
    })
}

pub(crate) fn open_invocation(row: &SqliteRow) -> StoreResult<OpenInvocation> {
    let mut fields = Fields::of(row);
    Ok(OpenInvocation {
        path: fields.path()?,
        function: fields.function()?,
        version: fields.number()?,
        state: read_state(&mut fields)?,
        latest: fields.number()?,
        next_seq: fields.number()?,
        deadline: fields.opt_time()?,
    })
}

pub(crate) fn entry(row: &SqliteRow) -> StoreResult<Entry> {
    read_entry(&mut Fields::of(row))
}

pub(crate) fn entry_of_tree(row: &SqliteRow) -> StoreResult<(Path, Timestamp, Entry)> {
    let mut fields = Fields::of(row);
    Ok((fields.path()?, fields.time()?, read_entry(&mut fields)?))
}

pub(crate) fn timer(row: &SqliteRow) -> StoreResult<Timer> {
    let mut fields = Fields::of(row);
    Ok(Timer {
        path: fields.path()?,
        position: fields.number()?,
        kind: fields.code(TimerKind::from_code)?,
        due_at: fields.time()?,
    })
}

pub(crate) fn outbox_row(lane: u16, row: &SqliteRow) -> StoreResult<OutboxRow> {
    let mut fields = Fields::of(row);
    let seq = fields.int()?;
    let event = OutboxEvent {
        id: EventId::from(fields.text()?),
        topic: fields.text()?,
        key: fields.text()?,
        lane,
        cloud_type: fields.text()?,
        source: fields.text()?,
        time: fields.time()?,
        tree: fields.tree()?,
        correlation: fields.text()?,
        causation: fields.text()?,
        traceparent: fields.opt_text()?,
        content: fields.blob()?,
    };
    event.check().map_err(|why| unreadable(format_args!("event: {why}")))?;
    Ok(OutboxRow { seq, event })
}

/// Rows whose first column is their place, up to the first that cannot be read.
pub(crate) fn ordered<T>(
    rows: &[SqliteRow],
    read: impl Fn(&SqliteRow) -> StoreResult<T>,
) -> StoreResult<OrderedRows<T>> {
    let found: Vec<_> = rows.iter().map(|row| Ok((Fields::of(row).int()?, read(row)))).collect::<StoreResult<_>>()?;
    Ok(OrderedRows::until_unreadable(found))
}

pub(crate) fn logged_record(topic: &str, row: &SqliteRow) -> StoreResult<LoggedRecord> {
    let mut fields = Fields::of(row);
    Ok(LoggedRecord {
        offset: fields.int()?,
        time: fields.time()?,
        record: LogRecord {
            topic: topic.to_owned(),
            key: fields.text()?,
            headers: {
                let headers = fields.text()?;
                LogRecord::headers_of(&headers).map_err(|error| fields.wrong(error))?
            },
            content: fields.blob()?,
        },
    })
}

pub(crate) fn workers(rows: &[SqliteRow]) -> StoreResult<Vec<WorkerId>> {
    rows.iter().map(|row| Fields::of(row).int().map(WorkerId)).collect()
}

pub(crate) fn beat(row: &SqliteRow) -> StoreResult<Beat> {
    let mut fields = Fields::of(row);
    Ok(Beat {
        worker: WorkerId(fields.int()?),
        renewals: fields.int()?.cast_unsigned(),
        lease: Duration::from_micros(fields.int()?.unsigned_abs()),
        process: fields.opt_process()?,
    })
}

fn read_invocation(fields: &mut Fields<'_>) -> StoreResult<Invocation> {
    Ok(Invocation {
        path: fields.path()?,
        function: fields.text()?,
        version: fields.number()?,
        input: fields.blob()?,
        state: read_state(fields)?,
        undo: fields.opt_function_version()?,
        deadline: fields.opt_time()?,
    })
}

fn read_state(fields: &mut Fields<'_>) -> StoreResult<InvocationState> {
    Ok(InvocationState {
        attempt: fields.number()?,
        promise: fields.code(PromiseState::from_code)?,
        closing: fields.code(Closing::from_code)?,
        number: fields.opt_number()?,
        seen: fields.opt_number()?,
        outcome: fields.opt_blob()?,
        parked: fields.opt_blob()?,
    })
}

fn read_entry(fields: &mut Fields<'_>) -> StoreResult<Entry> {
    Ok(Entry {
        seq: fields.number()?,
        kind: fields.code(EntryKind::from_code)?,
        position: fields.number()?,
        number: fields.opt_number()?,
        attempt: fields.number()?,
        name: fields.text()?,
        payload: fields.blob()?,
    })
}
