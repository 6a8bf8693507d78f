//! What must be so of each tree when all is over: its outcome, its undos, and that nothing recorded was done again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sapwood_core::control::ControlVerb;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::tree::{Closing, PromiseState, TreeRecord};
use sapwood_core::{Path, TreeId};
use sapwood_tests::fleet::{ALWAYS, ENTER, Effect, Task};

use super::clients::{Answer, Known, Request};
use super::record::Record;
use crate::model::always_true::always_true;

/// Judges all of them; what is wrong.
pub(super) fn judge(known: &[Known], record: &Record) -> Vec<String> {
    let mine: BTreeMap<TreeId, &Known> = known.iter().map(|known| (known.tree, known)).collect();
    let mut wrong = Vec::new();
    for (id, (tree, effects)) in &record.trees {
        let told = |wrong: String| format!("{wrong}\n{:?}\n{tree:#?}\n{effects:#?}", mine.get(id));
        let judged = always_true(tree, false)
            .and_then(|()| comes_to_its_plan(mine.get(id).copied(), tree))
            .and_then(|()| calls_obey(tree))
            .and_then(|()| undoes_what_it_did(tree))
            .and_then(|()| nothing_recorded_is_done_again(tree, effects, record))
            .and_then(|()| enters_what_it_records(tree, record));
        wrong.extend(judged.map_err(told).err());
    }
    wrong.extend(each_tree_is_there_once(known, &mine, record).err());
    wrong.extend(each_event_is_told_once(record).err());
    wrong
}

fn ensure(is_so: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(wrong()) }
}

/// What the plan and the requests allow; a tree that no client knows resolves: it is a consumer's, or one of the last wave.
fn comes_to_its_plan(known: Option<&Known>, tree: &TreeRecord) -> Result<(), String> {
    let root = &tree.invocations.first().ok_or("it has no root")?.invocation.state;
    let Some(known) = known else {
        return ensure(root.promise == PromiseState::Resolved, || "it did not resolve".to_owned());
    };
    let is_recorded = |request: &Request| {
        let mut recorded = tree.requests.iter().map(|record| &record.request);
        recorded.any(|it| it.verb.name() == request.verb && it.path.to_string() == request.path)
    };
    ensure(known.requested.as_ref().is_none_or(is_recorded), || "an acknowledged request is not recorded".to_owned())?;
    let is_requested = tree.requests.iter().any(|record| record.request.path == Path::root());
    let is_bounded = known.wish.deadline_ms.is_some();
    let (state, value) = (root.promise, root.outcome.as_deref().unwrap_or_default());
    match state {
        PromiseState::Cancelled => ensure(is_requested, || "nobody cancelled it".to_owned()),
        PromiseState::TimedOut => ensure(is_bounded, || "it has no deadline".to_owned()),
        PromiseState::Resolved => {
            ensure(!is_requested, || "it went on after a request".to_owned())?;
            let said: String = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            let planned = planned(known, tree);
            ensure(planned.contains(&Some(&said)), || format!("it said {said}, not one of {planned:?}"))
        }
        PromiseState::Rejected => {
            // A kill also ends the undoing of what has failed before.
            let is_left = known.requested.is_some_and(|request| request.verb == "kill")
                && tree.row.closing == Closing::CompensationFailed;
            ensure(!is_requested || is_left, || "it went on after a request".to_owned())?;
            ensure(planned(known, tree).contains(&None), || "it failed".to_owned())
        }
        PromiseState::Pending
        | PromiseState::ReturnedOk
        | PromiseState::ReturnedErr
        | PromiseState::Cancelling
        | PromiseState::TimingOut => Err("it is not closed".to_owned()),
    }?;
    let ms = known.wish.deadline_ms.unwrap_or(u64::MAX);
    let is_too_long = matches!(known.wish.plan.task, Task::Naps { ms: nap } if nap > ms);
    let ended = matches!(state, PromiseState::TimedOut | PromiseState::Cancelled);
    ensure(!is_too_long || ended, || "it slept past its deadline and went on".to_owned())
}

