//! What R9, F8 and K2 demand of requests to resume and to retry.

use sapwood_core::control::{ControlRecord, ControlRequest, ControlVerb};
use sapwood_core::tree::{Closing, InvocationState, OpenInvocation, TreeImage, TreeRow};

use super::*;
use crate::payload::UndoRetried;
use crate::tree::undo::Undos;

fn asks(verb: ControlVerb, at: &str) -> ControlRecord {
    let path = at.parse().expect("a path");
    let request = ControlRequest { path, verb, actor: "anna".to_owned(), reason: "it is mended".to_owned() };
    ControlRecord { control: 1, request, requested_at: NOW }
}

impl Play {
    /// Carries out a request; returns the nodes to be polled.
    fn carries_out(&mut self, verb: ControlVerb, at: &str) -> Vec<NodeId> {
        self.tree.requests.push(asks(verb, at));
        self.tree.carry_out()
    }

    /// The root panics until it is parked, from this attempt on.
    fn panics_from(&mut self, attempt: u32, spent_attempts: u32) {
        let panics = || Finish::Panicked("ouch".to_owned(), RetryBasis { spent_attempts, ..basis(false, &[3]) });
        for _ in attempt..spent_attempts + 3 {
            self.finishes(ROOT, panics());
            self.next_attempt(ROOT);
        }
        self.finishes(ROOT, panics());
        assert_eq!(self.tree.status(ROOT), Some(Status::Parked));
    }

    fn attempt(&self) -> u32 {
        self.tree.node(ROOT).expect("the root").state.attempt
    }
}

/// R9, F6: resumed, it runs again with the attempt that it had, and nothing more is recorded.
#[test]
fn what_is_resumed_runs_again_with_the_attempt_that_it_had() {
    let mut play = Play::new();
    play.panics_from(1, 0);
    play.commits();
    assert_eq!(play.carries_out(ControlVerb::Resume, "/"), [ROOT]);
    assert_eq!((play.tree.status(ROOT), play.attempt()), (Some(Status::Runnable), 3));
    let turn = play.commits();
    assert!(turn.entries.is_empty() && turn.changes[0].state.parked.is_none(), "{turn:?}");
    play.begin(ROOT);
    play.finishes(ROOT, Finish::Panicked("ouch".to_owned(), basis(false, &[])));
    assert_eq!(play.tree.status(ROOT), Some(Status::Parked), "its attempts are over still");
}

/// D2: a reader has timed out its caller, so it is cancelled and makes no attempt: no commit could record one.
#[test]
fn what_a_timed_out_caller_called_is_cancelled_and_not_retried() {
    for verb in [ControlVerb::Resume, ControlVerb::Retry] {
        let mut play = Play::until(NOW + SECOND);
        let [child] = play.calls(ROOT, 1)[..] else { unreachable!("one") };
        play.tree.park(child, &Parked::new(ParkedCode::Panic, "ouch", 0, ""));
        play.commits();
        play.tree.nodes.get_mut(ROOT).expect("the root").state.promise = PromiseState::TimingOut;
        play.tree.nodes.on(ROOT, Move::Decided);
        play.tree.to_close.push(ROOT);
        play.carries_out(verb, "/");
        let turn = play.commits();
        assert_eq!(promise(&turn, "/0"), Some(PromiseState::Cancelled));
        assert_eq!((turn.entries.len(), turn.only_before), (0, None), "{verb:?}");
    }
}

/// F8, F5: retried, it records what it forgets, and the policy counts from there; the attempts go on counting.
#[test]
fn what_is_retried_has_a_fresh_budget() {
    let mut play = Play::new();
    play.panics_from(1, 0);
    play.commits();
    assert_eq!(play.carries_out(ControlVerb::Retry, "/"), [ROOT]);
    let turn = play.commits();
    let [(_, entry)] = &turn.entries[..] else { panic!("one entry: {:?}", turn.entries) };
    assert_eq!((entry.kind, entry.attempt), (EntryKind::Retried, 3));
    let retried: Retried = decode(&entry.payload).expect("a payload");
    assert_eq!((retried.forgotten, retried.afresh), (vec![3], true));
    assert_eq!((play.attempt(), turn.timers_set.len()), (4, 0), "it runs at once");
    play.begin(ROOT);
    play.panics_from(4, 3);
    assert_eq!(play.attempt(), 6);
}

/// R9: what it waited for while it was parked goes on where it stood, and its timers with it.
#[test]
fn the_timers_of_what_is_resumed_fire_again() {
    let mut play = Play::new();
    let [sleeps, backs_off] = play.calls(ROOT, 2)[..] else { unreachable!("two") };
    play.writes(sleeps, vec![Fresh::Sleep { position: 0, ms: 1, due_at: NOW + SECOND }]);
    play.fails(backs_off, true, basis(true, &[]));
    play.tree.park_all(ParkedCode::Quarantine, "it kills");
    assert_eq!(play.tree.next_due(), None);
    assert_eq!(play.carries_out(ControlVerb::Resume, "/"), [ROOT, sleeps]);
    assert_eq!(play.tree.status(backs_off), Some(Status::BackingOff));
    assert_eq!(play.tree.next_due(), Some(NOW + FIRST / 2));
    assert_eq!(play.tree.fire_due(NOW + SECOND, usize::MAX), [backs_off, sleeps]);
}

