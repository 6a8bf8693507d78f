//! What a plan comes to: judged invocation by invocation, from the plan and from what those below it came to.
//!
//! The oracle runs nothing. For each invocation of a closed tree it walks through the plan once, takes from the record what
//! each call, sleep and step gave, and says what the body must have come to with that. Where chance or time decided (who won a
//! race, what was cancelled or timed out), the record says how; all else follows from the plan. So if every invocation is as
//! its plan says, given its children, the tree is, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sapwood_core::control::{ControlRecord, ControlVerb};
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::tree::{Closing, InvocationRow, PromiseState, TreeRecord};
use sapwood_core::{Path, Position};
use serde::Deserialize;

use super::bodies::Woe;
use super::plan::{ALWAYS, End, How, Op, PAUSES, Plan, Rival, Then, Work, promise_name};
use super::promises::Outcome;

/// What is known of a run besides its rows.
pub(super) struct Known<'k> {
    /// How often each side effect began.
    pub(super) effects: &'k dyn Fn(&str) -> u32,
    /// Whether no worker ended and no commit was refused for good: then no step ran without a reason.
    pub(super) is_undisturbed: bool,
    /// Whether a commit was to be refused for good, so that something parks for that.
    pub(super) refuses: bool,
    /// Whether the clock was set back: then times say nothing of what came first.
    pub(super) was_set_back: bool,
    /// The events of the tree, by their causation (the invocation) and their content's order.
    pub(super) events: usize,
}

/// Compares a closed tree with its plan.
pub(super) fn judge(plan: &Plan, record: &TreeRecord, known: &Known<'_>) -> Result<(), String> {
    let oracle = Oracle { record, known, rows: record.invocations.iter().map(|row| (path(row), row)).collect() };
    oracle.requests()?;
    oracle.closing()?;
    oracle.invocation(plan, &Path::root())?;
    let emitted = record.entries.iter().filter(|(_, _, entry)| entry.kind == EntryKind::Emitted).count();
    ensure(emitted == known.events, || format!("{emitted} events were recorded, the outbox has {}", known.events))
}

pub(super) struct Oracle<'o> {
    pub(super) record: &'o TreeRecord,
    pub(super) known: &'o Known<'o>,
    pub(super) rows: BTreeMap<&'o Path, &'o InvocationRow>,
}

/// How a body ended, or that it waits for ever because what it waits for never came.
enum Walked {
    Ended(Result<String, Woe>),
    Waits,
}

/// A handle that a body keeps.
#[derive(Clone, Copy)]
enum Held {
    Call(Position),
    Promise(Position),
    Sleep(Position),
    /// Of a step that does not fail.
    Step(Position),
}

/// What an operation gave.
type Gave = Option<Result<String, Woe>>;

/// A walk through one body.
pub(super) struct Walk<'w> {
    pub(super) oracle: &'w Oracle<'w>,
    pub(super) plan: &'w Plan,
    pub(super) path: &'w Path,
    /// The entries of this invocation, without those of steps that were forgotten.
    pub(super) entries: Vec<&'w Entry>,
    /// Whether it ended by itself, so that all it walked over must have come to what the plan says.
    pub(super) is_whole: bool,
    pub(super) has_deadline: bool,
    next: Position,
    held: VecDeque<Held>,
    /// The promises that it made.
    made: Vec<(Position, String)>,
    /// The calls whose completion it was given.
    given: BTreeSet<Position>,
    emitted: Vec<Position>,
    pub(super) undos: Vec<Position>,
}

impl<'o> Oracle<'o> {
    /// Whether what an invocation failed to undo, or one above or below it, was to be undone again.
    pub(super) fn is_retried(&self, path: &Path) -> bool {
        let mut requests = self.record.requests.iter().map(|asked| &asked.request);
        let path = path.without_rounds();
        let concerns = |of: &Path| of.is_at_or_above(&path) || path.is_at_or_above(of);
        requests.any(|asked| asked.verb == ControlVerb::Retry && concerns(&asked.path.without_rounds()))
    }