/// What a tree may say that comes to its end; `None` if it may fail.
fn planned(known: &Known, tree: &TreeRecord) -> Vec<Option<&'static str>> {
    let has_lost_a_call = tree.requests.iter().any(|record| record.request.path != Path::root());
    match known.wish.plan.task {
        Task::Fans { .. } | Task::Orders { .. } if has_lost_a_call => vec![None],
        Task::Hurries { .. } if has_lost_a_call => vec![Some("late")],
        Task::Works { fails: ALWAYS, .. } | Task::Orders { fails: true, .. } => vec![None],
        Task::Works { .. } => vec![Some("worked")],
        Task::Fans { .. } => vec![Some("fanned")],
        Task::Naps { .. } => vec![Some("napped")],
        Task::Enters { .. } => vec![Some("entered")],
        Task::Orders { .. } => vec![Some("ordered")],
        Task::Hurries { nap_ms, deadline_ms } if nap_ms > deadline_ms => vec![Some("late")],
        Task::Hurries { .. } => vec![Some("late"), Some("in time")],
        Task::Asks { deadline_ms } => match (known.answered, deadline_ms) {
            (Some(Answer::Resolve), _) => vec![Some("answered")],
            (Some(Answer::Reject), _) => vec![None],
            (None, Some(_)) => vec![Some("unanswered")],
            (None, None) => vec![],
        },
    }
}

/// A call that was cancelled or killed by itself has ended so, or timed out before (K8).
fn calls_obey(tree: &TreeRecord) -> Result<(), String> {
    for asked in tree.requests.iter().map(|record| &record.request) {
        let row = tree.invocations.iter().find(|row| row.invocation.path == asked.path);
        let promise = row.ok_or("a request for what is not there")?.invocation.state.promise;
        let is_root = asked.path == Path::root();
        let obeys = matches!(promise, PromiseState::Cancelled | PromiseState::TimedOut);
        ensure(is_root || obeys, || format!("{} is {promise:?} after {:?}", asked.path, asked.verb))?;
    }
    Ok(())
}

/// What ended otherwise than by resolving has undone each call that resolved, and what resolved has undone none (K1, K2).
/// After a kill anything may be left.
fn undoes_what_it_did(tree: &TreeRecord) -> Result<(), String> {
    let rows: BTreeMap<&Path, _> = tree.invocations.iter().map(|row| (&row.invocation.path, &row.invocation)).collect();
    let is_killed = tree.requests.iter().any(|record| record.request.verb == ControlVerb::Kill);
    for it in rows.values().filter(|it| it.undo.is_some() && !is_killed) {
        let (of, at) = it.path.parent().zip(it.path.position()).ok_or("a root has an undo")?;
        let caller = rows.get(&of).ok_or("it has no caller")?;
        let undo = rows.get(&of.undo(at));
        let is_due = it.state.promise == PromiseState::Resolved && caller.state.promise != PromiseState::Resolved;
        let is_undone = undo.is_some_and(|undo| undo.state.promise == PromiseState::Resolved);
        ensure(undo.is_some() == is_due && is_undone == is_due, || format!("{}: its undo is {undo:?}", it.path))?;
        let is_said = !is_due || caller.state.closing == Closing::Compensated;
        ensure(is_said, || format!("{of} is {:?}", caller.state.closing))?;
    }
    Ok(())
}

/// How the plan of a tree is written that makes entries.
const ENTERS: &[u8] = b"\"Enters\"";

/// The effects of one step, or of one of its attempts at one worker.
type Runs<'r, K> = BTreeMap<K, Vec<&'r Effect>>;

