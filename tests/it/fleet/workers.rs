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

/// Dead are those to whom something happened, and those who were silent for long enough; alive is one worker of each process. What
/// is wrong.
pub(super) fn judge(fleet: &mut Fleet, record: &Record) -> Vec<String> {
    let mut wrong: Vec<String> =
        record.workers.iter().filter_map(|worker| ended_for_a_reason(worker, &fleet.troubles).err()).collect();
    for trouble in fleet.troubles.iter().filter(|trouble| lasts(trouble).is_none_or(|lasts| lasts >= SURELY)) {
        let mut dead = record.workers.iter().filter_map(|worker| worker.ended_at.map(|ended| (worker, ended)));
        if !dead.any(|(worker, ended)| may_be_buried(trouble, worker, ended)) {
            wrong.push(format!("nobody buried the worker of {trouble:?}"));
        }
    }
    let alive = record.workers.iter().filter(|worker| worker.state == "alive").map(|worker| worker.process);
    let (alive, mut ids): (Vec<u32>, _) = (alive.collect(), fleet.ids());
    let mut sorted = alive.clone();
    sorted.sort_unstable();
    ids.sort_unstable();
    if sorted != ids {
        wrong.push(format!("alive are workers of {alive:?}, the processes are {ids:?}"));
    }
    wrong
}

fn ended_for_a_reason(worker: &Worker, troubles: &[Trouble]) -> Result<(), String> {
    ensure(worker.other_fences == 0, || format!("the fences of {worker:?} are in another state"))?;
    let Some(ended) = worker.ended_at else {
        return ensure(worker.state == "alive", || format!("it has not ended: {worker:?}"));
    };
    ensure(worker.state == "dead", || format!("it left by itself: {worker:?}"))?;
    let has_reason = troubles.iter().any(|trouble| may_be_buried(trouble, worker, ended));
    ensure(has_reason, || format!("a healthy worker was buried: {worker:?}"))
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

/// Each process has done what it was asked for last by itself.
pub(super) fn judge_last_wave(waves: &[(u32, Vec<TreeId>)], record: &Record) -> Vec<String> {
    let judged = waves.iter().map(|(process, trees)| did_it_itself(*process, trees, record));
    judged.filter_map(Result::err).collect()
}

fn did_it_itself(process: u32, trees: &[TreeId], record: &Record) -> Result<(), String> {
    let entries = trees.iter().filter_map(|tree| record.trees.get(tree)).flat_map(|(tree, _)| &tree.entries);
    let steps = entries.filter(|(_, _, entry)| entry.kind == EntryKind::StepResolved);
    let by = steps.map(|(_, _, entry)| serde_json::from_slice(&entry.payload).map(|did: Effect| did.process));
    let by: BTreeSet<u32> = by.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    ensure(by == BTreeSet::from([process]), || format!("the last trees of {process} were run by {by:?}"))
}

fn ensure(is_so: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(wrong()) }
}
