//! Health, for probes.

use axum::Json;
use axum::extract::State;

use crate::context::Contexts;
use crate::model::health::{self, Live, Ready};
use crate::problem::{Answer, Code, Problem};

/// Whether the process answers
///
/// Says nothing of what it depends on: a database that is away is no reason to restart this process.
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "health_live",
    tag = "health",
    responses((status = 200, description = "It does.", body = Live))
)]
pub(super) async fn live() -> Json<Live> {
    Json(Live { status: "live" })
}

/// Whether the process can serve
///
/// It cannot while a part is `down`. A part that is `degraded` (a broker that is away, say) is told and does not count:
/// trees go on, and their events leave later.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "health_ready",
    tag = "health",
    responses(
        (status = 200, description = "It can.", body = Ready),
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
