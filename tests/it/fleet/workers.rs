//! What must be so of the workers when all is over: who was buried, who lives, and who works.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use sapwood_core::TreeId;
use sapwood_core::journal::EntryKind;
use sapwood_tests::fleet::Effect;

use super::faults::LEASE;
use super::processes::{Fleet, Trouble, TroubleKind};
use super::record::{Record, Worker};

/// A worker has renewed its lease at most so long before it is stopped.
const RENEWED: Duration = Duration::from_secs(1);

/// How long a burial that was decided before a process went on takes at most, with the first renewal of that process.
const LATE: Duration = Duration::from_secs(2);

/// Who stands still for so long is buried, also if the database is restarted meanwhile and all count anew.
const SURELY: Duration = Duration::from_secs(9);

/// C2: dead are those to whom something happened, and those who were silent for long enough; alive is one worker of each process.
pub(super) fn judge(fleet: &mut Fleet, record: &Record) -> Result<(), String> {
    for worker in &record.workers {
        ensure(worker.other_fences == 0, || format!("the fences of {worker:?} are in another state"))?;
        if let ("dead", Some(ended)) = (worker.state.as_str(), worker.ended_at) {
            let why = fleet.troubles.iter().find(|trouble| may_be_buried(trouble, worker, ended));
            ensure(why.is_some(), || format!("a healthy worker was buried: {worker:?} of {:?}", fleet.troubles))?;
        } else {
            ensure(worker.state == "alive", || format!("it left by itself: {worker:?}"))?;
        }
    }
    for trouble in fleet.troubles.iter().filter(|trouble| lasts(trouble).is_none_or(|lasts| lasts >= SURELY)) {
        let mut dead = record.workers.iter().filter_map(|worker| worker.ended_at.map(|ended| (worker, ended)));
        let is_buried = dead.any(|(worker, ended)| may_be_buried(trouble, worker, ended));
        ensure(is_buried, || format!("nobody buried the worker of {trouble:?}"))?;
    }
    let alive = record.workers.iter().filter(|worker| worker.state == "alive").map(|worker| worker.process);
    let (alive, mut ids): (Vec<u32>, _) = (alive.collect(), fleet.ids());
    let mut sorted = alive.clone();
    sorted.sort_unstable();
    ids.sort_unstable();
    ensure(sorted == ids, || format!("alive are workers of {alive:?}, the processes are {ids:?}"))
}

fn lasts(trouble: &Trouble) -> Option<Duration> {
    let lasts = trouble.until?.duration_since(trouble.from);
    Some(Duration::try_from(lasts).unwrap_or_default())
}

/// Whether what was done to a process is why its worker was declared dead then.
fn may_be_buried(trouble: &Trouble, worker: &Worker, ended: Timestamp) -> bool {
    let until = trouble.until.unwrap_or(Timestamp::MAX);
    let (from, until) = match trouble.kind {
        TroubleKind::Killed => (trouble.from, until),
        TroubleKind::Stopped => (trouble.from + (LEASE - RENEWED), until + LATE),
        // Its connections stay silent, so its renewals end when they have waited for a lease.
        TroubleKind::CutOff => (trouble.from + (LEASE - RENEWED), until + LEASE + LATE),
    };
    worker.process == trouble.process && worker.joined_at < trouble.from && (from..=until).contains(&ended)
}

/// C2: each process has done what it was asked for last by itself.
pub(super) fn judge_last_wave(waves: &[(u32, Vec<TreeId>)], record: &Record) -> Result<(), String> {
    for (process, trees) in waves {
        let entries = trees.iter().filter_map(|tree| record.trees.get(tree)).flat_map(|(tree, _)| &tree.entries);
        let steps = entries.filter(|(_, _, entry)| entry.kind == EntryKind::StepResolved);
        let by = steps.map(|(_, _, entry)| serde_json::from_slice(&entry.payload).map(|did: Effect| did.process));
        let by: BTreeSet<u32> = by.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        ensure(by == BTreeSet::from([*process]), || format!("the last trees of {process} were run by {by:?}"))?;
    }
    Ok(())
}

fn ensure(is_so: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(wrong()) }
}
