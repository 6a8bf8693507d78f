//! Emitted events: each takes the next place of its lane.

use std::collections::BTreeMap;

use sapwood_core::store::{OutboxEvent, StoreResult};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::error::permanent;
use crate::fields::Fields;

static OUTBOX_INSERT: Bulk = Bulk::rows(include_str!("../queries/outbox_insert.sql"));

/// Inserts events, in order. The one writer takes the places, so within a lane their order is the order of commits.
pub(crate) async fn emit(db: &mut Db<'_>, events: &[&OutboxEvent]) -> StoreResult<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut next = places(db, events).await?;
    let mut placed = Vec::with_capacity(events.len());
    for event in events {
        let seq = next.get_mut(&event.lane).ok_or_else(|| {
            permanent(format!("event {} is for lane {}, which the outbox does not have", event.id, event.lane))
        })?;
        placed.push((*seq, *event));
        *seq += 1;
    }
    db.insert(&OUTBOX_INSERT, &placed, |(seq, event), args| {
        args.int(event.lane)
            .int(*seq)
            .text(event.id.as_str())
            .text(event.topic.as_str())
            .text(event.key.as_str())
            .text(event.cloud_type.as_str())
            .text(event.source.as_str())
            .time(event.time)
            .tree(event.tree)
            .text(event.correlation.as_str())
            .text(event.causation.as_str())
            .opt_text(event.traceparent.as_deref())
            .blob(&event.content)
    })
    .await
}

/// Takes the places: of each lane the first one taken.
async fn places(db: &mut Db<'_>, events: &[&OutboxEvent]) -> StoreResult<BTreeMap<u16, i64>> {
    let mut wanted = BTreeMap::<u16, i64>::new();
    for event in events {
        *wanted.entry(event.lane).or_default() += 1;
    }
    let pairs: Vec<_> = wanted.iter().collect();
    let args = Args::of(1).text(serde_json::json!(pairs).to_string());
    let rows = db.all(include_str!("../queries/lane_extend.sql"), args).await?;
    rows.iter()
        .map(|row| {
            let mut fields = Fields::of(row);
            let (lane, last) = (fields.number()?, fields.int()?);
            Ok((lane, last + 1 - wanted.get(&lane).copied().unwrap_or_default()))
        })
        .collect()
}
