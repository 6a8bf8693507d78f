//! The waker of a body, and who woke it: the body itself, a step of it, the engine, or something else.
//!
//! - A body that woke *itself*, by a channel between two of its branches, first reacts to that: the next completion is
//!   delivered in a further poll, as on a replay, which has more completions to deliver (R7).
//! - A *step* may wake the body as often as it likes. Its wakes are no part of the record, so nothing waits for them to
//!   end: a step that wakes itself without end does not keep a sleep beside it from being delivered.
//! - *Something else* that wakes a body with no step in flight is not durable: a replay would not see it (R10).
//!
//! A wake reaches the body through whatever its author built around the handles, and the last waker in that chain is the
//! body's own. So who began it is noted for the time of the call, by thread: a wake is a synchronous call.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Wake, Waker};

/// Receives the wakes of bodies; a trait, so that a body knows nothing of its driver's mailbox.
pub(crate) trait Wakes: Send + Sync {
    /// The body of node `node` wants to be polled.
    fn woken(&self, node: u32);
}

thread_local! {
    /// The body that this thread polls, as the address of its waker; 0 if it polls none.
    static POLLED: Cell<usize> = const { Cell::new(0) };
    /// Whether the wake that this thread makes began with a step or with the engine.
    static IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// The waker of one body. While it is raised, a further wake sends nothing.
pub(crate) struct BodyWaker {
    node: AtomicU32,
    wakes: Arc<dyn Wakes>,
    raised: AtomicBool,
    /// The body woke itself in the poll under way, or in the last one.
    by_itself: AtomicBool,
    /// Something that is neither the body nor one of its steps nor the engine woke it.
    by_another: AtomicBool,
}

impl BodyWaker {
    pub(crate) fn new(node: u32, wakes: Arc<dyn Wakes>) -> Arc<Self> {
        let unset = || AtomicBool::new(false);
        Arc::new(Self { node: AtomicU32::new(node), wakes, raised: unset(), by_itself: unset(), by_another: unset() })
    }

    /// From now on it is the body of another node, of a tree that was loaded again.
    pub(super) fn is_of(&self, node: u32) {
        self.node.store(node, Ordering::Relaxed);
    }

    /// Whether the body asked to be polled since its last poll began.
    pub(super) fn is_raised(&self) -> bool {
        // Acquire pairs with the Release of the thread that raised it: a poll sees what that did before.
        self.raised.load(Ordering::Acquire)
    }

    /// Whether the body woke itself since its last poll began.
    pub(super) fn is_by_itself(&self) -> bool {
        self.by_itself.load(Ordering::Acquire)
    }

    /// Whether something foreign woke the body; asking answers it.
    pub(super) fn take_by_another(&self) -> bool {
        self.by_another.swap(false, Ordering::AcqRel)
    }

    /// A poll is to come for another reason: its driver need not be told of wakes until then.
    pub(super) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }

    /// A poll begins, which answers every wake so far.
    pub(super) fn lower(&self) {
        self.raised.swap(false, Ordering::AcqRel);
        self.by_itself.store(false, Ordering::Release);
    }

    /// Marks the time in which this thread polls the body.
    pub(super) fn polled<T>(self: &Arc<Self>, poll: impl FnOnce() -> T) -> T {
        POLLED.set(Arc::as_ptr(self).addr());
        let answer = poll();
        POLLED.set(0);
        answer
    }
}

impl Wake for BodyWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !IS_EXPECTED.get() {
            let is_inside = POLLED.get() == Arc::as_ptr(self).addr();
            let by = if is_inside { &self.by_itself } else { &self.by_another };
            by.store(true, Ordering::Release);
        }
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.wakes.woken(self.node.load(Ordering::Relaxed));
        }
    }
}

/// Makes a wake that began with a step or with the engine.
pub(super) fn wake_expected(waker: &Waker) {
    let before = IS_EXPECTED.replace(true);
    waker.wake_by_ref();
    IS_EXPECTED.set(before);
}

/// The waker that the future of a step is polled with: it wakes the body as a step of it.
pub(crate) struct StepWaker {
    body: Waker,
    own: Waker,
}

/// What a [`StepWaker`] wakes.
struct OfStep(Waker);

impl Wake for OfStep {
    fn wake(self: Arc<Self>) {
        wake_expected(&self.0);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        wake_expected(&self.0);
    }
}

impl StepWaker {
    /// The waker of a step whose handle is polled with `body`; `known` is the one of its last poll, which is mostly the
    /// same.
    pub(crate) fn of(body: &Waker, known: &mut Option<Self>) -> Waker {
        match known {
            Some(known) if known.body.will_wake(body) => known.own.clone(),
            _ => {
                let own = Waker::from(Arc::new(OfStep(body.clone())));
                *known = Some(Self { body: body.clone(), own: own.clone() });
                own
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wakes for Counted {
        fn woken(&self, _: u32) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn body() -> (Arc<BodyWaker>, Waker, Arc<Counted>) {
        let counted = Arc::<Counted>::default();
        let body = BodyWaker::new(1, Arc::clone(&counted) as Arc<dyn Wakes>);
        (Arc::clone(&body), Waker::from(body), counted)
    }

    /// R7, R10: who woke a body is known: itself, a step or the engine, or something else.
    #[test]
    fn it_is_known_who_woke_a_body() {
        let (body, waker, counted) = body();
        let woke = |body: &BodyWaker| (body.is_by_itself(), body.take_by_another());
        body.polled(|| waker.wake_by_ref());
        assert_eq!(woke(&body), (true, false), "in its own poll");
        body.lower();
        let step = StepWaker::of(&waker, &mut None);
        body.polled(|| step.wake_by_ref());
        step.wake_by_ref();
        wake_expected(&waker);
        assert_eq!(woke(&body), (false, false), "by a step, in and outside of its poll, or by the engine");
        body.lower();
        waker.wake_by_ref();
        let (other, ..) = self::body();
        other.polled(|| waker.wake_by_ref());
        assert_eq!(woke(&body), (false, true), "outside of its poll, or in the poll of another body");
        assert_eq!(counted.0.load(Ordering::SeqCst), 3, "while it is raised, further wakes send nothing");
    }

    #[test]
    fn a_step_keeps_its_waker_while_its_handle_is_polled_with_the_same_one() {
        let ((_, first, _), (_, second, _)) = (body(), body());
        let mut known = None;
        let of_first = StepWaker::of(&first, &mut known);
        assert!(of_first.will_wake(&StepWaker::of(&first, &mut known)));
        assert!(!of_first.will_wake(&StepWaker::of(&second, &mut known)));
    }
}
