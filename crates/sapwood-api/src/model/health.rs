//! Health, part by part.

use serde::Serialize;
use utoipa::ToSchema;

use crate::context::{ContextApi, HealthState};

/// The process answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Live {
    /// Always `live`.
    #[schema(example = "live")]
    pub(crate) status: &'static str,
}

/// The process can serve.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// Always `ready`; otherwise the answer is a problem with code `not_ready`.
    #[schema(example = "ready")]
    pub(crate) status: &'static str,
    /// Each part of each context.
    pub(crate) parts: Vec<Part>,
}

/// One part of one context.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthPart)]
pub(crate) struct Part {
    /// The context.
    #[schema(example = "orders")]
    context: &'static str,
    /// The part.
    #[schema(example = "store")]
    part: String,
    /// Its state.
    state: State,
    /// Why it is not up, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

/// The state of a part: `up`; `degraded` (it waits for something, and the context goes on); or `down` (the context
/// cannot serve).
#[derive(Serialize, ToSchema)]
#[schema(as = HealthState)]
#[serde(rename_all = "snake_case")]
enum State {
    Up,
    Degraded,
    Down,
}

/// The parts of all contexts, and whether the process is ready: no part is down.
pub(crate) fn parts<'a>(contexts: impl IntoIterator<Item = &'a ContextApi>) -> (Vec<Part>, bool) {
    let mut ready = true;
    let mut parts = Vec::new();
    for context in contexts {
        for part in context.parts() {
            ready &= part.state != HealthState::Down;
            let state = match part.state {
                HealthState::Up => State::Up,
                HealthState::Degraded => State::Degraded,
                HealthState::Down => State::Down,
            };
            parts.push(Part { context: context.name(), part: part.name, state, detail: part.detail });
        }
    }
    (parts, ready)
}
