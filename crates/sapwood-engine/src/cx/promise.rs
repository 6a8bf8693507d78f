//! `cx.promise`: a promise that is settled from outside (P2, P3).

use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sapwood_core::{Deadline, Dependencies, Position, PromiseError, PromiseId};
use schemars::JsonSchema;

use super::Cx;
use crate::activation::Cell;
use crate::function::Recordable;
use crate::outcome::promise_outcome;
use crate::payload::PromiseOutcome;
use crate::replay::{Asked, Completion, OpKind};
use crate::schema;

impl<D: Dependencies> Cx<D> {
    /// Makes a promise that is settled once from outside: over REST, or by any program that has the context's store. It
    /// exists when the body next waits. While it is pending, the function may leave memory.
    ///
    /// Its identity is the tree, this invocation and the name, so each promise of a function needs a name of its own, such as
    /// `format!("approval-{n}")`; a second one of a name parks the function. What settles it is judged by the JSON Schema of
    /// `T`, which is recorded with each promise.
    ///
    /// ```text
    /// let approval = cx.promise::<Approval>("approval");
    /// let link = format!("https://desk.example/approve/{}", approval.id());
    /// cx.step("mail", || dependencies.mail.send(&link)).await?;
    /// let approval = approval.await?;
    /// ```
    ///
    /// # Errors
    /// The handle gives a [`PromiseError`] if it was rejected, with the message, or timed out. It lifts into a `#[failure(call)]` variant.
    ///
    /// If the handle is dropped while the body goes on, or the function ends, a later settle is told that nobody awaits it.
    #[track_caller]
    pub fn promise<T: Recordable + JsonSchema>(&mut self, name: &str) -> PromiseHandle<T> {
        self.make_promise(name, None)
    }

    /// Makes a promise as [`promise`](Self::promise) does, with a deadline: a length of time from now, or a time. Unless
    /// something settles it before, it is settled as timed out then (P4), and the handle gives a [`PromiseError`] that says so.
    /// Without a deadline of its own a promise waits as long as its function may.
    ///
    /// The deadline is recorded with the promise, so it stands whatever the code says later. One beyond the year 9998 settles
    /// the function, as any limit does.
    ///
    /// ```text
    /// let approval = cx.promise_until::<Approval>("approval", 7 * DAY);
    /// ```
    #[track_caller]
    pub fn promise_until<T: Recordable + JsonSchema>(
        &mut self,
        name: &str,
        deadline: impl Into<Deadline>,
    ) -> PromiseHandle<T> {
        self.make_promise(name, Some(deadline.into()))
    }

    #[track_caller]
    fn make_promise<T: Recordable + JsonSchema>(&mut self, name: &str, deadline: Option<Deadline>) -> PromiseHandle<T> {
        let location = Location::caller();
        let asked = Asked { kind: OpKind::Promise, name, input: None, location };
        let (position, recorded) = self.cell.ask(&asked);
        if recorded.is_none() {
            self.cell.promise(position, name, schema::of::<T>(), deadline);
        }
        let id = PromiseId { tree: self.cell.facts().tree, path: self.cell.path().clone(), name: name.to_owned() };
        PromiseHandle { cell: Arc::clone(&self.cell), position, location, id, value: PhantomData }
    }
}

/// An external promise of this function. Await it for its value.
#[must_use = "dropping a promise's handle cancels the promise"]
pub struct PromiseHandle<T> {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
    id: PromiseId,
    value: PhantomData<fn() -> T>,
}

impl<T> PromiseHandle<T> {
    /// Its identity, for who is to settle it: the same on every replay.
    #[must_use]
    pub const fn id(&self) -> &PromiseId {
        &self.id
    }
}

impl<T: Recordable> Future for PromiseHandle<T> {
    type Output = Result<T, PromiseError>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(Completion::Promise(outcome)) = self.cell.poll_handle(self.position, task.waker(), self.location)
        else {
            return Poll::Pending;
        };
        let read = PromiseOutcome::read(&outcome).and_then(|outcome| promise_outcome(&self.id, outcome));
        match read {
            Ok(outcome) => Poll::Ready(outcome),
            Err(error) => self.cell.unreadable(self.position, self.location, std::any::type_name::<T>(), &error),
        }
    }
}

impl<T> Drop for PromiseHandle<T> {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
