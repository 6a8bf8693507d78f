//! What K, N and S demand of cancellations.

use super::*;

/// A root that called two functions, of which the first called two in its turn, and the first of those another one.
fn family() -> (Play, [NodeId; 5]) {
    let mut play = Play::new();
    let [first, second] = play.calls(ROOT, 2)[..] else { unreachable!("two") };
    let [below, beside] = play.calls(first, 2)[..] else { unreachable!("two") };
    let lowest = play.calls(below, 1)[0];
    play.commits();
    (play, [first, second, below, beside, lowest])
}

fn outcome() -> Bytes {
    Rejection::of(RejectionKind::Cancelled, "as the test says").to_bytes()
}

/// The numbers of the completions of a turn, by path.
fn numbers(turn: &Turn, paths: &[&str]) -> Vec<Option<u32>> {
    let number = |path: &str| turn.changes.iter().find(|change| change.path.to_string() == path)?.state.number;
    paths.iter().map(|path| number(path)).collect()
}

/// K3, K5, K8: a cancellation reaches every descendant and no other, the leaves close first, and the caller is told.
#[test]
fn a_cancellation_reaches_what_is_below_and_closes_it_from_the_leaves_up() {
    let (mut play, [first, second, ..]) = family();
    assert_eq!(play.tree.cancel(first, &outcome()), [ROOT]);
    let turn = play.commits();
    for path in ["/0", "/0/0", "/0/1", "/0/0/0"] {
        assert_eq!(promise(&turn, path), Some(PromiseState::Cancelled), "{path}");
    }
    assert_eq!((promise(&turn, "/"), promise(&turn, "/1")), (None, None));
    assert_eq!(play.tree.status(second), Some(Status::Active));
    let order = numbers(&turn, &["/0/0/0", "/0/0", "/0"]);
    assert!(order.is_sorted() && order.iter().all(Option::is_some), "{order:?}");
    assert_eq!(numbers(&turn, &["/0"]), [Some(4)], "no number is left out");
    let [Notice::Completed { position: 0, number: 4, completion }] = &play.notices(ROOT)[..] else { panic!("one") };
    assert!(matches!(completion, Completion::Call { promise: PromiseState::Cancelled, .. }));
}

/// K4, S2: what is in flight ends and is recorded before its invocation closes; what waits or has not begun closes at
/// once.
#[test]
fn a_step_in_flight_ends_before_its_invocation_closes() {
    let (mut play, [first, _, _, beside, lowest]) = family();
    play.works(beside, true);
    assert_eq!(play.tree.cancel(first, &outcome()), [beside], "it is polled on until its step has ended");
    assert_eq!(play.tree.status(lowest), None, "it has nothing in flight");
    let turn = play.commits();
    let [closed, open] = [PromiseState::Cancelled, PromiseState::Cancelling];
    assert_eq!(["/0/0", "/0/1", "/0"].map(|path| promise(&turn, path)), [Some(closed), Some(open), Some(open)]);
    assert!(play.tree.is_active(true), "its tree stays owned until then, even by a worker that drains");
    play.step(beside, 1, Ok("1"), None);
    assert_eq!(play.finishes_behind(beside), [ROOT]);
    let turn = play.commits();
    assert_eq!(kinds(&turn), [EntryKind::StepResolved]);
    assert_eq!(["/0/1", "/0"].map(|path| promise(&turn, path)), [Some(closed); 2]);
}

/// K4: what may be interrupted is not waited for; but a tree that is only loaded again interrupts nothing.
#[test]
fn what_may_be_interrupted_is_not_waited_for() {
    let (mut play, [first, _, _, beside, _]) = family();
    let interruptible = Work { is_in_flight: true, ..Work::default() };
    play.tree.set_work(beside, interruptible);
    assert_eq!(play.tree.cancel(first, &outcome()), [ROOT]);
    assert_eq!(promise(&play.commits(), "/0/1"), Some(PromiseState::Cancelled));
    let (mut play, [.., beside, _]) = family();
    play.tree.set_work(beside, interruptible);
    assert!(play.tree.on(beside, Move::LeftBehind));
    assert!(play.tree.left_behind(beside).is_empty());
    assert_eq!(play.tree.status(beside), Some(Status::Finishing));
}

/// K4: a function that has not begun is cancelled without running; called and dropped in one poll, it is recorded once.
#[test]
fn a_call_that_is_dropped_in_its_first_poll_never_runs() {
    let mut play = Play::new();
    let woken = play.writes(ROOT, vec![call(0), call(1), Fresh::Drop { position: 0 }]);
    let running: Vec<_> = woken.into_iter().filter(|id| play.tree.node(*id).is_some()).collect();
    assert_eq!(running.len(), 1);
    let turn = play.commits();
    assert_eq!(
        (promise(&turn, "/0"), promise(&turn, "/1")),
        (Some(PromiseState::Cancelled), Some(PromiseState::Pending))
    );
    assert_eq!(kinds(&turn), [EntryKind::Dropped]);
    assert!(play.notices(ROOT).is_empty(), "nobody waits for it");
}

/// K6: an outcome that is decided stands; what is still open below it closes.
#[test]
fn an_outcome_that_is_decided_stands() {
    let (mut play, [first, _, below, _, lowest]) = family();
    play.works(lowest, true);
    play.returns(below, "7");
    assert_eq!(play.tree.status(below), Some(Status::Closing));
    play.tree.cancel(first, &outcome());
    assert_eq!(play.finishes_behind(lowest), [ROOT]);
    let turn = play.commits();
    let promises = ["/0/0/0", "/0/0", "/0"].map(|path| promise(&turn, path));
    let [cancelled, resolved] = [PromiseState::Cancelled, PromiseState::Resolved];
    assert_eq!(promises, [Some(cancelled), Some(resolved), Some(cancelled)]);
}

/// K4, R9: what backs off or is parked is cancelled as well, and its timers with it.
#[test]
fn what_backs_off_or_is_parked_is_cancelled() {
    let (mut play, [first, second, ..]) = family();
    play.fails(second, true, basis(true, &[]));
    play.tree.park(first, &Parked::new(ParkedCode::Misuse, "no", 0, "here"));
    play.commits();
    assert!(play.tree.next_due().is_some());
    play.tree.cancel(ROOT, &outcome());
    let turn = play.released();
    assert_eq!(turn.next.state, TreeState::Cancelled);
    assert_eq!((turn.timers_cleared.len(), play.tree.next_due()), (1, None));
    assert!(turn.changes.iter().all(|change| change.state.parked.is_none()));
}

/// A whole tree of the widest fan is cancelled in one turn, at a cost that grows with its size alone.
#[test]
fn a_wide_tree_is_cancelled_in_one_turn() {
    let mut play = Play::new();
    let children = play.calls(ROOT, 1_000);
    children.iter().for_each(|child| drop(play.calls(*child, 8)));
    play.commits();
    play.tree.cancel(ROOT, &outcome());
    assert_eq!(play.released().changes.len(), 9_001);
}
