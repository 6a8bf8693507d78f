//! `cx.start`, of consumers: a new root in a boundary of its own (H9).

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sapwood_core::failure::CallFailureKind;
use sapwood_core::{CallFailure, Dependencies, FunctionVersion, Position, TreeId};

use super::Cx;
use crate::activation::{Cell, StartOrder};
use crate::function::{Call, Function};
use crate::payload::StartOutcome;
use crate::replay::{Asked, Completion, OpKind};

/// What a function's `cx` lacks: only a consumer's may start roots (N3).
///
/// No type implements it; it exists for the compiler's message.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "only a consumer starts a root",
    label = "a function starts no roots",
    note = "call a child with `cx.call(..)`, or emit an event and start the root in its consumer"
)]
pub trait StartsRoots {}

impl<D: Dependencies> Cx<D> {
    /// Exists only for the compile error: a function cannot start a root.
    #[doc(hidden)]
    pub fn start<F>(&mut self, _call: Call<F>) -> StartHandle
    where
        Self: StartsRoots,
    {
        unreachable!("no type implements the bound")
    }
}

#[track_caller]
pub(crate) fn start<D: Dependencies, F: Function>(cx: &mut Cx<D>, call: Call<F>) -> StartHandle {
    let location = Location::caller();
    let input = cx.cell.record(&call.input, format_args!("the input of start {}", F::NAME), location);
    let asked = Asked { kind: OpKind::Start, name: F::NAME, input: Some(&input), location };
    let (position, _) = cx.cell.ask(&asked);
    let deadline = call.deadline_or_declared();
    let order = StartOrder { function: F::NAME, version: F::VERSION, input, id: call.id, deadline };
    StartHandle { cell: Arc::clone(&cx.cell), position, location, order }
}

/// A start under way. Await it for the new root's identity.
#[must_use = "a start does nothing unless it is awaited"]
pub struct StartHandle {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
    order: StartOrder,
}

impl Future for StartHandle {
    type Output = Result<TreeId, CallFailure>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.cell.poll_start(self.position, task.waker(), self.location, &self.order) {
            Some(Completion::Started(outcome)) => Poll::Ready(self.read(outcome)),
            _ => Poll::Pending,
        }
    }
}

impl StartHandle {
    fn read(&self, outcome: StartOutcome) -> Result<TreeId, CallFailure> {
        match outcome {
            StartOutcome::Tree(tree) => Ok(tree),
            StartOutcome::Refused { message } => Err(CallFailure {
                function: FunctionVersion::new(self.order.function, self.order.version).to_string(),
                path: self.cell.path().child(self.position).to_string(),
                attempts: 0,
                kind: CallFailureKind::Conflict { message },
            }),
        }
    }
}

impl Drop for StartHandle {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
