//! R7, R8 and F5, without a body: what a script delivers, refuses and forgets.

use std::panic::Location;

use bytes::Bytes;

use super::*;
use crate::replay::OpKind;

/// A script and the bookkeeping of a body that is polled by hand.
struct Body(Script);

impl Body {
    fn new() -> Self {
        Self(Script::default())
    }

    fn replaying(operations: impl IntoIterator<Item = (Position, RecordedOperation)>) -> Self {
        Self(Script::new(Record { operations: operations.into_iter().collect(), ..Record::default() }, 0))
    }

    fn ask(&mut self, kind: OpKind, name: &str) -> Result<Position, Parked> {
        self.ask_with(kind, name, None)
    }

    #[track_caller]
    fn ask_with(&mut self, kind: OpKind, name: &str, input: Option<&[u8]>) -> Result<Position, Parked> {
        let asked = Asked { kind, name, input, location: Location::caller() };
        self.0.ask(&asked).map(|(position, _)| position)
    }

    /// Steps at positions 0, 1 and so on.
    fn steps(&mut self, count: Position) {
        for position in 0..count {
            assert_eq!(self.ask(OpKind::Step, "s").ok(), Some(position));
        }
    }

    /// One poll of the body in which these handles are polled; returns those that were ready.
    fn poll(&mut self, handles: &[Position]) -> Vec<Position> {
        self.0.offer();
        let ready = handles.iter().copied().filter(|handle| self.0.polled(*handle).is_some()).collect();
        self.0.end_of_poll();
        ready
    }

    fn complete(&mut self, position: Position, number: u32) {
        self.0.complete(position, number, ok());
    }

    fn fail(&mut self, position: Position, number: u32) {
        self.0.complete(position, number, failed());
    }
}

fn ok() -> Completion {
    Completion::StepOk(Bytes::from_static(b"1"))
}

fn failed() -> Completion {
    Completion::StepErr(Bytes::from_static(b"{}"))
}

fn recorded(
    kind: OpKind,
    name: &str,
    input: Option<&'static str>,
    completion: Option<(u32, Completion)>,
) -> RecordedOperation {
    let input = input.map(|text| Bytes::from_static(text.as_bytes()));
    RecordedOperation { kind, name: name.to_owned(), input, value: None, completion }
}

// ---- R7 -------------------------------------------------------------------------------------------------------------

#[test]
fn completions_are_delivered_one_a_poll_in_the_order_of_their_numbers() {
    let mut body = Body::new();
    body.steps(3);
    body.poll(&[0, 1, 2]);
    body.complete(0, 3);
    body.complete(1, 1);
    body.complete(2, 2);
    assert_eq!(body.poll(&[0, 1, 2]), [1]);
    assert_eq!(body.poll(&[0, 2]), [2]);
    assert_eq!(body.poll(&[0]), [0]);
    assert!(!body.0.has_offer());
}

#[test]
fn a_handle_is_never_ready_at_its_first_poll() {
    let mut body = Body::new();
    body.steps(1);
    body.complete(0, 1);
    assert_eq!(body.poll(&[]), [] as [Position; 0]);
    assert_eq!(body.poll(&[0]), [] as [Position; 0]);
    assert_eq!(body.poll(&[0]), [0]);
}

#[test]
fn a_handle_that_nobody_awaits_is_not_offered_and_holds_nothing_up() {
    let mut body = Body::new();
    body.steps(2);
    body.poll(&[1]);
    body.complete(0, 1);
    body.complete(1, 2);
    assert_eq!(body.poll(&[1]), [1], "number 1 is not awaited yet");
    assert_eq!(body.poll(&[0]), [] as [Position; 0]);
    assert_eq!(body.poll(&[0]), [0]);
}

#[test]
fn an_offer_that_is_not_taken_is_passed_over_until_its_handle_is_polled_again() {
    let mut body = Body::new();
    body.steps(2);
    body.poll(&[0, 1]);
    body.complete(0, 1);
    body.complete(1, 2);
    assert_eq!(body.poll(&[]), [] as [Position; 0], "number 1 was offered and not taken");
    assert_eq!(body.poll(&[1]), [1], "the next number is offered in a further poll");
    assert!(!body.0.has_offer(), "number 1 is passed over still");
    assert_eq!(body.poll(&[0]), [] as [Position; 0], "polled again, not offered in this poll");
    assert_eq!(body.poll(&[0]), [0]);
}

#[test]
fn a_dropped_handle_is_never_offered() {
    let mut body = Body::new();
    body.steps(2);
    body.poll(&[0, 1]);
    body.complete(0, 1);
    body.complete(1, 2);
    assert!(body.0.dropped(0), "that is news to the record");
    assert_eq!(body.poll(&[1]), [1]);
    assert!(!body.0.has_offer());
}

#[test]
fn a_replay_delivers_in_the_recorded_order_whatever_the_order_of_positions() {
    let step = |number| recorded(OpKind::Step, "s", None, Some((number, ok())));
    let mut body = Body::replaying([(0, step(7)), (1, step(3)), (2, step(5))]);
    body.steps(3);
    body.poll(&[0, 1, 2]);
    assert_eq!(body.poll(&[0, 1, 2]), [1]);
    assert_eq!(body.poll(&[0, 2]), [2]);
    assert_eq!(body.poll(&[0]), [0]);
}

