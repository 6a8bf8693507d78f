//! The list *Always true* of SEMANTICS, sentence by sentence, over the rows of one tree as they are at any moment.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use sapwood_core::Path;
use sapwood_core::control::ControlVerb;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::tree::{
    Closing, Invocation, InvocationRow, PromiseState, SettledPromise, Timer, TimerKind, TreeRecord, TreeState,
};

/// When a worker asks again for a promise that is due.
const ASKED_AGAIN: Duration = Duration::from_millis(100);

/// What always holds of one tree.
type Check = fn(&TreeRecord) -> Result<(), String>;

/// All of it; without what times say of what came first, if the clock was set back.
pub(crate) fn always_true(tree: &TreeRecord, was_set_back: bool) -> Result<(), String> {
    let checks: [(&str, Check); 8] = [
        ("an owned tree waits for no claim", owned_or_waiting),
        ("a tree without owner has nothing runnable, or is waiting to be claimed", unowned_waits),
        ("a suspended function has at least one pending thing it waits on", suspended_waits_on_something),
        ("a settled promise has no forward work", settled_goes_no_further),
        ("a closed invocation has no work at all", closed_is_at_rest),
        ("completion numbers of a tree are gapless", numbers_are_gapless),
        ("a journal has no gap", journals_are_gapless),
        ("a promise is settled once, and its journal says how", promises_settle_once),
    ];
    let of_times: [(&str, Check); 4] = [
        ("what goes forward is recorded before its deadline, and tried again before it", forward_in_time),
        ("a tree without owner is ready when something of it is due", ready_in_time),
        ("created ≤ settled ≤ closed", times_ascend),
        ("a promise is settled before its deadline, or by it", promises_settle_in_time),
    ];
    let of_times = of_times.into_iter().filter(|_| !was_set_back);
    let mut checks = checks.into_iter().chain(of_times);
    checks.try_for_each(|(sentence, check)| check(tree).map_err(|wrong| format!("{sentence}: {wrong}")))
}

/// P2: what may have become of a tree since it was as before.
pub(crate) fn goes_on(before: &TreeRecord, after: &TreeRecord, was_set_back: bool) -> Result<(), String> {
    ensure(before.row.revision <= after.row.revision && before.row.control <= after.row.control, || {
        "revision or control went back".to_owned()
    })?;
    // Only what failed to be undone is done again after the end.
    let may_change = !before.row.is_closed() || before.requests.len() < after.requests.len();
    ensure(may_change || before == after, || "a closed tree changed".to_owned())?;
    ensure(!before.row.state.is_closed() || before.row.state == after.row.state, || "a tree ended twice".to_owned())?;
    ensure(!before.row.state.is_settled() || before.row.settled_at == after.row.settled_at, || {
        "a tree settled twice".to_owned()
    })?;
    for row in &before.invocations {
        let at = &row.invocation.path;
        let now = after.invocations.iter().find(|after| after.invocation.path == *at);
        let now = now.ok_or_else(|| format!("invocation {at} is gone"))?;
        let (state, then) = (&row.invocation.state, &now.invocation.state);
        let is_kept = match state.promise {
            PromiseState::Pending => then.attempt >= state.attempt,
            PromiseState::ReturnedOk => matches!(then.promise, PromiseState::ReturnedOk | PromiseState::Resolved),
            PromiseState::ReturnedErr => matches!(then.promise, PromiseState::ReturnedErr | PromiseState::Rejected),
            PromiseState::Cancelling => matches!(then.promise, PromiseState::Cancelling | PromiseState::Cancelled),
            PromiseState::TimingOut => {
                matches!(then.promise, PromiseState::TimingOut | PromiseState::TimedOut)
                    && now.settled_at == row.settled_at
            }
            closed => then.promise == closed && now.settled_at == row.settled_at,
        };
        ensure(is_kept, || format!("{at} went from {row:?} to {now:?}"))?;
        ensure(state.outcome.is_none() || state.outcome == then.outcome, || format!("the outcome of {at} changed"))?;
        ensure(state.number.is_none() || state.number == then.number, || format!("the number of {at} changed"))?;
    }
    for timer in before.timers.iter().filter(|timer| timer.kind == TimerKind::Sleep) {
        let ends = |(path, _, entry): &&(Path, Timestamp, Entry)| {
            *path == timer.path && entry.position == timer.position && entry.kind == EntryKind::SleepEnded
        };
        let early = after.entries.iter().find(ends).filter(|(_, at, _)| *at < timer.due_at);
        ensure(early.is_none() || was_set_back, || format!("{timer:?} fired early: {early:?}"))?;
    }
    ensure(after.settled.starts_with(&before.settled), || "how a promise was settled has changed".to_owned())?;
    ensure(after.requests.starts_with(&before.requests), || "a request was changed".to_owned())?;
    let mut kept = after.entries.iter();
    let all_kept = before.entries.iter().all(|entry| kept.any(|after| after == entry));
    ensure(all_kept, || "a journal entry was changed".to_owned())
}

