//! How the result of a step is given to its body: as it is read from its stored form, whether it was just recorded or is
//! found again by a replay.

use std::marker::PhantomData;
use std::panic::Location;

use bytes::Bytes;
use sapwood_core::{Failure, Position};

use crate::activation::Cell;
use crate::function::Recordable;
use crate::payload::{Rejection, RejectionKind, decode};
use crate::replay::Completion;

/// Reads the result of one step.
pub(super) struct StepResult<T, E> {
    /// The result of the attempt that succeeded, as it is read from its stored form; given once it is recorded.
    kept: Option<Box<T>>,
    error: PhantomData<fn() -> E>,
}

impl<T, E> StepResult<T, E> {
    pub(super) const fn new() -> Self {
        Self { kept: None, error: PhantomData }
    }

    /// What a replay would read is kept for the delivery, so that it is read once.
    pub(super) fn keep(&mut self, value: T) {
        self.kept = Some(Box::new(value));
    }
}

impl<T: Recordable, E: Failure> StepResult<T, E> {
    /// The result that a completion brings. Stops the body if this build cannot read it.
    pub(super) fn read(
        &mut self,
        cell: &Cell,
        (position, location): (Position, &'static Location<'static>),
        completion: Completion,
    ) -> Result<T, E> {
        let unreadable = |what, error: &dyn std::fmt::Display| cell.unreadable(position, location, what, error);
        match completion {
            Completion::StepOk(value) => match self.kept.take().map_or_else(|| decode(&value), |kept| Ok(*kept)) {
                Ok(value) => Ok(value),
                Err(error) => unreadable(std::any::type_name::<T>(), &error),
            },
            Completion::StepErr(rejection) => match read_error(cell, &rejection) {
                Ok(error) => Err(error),
                Err(error) => unreadable(std::any::type_name::<E>(), &error),
            },
            Completion::Call { .. } | Completion::SleepEnded | Completion::Started(_) | Completion::Promise(_) => {
                unreadable(std::any::type_name::<T>(), &"the completion of another kind of operation")
            }
        }
    }
}

fn read_error<E: Failure>(cell: &Cell, rejection: &Bytes) -> Result<E, String> {
    let rejection = Rejection::read(rejection).map_err(|error| error.to_string())?;
    if rejection.kind == RejectionKind::StepTimedOut {
        cell.step_timed_out(rejection.message);
    }
    let error = rejection.error.as_ref().map_or("null", |error| error.get());
    serde_json::from_str(error).map_err(|error| error.to_string())
}