    /// How often it was asked for that what an invocation did at a position is undone again.
    pub(super) fn retries(&self, path: &Path, position: Position) -> usize {
        let undo = path.undo(position);
        let requests = self.record.requests.iter().map(|asked| &asked.request);
        let retries = requests.filter(|asked| asked.verb == ControlVerb::Retry);
        retries.filter(|asked| asked.path.without_rounds().is_at_or_above(&undo)).count()
    }

    /// G6: the tree says the worst of what its invocations say.
    fn closing(&self) -> Result<(), String> {
        let all: BTreeSet<&str> = self.rows.values().map(|row| row.invocation.state.closing.name()).collect();
        let worst = [Closing::CompensationFailed, Closing::Compensating, Closing::Compensated, Closing::None];
        let worst = worst.into_iter().find(|closing| all.contains(closing.name())).unwrap_or_default();
        let found = self.record.row.closing;
        ensure(found.name() == worst.name(), || format!("its closing is {found:?}, the worst of it is {worst:?}"))
    }

    pub(super) fn row(&self, path: &Path) -> Option<&'o InvocationRow> {
        self.rows.get(path).copied()
    }

    /// One invocation, and all below it.
    fn invocation(&self, plan: &Plan, path: &Path) -> Result<(), String> {
        let row = self.row(path).ok_or_else(|| format!("{path} is not there"))?;
        let state = &row.invocation.state;
        let wrong = |what: String| format!("{path} ({}): {what}", plan.name);
        let ended = matches!(state.promise, PromiseState::Resolved | PromiseState::Rejected);
        let mut walk = Walk::new(self, plan, path, ended);
        let walked = walk.walk().map_err(&wrong)?;
        match (state.promise, walked) {
            (PromiseState::Resolved, Walked::Ended(Ok(told))) => {
                let outcome = read::<String>(&state.outcome).map_err(&wrong)?;
                ensure(outcome == told, || wrong(format!("it resolved with {outcome}, the plan says {told}")))?;
            }
            (PromiseState::Rejected, Walked::Ended(Err(woe))) => {
                let outcome = rejection(&state.outcome).map_err(&wrong)?;
                ensure(outcome == woe, || wrong(format!("it failed: {outcome}, the plan says: {woe}")))?;
            }
            (PromiseState::Cancelled, _) => {}
            (PromiseState::TimedOut, _) => {
                let deadline = row.invocation.deadline.or(self.record.row.deadline.filter(|_| path.depth() == 0));
                let late = deadline.is_some_and(|deadline| row.settled_at.is_some_and(|at| at >= deadline));
                ensure(late, || wrong(format!("it timed out at {:?}, its deadline is {deadline:?}", row.settled_at)))?;
            }
            (promise, Walked::Ended(says)) => return Err(wrong(format!("it is {promise:?}, the plan says {says:?}"))),
            (promise, Walked::Waits) => return Err(wrong(format!("it is {promise:?}, the plan waits"))),
        }
        walk.events().map_err(&wrong)?;
        walk.promises().map_err(&wrong)?;
        walk.attempts(row).map_err(&wrong)?;
        walk.deadline(row).map_err(&wrong)?;
        walk.dropped().map_err(&wrong)?;
        walk.undone(row).map_err(&wrong)?;
        walk.cancelled_for_a_reason(row).map_err(&wrong)?;
        for (position, child) in walk.calls() {
            let path = path.child(position);
            if self.row(&path).is_some() {
                self.invocation(child, &path)?;
            }
        }
        Ok(())
    }

    /// K3, K6, K7: what was asked for has come about, and nothing below goes forward after that.
    fn requests(&self) -> Result<(), String> {
        let stops = |record: &&ControlRecord| is_stop(record.request.verb);
        for ControlRecord { request, requested_at, .. } in self.record.requests.iter().filter(stops) {
            let at = &request.path;
            let promise = self.row(at).map(|row| row.invocation.state.promise);
            let is_stopped = matches!(promise, Some(PromiseState::Cancelled | PromiseState::TimedOut));
            ensure(is_stopped || request.verb == ControlVerb::Kill, || {
                format!("{at} was cancelled, and it is {promise:?}")
            })?;
            let below = self.rows.iter().filter(|(path, _)| at.is_at_or_above(path) && **path != at);
            let after = |row: &InvocationRow| row.created_at > *requested_at && !self.known.was_set_back;
            for (path, _) in below.filter(|(_, row)| after(row)) {
                let may_undo = request.verb == ControlVerb::Cancel || self.is_retried(path);
                let undoes = may_undo && is_undo_below(at, path);
                ensure(undoes, || format!("{path} began after {:?} of {at}", request.verb))?;
            }
        }
        Ok(())
    }
}

