//! `cx.sleep`: a timer that survives restarts and fires once (S6).

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sapwood_core::clock::LATEST;
use sapwood_core::{Dependencies, Position};

use super::Cx;
use crate::activation::{Cell, Fresh};
use crate::payload::{SleepBegun, encode};
use crate::replay::{Asked, OpKind};

impl<D: Dependencies> Cx<D> {
    /// Sleeps for `duration`, counted from when the body next waits, in whole milliseconds. While it
    /// sleeps, the function may leave memory. A sleep beyond the year 9999, such as `Duration::MAX`, never ends.
    #[track_caller]
    pub fn sleep(&mut self, duration: Duration) -> SleepHandle {
        let location = Location::caller();
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let input = encode(&SleepBegun { ms });
        let asked = Asked { kind: OpKind::Sleep, name: "", input: Some(&input), location };
        let (position, recorded) = self.cell.ask(&asked);
        if recorded.is_none() {
            self.cell.fresh(Fresh::Sleep { position, ms, due_at: LATEST });
        }
        SleepHandle { cell: Arc::clone(&self.cell), position, location }
    }
}

/// A sleep. Await it for its end.
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct SleepHandle {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
}

impl Future for SleepHandle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        match self.cell.poll_handle(self.position, task.waker(), self.location) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}

impl Drop for SleepHandle {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
