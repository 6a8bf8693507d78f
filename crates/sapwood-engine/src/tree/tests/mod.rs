//! The rules of one tree, without a store, a clock or a body: what F, N and S demand of each decision.

mod cancel;
mod deadlines;
mod promises;
mod resume;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::limits::{LimitError, Limits};
use sapwood_core::retry::RetryPolicy;
use sapwood_core::store::{NewTree, Ownership, Turn};
use sapwood_core::tree::{Cause, PromiseState, TimerKind, TreeState};
use sapwood_core::{BoundedContext, Dependencies, FunctionVersion, Path, Position, TreeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{TREE_BYTES, Tree};
use super::node::{Move, NodeId, Status};
use crate::activation::{Finish, Fresh, Notice, Report, RetryBasis, StepEnd, Work};
use crate::clock::{StoreClock, Told};
use crate::cx::Cx;
use crate::definition::Definition;
use crate::environment::Environment;
use crate::facts::Facts;
use crate::function::Function;
use crate::payload::{BodyError, Parked, ParkedCode, Rejection, RejectionKind, Retried, decode};
use crate::registry::Registry;
use crate::replay::Completion;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const SECOND: Duration = Duration::from_secs(1);

/// The longest wait before the second attempt of [`Does`]; each further one doubles it.
const FIRST: Duration = Duration::from_millis(100);

struct Testing;

impl BoundedContext for Testing {
    const NAME: &'static str = "testing";
}

impl Dependencies for Testing {
    type Context = Self;
}

/// The function of every node here: three attempts.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Does {}

impl Function for Does {
    type Dependencies = Testing;
    type Output = u32;
    type Error = sapwood_core::Error;
    const NAME: &'static str = "does";
    const VERSION: u32 = 1;
    const DESCRIPTION: &'static str = "";
    const RETRY: RetryPolicy = RetryPolicy::new(3, FIRST, SECOND);

    async fn run(self, _: &mut Cx<Testing>) -> Result<u32, sapwood_core::Error> {
        Ok(0)
    }
}

/// Nothing here uses time, chance or tasks: decisions take them as values.
struct Unasked;

impl Environment for Unasked {
    fn now(&self) -> Timestamp {
        unreachable!("a decision takes the time as a value")
    }

    fn monotonic(&self) -> Duration {
        unreachable!("a decision waits for nothing")
    }

    fn random(&self) -> u64 {
        unreachable!("a decision takes chance as a value")
    }

    fn tree_id(&self) -> TreeId {
        unreachable!("a decision starts no tree")
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {
        unreachable!("a decision runs no task")
    }

    fn spawn_apart(&self, _: String, _: BoxFuture<'static, ()>) -> std::io::Result<()> {
        unreachable!("a decision runs no task")
    }
}

/// A tree whose bodies the test plays.
struct Play {
    tree: Tree,
}

impl Play {
    /// A tree whose root has been begun.
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self::of(limits, None)
    }

    /// As [`Self::new`], with a deadline.
    fn until(deadline: Timestamp) -> Self {
        Self::of(Limits::default(), Some(deadline))
    }

    fn of(limits: Limits, deadline: Option<Timestamp>) -> Self {
        let registry = Arc::new(Registry::from_definitions([Definition::of::<Does>()]).expect("one function"));
        let id = TreeId::from(uuid::Uuid::from_u128(7));
        let told = Told { now: NOW, sent: Duration::ZERO, answered: Duration::ZERO };
        let facts = Facts {
            tree: id,
            context: Testing::NAME,
            correlation: id.to_string(),
            traceparent: None,
            lanes: 16,
            limits,
            step_timeout: None,
            environment: Arc::new(Unasked),
            clock: Arc::new(StoreClock::new(Arc::new(Unasked), told)),
            transactor: None,
            findings: Arc::default(),
        };
        let new =
            NewTree { id, function: "does".into(), version: 1, input: "{}".into(), cause: Cause::default(), deadline };
        let mut play = Self { tree: Tree::created(new, Arc::new(facts), &registry, true) };
        play.begin(ROOT);
        play
    }

    /// A body of a node is at its first line, and is polled.
    fn begin(&mut self, id: NodeId) {
        self.tree.begun(id);
        self.tree.on(id, Move::Polled);
    }

    /// A body waits after a poll that wrote this.
    fn writes(&mut self, id: NodeId, fresh: Vec<Fresh>) -> Vec<NodeId> {
        self.tree.paused(id, wrote(fresh))
    }

    /// A body calls this many children, from position 0 on, and each begins.
    fn calls(&mut self, id: NodeId, count: Position) -> Vec<NodeId> {
        let children = self.writes(id, (0..count).map(call).collect());
        children.iter().for_each(|child| self.begin(*child));
        children
    }

    fn finishes(&mut self, id: NodeId, finish: Finish) -> Vec<NodeId> {
        self.tree.finished(id, finish, Report::default())
    }

    fn returns(&mut self, id: NodeId, value: &'static str) -> Vec<NodeId> {
        self.finishes(id, Finish::Returned(Ok(value.into()), RetryBasis::default()))
    }

    fn fails(&mut self, id: NodeId, transient: bool, retry: RetryBasis) -> Vec<NodeId> {
        self.finishes(id, Finish::Returned(Err(error(transient)), retry))
    }

    /// The wait of a node that backs off is over, and its next attempt begins.
    fn next_attempt(&mut self, id: NodeId) {
        assert_eq!(self.tree.status(id), Some(Status::BackingOff));
        assert_eq!(self.tree.fire_due(NOW + 2 * SECOND, usize::MAX), [id]);
        assert_eq!(self.tree.status(id), Some(Status::Runnable));
        self.begin(id);
    }

    /// A step of a node has ended.
    fn step(&mut self, id: NodeId, attempt: u32, result: Result<&'static str, BodyError>, retry_at: Option<Timestamp>) {
        let result = result.map(Bytes::from);
        let end = StepEnd { position: 0, name: "s".to_owned(), attempt, result, retry_at, transaction: None };
        self.tree.step_ended(id, end);
    }

    /// Something of a body is in flight, or nothing any longer.
    fn works(&mut self, id: NodeId, is_in_flight: bool) {
        self.tree.set_work(id, Work { is_in_flight, is_binding: is_in_flight, ..Work::default() });
    }

    /// What was in flight of a body that does not go on has ended.
    fn finishes_behind(&mut self, id: NodeId) -> Vec<NodeId> {
        assert_eq!(self.tree.status(id), Some(Status::Finishing));
        assert!(self.tree.left_behind(id).is_empty(), "not yet");
        self.works(id, false);
        self.tree.left_behind(id)
    }

    /// The next turn of the owned tree, which is durable after that.
    fn commits(&mut self) -> Turn {
        let turn = self.tree.keep();
        self.tree.committed();
        turn
    }

    /// The turn that releases the tree.
    fn released(&mut self) -> Turn {
        assert!(!self.tree.is_active(false), "something in it runs");
        self.tree.release(NOW).0
    }

    fn notices(&mut self, id: NodeId) -> Vec<Notice> {
        self.tree.take_notices(id)
    }
}

const ROOT: NodeId = 0;

fn call(position: Position) -> Fresh {
    Fresh::Call { position, function: "does", version: 1, input: "{}".into(), undo: None, deadline: None }
}

/// A poll that wrote this.
fn wrote(fresh: Vec<Fresh>) -> Report {
    Report { fresh, steps_ended: Vec::new() }
}

fn error(transient: bool) -> BodyError {
    BodyError { transient, message: "no".to_owned(), error: "{\"no\":1}".into() }
}

fn basis(drew: bool, forgotten: &[Position]) -> RetryBasis {
    RetryBasis {
        position: 5,
        forgotten: forgotten.to_vec(),
        drew,
        ended_at: NOW,
        fraction: 0.5,
        ..RetryBasis::default()
    }
}

fn kinds(turn: &Turn) -> Vec<EntryKind> {
    turn.entries.iter().map(|(_, entry)| entry.kind).collect()
}

/// The state in which a turn leaves an invocation.
fn promise(turn: &Turn, path: &str) -> Option<PromiseState> {
    let path: Path = path.parse().expect("a path");
    let created = turn.invocations.iter().find(|invocation| invocation.path == path).map(|created| &created.state);
    let changed = turn.changes.iter().find(|change| change.path == path).map(|change| &change.state);
    created.or(changed).map(|state| state.promise)
}

// ---- F ------------------------------------------------------------------------------------------------------------

/// F3, F5: an error is retried only if it is transient, an attempt is left, and a retry can end otherwise; else the
/// function rejects its own promise, and the rejection shows whether its error was terminal.
#[test]
fn an_error_is_retried_only_if_a_retry_can_end_otherwise() {
    let (nothing, drew, forgets) = (basis(false, &[]), basis(true, &[]), basis(false, &[0, 3]));
    // transient · what a retry would forget · the attempt that fails · what becomes of it (`None`: another attempt)
    let table = [
        (false, &drew, 1, Some(RejectionKind::Failed)),
        (false, &forgets, 1, Some(RejectionKind::Failed)),
        (true, &nothing, 1, Some(RejectionKind::Exhausted)),
        (true, &drew, 1, None),
        (true, &forgets, 1, None),
        (true, &forgets, 2, None),
        (true, &forgets, 3, Some(RejectionKind::Exhausted)),
        (true, &nothing, 3, Some(RejectionKind::Exhausted)),
    ];
    for (transient, retry, attempt, expected) in table {
        let mut play = Play::new();
        for _ in 1..attempt {
            play.fails(ROOT, true, drew.clone());
            play.next_attempt(ROOT);
        }
        assert!(play.fails(ROOT, transient, retry.clone()).is_empty(), "a root has no parent to wake");
        let rejection = play.tree.outcome().map(|outcome| {
            assert_eq!((outcome.state, outcome.attempts), (TreeState::Rejected, attempt));
            Rejection::read(outcome.outcome.as_deref().unwrap_or_default()).expect("a rejection").kind
        });
        assert_eq!(rejection, expected, "transient {transient}, {retry:?}, attempt {attempt}");
        let backs_off = play.tree.status(ROOT) == Some(Status::BackingOff);
        assert_eq!(backs_off, expected.is_none());
    }
}

/// F2, F5: a retry records what it forgets, waits by the function's policy, and drops the timers of forgotten steps.
#[test]
fn a_retry_records_what_it_forgets_and_waits_by_the_policy() {
    let mut play = Play::new();
    play.step(ROOT, 1, Err(error(true)), Some(NOW + SECOND));
    play.commits();
    play.fails(ROOT, true, basis(false, &[0]));
    let turn = play.commits();
    let (_, entry) = turn.entries.last().expect("an entry");
    assert_eq!((entry.kind, entry.position, entry.attempt), (EntryKind::Retried, Entry::NO_POSITION, 1));
    let retried: Retried = decode(&entry.payload).expect("a payload");
    assert_eq!(retried, Retried { message: "no".to_owned(), forgotten: vec![0], afresh: false });
    assert_eq!(turn.timers_cleared, [(Path::root(), 0)], "the step's next attempt");
    let timers: Vec<_> = turn.timers_set.iter().map(|timer| (timer.kind, timer.due_at)).collect();
    // Half of the longest wait, for a fraction of one half.
    assert_eq!(timers, [(TimerKind::FunctionRetry, NOW + FIRST / 2)]);
}

/// F6: a panic counts an attempt also with nothing to forget; exhausted, it parks instead of rejecting.
#[test]
fn a_panic_is_retried_and_at_last_parks() {
    let mut play = Play::new();
    for _ in 1..3 {
        play.finishes(ROOT, Finish::Panicked("ouch".to_owned(), basis(false, &[])));
        play.next_attempt(ROOT);
    }
    play.finishes(ROOT, Finish::Panicked("ouch".to_owned(), basis(false, &[])));
    assert_eq!(play.tree.status(ROOT), Some(Status::Parked));
    assert!(play.tree.outcome().is_none());
    let parked = play.tree.node(ROOT).and_then(|node| node.state.parked.clone()).expect("a reason");
    let parked: Parked = decode(&parked).expect("a reason");
    assert!(parked.message.contains("ouch") && parked.position == 5, "{parked}");
    assert_eq!(parked.code, ParkedCode::Panic);
}

/// F1, F7: the retry of a child wakes no parent and no sibling, and changes nothing of theirs.
#[test]
fn a_child_that_is_retried_is_alone_with_it() {
    let mut play = Play::new();
    let children = play.calls(ROOT, 2);
    play.tree.suspend(ROOT);
    play.commits();
    assert!(play.fails(children[0], true, basis(true, &[])).is_empty());
    assert!(play.notices(ROOT).is_empty() && play.notices(children[1]).is_empty());
    let turn = play.commits();
    assert_eq!(turn.changes.iter().map(|change| change.path.to_string()).collect::<Vec<_>>(), ["/0"]);
    assert_eq!(play.tree.status(children[1]), Some(Status::Active));
}

/// F4: the parent is told once the child's own promise is rejected, with its attempts and its error.
#[test]
fn the_parent_is_told_of_a_rejected_child_and_goes_on() {
    let mut play = Play::new();
    let children = play.calls(ROOT, 2);
    assert_eq!(play.fails(children[1], false, basis(true, &[])), [ROOT]);
    let notices = play.notices(ROOT);
    let [Notice::Completed { position: 1, number: 1, completion }] = &notices[..] else { panic!("{notices:?}") };
    let Completion::Call { promise: PromiseState::Rejected, attempts: 1, outcome, .. } = completion else {
        panic!("{completion:?}");
    };
    assert_eq!(Rejection::read(outcome).expect("a rejection").message, "no");
    let turn = play.commits();
    assert_eq!(promise(&turn, "/1"), Some(PromiseState::Rejected));
    assert_eq!(promise(&turn, "/"), Some(PromiseState::Pending));
    // Caught, the grandparent sees nothing: the root returns its own value.
    play.returns(children[0], "1");
    play.returns(ROOT, "2");
    assert_eq!(play.tree.outcome().map(|outcome| outcome.state), Some(TreeState::Resolved));
}

/// F2, R3: an attempt of a step is recorded with its number; a failed one either backs off or ends the step.
#[test]
fn the_end_of_a_step_is_recorded_by_its_result() {
    type Ended = (Result<&'static str, BodyError>, Option<Timestamp>, EntryKind);
    let table: [Ended; 4] = [
        (Ok("1"), None, EntryKind::StepResolved),
        (Err(error(true)), Some(NOW + SECOND), EntryKind::StepRetried),
        (Err(error(true)), None, EntryKind::StepRejected),
        (Err(error(false)), None, EntryKind::StepRejected),
    ];
    for (result, retry_at, kind) in table {
        let mut play = Play::new();
        play.step(ROOT, 4, result, retry_at);
        let turn = play.commits();
        let (_, entry) = &turn.entries[0];
        assert_eq!((entry.kind, entry.attempt, entry.name.as_str(), entry.seq), (kind, 4, "s", 0));
        let is_completion = kind != EntryKind::StepRetried;
        assert_eq!(entry.number, is_completion.then_some(1), "only a completion takes a number (R7)");
        assert_eq!(turn.timers_set.len(), usize::from(retry_at.is_some()));
        let notices = play.notices(ROOT);
        match &notices[..] {
            [Notice::Completed { position: 0, number: 1, .. }] => assert!(is_completion),
            [Notice::BackingOff { position: 0, attempt: 4 }] => assert!(!is_completion),
            other => panic!("{other:?}"),
        }
    }
}

/// R7: an end that comes after its invocation has settled completes nothing, so the numbers have no gaps.
#[test]
fn an_end_that_comes_too_late_takes_no_number() {
    let mut play = Play::new();
    let children = play.calls(ROOT, 2);
    play.returns(children[0], "1");
    play.step(children[0], 1, Ok("2"), None);
    play.step(children[0], 1, Err(error(true)), Some(NOW + SECOND));
    play.returns(children[1], "1");
    let turn = play.commits();
    let mut numbers: Vec<_> = turn.invocations.iter().filter_map(|invocation| invocation.state.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    assert!(turn.entries.is_empty() && turn.timers_set.is_empty());
}

// ---- N ------------------------------------------------------------------------------------------------------------

/// N1: a promise settles after all children of its invocation are closed, in whatever order they and it end; the
/// numbers of the completions have no gaps (R7).
#[test]
fn a_promise_settles_after_the_last_of_its_children() {
    // The order in which the root (9) and its three children end, each with a step in flight; the root settles with the
    // last of all.
    for order in [[9, 0, 1, 2], [0, 9, 1, 2], [2, 1, 9, 0], [1, 2, 0, 9]] {
        let mut play = Play::new();
        let children = play.calls(ROOT, 3);
        children.iter().for_each(|child| play.works(*child, true));
        play.commits();
        for (ended, place) in order.into_iter().enumerate() {
            assert!(play.tree.outcome().is_none(), "{order:?}");
            let has_returned = order[..ended].contains(&9);
            let woken = match place {
                9 => play.returns(ROOT, "1"),
                child if has_returned => play.finishes_behind(children[child]),
                child => play.returns(children[child], "2"),
            };
            assert_eq!(
                woken == [ROOT],
                !has_returned && place != 9,
                "a parent that has returned is not woken: {order:?}"
            );
        }
        let turn = play.commits();
        let mut numbers: Vec<_> = turn.changes.iter().filter_map(|change| change.state.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(promise(&turn, "/"), Some(PromiseState::Resolved));
        let outcome = play.tree.outcome().expect("it is settled");
        assert_eq!((outcome.state, outcome.outcome.as_deref()), (TreeState::Resolved, Some(&b"1"[..])));
    }
}

/// N1: an outcome that is decided waits visibly; promises settle up the tree as far as parents waited only for that.
#[test]
fn outcomes_settle_up_the_tree_in_one_turn() {
    let mut play = Play::new();
    let child = play.calls(ROOT, 1)[0];
    let grandchild = play.calls(child, 1)[0];
    play.works(grandchild, true);
    play.fails(child, false, basis(false, &[]));
    play.returns(ROOT, "1");
    let turn = play.commits();
    let open = ["/0/0", "/0", "/"].map(|path| promise(&turn, path));
    let [cancelling, rejected, returned] =
        [PromiseState::Cancelling, PromiseState::ReturnedErr, PromiseState::ReturnedOk];
    assert_eq!(open, [Some(cancelling), Some(rejected), Some(returned)]);
    play.finishes_behind(grandchild);
    let turn = play.commits();
    let promises = ["/0/0", "/0", "/"].map(|path| promise(&turn, path));
    assert_eq!(promises, [Some(PromiseState::Cancelled), Some(PromiseState::Rejected), Some(PromiseState::Resolved)]);
}

/// N2: a handle dropped while the body goes on is recorded; one dropped on the way out of the body is not.
#[test]
fn a_drop_counts_only_while_the_body_goes_on() {
    let drops = || vec![Fresh::Drop { position: 0 }];
    let mut play = Play::new();
    play.writes(ROOT, drops());
    assert_eq!(kinds(&play.commits()), [EntryKind::Dropped]);
    let value = Finish::Returned(Ok("1".into()), RetryBasis::default());
    play.tree.finished(ROOT, value, wrote(drops()));
    assert!(kinds(&play.commits()).is_empty());
}

/// N2, F5: what the last poll of an attempt that is retried wrote and dropped never happened.
#[test]
fn the_last_poll_of_a_retried_attempt_never_happened() {
    let mut play = Play::new();
    let fresh = vec![call(0), Fresh::Sleep { position: 1, ms: 9, due_at: NOW }, Fresh::Drop { position: 1 }];
    let failed = Finish::Returned(Err(error(true)), basis(true, &[]));
    play.tree.finished(ROOT, failed, wrote(fresh));
    let turn = play.commits();
    assert_eq!(kinds(&turn), [EntryKind::Retried]);
    assert_eq!(turn.invocations.len(), 1, "the root alone");
}

/// N4, R1: children run concurrently, each in its own boundary and under its position in program order.
#[test]
fn a_fan_out_creates_children_that_are_all_runnable() {
    let mut play = Play::new();
    let children = play.writes(ROOT, (0..100).map(call).collect());
    let paths: Vec<_> = children.iter().filter_map(|id| play.tree.node(*id)).map(|node| node.path.clone()).collect();
    assert_eq!(paths, (0..100).map(|position| Path::root().child(position)).collect::<Vec<_>>());
    assert!(children.iter().all(|id| play.tree.status(*id) == Some(Status::Runnable)));
}

/// A2: past a limit of the tree the offending operation fails by name, and its function with it; what was written
/// before it stays.
#[test]
fn a_tree_that_grows_past_its_limit_fails_by_name() {
    let mut play = Play::with(Limits { nodes: 3, ..Limits::default() });
    let children = play.writes(ROOT, (0..5).map(call).collect());
    assert_eq!(children.len(), 2);
    let turn = play.commits();
    assert_eq!(promise(&turn, "/"), Some(PromiseState::Rejected), "and what it called is cancelled");
    let outcome = turn.invocations[0].state.outcome.clone().expect("a rejection");
    let rejection = Rejection::read(&outcome).expect("a rejection");
    assert_eq!(rejection.kind, RejectionKind::Limit);
    assert!(rejection.message.contains("call does") && rejection.message.contains("nodes"), "{}", rejection.message);
    // A limit that a body met by itself is the same.
    let mut play = Play::new();
    let limit = LimitError { operation: "emit e".into(), what: "event bytes".into(), found: 9, limit: 8 };
    play.finishes(ROOT, Finish::Limited(limit));
    assert_eq!(play.tree.outcome().map(|outcome| outcome.state), Some(TreeState::Rejected));
}

// ---- S ------------------------------------------------------------------------------------------------------------

/// S1, S3: a tree in which everything waits is released, and the turn that does so names the inbox.
#[test]
fn a_tree_in_which_everything_waits_is_released() {
    let mut play = Play::new();
    play.writes(ROOT, vec![Fresh::Sleep { position: 0, ms: 1_000, due_at: NOW + SECOND }]);
    assert!(play.tree.is_active(false));
    play.tree.suspend(ROOT);
    let turn = play.released();
    assert_eq!((turn.inbox, turn.next.state), (Some(0), TreeState::Suspended));
    let Ownership::Release { ready_at, needs: None } = turn.next.ownership else { panic!("{:?}", turn.next) };
    assert_eq!(ready_at, Some(NOW + SECOND), "it is due when its sleep is");
    assert_eq!(turn.invocations[0].state.seen, Some(0), "a takeover runs only what has news");
}

/// S2: with a step in flight the tree stays owned, also while its worker drains; a node that only wants to run does not
/// keep it.
#[test]
fn a_step_in_flight_keeps_its_tree_owned() {
    let (wanted, in_flight) =
        (Work { is_wanted: true, ..Work::default() }, Work { is_in_flight: true, ..Work::default() });
    for (work, stopping, keeps) in
        [(wanted, false, true), (wanted, true, false), (in_flight, false, true), (in_flight, true, true)]
    {
        let mut play = Play::new();
        play.tree.set_work(ROOT, work);
        assert_eq!(play.tree.is_active(stopping), keeps, "{work:?} stopping {stopping}");
    }
}

/// S3: what settles while a function waits reaches it, whether its body is in memory or not.
#[test]
fn what_settles_while_a_function_waits_is_kept_for_it() {
    let mut play = Play::new();
    let child = play.calls(ROOT, 1)[0];
    play.tree.suspend(ROOT);
    assert_eq!(play.returns(child, "1"), [ROOT]);
    let notices = play.notices(ROOT);
    assert!(matches!(notices[..], [Notice::Completed { position: 0, number: 1, .. }]), "{notices:?}");
    assert!(play.notices(ROOT).is_empty(), "once");
}

/// S6: a sleep fires when it is due, and once.
#[test]
fn a_sleep_fires_once() {
    let mut play = Play::new();
    play.writes(ROOT, vec![Fresh::Sleep { position: 0, ms: 1_000, due_at: NOW + SECOND }]);
    play.tree.suspend(ROOT);
    let before = NOW + Duration::from_millis(999);
    assert!(play.tree.fire_due(before, usize::MAX).is_empty());
    assert_eq!(play.tree.next_due(), Some(NOW + SECOND));
    assert_eq!(play.tree.fire_due(NOW + SECOND, usize::MAX), [ROOT]);
    assert!(play.tree.fire_due(NOW + 9 * SECOND, usize::MAX).is_empty());
    let turn = play.commits();
    assert_eq!(kinds(&turn), [EntryKind::SleepBegun, EntryKind::SleepEnded]);
    assert!(turn.timers_set.is_empty() && turn.timers_cleared.is_empty(), "set and over in one turn");
    assert_eq!(play.notices(ROOT).len(), 1);
}

/// S6: sleeps that end at one time may fire in parts, the earliest first; none is left out.
#[test]
fn sleeps_that_end_together_fire_in_parts() {
    let mut play = Play::new();
    let sleep = |position| Fresh::Sleep { position, ms: 1_000, due_at: NOW + SECOND };
    play.writes(ROOT, (0..5).map(sleep).collect());
    play.tree.suspend(ROOT);
    let parts: Vec<usize> = (0..4).map(|_| play.tree.fire_due(NOW + SECOND, 2).len()).collect();
    assert_eq!(parts, [2, 2, 1, 0]);
    let completed: Vec<Position> = play.notices(ROOT).iter().filter_map(completed_position).collect();
    assert_eq!(completed, [0, 1, 2, 3, 4]);
}

fn completed_position(notice: &Notice) -> Option<Position> {
    match notice {
        Notice::Completed { position, .. } => Some(*position),
        _ => None,
    }
}

/// What a tree takes of memory is kept as its nodes change, and only those that were touched are measured again.
#[test]
fn memory_is_measured_where_something_was_touched() {
    let mut play = Play::new();
    let children = play.calls(ROOT, 3);
    play.tree.suspend(ROOT);
    let measured = std::cell::RefCell::new(Vec::new());
    let bytes = |play: &mut Play| {
        let of_body = |id| {
            measured.borrow_mut().push(id);
            10_000
        };
        let bytes = play.tree.bytes(of_body);
        (bytes, std::mem::take(&mut *measured.borrow_mut()).into_iter().collect::<std::collections::BTreeSet<_>>())
    };
    let (all, asked) = bytes(&mut play);
    assert!(all > 40_000 && asked.len() == 4, "{all} {asked:?}");
    assert_eq!(bytes(&mut play), (all, [].into()), "nothing was touched");
    play.tree.suspend(children[1]);
    assert_eq!(bytes(&mut play), (all, [children[1]].into()));
    let value = "a value that its parent was not told yet";
    play.returns(children[1], value);
    let (after, asked) = bytes(&mut play);
    assert_eq!(asked, [ROOT].into(), "a settled node is gone");
    let of_each = (all - TREE_BYTES) / 4;
    assert_eq!(after, all - of_each + value.len(), "the child's share is gone, and its value waits for its parent");
    play.notices(ROOT);
    assert_eq!(bytes(&mut play).0, after - value.len());
}

/// S6: a sleep whose end is beyond the last timestamp is as good as endless, and nothing is due.
#[test]
fn a_sleep_without_end_is_never_due() {
    let mut play = Play::new();
    play.writes(ROOT, vec![Fresh::Sleep { position: 0, ms: u64::MAX, due_at: Timestamp::MAX }]);
    assert!(play.tree.fire_due(NOW + 1_000_000 * SECOND, usize::MAX).is_empty());
    assert_eq!(play.tree.next_due(), Some(Timestamp::MAX));
}

/// R9: a parked invocation consumes no attempt and stops no sibling; the tree is parked only when nothing else is due.
#[test]
fn a_parked_invocation_stops_no_sibling() {
    let mut play = Play::new();
    let children = play.calls(ROOT, 2);
    play.tree.suspend(ROOT);
    play.tree.park(children[0], &Parked::divergence(0, "something", "nothing", ""));
    let node = play.tree.node(children[0]).expect("it is there");
    assert_eq!((node.state.attempt, node.status()), (1, Status::Parked));
    assert!(play.tree.is_active(false), "its sibling runs");
    play.writes(children[1], vec![Fresh::Sleep { position: 0, ms: 1_000, due_at: NOW + SECOND }]);
    play.tree.suspend(children[1]);
    assert_eq!(play.released().next.state, TreeState::Suspended);
    play.tree.fire_due(NOW + SECOND, usize::MAX);
    play.begin(children[1]);
    play.returns(children[1], "1");
    assert_eq!(play.released().next.state, TreeState::Parked);
}

/// C4: a tree that is released while it could run loses no attempt, and is ready at once, elsewhere.
#[test]
fn what_is_put_down_is_runnable_elsewhere_and_loses_no_attempt() {
    let mut play = Play::new();
    let children = play.calls(ROOT, 1);
    play.tree.suspend(ROOT);
    let (turn, ready_at) = play.tree.release(NOW);
    assert_eq!((turn.next.state, ready_at), (TreeState::Running, Some(NOW)));
    assert_eq!(play.tree.put_down_active(), children);
    let node = play.tree.node(children[0]).expect("it is there");
    assert_eq!((node.state.attempt, node.status()), (1, Status::Runnable));
    assert_eq!(play.tree.status(ROOT), Some(Status::Suspended));
}

/// V1: a tree whose worker lacks a version is released at once, with the version that it needs.
#[test]
fn a_tree_that_needs_a_version_says_so_as_it_is_released() {
    let mut play = Play::new();
    let child = play.writes(
        ROOT,
        vec![Fresh::Call { position: 0, function: "does", version: 2, input: "{}".into(), undo: None, deadline: None }],
    );
    play.tree.suspend(ROOT);
    assert!(play.tree.node(child[0]).is_some_and(|node| node.definition.is_none()));
    play.tree.lacks_version(child[0]);
    assert!(!play.tree.is_active(false));
    let (turn, _) = play.tree.release(NOW);
    let expected = Ownership::Release { ready_at: Some(NOW), needs: Some(FunctionVersion::new("does", 2)) };
    assert_eq!(turn.next.ownership, expected);
}