/// Whether a request ends forward work.
const fn is_stop(verb: ControlVerb) -> bool {
    matches!(verb, ControlVerb::Cancel | ControlVerb::Kill)
}

/// Whether one of the invocations on the way down from `at` to `path` undoes something.
fn is_undo_below(at: &Path, path: &Path) -> bool {
    let way = std::iter::successors(Some(path.clone()), Path::parent);
    way.take_while(|path| path != at).any(|path| path.undoes().is_some())
}

impl<'w> Walk<'w> {
    fn new(oracle: &'w Oracle<'w>, plan: &'w Plan, path: &'w Path, is_whole: bool) -> Self {
        let mut entries: Vec<&Entry> = Vec::new();
        for (_, _, entry) in oracle.record.entries.iter().filter(|(of, _, _)| of == path) {
            if entry.kind == EntryKind::Retried {
                let retried: Retried = serde_json::from_slice(&entry.payload).unwrap_or_default();
                entries.retain(|entry| !retried.forgotten.contains(&entry.position));
            }
            entries.push(entry);
        }
        let mut up = std::iter::successors(Some(path.clone()), Path::parent);
        let has_deadline = up.any(|path| oracle.row(&path).is_some_and(|row| row.invocation.deadline.is_some()))
            || oracle.record.row.deadline.is_some();
        Self {
            oracle,
            plan,
            path,
            entries,
            is_whole,
            has_deadline,
            next: 0,
            held: VecDeque::new(),
            made: Vec::new(),
            given: BTreeSet::new(),
            emitted: Vec::new(),
            undos: Vec::new(),
        }
    }

    fn walk(&mut self) -> Result<Walked, String> {
        let mut told = vec![self.plan.name.clone()];
        for (at, op) in self.plan.ops.iter().enumerate() {
            match self.op(at, op)? {
                Some(Ok(said)) => told.push(said),
                Some(Err(woe)) if self.plan.catches => told.push(format!("caught {woe}")),
                Some(Err(woe)) => return Ok(Walked::Ended(Err(woe))),
                None => return Ok(Walked::Waits),
            }
        }
        let what = self.plan.name.clone();
        Ok(Walked::Ended(match self.plan.end {
            End::Returns => Ok(told.join(",")),
            End::Fails => Err(Woe::Broken { what }),
            End::Busy => Err(Woe::Busy { what }),
        }))
    }

