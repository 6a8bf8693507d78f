//! The records of the port, read from rows; each function reads the columns its queries select, in their order.

use jiff::Timestamp;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::{OutboxEvent, OutboxRow, StoreResult};
use sapwood_core::tree::{
    Cause, Closing, Invocation, InvocationRow, InvocationState, OpenInvocation, Phase, Timer, TimerKind, TreeRow,
    TreeState,
};
use sapwood_core::{EventId, Path};
use sqlx::sqlite::SqliteRow;

use crate::fields::Fields;

pub(crate) fn tree_row(row: &SqliteRow) -> StoreResult<TreeRow> {
    let mut fields = Fields::of(row);
    Ok(TreeRow {
        id: fields.tree()?,
        function: fields.text()?,
        version: fields.number()?,
        state: fields.code(TreeState::from_code, "tree state")?,
        owner: fields.opt_worker()?,
        revision: fields.number()?,
        control: fields.number()?,
        inbox: fields.number()?,
        number: fields.number()?,
        ready_at: fields.opt_time()?,
        needs: fields.opt_text()?,
        cause: Cause { correlation: fields.text()?, causation: fields.opt_text()?, traceparent: fields.opt_text()? },
        created_at: fields.time()?,
        settled_at: fields.opt_time()?,
    })
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
        function: fields.text()?,
        version: fields.number()?,
        state: read_state(&mut fields)?,
        latest: fields.number()?,
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
        kind: fields.code(TimerKind::from_code, "timer kind")?,
        due_at: fields.time()?,
    })
}

pub(crate) fn outbox_row(lane: u16, row: &SqliteRow) -> StoreResult<OutboxRow> {
    let mut fields = Fields::of(row);
    Ok(OutboxRow {
        seq: fields.int()?,
        event: OutboxEvent {
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
        },
    })
}

fn read_invocation(fields: &mut Fields<'_>) -> StoreResult<Invocation> {
    Ok(Invocation {
        path: fields.path()?,
        function: fields.text()?,
        version: fields.number()?,
        input: fields.blob()?,
        state: read_state(fields)?,
    })
}

fn read_state(fields: &mut Fields<'_>) -> StoreResult<InvocationState> {
    Ok(InvocationState {
        attempt: fields.number()?,
        phase: fields.code(Phase::from_code, "phase")?,
        closing: fields.code(closing_of, "closing state")?,
        number: fields.opt_number()?,
        seen: fields.opt_number()?,
        outcome: fields.opt_blob()?,
        parked: fields.opt_blob()?,
    })
}

fn read_entry(fields: &mut Fields<'_>) -> StoreResult<Entry> {
    Ok(Entry {
        seq: fields.number()?,
        kind: fields.code(EntryKind::from_code, "journal entry kind")?,
        position: fields.number()?,
        number: fields.opt_number()?,
        attempt: fields.number()?,
        name: fields.text()?,
        payload: fields.blob()?,
    })
}

const fn closing_of(code: i16) -> Option<Closing> {
    match code {
        0 => Some(Closing::None),
        _ => None,
    }
}
