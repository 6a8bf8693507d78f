//! Functions as values: what `#[sapwood::function]` writes, and what calls and starts take.

use std::fmt;
use std::time::Duration;

use sapwood_core::deadline::GRACE;
use sapwood_core::retry::{OnExhausted, RetryPolicy};
use sapwood_core::{Deadline, Dependencies, Failure, FunctionVersion};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::cx::Cx;
use crate::payload::{decode, record};

/// What can be recorded: a result, an input, an event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be recorded",
    note = "inputs, results and errors are journaled: derive Serialize, Deserialize and JsonSchema"
)]
pub trait Recordable: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Recordable for T {}

/// A durable function, implemented by the struct of its parameters.
///
/// `#[sapwood::function]` writes the struct and this impl; authors meet it only in bounds.
pub trait Function: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The dependencies it takes, and by them its bounded context.
    type Dependencies: Dependencies;
    /// Its result.
    type Output: Recordable + JsonSchema;
    /// Its error.
    type Error: Failure;
    /// Its stable name.
    const NAME: &'static str;
    /// Its version; new starts and calls take the newest (V2).
    const VERSION: u32;
    /// Its doc comment.
    const DESCRIPTION: &'static str;
    /// Where its source is, as `file:line:column`.
    const LOCATION: &'static str = "";
    /// How often it is attempted.
    const RETRY: RetryPolicy;
    /// What becomes of it when its attempts are over.
    const ON_EXHAUSTED: OnExhausted = OnExhausted::Reject;
    /// How long it may take, from its call to its outcome, if the call says nothing else (D1).
    const DEADLINE: Option<Duration> = None;
    /// How long it may undo what it did beyond its deadline (D4).
    const GRACE: Duration = GRACE;

    /// Runs its body.
    fn run<'a>(
        self,
        cx: &'a mut Cx<Self::Dependencies>,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send + 'a;
}

/// A function that functions with these dependencies may call: one of the same bounded context.
///
/// The attribute writes one impl per function, so that the compiler refuses a call into another context (A1).
#[diagnostic::on_unimplemented(
    message = "`{Self}` belongs to another bounded context than `{D}`",
    label = "a tree never calls into another context",
    note = "emit a domain event instead, and let the other context consume it"
)]
pub trait CallableFrom<D: Dependencies>: Function {}

/// A function with one parameter, of type `T`: it can undo a call whose result is a `T`.
///
/// The attribute writes it for each function with one parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot undo a call whose result is a `{T}`",
    note = "an undo is a function of the same context with one parameter: the result of the call that it undoes"
)]
pub trait UndoOf<T>: Function {
    /// Its input, made of the result of the call that it undoes.
    fn of_result(result: T) -> Self;
}

/// A call that was written and not made yet: a function with its arguments.
///
/// `cx.call(..)` makes it a child, `engine.start(..)` a root.
#[must_use = "a call does nothing until it is given to `cx.call(..)` or `start(..)`"]
pub struct Call<F> {
    pub(crate) input: F,
    pub(crate) id: Option<String>,
    pub(crate) undo: Option<Undo>,
    pub(crate) deadline: Option<Deadline>,
}

type Agrees = dyn Fn(&[u8]) -> bool + Send + Sync;

/// The undo of a call.
pub(crate) struct Undo {
    pub(crate) function: FunctionVersion,
    /// Whether what the author gave makes, of this recorded result, the call that the engine makes of it. A closure may make
    /// another one, which nobody would ever make.
    pub(crate) agrees: Box<Agrees>,
}

impl Undo {
    fn of<F: Function, U: UndoOf<F::Output>>(undo: fn(F::Output) -> Call<U>) -> Self {
        let agrees = move |result: &[u8]| {
            let read = || decode::<F::Output>(result).ok();
            let Some((given, made)) = read().zip(read()) else { return true };
            let (given, made) = (record(&undo(given).input), record(&U::of_result(made)));
            given.is_ok_and(|given| made.is_ok_and(|made| given == made))
        };
        Self { function: FunctionVersion::new(U::NAME, U::VERSION), agrees: Box::new(agrees) }
    }
}

impl<F: Function> Call<F> {
    /// A call with this input.
    pub fn new(input: F) -> Self {
        Self { input, id: None, undo: None, deadline: None }
    }

    /// Gives the root that is started a caller's id: starting it twice is starting it once (P5).
    ///
    /// A child has its identity from its position; there the id is ignored.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

impl<F: Function> Call<F> {
    /// Says when the promise settles at the latest: a length of time from now, or a time. It takes the place of the deadline
    /// that the function declares, and is never later than the caller's (D1).
    ///
    /// At its deadline the promise is timed out: the caller gets an error that says so, nothing of the function is resumed,
    /// what it called is cancelled, and it undoes what it did.
    pub fn deadline(mut self, deadline: impl Into<Deadline>) -> Self {
        self.deadline = Some(deadline.into());
        self
    }

    /// The deadline of this call, or else the one that its function declares.
    pub(crate) fn deadline_or_declared(&self) -> Option<Deadline> {
        self.deadline.or(F::DEADLINE.map(Deadline::After))
    }

    /// Declares what undoes the call: the function that the engine calls with its result, if the caller fails, is cancelled or
    /// times out after the call has resolved (K1). Give the function itself, as in `charge(card, total).undo(refund)`.
    ///
    /// Undos run in the reverse of program order, once each, in boundaries of their own, below the invocation that called.
    pub fn undo<U>(mut self, undo: fn(F::Output) -> Call<U>) -> Self
    where
        U: UndoOf<F::Output> + Function<Dependencies = F::Dependencies>,
    {
        self.undo = Some(Undo::of::<F, U>(undo));
        self
    }
}

impl<F: Function> fmt::Debug for Call<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("function", &F::NAME).field("version", &F::VERSION).field("id", &self.id).finish()
    }
}

/// The parts of a `Result<T, E>`, so that a signature may also use an alias of it.
#[diagnostic::on_unimplemented(
    message = "a durable function returns a `Result<T, E>`",
    label = "`{Self}` is not a `Result`"
)]
pub trait Returned {
    /// The result.
    type Ok;
    /// The error.
    type Err;
}

impl<T, E> Returned for Result<T, E> {
    type Ok = T;
    type Err = E;
}