// ---- R8 -------------------------------------------------------------------------------------------------------------

/// What is recorded, against what is asked for at its position.
fn violation(on_record: RecordedOperation, kind: OpKind, name: &str, input: Option<&[u8]>) -> Parked {
    let mut body = Body::replaying([(0, on_record)]);
    let line = line!() + 1;
    let violation = body.ask_with(kind, name, input).expect_err("a violation");
    assert!(violation.location.contains(&format!("tests.rs:{line}:")), "{}", violation.location);
    violation
}

#[test]
fn another_kind_is_a_violation_named_on_both_sides() {
    let on_record = recorded(OpKind::Step, "charge", None, Some((1, ok())));
    let violation = violation(on_record, OpKind::Call, "charge", Some(b"{}"));
    assert_eq!(
        (violation.recorded.as_deref(), violation.asked.as_deref()),
        (Some("step charge"), Some("call charge {}"))
    );
}

#[test]
fn another_name_is_a_violation_named_on_both_sides() {
    let on_record = recorded(OpKind::Call, "charge", Some("{}"), None);
    let violation = violation(on_record, OpKind::Call, "refund", Some(b"{}"));
    assert_eq!(
        (violation.recorded.as_deref(), violation.asked.as_deref()),
        (Some("call charge {}"), Some("call refund {}"))
    );
}

