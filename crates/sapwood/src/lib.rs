//! Durable function trees and domain events: what an application depends on.
//!
//! ```no_run
//! use sapwood::prelude::*;
//!
//! /// The greetings context; in an app of more than one crate it is in the contract crate.
//! #[derive(BoundedContext)]
//! #[context(name = "greetings")]
//! pub struct Greetings;
//!
//! /// What its functions need.
//! #[derive(Dependencies)]
//! #[dependencies(of = Greetings)]
//! pub struct GreetingsDependencies;
//!
//! /// Greets a person. Once the step's result is durable, the step never runs again, whatever crashes follow.
//! #[sapwood::function]
//! pub async fn greet(cx: &mut Cx<GreetingsDependencies>, name: String) -> Result<String, sapwood::Error> {
//!     cx.step("compose", async || Ok::<_, sapwood::Error>(format!("Hello, {name}!"))).await
//! }
//!
//! #[tokio::main]
//! async fn main() -> sapwood::Result<()> {
//!     App::new().context(GreetingsDependencies).run().await
//! }
//! ```
//!
//! | room | what is there |
//! |---|---|
//! | [`App`], [`Running`] | one process: its contexts, launched and drained |
//! | [`Config`], [`StartupError`] | settings, and why a process does not start |
//! | [`shutdown`], [`telemetry`] | what a program with its own `main` needs as well |

mod app;
mod cli;
mod config;
mod error;
mod hosted;
pub mod shutdown;
mod stores;
pub mod telemetry;

pub use app::{App, Running};
pub use config::{BrokerUrl, Config, StoreUrl};
pub use error::{Result, StartupError};
pub use sapwood_core::context::{BoundedContext, Dependencies, Transactional};
pub use sapwood_core::event::{EmittableFrom, Event};
pub use sapwood_core::failure::{CallError, CallFailure, Error, Failure, PromiseError, PromiseErrorKind};
pub use sapwood_core::limits::{LimitError, Limits};
pub use sapwood_core::retry::RetryPolicy;
pub use sapwood_core::store::{TreeFilter, TreeOutcome};
pub use sapwood_core::tree::{Closing, TreeState};
pub use sapwood_core::{CallerId, Deadline, EventId, FunctionVersion, Path, PromiseId, TreeId};
pub use sapwood_engine::{
    CachePolicy, Call, CallHandle, CallableFrom, Consumer, ConsumerCx, Cx, Definition, Delivered, Engine,
    EngineOptions, Environment, ExternalPromise, Function, OutcomeError, PromiseHandle, PromiseName, PromiseReadError,
    ReadError, Registry, ResultError, Settle, SettleError, SleepHandle, StartError, StartHandle, StartOptions,
    StartReply, StepHandle, Stopped, SystemEnvironment, Transaction, TransactionHandle, TreeHandle, TreeView,
};
pub use sapwood_macros::{
    AppBoundedContext as BoundedContext, AppEvent as Event, AppFailure as Failure, Dependencies, consumer, function,
};
pub use sapwood_postgres::Postgres;
pub use sapwood_sqlite::Sqlite;

/// What most modules of an app use.
pub mod prelude {
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};

    pub use crate::{
        App, BoundedContext, Call, CallError, CallFailure, ConsumerCx, Cx, Delivered, Dependencies, Engine, Event,
        Failure, PromiseError, RetryPolicy, TreeId,
    };
}

/// What the attributes expand to; not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use sapwood_core;
    pub use sapwood_core::retry::{OnExhausted, RetryPolicy};
    pub use sapwood_engine::{
        Call, CallableFrom, Consumer, ConsumerCx, Cx, Delivered, Function, FunctionEntry, Returned, UndoOf,
    };
    pub use schemars;
    pub use serde;
    pub use serde_json;
}