/// R9, F2: a step that failed in the poll that parks keeps its next attempt.
#[test]
fn a_step_keeps_its_next_attempt_when_its_function_is_parked() {
    for (finish, keeps) in [
        (Finish::Parked(Parked::new(ParkedCode::Misuse, "no", 0, "here")), true),
        (Finish::Returned(Err(error(false)), basis(false, &[])), false),
    ] {
        let mut play = Play::new();
        let end = StepEnd {
            position: 0,
            name: "s".to_owned(),
            attempt: 1,
            result: Err(error(true)),
            retry_at: Some(NOW + SECOND),
            transaction: None,
        };
        play.tree.finished(ROOT, finish, Report { fresh: Vec::new(), steps_ended: vec![end] });
        let turn = play.commits();
        let kind = if keeps { EntryKind::StepRetried } else { EntryKind::StepRejected };
        assert_eq!((kinds(&turn), turn.timers_set.len()), (vec![kind], usize::from(keeps)));
        assert_eq!(play.tree.next_due(), None, "it does not fire while it is parked");
    }
}

/// C4: a tree that is parked again, because of what a request had let go on, is not let go on by the same request.
#[test]
fn a_tree_that_is_parked_as_a_whole_stays_so() {
    let mut play = Play::new();
    let request = |verb| asks(verb, "/");
    play.tree.requests = [ControlVerb::Resume, ControlVerb::Retry].map(request).into();
    play.tree.park_all(ParkedCode::Quarantine, "it kills");
    assert!(play.tree.carry_out().is_empty());
    assert_eq!(play.tree.status(ROOT), Some(Status::Parked));
}

fn invocation(at: &str, promise: PromiseState, closing: Closing) -> OpenInvocation {
    let path = at.parse().expect("a path");
    let state = InvocationState { promise, closing, number: Some(2), ..InvocationState::fresh() };
    OpenInvocation { path, function: "does".to_owned(), version: 1, state, latest: 0, next_seq: 4, deadline: None }
}

/// A tree as it is loaded, in this state, and with a request.
fn loaded(state: TreeState, open: Vec<OpenInvocation>, failed: Vec<OpenInvocation>, request: ControlRecord) -> Play {
    let Play { tree } = Play::new();
    let row = TreeRow {
        id: tree.id(),
        function: "does".to_owned(),
        version: 1,
        state,
        closing: Closing::CompensationFailed,
        owner: None,
        revision: 9,
        control: 1,
        applied: 0,
        inbox: 0,
        number: 7,
        ready_at: None,
        needs: None,
        aside: None,
        cause: Cause::default(),
        created_at: NOW,
        deadline: None,
        settled_at: None,
    };
    let image = TreeImage { open, failed, nodes: 4, requests: vec![request], ..TreeImage::of(row) };
    Play { tree: Tree::loaded(image, Arc::clone(&tree.facts), &tree.registry) }
}

/// K2, P2, R7: an invocation that is closed compensates again in a settled tree: neither its promise nor the number under
/// which its caller was told changes, and the tree keeps its state.
#[test]
fn a_closed_invocation_compensates_again_and_nobody_is_told() {
    let failed = invocation("/0", PromiseState::Rejected, Closing::CompensationFailed);
    let other = invocation("/1", PromiseState::Rejected, Closing::CompensationFailed);
    let mut play = loaded(TreeState::Resolved, Vec::new(), vec![failed, other], asks(ControlVerb::Retry, "/0"));
    assert!(play.tree.carry_out().is_empty());
    let id = play.tree.at(&Path::root().child(0)).expect("it is taken up");
    assert_eq!((play.tree.status(id), play.tree.at(&Path::root().child(1))), (Some(Status::UndosWanted), None));
    let turn = play.commits();
    assert_eq!((turn.next.state, turn.next.closing), (TreeState::Resolved, Closing::Compensating));
    let [(path, entry)] = &turn.entries[..] else { panic!("one entry: {:?}", turn.entries) };
    assert_eq!((path.to_string(), entry.kind, entry.seq), ("/0".to_owned(), EntryKind::UndoRetried, 4));
    let retried: UndoRetried = decode(&entry.payload).expect("a payload");
    assert_eq!(retried, UndoRetried { number: 7, unbegun: true });

    play.tree.undos_read(id, Undos { has_any: true, ..Undos::default() });
    let turn = play.released();
    let [change] = &turn.changes[..] else { panic!("one change: {:?}", turn.changes) };
    assert_eq!((change.state.promise, change.state.number), (PromiseState::Rejected, Some(2)));
    assert_eq!(change.state.closing, Closing::Compensated);
    assert_eq!((turn.next.state, turn.next.number), (TreeState::Resolved, 7));
    assert_eq!(turn.next.closing, Closing::CompensationFailed, "the other one's has failed still");
    assert!(play.tree.is_over() && play.tree.outcome().is_none());
}

/// K5, N1: what is above it closes after it, however far above.
#[test]
fn what_is_above_waits_for_what_compensates_again() {
    let root = invocation("/", PromiseState::ReturnedOk, Closing::None);
    let failed = invocation("/0/3", PromiseState::Rejected, Closing::CompensationFailed);
    let mut play = loaded(TreeState::Running, vec![root], vec![failed], asks(ControlVerb::Retry, "/"));
    play.tree.carry_out();
    assert!(play.tree.outcome().is_none());
    let id = play.tree.at(&Path::root().child(0).child(3)).expect("it is taken up");
    play.tree.undos_read(id, Undos { has_any: true, ..Undos::default() });
    let outcome = play.tree.outcome().expect("the root has closed");
    assert_eq!((outcome.state, outcome.closing), (TreeState::Resolved, Closing::Compensated));
}
