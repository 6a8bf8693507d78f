//! Durable function trees and domain events: what an application depends on.
//!
//! ```ignore
//! use sapwood::prelude::*;
//! ```

pub use sapwood_core::limits::{LimitError, Limits};
pub use sapwood_core::retry::RetryPolicy;
pub use sapwood_core::{
    BoundedContext, CallError, CallFailure, Dependencies, EmittableFrom, Error, Event, EventId, Failure, Path, TreeId,
};
pub use sapwood_engine::{
    CachePolicy, Call, CallHandle, CallableFrom, Consumer, ConsumerCx, Cx, Definition, Delivered, Engine, EngineOptions,
    Function, ReadError, Registry, ResultError, SleepHandle, StartError, StartHandle, StartReply, StepHandle,
    TreeHandle, TreeView,
};
pub use sapwood_macros::{Dependencies, consumer, function};

/// What an app's modules want in scope.
pub mod prelude {
    pub use sapwood_core::retry::RetryPolicy;
    pub use sapwood_core::{BoundedContext, CallError, CallFailure, Dependencies, Event, Failure, TreeId};
    pub use sapwood_engine::{Call, ConsumerCx, Cx, Delivered, Engine};
    pub use sapwood_macros::Dependencies;
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
}

/// What the attributes expand to; not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use sapwood_core;
    pub use sapwood_core::retry::RetryPolicy;
    pub use sapwood_engine::{
        Call, CallableFrom, Consumer, ConsumerCx, Cx, Delivered, Function, FunctionEntry, Returned,
    };
    pub use schemars;
    pub use serde;
    pub use serde_json;
}
