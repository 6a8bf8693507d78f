//! Governing trees: cancelling one, or a part of it, killing, resuming and retrying.

use axum::Json;
use axum::body::Body;
use axum::http::HeaderMap;
use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_engine::{Effect, GovernError};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::context::ContextApi;
use crate::model::control::Controlled;
use crate::problem::{Answer, Code, Problem};
use crate::request::{self, TreeParam, Within};

/// The most bytes of a request's body: far more than an actor and a reason take.
const BODY_MOST: usize = 64 * 1024;

/// Who asks, why, and for which part of the tree.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ControlBody {
    /// Who asks: a person or a system. It is recorded with the request.
    #[schema(example = "anna@example.com", min_length = 1, max_length = 200)]
    actor: String,
    /// Why. It is recorded with the request, and is part of the outcome of what it cancels or kills.
    #[schema(example = "the customer withdrew the order", min_length = 1, max_length = 2000)]
    reason: String,
    /// The invocation that is reached, with all below it; without it, the whole tree.
    #[serde(default = "root")]
    #[schema(example = "/3", default = "/", required = false)]
    path: String,
}

fn root() -> String {
    "/".to_owned()
}

/// Cancel a tree, or a part of it
///
/// No commit after the answer starts forward work in what the request reaches. Bodies there are never resumed; steps in
/// flight end and are recorded; then it closes from the leaves up. The request is durable, and asking again is safe: the
/// answer has its effect, and if it has none, the reason.
#[utoipa::path(
    post,
    path = "/v1/{context}/trees/{id}/cancel",
    operation_id = "tree_cancel",
    tag = "trees",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
    ),
    request_body(content = ControlBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The request is recorded, or changes nothing.", body = Controlled),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_node`"),
        (status = 408, description = "`request_timeout`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_request`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`, `worker_stopped`"),
    )
)]
pub(super) async fn cancel(
    Within(context): Within,
    TreeParam(id): TreeParam,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Controlled>> {
    govern(&context, id, ControlVerb::Cancel, &headers, body).await
}

/// Kill a tree, or a part of it
///
/// As cancelling, but nothing is undone, and a step in flight is not waited for: how it would have ended is not known. For
/// what hangs.
#[utoipa::path(
    post,
    path = "/v1/{context}/trees/{id}/kill",
    operation_id = "tree_kill",
    tag = "trees",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
    ),
    request_body(content = ControlBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The request is recorded, or changes nothing.", body = Controlled),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_node`"),
        (status = 408, description = "`request_timeout`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_request`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`, `worker_stopped`"),
    )
)]
pub(super) async fn kill(
    Within(context): Within,
    TreeParam(id): TreeParam,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Controlled>> {
    govern(&context, id, ControlVerb::Kill, &headers, body).await
}

/// Resume what is parked of a tree
///
/// What is parked in what the request reaches runs again from its record, as after a deploy that mended it: with the attempts
/// that it had left, and its timers fire again. A tree that was set aside is claimed again, if the request names its root.
#[utoipa::path(
    post,
    path = "/v1/{context}/trees/{id}/resume",
    operation_id = "tree_resume",
    tag = "trees",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
    ),
    request_body(content = ControlBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The request is recorded, or changes nothing.", body = Controlled),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_node`"),
        (status = 408, description = "`request_timeout`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_request`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`, `worker_stopped`"),
    )
)]
pub(super) async fn resume(
    Within(context): Within,
    TreeParam(id): TreeParam,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Controlled>> {
    govern(&context, id, ControlVerb::Resume, &headers, body).await
}

/// Retry what is parked of a tree, and what failed to be undone
///
/// What is parked in what the request reaches begins a fresh budget of attempts: it runs again without the failures that ended
/// it, and what succeeded stays. Compensations that failed, in what the request reaches or of it, are tried again, also in a
/// tree that is settled. No outcome ever changes.
#[utoipa::path(
    post,
    path = "/v1/{context}/trees/{id}/retry",
    operation_id = "tree_retry",
    tag = "trees",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
    ),
    request_body(content = ControlBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The request is recorded, or changes nothing.", body = Controlled),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_node`"),
        (status = 408, description = "`request_timeout`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_request`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`, `worker_stopped`"),
    )
)]
pub(super) async fn retry(
    Within(context): Within,
    TreeParam(id): TreeParam,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Controlled>> {
    govern(&context, id, ControlVerb::Retry, &headers, body).await
}

async fn govern(
    context: &ContextApi,
    tree: sapwood_core::TreeId,
    verb: ControlVerb,
    headers: &HeaderMap,
    body: Body,
) -> Answer<Json<Controlled>> {
    let ControlBody { actor, reason, path } = request::object(headers, body, BODY_MOST).await?;
    let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
    let path =
        path.parse().map_err(|_| invalid(format!("path: `{path}` is not the path of an invocation, such as /3/0")))?;
    let request = ControlRequest { path, verb, actor, reason };
    let effect = request::answered(context.engine().govern(tree, &request)).await?;
    let effect = effect.map_err(|error| match error {
        GovernError::UnknownTree(_) => Problem::unknown_tree(context.name(), tree),
        GovernError::UnknownNode { .. } => Problem::new(Code::UnknownNode, error.to_string()),
        GovernError::Invalid { .. } => invalid(error.to_string()),
        GovernError::Store(error) => error.into(),
    })?;
    if effect == Effect::Accepted {
        let ControlRequest { path, verb, actor, reason } = &request;
        tracing::info!(%tree, %path, verb = verb.name(), actor, reason, "a request was made for a tree");
    }
    Ok(Json(Controlled::of(tree, &request, effect)))
}
