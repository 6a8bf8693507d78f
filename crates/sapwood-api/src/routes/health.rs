//! Health, for probes.

use axum::Json;
use axum::extract::State;

use crate::context::Contexts;
use crate::model::health::{self, Live, Ready};
use crate::problem::{Answer, Code, Problem};

/// Whether the process answers
///
/// This ignores everything that the process depends on, because an outage of a database is not a reason to restart it.
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "health_live",
    tag = "health",
    responses((status = 200, description = "It answers.", body = Live))
)]
pub(super) async fn live() -> Json<Live> {
    Json(Live { status: "live" })
}

/// Whether the process can serve
///
/// It cannot while a part is `down`. A part that is `degraded`, such as an unreachable broker, is shown and does not
/// count: trees go on, and their events are published later.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "health_ready",
    tag = "health",
    responses(
        (status = 200, description = "It can serve.", body = Ready),
        (status = 503, description = "`not_ready`"),
    )
)]
pub(super) async fn ready(State(contexts): State<Contexts>) -> Answer<Json<Ready>> {
    let (parts, ready) = health::parts(contexts.iter());
    if ready {
        return Ok(Json(Ready { status: "ready", parts }));
    }
    let parts = serde_json::to_value(parts).unwrap_or_default();
    Err(Problem::new(Code::NotReady, "a part is down; see `parts`").with("parts", parts))
}