/// The result of a step is that of a run which was noted, and was recorded before its worker was dead; no run began after
/// that, and no worker ran an attempt twice (R3, C1).
fn nothing_recorded_is_done_again(tree: &TreeRecord, effects: &[Effect], record: &Record) -> Result<(), String> {
    let mut of_step: Runs<'_, &str> = BTreeMap::new();
    for effect in effects {
        of_step.entry(&effect.key).or_default().push(effect);
    }
    let places: BTreeSet<&Path> = tree.invocations.iter().map(|row| &row.invocation.path).collect();
    for (path, at, entry) in &tree.entries {
        if !matches!(entry.kind, EntryKind::StepResolved | EntryKind::StepRejected) {
            continue;
        }
        ensure(places.contains(path), || format!("an entry of {path}, which is not there"))?;
        let key = key(tree.row.id, path, entry);
        let runs = of_step.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
        let late = runs.iter().find(|run| time(run) > *at);
        ensure(late.is_none(), || format!("{key} was recorded at {at}, and {late:?} began"))?;
        if entry.kind == EntryKind::StepResolved {
            let result: Effect = serde_json::from_slice(&entry.payload).map_err(|error| error.to_string())?;
            ensure(runs.contains(&&result), || format!("{key} recorded {result:?}, which nobody did"))?;
            let worker = record.worker_of(result.process, time(&result)).ok_or("no worker did it")?;
            let is_too_late = worker.ended_at.is_some_and(|ended| ended < *at);
            ensure(!is_too_late, || format!("{key} was recorded at {at} by {worker:?}"))?;
        }
    }
    // What was rolled back with its transaction never was, and is no attempt.
    let input = tree.invocations.first().map(|row| &row.invocation.input);
    if input.is_some_and(|input| input.windows(ENTERS.len()).any(|at| at == ENTERS)) {
        return Ok(());
    }
    for (key, runs) in of_step {
        let retried = |(path, _, entry): &&(Path, Timestamp, Entry)| {
            entry.kind == EntryKind::StepRetried && self::key(tree.row.id, path, entry) == key
        };
        let attempts = 1 + tree.entries.iter().filter(retried).count();
        let mut of_worker: Runs<'_, Option<i64>> = BTreeMap::new();
        for run in runs {
            let worker = record.worker_of(run.process, time(run));
            of_worker.entry(worker.map(|worker| worker.id)).or_default().push(run);
        }
        let twice = of_worker.iter().find(|(_, runs)| runs.len() > attempts);
        ensure(twice.is_none(), || format!("{key} has {attempts} attempts, and one worker did {twice:?}"))?;
    }
    Ok(())
}

/// The entries of the author's table are those whose steps are recorded, each once.
fn enters_what_it_records(tree: &TreeRecord, record: &Record) -> Result<(), String> {
    let is_one = |entry: &Entry| entry.name == ENTER && entry.kind == EntryKind::StepResolved;
    let recorded = tree.entries.iter().filter(|(_, _, entry)| is_one(entry));
    let mut recorded: Vec<String> = recorded.map(|(path, _, entry)| key(tree.row.id, path, entry)).collect();
    recorded.sort();
    let entered = record.entered.get(&tree.row.id).cloned().unwrap_or_default();
    ensure(recorded == entered, || format!("it recorded {recorded:?} and entered {entered:?}"))
}

fn key(tree: TreeId, path: &Path, entry: &Entry) -> String {
    format!("{tree}:{}", path.child(entry.position))
}

fn time(effect: &Effect) -> Timestamp {
    Timestamp::from_microsecond(effect.at_us).expect("a time")
}

/// No tree was lost, and no start made two (P5).
fn each_tree_is_there_once(known: &[Known], mine: &BTreeMap<TreeId, &Known>, record: &Record) -> Result<(), String> {
    ensure(mine.len() == known.len(), || "two clients were given one tree".to_owned())?;
    let lost = mine.values().find(|known| !record.trees.contains_key(&known.tree));
    ensure(lost.is_none(), || format!("a tree was lost: {lost:?}"))?;
    let mut numbers = BTreeSet::new();
    for (tree, _) in record.trees.values().filter(|(tree, _)| tree.row.function == "fleet_performs") {
        let input = tree.invocations.first().map(|row| row.invocation.input.clone()).unwrap_or_default();
        let input: serde_json::Value = serde_json::from_slice(&input).map_err(|error| error.to_string())?;
        let number = input["plan"]["number"].as_u64();
        ensure(numbers.insert(number), || format!("two trees have the number {number:?}"))?;
    }
    Ok(())
}

/// Each event that was recorded started one tree, and nothing else did (E2, H4).
fn each_event_is_told_once(record: &Record) -> Result<(), String> {
    let emitted = |tree: &TreeRecord| {
        let entries = tree.entries.iter().filter(|(_, _, entry)| entry.kind == EntryKind::Emitted);
        entries.map(|(path, _, entry)| sapwood_core::EventId::of(tree.row.id, path, entry.position)).collect::<Vec<_>>()
    };
    let emitted = record.trees.values().flat_map(|(tree, _)| emitted(tree));
    let mut emitted: Vec<String> = emitted.map(|id| id.as_str().to_owned()).collect();
    let notes = record.trees.values().filter(|(tree, _)| tree.row.function == "fleet_notes");
    let mut told: Vec<String> = notes.filter_map(|(tree, _)| tree.row.cause.causation.clone()).collect();
    emitted.sort();
    told.sort();
    ensure(emitted == told, || {
        format!("{} events were emitted, {} told: {emitted:?} {told:?}", emitted.len(), told.len())
    })
}