fn ensure(is_so: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(wrong()) }
}

fn open(tree: &TreeRecord) -> impl Iterator<Item = &Invocation> {
    tree.invocations.iter().map(|row| &row.invocation).filter(|it| !it.state.promise.is_closed())
}

fn children<'t>(tree: &'t TreeRecord, path: &'t Path) -> impl Iterator<Item = &'t InvocationRow> {
    tree.invocations.iter().filter(move |row| row.invocation.path.parent().as_ref() == Some(path))
}

fn entries<'t>(tree: &'t TreeRecord, path: &'t Path) -> impl Iterator<Item = &'t Entry> {
    tree.entries.iter().filter(move |(of, _, _)| of == path).map(|(_, _, entry)| entry)
}

/// Whether a request, or a deadline that a reader settled, waits for the owner.
const fn is_governed(tree: &TreeRecord) -> bool {
    tree.row.control != tree.row.applied
}

fn owned_or_waiting(tree: &TreeRecord) -> Result<(), String> {
    let row = &tree.row;
    ensure(row.owner.is_none() || (row.ready_at.is_none() && row.needs.is_none()), || {
        format!("{:?} owns it, it is ready at {:?}", row.owner, row.ready_at)
    })?;
    ensure(row.owner.is_none() || !row.is_closed(), || "it is closed".to_owned())
}

/// Whether it would go on if a worker had it.
fn is_runnable(tree: &TreeRecord, it: &Invocation) -> bool {
    // What was dropped wakes nobody.
    let is_dropped =
        |position| entries(tree, &it.path).any(|entry| entry.kind == EntryKind::Dropped && entry.position == position);
    let of_children = children(tree, &it.path)
        .filter(|row| !row.invocation.path.position().is_some_and(is_dropped))
        .filter_map(|row| row.invocation.state.number);
    let of_entries = entries(tree, &it.path).filter(|entry| !is_dropped(entry.position));
    let latest = of_entries.filter_map(|entry| entry.number).chain(of_children).max().unwrap_or(0);
    let backs_off = tree.timers.iter().any(|timer| timer.kind == TimerKind::FunctionRetry && timer.path == it.path);
    let has_news = unrecorded(tree).any(|settled| settled.path == it.path);
    it.state.promise == PromiseState::Pending
        && it.state.parked.is_none()
        && !backs_off
        && (has_news || it.state.seen.is_none_or(|seen| seen < latest))
}

fn unowned_waits(tree: &TreeRecord) -> Result<(), String> {
    if tree.row.owner.is_some() || tree.row.is_closed() || tree.row.aside.is_some() || tree.row.ready_at.is_some() {
        return Ok(());
    }
    ensure(due(tree).is_none(), || format!("something is due at {:?}", due(tree)))?;
    let runnable = open(tree).find(|it| is_runnable(tree, it));
    ensure(runnable.is_none(), || format!("{runnable:?} is runnable"))?;
    ensure(!is_governed(tree), || "nobody carries out the request".to_owned())
}