    fn op(&mut self, at: usize, op: &Op) -> Result<Gave, String> {
        let said = |said: &str| Ok(Some(Ok(said.to_owned())));
        match op {
            Op::Step(work) => {
                let position = self.position();
                self.step(position, work)
            }
            Op::Steps(one, other) => {
                let (first, second) = (self.position(), self.position());
                let both = (self.step(first, one)?, self.step(second, other)?);
                Ok(match both {
                    (Some(Ok(one)), Some(Ok(other))) => Some(Ok(format!("{one}&{other}"))),
                    _ => None,
                })
            }
            Op::Hurry(work, _) => {
                let (position, sleep) = (self.position(), self.position());
                self.step(position, work)?;
                Ok(self.race(Held::Step(position), None, sleep))
            }
            Op::Sleep(_) => {
                let position = self.position();
                Ok(self.sleep(position).map(|_| Ok("slept".to_owned())))
            }
            Op::Nap(_) => {
                let position = self.position();
                self.held.push_back(Held::Sleep(position));
                said("naps")
            }
            Op::Call(_) => {
                let position = self.position();
                Ok(self.take(position))
            }
            Op::Hold(_) => {
                let position = self.position();
                self.held.push_back(Held::Call(position));
                said("held")
            }
            Op::Await | Op::Glance(_) | Op::Drop => Ok(self.kept(op)),
            Op::Race { rival, .. } => {
                let (first, second) = (self.position(), self.position());
                if matches!(rival, Rival::Promise(_)) {
                    self.made.push((second, promise_name(at)));
                }
                Ok(match rival {
                    Rival::Sleep(_) => self.race(Held::Call(first), None, second),
                    Rival::Call(_) => self.race(Held::Call(first), Some(Held::Call(second)), second),
                    Rival::Promise(_) => self.race(Held::Call(first), Some(Held::Promise(second)), second),
                })
            }
            Op::Join(plans) => {
                let positions: Vec<_> = plans.iter().map(|_| self.position()).collect();
                let all: Option<Vec<_>> = positions.into_iter().map(|position| self.take(position)).collect();
                let all: Option<Result<Vec<_>, _>> = all.map(|all| all.into_iter().collect());
                Ok(all.map(|all| all.map(|all| all.join("+"))))
            }
            Op::Promise(_, then) => {
                let position = self.position();
                self.made.push((position, promise_name(at)));
                match then {
                    Then::Awaits => Ok(self.promised(position)),
                    Then::Holds => {
                        self.held.push_back(Held::Promise(position));
                        said("held")
                    }
                    Then::Drops => said("dropped"),
                    Then::Races { .. } => {
                        let sleep = self.position();
                        Ok(self.race(Held::Promise(position), None, sleep))
                    }
                }
            }
            Op::Emit => {
                let position = self.position();
                self.emitted.push(position);
                said("emitted")
            }
            Op::Draw => {
                let position = self.position();
                let drawn = self.entry(position, EntryKind::Valued);
                Ok(drawn.map(|entry| Ok(String::from_utf8_lossy(&entry.payload).into_owned())))
            }
            Op::Compensate => {
                let position = self.position();
                self.undos.push(position);
                said("declared")
            }
        }
    }

    /// What is done with the handle that was kept first.
    fn kept(&mut self, op: &Op) -> Gave {
        let said = |said: &str| Some(Ok(said.to_owned()));
        match op {
            Op::Await => match self.held.pop_front() {
                Some(held) => self.take_held(held),
                None => said("nothing"),
            },
            Op::Glance(_) => {
                let sleep = self.position();
                let Some(first) = self.held.front().copied() else {
                    return self.sleep(sleep).map(|_| Ok("(slept first)".to_owned()));
                };
                let gave = self.race(first, None, sleep);
                if self.comes_first(first, sleep) {
                    self.held.pop_front();
                }
                gave
            }
            Op::Drop => {
                self.held.pop_front();
                said("dropped")
            }
            _ => None,
        }
    }

    const fn position(&mut self) -> Position {
        self.next += 1;
        self.next - 1
    }

