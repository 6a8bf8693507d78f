//! Functions, with the schemas of their inputs, results and errors.

use std::time::Duration;

use sapwood_core::retry::OnExhausted;
use sapwood_engine::{Definition, Registry, Trigger};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::schema::inlined;

/// The functions of a context.
#[derive(Serialize, ToSchema)]
pub(crate) struct FunctionList {
    /// By name, then version; every version in this build.
    pub(crate) functions: Vec<Function>,
}

/// A durable function.
#[derive(Serialize, ToSchema)]
pub(crate) struct Function {
    /// Its name, unique within its context together with the version.
    #[schema(example = "place_order")]
    name: &'static str,
    /// Its version; new starts take the newest.
    #[schema(example = 1, minimum = 1)]
    version: u32,
    /// Its author's description; may be empty.
    #[schema(example = "Takes an order from payment to confirmation.")]
    description: &'static str,
    /// Whether a request can start it: its trigger is a call, and it is the newest version.
    startable: bool,
    /// The path that starts it, if it is startable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/v1/orders/functions/place_order")]
    url: Option<String>,
    /// What starts it.
    trigger: FunctionTrigger,
    /// How often it is attempted.
    retry: Retry,
    /// What becomes of it when its attempts are over after a transient error: `reject` (it settles with the error) or `pause`
    /// (it is parked until an operator retries it).
    #[schema(example = "reject")]
    on_exhausted: &'static str,
    /// JSON Schema (2020-12) of its input: an object of its parameters.
    input: Value,
    /// JSON Schema of its result.
    output: Value,
    /// JSON Schema of its error.
    error: Value,
}

/// What starts a function.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum FunctionTrigger {
    /// A call: from another function, or from a request.
    Call,
    /// An event: the function is a consumer.
    Event {
        /// The group that gets each event once.
        #[schema(example = "shipping")]
        group: String,
        /// The context that owns the event.
        #[schema(example = "orders")]
        source_context: String,
        /// The topic it arrives on.
        #[schema(example = "orders.events")]
        topic: String,
        /// Its CloudEvents type.
        #[serde(rename = "type")]
        #[schema(example = "orders.order-completed.v1")]
        cloud_type: String,
        /// Its CloudEvents source.
        #[schema(example = "/sapwood/orders")]
        source: String,
    },
}

/// How often a function is attempted, and how long it waits before the next attempt: the wait doubles, with full
/// jitter.
#[derive(Serialize, ToSchema)]
#[schema(as = RetryPolicy)]
pub(crate) struct Retry {
    /// The most attempts, the first included.
    #[schema(example = 3, minimum = 1)]
    attempts: u32,
    /// The longest wait before the second attempt, in milliseconds.
    #[schema(example = 100)]
    backoff_first_ms: u64,
    /// The longest wait before any attempt, in milliseconds.
    #[schema(example = 60_000)]
    backoff_most_ms: u64,
}

impl FunctionList {
    /// All functions of a context.
    pub(crate) fn of(context: &str, registry: &Registry) -> Self {
        let functions = registry.functions().map(|function| {
            let startable = is_startable(registry, function);
            Function::of(function, startable.then(|| start_url(context, function.name)))
        });
        Self { functions: functions.collect() }
    }
}

impl Function {
    fn of(definition: &Definition, url: Option<String>) -> Self {
        Self {
            name: definition.name,
            version: definition.version,
            description: definition.description,
            startable: url.is_some(),
            url,
            trigger: FunctionTrigger::of(&definition.trigger),
            retry: Retry {
                attempts: definition.retry.attempts,
                backoff_first_ms: millis(definition.retry.first),
                backoff_most_ms: millis(definition.retry.most),
            },
            on_exhausted: match definition.on_exhausted {
                OnExhausted::Reject => "reject",
                OnExhausted::Pause => "pause",
            },
            input: inlined(definition.input_schema().to_value()),
            output: inlined(definition.output_schema().to_value()),
            error: inlined(definition.error_schema().to_value()),
        }
    }
}

impl FunctionTrigger {
    fn of(trigger: &Trigger) -> Self {
        match trigger {
            Trigger::Call => Self::Call,
            Trigger::Event(subscription) => Self::Event {
                group: subscription.group.to_owned(),
                source_context: subscription.source_context.to_owned(),
                topic: subscription.topic.clone(),
                cloud_type: subscription.cloud_type.clone(),
                source: subscription.source.clone(),
            },
        }
    }
}

/// Whether a request can start this version of this function.
pub(crate) fn is_startable(registry: &Registry, function: &Definition) -> bool {
    let newest = registry.newest(function.name).is_some_and(|newest| newest.version == function.version);
    newest && matches!(function.trigger, Trigger::Call)
}

/// The path that starts a function.
pub(crate) fn start_url(context: &str, function: &str) -> String {
    format!("/v1/{context}/functions/{function}")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