fn ready_in_time(tree: &TreeRecord) -> Result<(), String> {
    // What is governed, or has news of a promise, is ready since then, whatever was due before.
    let is_told = is_governed(tree) || unrecorded(tree).next().is_some();
    match due(tree).zip(tree.row.ready_at) {
        Some((due, ready)) if ready > due && !is_told => Err(format!("due at {due}, ready at {ready}")),
        _ => Ok(()),
    }
}

/// D2, D3, F8: what a commit starts or decides of what goes forward, it records before the deadline of that.
fn forward_in_time(tree: &TreeRecord) -> Result<(), String> {
    use EntryKind::{Emitted, PromiseMade, Retried, SleepBegun, SleepEnded, UndoDeclared, Valued};
    for (path, at, entry) in &tree.entries {
        let is_forward =
            matches!(entry.kind, Emitted | PromiseMade | Retried | SleepBegun | SleepEnded | UndoDeclared | Valued);
        let late = deadline(tree, path).filter(|deadline| is_forward && *at >= *deadline);
        ensure(late.is_none(), || format!("{path} has until {late:?}, and at {at} it recorded {entry:?}"))?;
    }
    let retries = |timer: &&Timer| matches!(timer.kind, TimerKind::FunctionRetry | TimerKind::StepRetry);
    for timer in tree.timers.iter().filter(retries) {
        let late = deadline(tree, &timer.path).filter(|deadline| timer.due_at >= *deadline);
        ensure(late.is_none(), || format!("it has until {late:?}: {timer:?}"))?;
    }
    Ok(())
}

/// Until when an invocation goes forward: by its own deadline or by that of the nearest caller that has one, unless it undoes
/// something.
fn deadline(tree: &TreeRecord, path: &Path) -> Option<Timestamp> {
    for path in std::iter::successors(Some(path.clone()), Path::parent) {
        let own = tree.invocations.iter().find(|row| row.invocation.path == path)?.invocation.deadline;
        if own.is_some() || path.undoes().is_some() {
            return own;
        }
    }
    None
}

/// When something of it is due, on its own.
fn due(tree: &TreeRecord) -> Option<Timestamp> {
    // What is parked waits for an operator, and its timers with it.
    let is_parked = |path: &Path| open(tree).any(|it| it.path == *path && it.state.parked.is_some());
    // Since a promise is settled, its tree is ready.
    let is_settled = |timer: &Timer| {
        timer.kind == TimerKind::Promise
            && tree.settled.iter().any(|it| it.path == timer.path && it.position == timer.position)
    };
    let timers = tree.timers.iter().filter(|timer| !is_parked(&timer.path) && !is_settled(timer));
    // A promise whose store finds it pending still is asked for again.
    let again = |timer: &Timer| if timer.kind == TimerKind::Promise { ASKED_AGAIN } else { Duration::ZERO };
    let timers = timers.map(|timer| timer.due_at + again(timer));
    let deadlines = open(tree).filter(|it| it.state.promise == PromiseState::Pending).filter_map(|it| it.deadline);
    timers.chain(deadlines).min()
}

fn suspended_waits_on_something(tree: &TreeRecord) -> Result<(), String> {
    if tree.row.owner.is_some() || tree.row.state != TreeState::Suspended || is_governed(tree) {
        return Ok(());
    }
    let waits = |it: &Invocation| {
        let has_open_child = children(tree, &it.path).any(|row| !row.invocation.state.promise.is_closed());
        has_open_child
            || has_pending_promise(tree, &it.path)
            || tree.timers.iter().any(|timer| timer.path == it.path)
            || is_runnable(tree, it)
    };
    match open(tree).find(|it| it.state.parked.is_none() && !waits(it)) {
        Some(it) => Err(format!("{it:?} waits for nothing")),
        None => Ok(()),
    }
}

