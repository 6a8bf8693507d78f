//! Hints among the handles of a store: a queue for each listener.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use futures_core::stream::BoxStream;
use parking_lot::Mutex;
use sapwood_core::store::Hint;

/// Hints that a slow listener may be behind. Past it the oldest are lost, which hints may be.
const BEHIND: usize = 1024;

/// Whoever listens, in the order in which they began to.
#[derive(Default)]
pub(crate) struct Hints {
    listeners: Mutex<Vec<Listener>>,
}

struct Listener {
    /// The handle through which it listens.
    handle: u64,
    /// Gone once the stream is dropped.
    queue: Weak<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    hints: VecDeque<Hint>,
    has_ended: bool,
    waker: Option<Waker>,
}

impl Hints {
    /// All hints from now on, until the handle is closed; none if it is closed already.
    pub(crate) fn listen(&self, handle: u64, is_open: bool) -> BoxStream<'static, Hint> {
        let queue = Arc::new(Mutex::new(Queue { has_ended: !is_open, ..Queue::default() }));
        self.listeners.lock().push(Listener { handle, queue: Arc::downgrade(&queue) });
        Box::pin(Listening(queue))
    }

    /// Gives hints to every listener.
    pub(crate) fn give(&self, hints: &[Hint]) {
        self.tell(|_| true, |queue| queue.push(hints));
    }

    /// Ends the streams of a handle.
    pub(crate) fn end(&self, handle: u64) {
        self.tell(|listener| listener.handle == handle, |queue| queue.has_ended = true);
    }

    /// Changes the queues of some listeners, and forgets those that listen no longer.
    fn tell(&self, who: impl Fn(&Listener) -> bool, change: impl Fn(&mut Queue)) {
        let mut wakers = Vec::new();
        self.listeners.lock().retain(|listener| {
            let Some(queue) = listener.queue.upgrade() else { return false };
            if who(listener) {
                let mut queue = queue.lock();
                change(&mut queue);
                wakers.extend(queue.waker.take());
            }
            true
        });
        // Under no lock, because waking may run whatever a runtime does then.
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    fn push(&mut self, hints: &[Hint]) {
        self.hints.extend(hints.iter().cloned());
        let lost = self.hints.len().saturating_sub(BEHIND);
        self.hints.drain(..lost);
    }
}

struct Listening(Arc<Mutex<Queue>>);

impl Stream for Listening {
    type Item = Hint;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Hint>> {
        let mut queue = self.0.lock();
        match queue.hints.pop_front() {
            Some(hint) => Poll::Ready(Some(hint)),
            None if queue.has_ended => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn a_slow_listener_loses_the_oldest_and_an_ended_one_hears_what_it_was_given() {
        let hints = Hints::default();
        let mut listening = hints.listen(1, true);
        for n in 0..BEHIND + 3 {
            hints.give(&[Hint::Log(n.to_string())]);
        }
        hints.end(2);
        hints.end(1);
        let heard: Vec<Hint> = listening.by_ref().collect().now_or_never().expect("the stream has ended");
        assert_eq!((heard.len(), &heard[0]), (BEHIND, &Hint::Log("3".to_owned())));
    }

    #[test]
    fn a_listener_that_is_gone_is_forgotten() {
        let hints = Hints::default();
        let mut stays = hints.listen(1, true);
        drop(hints.listen(1, true));
        hints.give(&[Hint::Ready]);
        assert_eq!(hints.listeners.lock().len(), 1);
        assert_eq!(stays.next().now_or_never().flatten(), Some(Hint::Ready));
        assert_eq!(stays.next().now_or_never(), None, "it waits for the next");
    }
}
