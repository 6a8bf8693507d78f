//! Functions as values: what `#[sapwood::function]` writes, and what calls and starts take.

use std::fmt;

use sapwood_core::retry::RetryPolicy;
use sapwood_core::{Dependencies, Failure};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::cx::Cx;

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

/// A call that was written and not made yet: a function with its arguments.
///
/// `cx.call(..)` makes it a child, `engine.start(..)` a root.
#[must_use = "a call does nothing until it is given to `cx.call(..)` or `start(..)`"]
pub struct Call<F> {
    pub(crate) input: F,
    pub(crate) id: Option<String>,
}

impl<F: Function> Call<F> {
    /// A call with this input.
    pub fn new(input: F) -> Self {
        Self { input, id: None }
    }

    /// Gives the root that is started a caller's id: starting it twice is starting it once (P5).
    ///
    /// A child has its identity from its position; there the id is ignored.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
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