fn settled_goes_no_further(tree: &TreeRecord) -> Result<(), String> {
    if is_governed(tree) {
        return Ok(());
    }
    for it in tree.invocations.iter().map(|row| &row.invocation).filter(|it| it.state.promise != PromiseState::Pending)
    {
        let forward = children(tree, &it.path).find(|row| {
            row.invocation.path.undoes().is_none() && row.invocation.state.promise == PromiseState::Pending
        });
        ensure(forward.is_none(), || format!("{} is {:?}, and {forward:?}", it.path, it.state.promise))?;
        ensure(!tree.timers.iter().any(|timer| timer.path == it.path), || format!("{} has a timer", it.path))?;
    }
    Ok(())
}

fn closed_is_at_rest(tree: &TreeRecord) -> Result<(), String> {
    for row in tree.invocations.iter().filter(|row| row.invocation.state.promise.is_closed()) {
        let at = &row.invocation.path;
        // What it failed to undo may be undone again.
        let undoes_again = |child: &InvocationRow| {
            row.invocation.state.closing == Closing::Compensating && child.invocation.path.undoes().is_some()
        };
        let open = children(tree, at).find(|child| !child.invocation.state.promise.is_closed() && !undoes_again(child));
        ensure(open.is_none(), || format!("{at} is closed, and {open:?} is open"))?;
        ensure(!tree.timers.iter().any(|timer| timer.path == *at), || format!("{at} has a timer"))?;
        let is_parked = row.invocation.state.parked.is_some() && row.invocation.state.is_closed();
        ensure(!is_parked, || format!("{at} is parked"))?;
    }
    let root = tree.invocations.iter().find(|row| row.invocation.path == Path::root()).ok_or("it has no root")?;
    let promise = root.invocation.state.promise;
    ensure(
        promise.is_closed() == tree.row.state.is_closed() && promise.is_settled() == tree.row.state.is_settled(),
        || format!("the root is {promise:?}, the tree {:?}", tree.row.state),
    )?;
    ensure(!tree.row.is_closed() || tree.row.ready_at.is_none(), || "a closed tree waits for a claim".to_owned())
}

fn numbers_are_gapless(tree: &TreeRecord) -> Result<(), String> {
    let of_entries = tree.entries.iter().filter_map(|(_, _, entry)| entry.number);
    let of_calls = tree.invocations.iter().filter_map(|row| row.invocation.state.number);
    let all: Vec<u32> = of_entries.chain(of_calls).collect();
    let distinct: BTreeSet<u32> = all.iter().copied().collect();
    let expected: BTreeSet<u32> = (1..=tree.row.number).collect();
    ensure(distinct == expected && all.len() == distinct.len(), || format!("{all:?} up to {}", tree.row.number))
}

fn times_ascend(tree: &TreeRecord) -> Result<(), String> {
    for row in &tree.invocations {
        let at = &row.invocation.path;
        let is_settled = row.invocation.state.promise.is_settled();
        ensure(is_settled == row.settled_at.is_some(), || format!("{at} is {:?}", row.invocation.state.promise))?;
        ensure(row.settled_at.is_none_or(|settled| row.created_at <= settled), || format!("{at} settled early"))?;
        for child in children(tree, at) {
            ensure(row.created_at <= child.created_at, || format!("a child of {at} is older"))?;
            let after = row.settled_at.zip(child.settled_at).is_none_or(|(own, of_child)| of_child <= own);
            let is_early = matches!(row.invocation.state.promise, PromiseState::TimingOut | PromiseState::TimedOut);
            // As may what an operator had it undo again.
            let is_retried = child.invocation.path.undoes().is_some()
                && tree.requests.iter().any(|asked| asked.request.verb == ControlVerb::Retry);
            ensure(after || is_early || is_retried, || {
                format!("{at} settled before its child {}", child.invocation.path)
            })?;
        }
    }
    Ok(())
}