    fn entry(&self, position: Position, kind: EntryKind) -> Option<&'w Entry> {
        self.entries.iter().copied().rfind(|entry| entry.position == position && entry.kind == kind)
    }

    /// R3, F2, F3, C4: it was recorded once, with what its work comes to.
    fn step(&self, position: Position, work: &Work) -> Result<Gave, String> {
        let of_it = |kind| self.entries.iter().filter(move |entry| entry.position == position && entry.kind == kind);
        let (resolved, rejected) = (of_it(EntryKind::StepResolved).count(), of_it(EntryKind::StepRejected).count());
        let wrong = |what: &str| Err(format!("step {position} of {work:?} {what}"));
        if resolved + rejected > 1 {
            return wrong("ended twice");
        }
        let key = format!("{}:{}", self.oracle.record.row.id, self.path.child(position));
        let count = (self.oracle.known.effects)(&key);
        if resolved == 1 {
            if count <= work.fails {
                return wrong("resolved, and its effect never came about");
            }
            if self.oracle.known.is_undisturbed && count != work.fails + 1 {
                return wrong(&format!("resolved, and ran {count} times without a reason"));
            }
            return Ok(Some(Ok("did".to_owned())));
        }
        if rejected == 0 {
            return Ok(None);
        }
        let is_early = self.has_deadline || !self.is_whole;
        if work.how == How::Panic || work.fails == 0 || (work.fails != ALWAYS && !is_early) {
            // Unless it is one more attempt of the function that will do.
            return wrong("was rejected");
        }
        let what = "step".to_owned();
        let woe = if work.how == How::Terminal { Woe::Broken { what } } else { Woe::Busy { what } };
        Ok(Some(Err(woe)))
    }

    /// The number of the end of a sleep.
    fn sleep(&self, position: Position) -> Option<u32> {
        self.entry(position, EntryKind::SleepEnded)?.number
    }

    fn number(&self, position: Position) -> Option<u32> {
        self.oracle.row(&self.path.child(position))?.invocation.state.number
    }

    fn number_of(&self, held: Held) -> Option<u32> {
        match held {
            Held::Call(position) => self.number(position),
            Held::Promise(position) => self.entry(position, EntryKind::PromiseSettled)?.number,
            Held::Sleep(position) => self.sleep(position),
            Held::Step(position) => self.entry(position, EntryKind::StepResolved)?.number,
        }
    }

    /// R7: the lower number wins. Without a second, that is a sleep at this position.
    fn race(&mut self, first: Held, second: Option<Held>, sleep: Position) -> Gave {
        let of_second = second.map_or_else(|| self.sleep(sleep), |second| self.number_of(second));
        let first_wins = lower(self.number_of(first), of_second)?;
        match second {
            _ if first_wins => self.take_held(first),
            Some(second) => self.take_held(second),
            None => Some(Ok("(slept first)".to_owned())),
        }
    }

    /// Whether it ended before a sleep.
    fn comes_first(&self, held: Held, sleep: Position) -> bool {
        lower(self.number_of(held), self.sleep(sleep)) == Some(true)
    }

    fn take_held(&mut self, held: Held) -> Gave {
        match held {
            Held::Call(position) => self.take(position),
            Held::Promise(position) => self.promised(position),
            Held::Sleep(position) => self.sleep(position).map(|_| Ok("(slept first)".to_owned())),
            Held::Step(_) => Some(Ok("did".to_owned())),
        }
    }

    /// What a promise gave its function.
    fn promised(&self, position: Position) -> Gave {
        let settled = self.entry(position, EntryKind::PromiseSettled)?;
        let broken = |what: String| Some(Err(Woe::Broken { what }));
        match serde_json::from_slice(&settled.payload).ok()? {
            Outcome::Resolved(value) => Some(Ok(format!("<{value}>"))),
            Outcome::Rejected { message } => broken(format!("<rejected {message}>")),
            Outcome::TimedOut => broken("<timed out>".to_owned()),
        }
    }

    /// What a call gave its caller.
    fn take(&mut self, position: Position) -> Gave {
        let state = &self.oracle.row(&self.path.child(position))?.invocation.state;
        state.number?;
        self.given.insert(position);
        let broken = |what: String| Some(Err(Woe::Broken { what }));
        match state.promise {
            PromiseState::Resolved => Some(Ok(format!("({})", read::<String>(&state.outcome).ok()?))),
            PromiseState::Rejected => broken(format!("({})", rejection(&state.outcome).ok()?)),
            PromiseState::Cancelled => broken("(cancelled)".to_owned()),
            PromiseState::TimedOut => broken("(timed out)".to_owned()),
            _ => None,
        }
    }

    /// E2: an event exists if and only if its point was reached.
    fn events(&self) -> Result<(), String> {
        let recorded = self.entries.iter().filter(|entry| entry.kind == EntryKind::Emitted);
        let recorded: Vec<Position> = recorded.map(|entry| entry.position).collect();
        let emitted = if self.is_whole { self.emitted.clone() } else { recorded.clone() };
        ensure(recorded == emitted, || format!("it emitted at {recorded:?}, the plan says {emitted:?}"))
    }

    /// P1: the promises that the plan says, each once.
    fn promises(&self) -> Result<(), String> {
        let made = self.entries.iter().filter(|entry| entry.kind == EntryKind::PromiseMade);
        let made: Vec<_> = made.map(|entry| (entry.position, entry.name.clone())).collect();
        let fits = if self.is_whole { made == self.made } else { self.made.starts_with(&made) };
        ensure(fits, || format!("it made the promises {made:?}, the plan says {:?}", self.made))
    }

    /// F5, F8, C4: another attempt is made only if it can end otherwise, and no crash counts as one. An operator who
    /// retries what has used up its attempts gives it as many again.
    fn attempts(&self, row: &InvocationRow) -> Result<(), String> {
        let retried = self.oracle.record.entries.iter();
        let retried = retried.filter(|(path, _, entry)| path == self.path && entry.kind == EntryKind::Retried);
        let retried: Vec<Retried> =
            retried.map(|(_, _, entry)| serde_json::from_slice(&entry.payload).unwrap_or_default()).collect();
        let budgets: Vec<usize> = retried.split(|retried| retried.afresh).map(<[Retried]>::len).collect();
        let asked = self.oracle.record.requests.iter().map(|asked| &asked.request);
        let asked =
            asked.filter(|asked| asked.verb == ControlVerb::Retry && asked.path.is_at_or_above(self.path)).count();
        ensure(budgets.len() <= 1 + asked, || format!("{} times a budget, asked for {asked} times", budgets.len()))?;
        let attempts = row.invocation.state.attempt;
        let made = u32::try_from(retried.len()).unwrap_or(u32::MAX) + 1;
        ensure(attempts == made, || format!("it is in attempt {attempts}, its journal says {made}"))?;
        let fails = |op: &Op| matches!(op, Op::Step(work) if work.fails > 0);
        let draws = self.plan.end == End::Busy && self.plan.ops.contains(&Op::Draw);
        let may_try_again = draws || self.plan.ops.iter().any(fails);
        let most = if may_try_again { self.plan.attempts } else { 1 } as usize;
        let spent = |budget: &usize| *budget < most;
        ensure(budgets.iter().all(spent), || format!("it tried again {budgets:?} times, {most} attempts make sense"))?;
        // What used up its attempts by a step runs that step again.
        let pauses = self.plan.attempts == PAUSES && !self.oracle.known.refuses;
        let panics = self.plan.ops.iter().any(|op| matches!(op, Op::Step(work) if work.how == How::Panic));
        let in_vain = retried.iter().find(|retried| retried.afresh && retried.forgotten.is_empty());
        ensure(in_vain.is_none() || !pauses || panics, || "a retry by an operator forgot nothing".to_owned())?;
        // Nobody retries what has attempts left, but for what parks by itself for another reason.
        let (_, parked) = budgets.split_last().unwrap_or((&0, &[]));
        let were_spent =
            parked.iter().all(|budget| budget + 1 == most) || self.has_deadline || self.oracle.known.refuses;
        ensure(were_spent, || format!("it was retried after {parked:?} retries of {most} attempts"))
    }

    /// D1: no deadline is later than the caller's.
    fn deadline(&self, row: &InvocationRow) -> Result<(), String> {
        let up = std::iter::successors(self.path.parent(), Path::parent);
        let of_caller = up.filter_map(|path| self.oracle.row(&path)?.invocation.deadline).min();
        let own = row.invocation.deadline;
        ensure(own.is_none() || of_caller.is_none() || own < of_caller, || {
            format!("its deadline is {own:?}, a caller's {of_caller:?}")
        })
    }

    /// N2: a call without calls of its own that is dropped before it settles is cancelled, or times out.
    fn dropped(&self) -> Result<(), String> {
        let dropped = self
            .oracle
            .record
            .entries
            .iter()
            .filter(|(path, _, entry)| path == self.path && entry.kind == EntryKind::Dropped);
        for (_, at, entry) in dropped {
            let path = self.path.child(entry.position);
            let Some(child) = self.oracle.row(&path) else { continue };
            let is_leaf = !self.oracle.rows.keys().any(|of| of.parent().as_ref() == Some(&path));
            let goes_on = matches!(child.invocation.state.promise, PromiseState::Resolved | PromiseState::Rejected);
            ensure(
                !is_leaf
                    || !goes_on
                    || self.oracle.known.was_set_back
                    || child.settled_at.is_some_and(|settled| settled <= *at),
                || format!("{path} was dropped at {at} and ended at {:?}", child.settled_at),
            )?;
        }
        Ok(())
    }

    /// K3, K8, N2: a child is cancelled if it was asked for, or if its caller no longer waits for it.
    fn cancelled_for_a_reason(&self, row: &InvocationRow) -> Result<(), String> {
        let caller = row.invocation.state.promise;
        for (position, _) in self.calls() {
            let path = self.path.child(position);
            let Some(child) = self.oracle.row(&path) else { continue };
            let is_cancelled = child.invocation.state.promise == PromiseState::Cancelled;
            let is_let_go =
                matches!(caller, PromiseState::Cancelled | PromiseState::TimedOut) || !self.given.contains(&position);
            let is_asked = self
                .oracle
                .record
                .requests
                .iter()
                .any(|asked| is_stop(asked.request.verb) && asked.request.path == path);
            ensure(!is_cancelled || is_let_go || is_asked, || format!("{path} was cancelled for no reason"))?;
        }
        Ok(())
    }

    /// The calls that the plan makes, by position.
    pub(super) fn calls(&self) -> impl Iterator<Item = (Position, &'w Plan)> + use<'w> {
        let mut next = 0;
        let places = self.plan.ops.iter().flat_map(move |op| {
            let first = next;
            let plans: Vec<&Plan> = match op {
                Op::Call(plan) | Op::Hold(plan) => vec![plan],
                Op::Race { plan, rival: Rival::Sleep(_) | Rival::Promise(_), .. } => vec![plan],
                Op::Race { plan, rival: Rival::Call(rival), .. } => vec![plan, rival],
                Op::Join(plans) => plans.iter().collect(),
                _ => Vec::new(),
            };
            next += match op {
                Op::Await | Op::Drop => 0,
                Op::Steps(..) | Op::Hurry(..) | Op::Race { .. } | Op::Promise(_, Then::Races { .. }) => 2,
                Op::Join(plans) => u32::try_from(plans.len()).expect("a few"),
                _ => 1,
            };
            (first..).zip(plans)
        });
        places.collect::<Vec<_>>().into_iter()
    }

    /// Whether a request reached it that stops compensation as well.
    pub(super) fn is_killed(&self, path: &Path) -> bool {
        let requests = self.oracle.record.requests.iter().map(|asked| &asked.request);
        requests.filter(|asked| asked.verb == ControlVerb::Kill).any(|asked| asked.path.is_at_or_above(path))
    }

    /// Whether a request reached it.
    pub(super) fn is_asked(&self, path: &Path) -> bool {
        let mut requests = self.oracle.record.requests.iter().map(|asked| &asked.request);
        requests.any(|asked| is_stop(asked.verb) && asked.path.is_at_or_above(path))
    }
}

/// Whether the first of two numbers is the lower one; `None` if there is none.
fn lower(first: Option<u32>, second: Option<u32>) -> Option<bool> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first < second),
        (None, None) => None,
        (first, None) => Some(first.is_some()),
        (None, Some(_)) => Some(false),
    }
}

pub(super) fn path(row: &InvocationRow) -> &Path {
    &row.invocation.path
}

pub(super) fn ensure(is_so: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(wrong()) }
}

fn read<T: for<'de> Deserialize<'de>>(outcome: &Option<bytes::Bytes>) -> Result<T, String> {
    let outcome = outcome.as_ref().ok_or("it has no outcome")?;
    serde_json::from_slice(outcome).map_err(|error| format!("its outcome is no such thing: {error}"))
}

/// The error of an invocation that failed.
fn rejection(outcome: &Option<bytes::Bytes>) -> Result<Woe, String> {
    read::<Rejected>(outcome).map(|rejected| rejected.error)
}

/// As journal.md says.
#[derive(Deserialize)]
struct Rejected {
    error: Woe,
}

/// As journal.md says.
#[derive(Deserialize, Default)]
struct Retried {
    forgotten: Vec<Position>,
    #[serde(default)]
    afresh: bool,
}
