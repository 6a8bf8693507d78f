//! `cx.start`, of consumers: a new root in a boundary of its own (H9).

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sapwood_core::failure::CallFailureKind;
use sapwood_core::{CallFailure, Dependencies, Position, TreeId};
use serde::{Deserialize, Serialize};

use super::Cx;
use crate::activation::{Cell, StartOrder};
use crate::registry::encode;
use crate::replay::{Asked, Completion, OpKind, versioned};
use crate::{Call, Function};

/// What a start came to, as it is recorded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartOutcome {
    /// The root is there, begun by this operation.
    Tree(TreeId),
    /// It cannot be made: its id is none, or belongs to another root.
    Refused { message: String },
}

#[track_caller]
pub(crate) fn start<A: Dependencies, F: Function>(cx: &mut Cx<A>, call: Call<F>) -> StartHandle {
    let location = Location::caller();
    let input = encode(&call.input);
    let asked = Asked { kind: OpKind::Start, name: F::NAME, input: Some(&input), location };
    let (position, _) = cx.cell.ask(&asked);
    let order = StartOrder { function: F::NAME, version: F::VERSION, input, id: call.id };
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

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.cell.poll_start(self.position, context.waker(), self.location, &self.order) {
            Some(Completion::Started(outcome)) => Poll::Ready(self.read(&outcome)),
            _ => Poll::Pending,
        }
    }
}

impl StartHandle {
    fn read(&self, outcome: &[u8]) -> Result<TreeId, CallFailure> {
        match serde_json::from_slice(outcome) {
            Ok(StartOutcome::Tree(tree)) => Ok(tree),
            Ok(StartOutcome::Refused { message }) => Err(CallFailure {
                function: versioned(self.order.function, self.order.version),
                path: self.cell.path().child(self.position).to_string(),
                attempts: 0,
                kind: CallFailureKind::Conflict { message },
            }),
            Err(error) => self.cell.unreadable(self.position, "the outcome of a start", &error),
        }
    }
}

impl Drop for StartHandle {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