fn journals_are_gapless(tree: &TreeRecord) -> Result<(), String> {
    for row in &tree.invocations {
        let at = &row.invocation.path;
        let gap = (0..).zip(entries(tree, at)).find(|(seq, entry)| *seq != entry.seq);
        ensure(gap.is_none(), || format!("{at}: {gap:?}"))?;
    }
    Ok(())
}

fn made<'t>(tree: &'t TreeRecord, path: &'t Path) -> impl Iterator<Item = &'t Entry> {
    entries(tree, path).filter(|entry| entry.kind == EntryKind::PromiseMade)
}

/// What has settled, and its journal does not have.
fn unrecorded(tree: &TreeRecord) -> impl Iterator<Item = &SettledPromise> {
    tree.settled.iter().filter(|settled| {
        let mut entries = entries(tree, &settled.path);
        !entries.any(|entry| entry.kind == EntryKind::PromiseSettled && entry.position == settled.position)
    })
}

fn has_pending_promise(tree: &TreeRecord, path: &Path) -> bool {
    made(tree, path).any(|made| {
        let is_settled = tree.settled.iter().any(|it| it.path == *path && it.position == made.position);
        let is_dropped =
            entries(tree, path).any(|entry| entry.kind == EntryKind::Dropped && entry.position == made.position);
        !is_settled && !is_dropped
    })
}

fn promises_settle_once(tree: &TreeRecord) -> Result<(), String> {
    let numbers: Vec<u32> = tree.settled.iter().map(|settled| settled.inbox).collect();
    ensure(numbers == (1..=tree.row.inbox).collect::<Vec<_>>(), || format!("{numbers:?} up to {}", tree.row.inbox))?;
    let mut places = BTreeSet::new();
    for settled in &tree.settled {
        let is_made = made(tree, &settled.path).any(|it| it.position == settled.position && it.name == settled.name);
        ensure(is_made && places.insert((&settled.path, settled.position)), || {
            format!("{settled:?} again, or unmade")
        })?;
    }
    let mut recorded = BTreeSet::new();
    for (path, _, entry) in tree.entries.iter().filter(|(_, _, entry)| entry.kind == EntryKind::PromiseSettled) {
        let settled = tree.settled.iter().find(|it| it.path == *path && it.position == entry.position);
        let is_it = settled.is_some_and(|it| it.outcome == entry.payload && it.name == entry.name);
        ensure(is_it && recorded.insert((path, entry.position)), || format!("{entry:?}, settled is {settled:?}"))?;
    }
    Ok(())
}

fn promises_settle_in_time(tree: &TreeRecord) -> Result<(), String> {
    for settled in &tree.settled {
        let made =
            made(tree, &settled.path).find(|entry| entry.position == settled.position).ok_or("it is not made")?;
        let Made { deadline } = serde_json::from_slice(&made.payload).map_err(|error| error.to_string())?;
        let is_late = deadline.is_some_and(|deadline| deadline <= settled.settled_at);
        ensure(is_late == (settled.state == PromiseState::TimedOut), || format!("until {deadline:?}: {settled:?}"))?;
        let dropped = tree.entries.iter().find(|(path, _, entry)| {
            *path == settled.path && entry.position == settled.position && entry.kind == EntryKind::Dropped
        });
        let is_in_vain = dropped.is_some_and(|(_, at, _)| *at < settled.settled_at);
        ensure(!is_in_vain, || format!("it was dropped before: {settled:?}"))?;
        let row = tree.invocations.iter().find(|row| row.invocation.path == settled.path);
        let ended = row.and_then(|row| row.settled_at);
        ensure(ended.is_none_or(|ended| settled.settled_at <= ended), || {
            format!("its function ended before: {settled:?}")
        })?;
    }
    Ok(())
}

/// As journal.md says.
#[derive(serde::Deserialize)]
struct Made {
    deadline: Option<Timestamp>,
}
