//! What P and S demand of external promises.

use sapwood_core::tree::SettledPromise;
use serde_json::value::RawValue;

use super::super::draft::TURN_BYTES;
use super::*;
use crate::payload::{PromiseMade, decode};

/// A promise of an invocation that was settled, with an outcome of so many bytes.
fn settled(path: &str, position: Position, inbox: u32, bytes: usize) -> SettledPromise {
    SettledPromise {
        path: path.parse().expect("a path"),
        position,
        name: format!("p-{position}"),
        state: PromiseState::Resolved,
        outcome: vec![b'1'; bytes].into(),
        settled_at: NOW,
        inbox,
    }
}

fn made(position: Position) -> Fresh {
    let made = PromiseMade { schema: RawValue::NULL.to_owned(), deadline: None };
    Fresh::Promise { position, name: format!("p-{position}"), made }
}

/// D1: it waits no longer than its function, so a later deadline is none: nothing is recorded that would never come.
#[test]
fn a_promise_s_deadline_is_recorded_if_it_is_earlier_than_its_function_s() {
    let of_function = NOW + Duration::from_secs(10);
    for (seconds, is_own) in [(9, true), (10, false), (11, false)] {
        let mut play = Play::until(of_function);
        let own = NOW + Duration::from_secs(seconds);
        let made = PromiseMade { schema: RawValue::NULL.to_owned(), deadline: Some(own) };
        play.writes(ROOT, vec![Fresh::Promise { position: 0, name: "p-0".into(), made }]);
        let turn = play.commits();
        let recorded: PromiseMade = decode(&turn.entries[0].1.payload).expect("a promise");
        let timers: Vec<_> = turn.timers_set.iter().map(|timer| timer.due_at).collect();
        assert_eq!((recorded.deadline, timers), if is_own { (Some(own), vec![own]) } else { (None, vec![]) });
    }
}

/// The numbers of the entries of a kind, each with its position.
fn numbers(turn: &Turn, kind: EntryKind) -> Vec<(Position, Option<u32>)> {
    let of_kind = turn.entries.iter().filter(|(_, entry)| entry.kind == kind);
    of_kind.map(|(_, entry)| (entry.position, entry.number)).collect()
}

/// S3, R7: each is recorded once, under the next number, in the order in which they settled; and the tree is not released
/// before.
#[test]
fn what_settled_is_recorded_in_its_order_and_then_the_tree_is_released() {
    let mut play = Play::new();
    play.writes(ROOT, vec![made(0), made(1)]);
    let turn = play.commits();
    assert_eq!(numbers(&turn, EntryKind::PromiseMade), [(0, None), (1, None)]);
    assert_eq!((turn.invocations.len(), turn.timers_set.len()), (1, 0), "it is an entry and nothing else");
    play.tree.suspend(ROOT);
    play.tree.hears(vec![settled("/", 1, 1, 1), settled("/", 0, 2, 1)]);
    assert!(play.tree.has_settled() && play.tree.inbox() == 2);
    assert_eq!(play.tree.take_settled(), [ROOT, ROOT]);
    assert!(!play.tree.has_settled() && play.tree.take_settled().is_empty());
    let notices = play.notices(ROOT);
    let told = notices.iter().map(|notice| match notice {
        Notice::Completed { position, number, completion: Completion::Promise(_) } => (*position, *number),
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [(1, 1), (0, 2)]);
    let turn = play.released();
    assert_eq!(numbers(&turn, EntryKind::PromiseSettled), [(1, Some(1)), (0, Some(2))]);
    assert_eq!((turn.inbox, turn.next.number), (Some(2), 2));
}

/// R7: what settled for an invocation that goes forward no more takes no number, and is heard all the same.
#[test]
fn what_settled_for_an_invocation_that_has_ended_is_told_to_nobody() {
    let mut play = Play::new();
    let [ended, parked] = play.calls(ROOT, 2)[..] else { unreachable!("two") };
    play.writes(ended, vec![made(0)]);
    play.writes(parked, vec![made(0)]);
    play.returns(ended, "7");
    play.tree.park(parked, &Parked::new(ParkedCode::Misuse, "as the test says", 0, ""));
    let before = play.commits().next.number;
    play.tree.hears(vec![settled("/0", 0, 1, 1), settled("/9", 0, 2, 1), settled("/1", 0, 3, 1)]);
    assert_eq!(play.tree.take_settled(), [parked], "history goes on while it is parked");
    assert_eq!(play.tree.status(parked), Some(Status::Parked));
    let turn = play.commits();
    assert_eq!(numbers(&turn, EntryKind::PromiseSettled), [(0, Some(before + 1))]);
    assert_eq!((turn.next.number, play.tree.inbox()), (before + 1, 3));
}

/// W1: no turn has more than it should; the rest waits for the next one.
#[test]
fn what_settled_together_is_recorded_in_parts() {
    let mut play = Play::new();
    play.writes(ROOT, (0..3).map(made).collect());
    play.commits();
    play.tree.hears((0..3).map(|n| settled("/", n, n + 1, TURN_BYTES / 2 + 1)).collect());
    assert_eq!(play.tree.take_settled(), [ROOT, ROOT]);
    assert!(play.tree.has_settled() && play.tree.take_settled().is_empty());
    assert_eq!(numbers(&play.commits(), EntryKind::PromiseSettled).len(), 2);
    assert_eq!(play.tree.take_settled(), [ROOT]);
    assert_eq!(numbers(&play.commits(), EntryKind::PromiseSettled), [(2, Some(3))]);
}
