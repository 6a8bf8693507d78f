//! What D demands of deadlines.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn call_until(position: Position, seconds: i64) -> Fresh {
    Fresh::Call { position, function: "does", version: 1, input: "{}".into(), undo: None, deadline: Some(at(seconds)) }
}

/// A root that has until 100 and called one until 10, one until 200 and one without a deadline; the first of them called
/// another one.
fn family() -> (Play, [NodeId; 4]) {
    let mut play = Play::until(at(100));
    let called = play.writes(ROOT, vec![call_until(0, 10), call_until(1, 200), call(2)]);
    called.iter().for_each(|child| play.begin(*child));
    let below = play.calls(called[0], 1)[0];
    (play, [called[0], called[1], called[2], below])
}

fn times(turn: &Turn) -> (Option<Timestamp>, Option<Timestamp>) {
    (turn.not_before, turn.only_before)
}

/// D1, D3: a turn is committed before the earliest deadline of what goes forward in it.
#[test]
fn a_turn_names_the_earliest_deadline_of_what_goes_forward_in_it() {
    let (mut play, [first, second, third, below]) = family();
    let turn = play.commits();
    assert_eq!(times(&turn), (None, Some(at(10))), "below the first something was called");
    let own: Vec<_> = turn.invocations.iter().map(|invocation| invocation.deadline).collect();
    assert_eq!(own, [Some(at(100)), Some(at(10)), None, None, None], "one later than the caller's is none");
    for (id, deadline) in [(ROOT, 100), (first, 10), (second, 100), (third, 100), (below, 10)] {
        assert_eq!(play.tree.deadline_of(id), Some(at(deadline)));
        assert!(play.tree.is_overdue(id, at(deadline)) && !play.tree.is_overdue(id, at(deadline - 1)));
    }
    play.writes(third, vec![call(0)]);
    assert_eq!(times(&play.commits()), (None, Some(at(100))));
    play.returns(below, "1");
    assert_eq!(times(&play.commits()), (None, Some(at(10))), "its outcome was decided in time, or not at all");
    assert_eq!(times(&play.commits()), (None, None), "nothing went forward");
}

/// D3: what was recorded and not committed in time is void, the end of a step too: it is recorded anew, after the time out.
#[test]
fn what_is_not_committed_in_time_is_late() {
    let (mut play, [first, ..]) = family();
    play.commits();
    assert!(!play.tree.is_late(at(1_000)), "nothing is recorded");
    play.step(first, 1, Ok("1"), None);
    assert!(play.tree.is_late(at(10)) && !play.tree.is_late(at(9)));
}

/// K4: a step that ends after the deadline is recorded together with the time out.
#[test]
fn the_end_of_a_step_goes_with_the_time_out() {
    let (mut play, [first, ..]) = family();
    play.works(first, true);
    play.commits();
    play.tree.tick(at(10));
    play.step(first, 1, Ok("1"), None);
    play.works(first, false);
    play.tree.fire_due(at(10), usize::MAX);
    let turn = play.commits();
    assert_eq!((times(&turn), kinds(&turn)), ((Some(at(10)), None), vec![EntryKind::StepResolved]));
    assert_eq!(promise(&turn, "/0"), Some(PromiseState::TimedOut));
}

/// D2, R7, K3: the outcome and its number come first, the caller is told at once, and all below is cancelled.
#[test]
fn what_times_out_settles_before_it_closes() {
    let (mut play, [first, second, third, below]) = family();
    play.works(first, true);
    play.commits();
    assert_eq!(play.tree.next_due(), Some(at(10)));
    assert!(play.tree.fire_due(at(9), usize::MAX).is_empty());
    let mut woken = play.tree.fire_due(at(10), usize::MAX);
    woken.sort_unstable();
    assert_eq!(woken, [ROOT, first], "its caller; and itself, for its step");
    let [Notice::Completed { position: 0, number: 1, completion }] = &play.notices(ROOT)[..] else { panic!("one") };
    assert!(matches!(completion, Completion::Call { promise: PromiseState::TimedOut, .. }));
    let turn = play.commits();
    assert_eq!(times(&turn), (Some(at(10)), None));
    assert_eq!(promise(&turn, "/0"), Some(PromiseState::TimingOut));
    assert_eq!(promise(&turn, "/0/0"), Some(PromiseState::Cancelled));
    assert_eq!(play.tree.status(below), None);
    assert_eq!((turn.next.state, turn.next.number), (TreeState::Running, 2));
    play.step(first, 1, Ok("1"), None);
    assert!(play.finishes_behind(first).is_empty(), "its caller was told");
    let turn = play.commits();
    assert_eq!((promise(&turn, "/0"), times(&turn)), (Some(PromiseState::TimedOut), (None, None)));
    assert_eq!(turn.next.number, 3, "the step's; it has its own already");
    for id in [second, third] {
        assert_eq!(play.tree.status(id), Some(Status::Active));
    }
}

/// D2: a root has its outcome in the tree's row while it closes, and again when it is closed.
#[test]
fn a_root_that_times_out_is_told_of_before_it_is_closed() {
    let (mut play, [_, second, ..]) = family();
    play.works(second, true);
    play.commits();
    play.tree.fire_due(at(100), usize::MAX);
    assert!(play.tree.has_news());
    let turn = play.commits();
    assert_eq!((turn.next.state, times(&turn)), (TreeState::TimingOut, (Some(at(100)), None)));
    assert_eq!(promise(&turn, "/0"), Some(PromiseState::TimedOut), "it was due before");
    assert_eq!(promise(&turn, "/2"), Some(PromiseState::Cancelled));
    assert_eq!(play.tree.take_news().map(|news| news.state), Some(TreeState::TimingOut));
    assert!(!play.tree.has_news() && play.tree.outcome().is_none());
    assert!(play.finishes_behind(second).is_empty());
    assert_eq!(play.tree.outcome().map(|outcome| outcome.state), Some(TreeState::TimedOut));
    assert_eq!(play.released().next.state, TreeState::TimedOut);
}

/// D2: a sleep that is over, a backoff that is over: neither lets go on what has no time left.
#[test]
fn a_deadline_comes_before_what_was_due_earlier() {
    let mut play = Play::until(at(100));
    let child = play.writes(ROOT, vec![call_until(0, 10)])[0];
    play.begin(child);
    play.writes(child, vec![Fresh::Sleep { position: 0, ms: 9_000, due_at: at(9) }]);
    play.tree.suspend(child);
    play.commits();
    play.tree.fire_due(at(11), usize::MAX);
    let turn = play.commits();
    assert_eq!((promise(&turn, "/0"), kinds(&turn)), (Some(PromiseState::TimedOut), vec![]));
    assert_eq!((times(&turn), play.tree.next_due()), ((Some(at(10)), None), Some(at(100))));
}

/// F8: what is left of the time decides, not what is left of the attempts.
#[test]
fn no_attempt_begins_at_the_deadline_or_later() {
    for (deadline, is_retried) in [(NOW + FIRST, true), (NOW + FIRST / 2, false)] {
        let mut play = Play::until(deadline);
        play.commits();
        play.fails(ROOT, true, basis(true, &[]));
        assert_eq!(
            play.tree.status(ROOT) == Some(Status::BackingOff),
            is_retried,
            "half of {FIRST:?} until {deadline}"
        );
    }
}
