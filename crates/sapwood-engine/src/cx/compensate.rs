//! `cx.compensate`: what undoes the step that comes next (K1).

use std::panic::Location;

use sapwood_core::{Dependencies, FunctionVersion};
use serde_json::value::RawValue;

use super::Cx;
use crate::function::{Call, CallableFrom};
use crate::payload::{UndoDeclared, encode};
use crate::replay::{Asked, OpKind};

impl<D: Dependencies> Cx<D> {
    /// Declares the call that undoes what comes next: write it before the step whose effect it undoes. If the function fails,
    /// is cancelled or times out after this line was recorded, the engine makes the call; so it has to tolerate that the step
    /// has not happened. If the function resolves, it never does.
    ///
    /// Compensations run in the reverse of program order, once each, in boundaries of their own, below this invocation.
    #[track_caller]
    pub fn compensate<F: CallableFrom<D>>(&mut self, name: &str, call: Call<F>) {
        let location = Location::caller();
        let input = self.cell.record(&call.input, format_args!("the input of compensate {name}"), location);
        let input = String::from_utf8_lossy(&input).into_owned();
        let function = FunctionVersion::new(F::NAME, F::VERSION).to_string();
        // What `record` writes is JSON.
        let undo = encode(&UndoDeclared { function, input: RawValue::from_string(input).unwrap_or_default() });
        let asked = Asked { kind: OpKind::Compensate, name, input: Some(&undo), location };
        let (position, recorded) = self.cell.ask(&asked);
        if recorded.is_none() {
            self.cell.compensate(position, name, undo);
        }
    }
}