#[test]
fn another_input_is_a_violation_named_on_both_sides() {
    let on_record = recorded(OpKind::Sleep, "", Some(r#"{"ms":1}"#), None);
    let violation = violation(on_record, OpKind::Sleep, "", Some(br#"{"ms":2}"#));
    assert_eq!(
        (violation.recorded.as_deref(), violation.asked.as_deref()),
        (Some(r#"sleep {"ms":1}"#), Some(r#"sleep {"ms":2}"#))
    );
}

#[test]
fn inputs_are_compared_as_canonical_json_over_the_fields_that_were_recorded() {
    let mut body = Body::replaying([(0, recorded(OpKind::Call, "charge", Some(r#"{"a":1,"b":2}"#), None))]);
    body.ask_with(OpKind::Call, "charge", Some(br#"{"b": 2, "added": null, "a": 1}"#)).expect("compatible");
}

#[test]
fn what_is_recorded_when_written_cannot_come_before_a_recorded_operation() {
    for kind in [OpKind::Call, OpKind::Sleep, OpKind::Emit, OpKind::Value] {
        let mut body = Body::replaying([(1, recorded(OpKind::Step, "later", None, Some((1, ok()))))]);
        let violation = body.ask(kind, "inserted").expect_err("a violation");
        assert_eq!(violation.position, 0);
    }
}

#[test]
fn a_step_without_a_result_may_come_before_a_recorded_operation() {
    let mut body = Body::replaying([(1, recorded(OpKind::Step, "later", None, Some((1, ok()))))]);
    body.ask(OpKind::Step, "in flight when the worker died").expect("it leaves no trace before it completes");
    body.ask(OpKind::Step, "later").expect("as recorded");
    assert_eq!(body.0.unasked(), None);
}

#[test]
fn a_recorded_operation_that_is_never_asked_for_is_a_violation() {
    let step = || recorded(OpKind::Step, "s", None, Some((1, ok())));
    let mut body = Body::replaying([(0, step()), (1, recorded(OpKind::Emit, "orders.done.v1", Some("{}"), None))]);
    body.steps(1);
    let violation = body.0.unasked().expect("a violation");
    assert_eq!((violation.position, violation.recorded.as_deref()), (1, Some("emit orders.done.v1 {}")));
}

#[test]
fn a_recorded_drop_that_does_not_happen_is_a_violation() {
    let operations = [(0, recorded(OpKind::Call, "s", None, None))].into_iter().collect();
    let recording = Record { operations, dropped: [0].into_iter().collect() };
    let mut body = Body(Script::new(recording.clone(), 0));
    body.ask(OpKind::Call, "s").expect("as recorded");
    assert!(body.0.unasked().is_some());

    let mut body = Body(Script::new(recording, 0));
    body.ask(OpKind::Call, "s").expect("as recorded");
    assert!(!body.0.dropped(0), "the record knows it");
    assert_eq!(body.0.unasked(), None);
}

// ---- F5 -------------------------------------------------------------------------------------------------------------

#[test]
fn a_step_whose_failure_ends_the_attempt_is_forgotten() {
    let mut body = Body::new();
    body.steps(1);
    body.poll(&[0]);
    body.fail(0, 1);
    assert_eq!(body.poll(&[0]), [0]);
    assert_eq!(body.0.forgettable(), [0]);
}

#[test]
fn what_the_last_poll_asks_for_and_drops_is_no_record() {
    let mut body = Body::new();
    body.steps(2);
    body.poll(&[0, 1]);
    body.fail(0, 1);
    body.0.offer();
    assert!(body.0.polled(0).is_some());
    body.ask(OpKind::Value, "now").expect("a value");
    body.0.dropped(1);
    body.0.end_of_poll();
    assert_eq!(body.0.forgettable(), [0]);
}

#[test]
fn a_failed_step_after_which_something_was_asked_for_is_kept() {
    let mut body = Body::new();
    body.steps(1);
    body.poll(&[0]);
    body.fail(0, 1);
    body.poll(&[0]);
    // The poll that saw the failure went on to another operation; a further poll followed.
    body.steps_from(1);
    body.poll(&[1]);
    assert_eq!(body.0.forgettable(), [] as [Position; 0]);
}

#[test]
fn a_failed_step_after_which_another_completion_was_delivered_is_kept_live_and_replayed() {
    let mut live = Body::new();
    live.steps(2);
    live.poll(&[0, 1]);
    live.fail(0, 1);
    assert_eq!(live.poll(&[0, 1]), [0]);
    live.complete(1, 2);
    assert_eq!(live.poll(&[1]), [1]);
    assert_eq!(live.0.forgettable(), [] as [Position; 0]);

    // A replay knows both completions from the start.
    let step = |completion| recorded(OpKind::Step, "s", None, Some(completion));
    let mut replayed = Body::replaying([(0, step((1, failed()))), (1, step((2, ok())))]);
    replayed.steps(2);
    replayed.poll(&[0, 1]);
    assert_eq!(replayed.poll(&[0, 1]), [0]);
    assert_eq!(replayed.poll(&[1]), [1]);
    assert_eq!(replayed.0.forgettable(), [] as [Position; 0]);
}

#[test]
fn a_failed_step_after_which_a_handle_was_dropped_is_kept() {
    let mut body = Body::new();
    body.steps(2);
    body.poll(&[0, 1]);
    body.fail(0, 1);
    body.0.offer();
    assert!(body.0.polled(0).is_some());
    body.0.dropped(1);
    body.0.end_of_poll();
    body.poll(&[]);
    assert_eq!(body.0.forgettable(), [] as [Position; 0]);
}

#[test]
fn a_step_that_succeeded_is_never_forgotten() {
    let mut body = Body::new();
    body.steps(2);
    body.poll(&[0]);
    body.complete(0, 1);
    body.poll(&[0]);
    body.poll(&[1]);
    body.fail(1, 2);
    body.poll(&[1]);
    assert_eq!(body.0.forgettable(), [1]);
}

impl Body {
    /// One more step, at this position.
    fn steps_from(&mut self, position: Position) {
        assert_eq!(self.ask(OpKind::Step, "s").ok(), Some(position));
    }
}

// ---- A2 -------------------------------------------------------------------------------------------------------------

/// What becomes of an operation, in the order of time.
#[derive(Debug, Clone, Copy)]
enum Event {
    Ends(u32),
    IsDropped,
}

/// A2: the count is that of the entries that are recorded, or will be; live, and on a replay that knows all of them.
#[test]
fn the_entries_are_counted_that_are_recorded() {
    use Event::{Ends, IsDropped};
    use OpKind::{Call, Emit, Sleep, Start, Step, Value};
    let begun = |kind| usize::from(matches!(kind, Sleep | Emit | Value));
    let of_end = |kind| usize::from(matches!(kind, Step | Sleep | Start));
    for kind in [Step, Call, Sleep, Start] {
        for events in [&[][..], &[Ends(1)], &[IsDropped], &[Ends(1), IsDropped], &[IsDropped, Ends(1)]] {
            let mut live = Body::new();
            let position = live.ask_with(kind, "it", Some(b"1")).expect("new");
            let ends = events.iter().any(|event| matches!(event, Ends(_)));
            let drops = events.iter().any(|event| matches!(event, IsDropped));
            for event in events {
                match event {
                    Ends(number) => live.complete(position, *number),
                    IsDropped => assert!(live.0.dropped(position)),
                }
            }
            let is_to_come = !ends && !drops;
            let written = begun(kind) + usize::from(drops) + if ends || is_to_come { of_end(kind) } else { 0 };
            assert_eq!(live.0.entries(), written, "{kind:?} {events:?}");

            let operation = recorded(kind, "it", Some("1"), ends.then(|| (1, ok())));
            let spent = usize::from(drops);
            let has_record = kind.is_recorded_when_written() || ends;
            let operations = has_record.then_some((position, operation)).into_iter().collect();
            let dropped = drops.then_some(position).into_iter().collect();
            let mut replay = Body(Script::new(Record { operations, dropped }, spent));
            replay.ask_with(kind, "it", Some(b"1")).expect("as recorded");
            if drops {
                assert!(!replay.0.dropped(position));
            }
            assert_eq!(replay.0.entries(), written, "a replay of {kind:?} {events:?}");
        }
    }
    for kind in [Emit, Value] {
        let mut body = Body::new();
        body.ask_with(kind, "it", None).expect("new");
        body.0.spend_entry();
        assert_eq!(body.0.entries(), 2);
    }
}
