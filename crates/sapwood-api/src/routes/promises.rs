//! External promises: lists, one by its id or by its name, and settling them (P2, P3, P6).

use axum::Json;
use axum::body::Body;
use axum::http::HeaderMap;
use sapwood_core::PromiseId;
use sapwood_engine::{PromiseName, PromiseReadError, PromiseView, SettleError};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::context::ContextApi;
use crate::model::promise::{Promise, PromiseList, Settled, effect};
use crate::problem::{Answer, Code, Problem};
use crate::request::{self, Name, Params, PromiseParam, TreeParam, Within};

/// The most bytes of a rejection's body: far more than its message takes.
const BODY_MOST: usize = 64 * 1024;

/// How long to wait.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// How long to wait for the promise to settle, at most a minute: `30s`, `500ms`, `1m`. Without it the answer comes at
    /// once.
    #[param(example = "30s")]
    wait: Option<String>,
}

/// Why a promise is rejected.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectBody {
    /// Why, in words. The function that awaits the promise gets them.
    #[schema(example = "the customer left", min_length = 1, max_length = 2000)]
    message: String,
}

/// The external promises of a tree
///
/// Each with its state, and with the schema of its value.
#[utoipa::path(
    get,
    path = "/v1/{context}/trees/{id}/promises",
    operation_id = "promise_list",
    tag = "promises",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
    ),
    responses(
        (status = 200, description = "The promises; empty if it has made none.", body = PromiseList),
        (status = 400, description = "`invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`"),
    )
)]
pub(super) async fn list(Within(context): Within, TreeParam(id): TreeParam) -> Answer<Json<PromiseList>> {
    let found = request::answered(context.engine().promises(id)).await?;
    let found = found.map_err(|error| Problem::of_read(context.name(), id, error))?;
    Ok(Json(PromiseList { promises: found.into_iter().map(Promise::from).collect() }))
}

/// A promise
///
/// By its id, as the function gave it to who is to settle it. With `?wait=` the answer waits for it to settle.
#[utoipa::path(
    get,
    path = "/v1/{context}/promises/{promise}",
    operation_id = "promise_show",
    tag = "promises",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("promise" = String, Path, description = "The promise's id."),
        WaitQuery,
    ),
    responses(
        (status = 200, description = "The promise, pending or settled.", body = Promise),
        (status = 400, description = "`invalid_id`, `invalid_query`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_promise`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`"),
    )
)]
pub(super) async fn show(
    Within(context): Within,
    PromiseParam(id): PromiseParam,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<Promise>> {
    read(&context, id.into(), &query).await
}

/// A promise of a tree
///
/// By its name, if the tree has only one of it. With `?wait=` the answer waits for it to settle.
#[utoipa::path(
    get,
    path = "/v1/{context}/trees/{id}/promises/{name}",
    operation_id = "tree_promise_show",
    tag = "promises",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
        ("name" = String, Path, description = "The promise's name."),
        WaitQuery,
    ),
    responses(
        (status = 200, description = "The promise, pending or settled.", body = Promise),
        (status = 400, description = "`invalid_id`, `invalid_query`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_promise`"),
        (status = 409, description = "`ambiguous_promise`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`"),
    )
)]
pub(super) async fn named(
    Within(context): Within,
    TreeParam(tree): TreeParam,
    Name(name): Name,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<Promise>> {
    read(&context, PromiseName { tree, path: None, name }, &query).await
}

/// Resolve a promise
///
/// The body is the value, as JSON; it is judged by the promise's schema. A promise is settled once: of two that differ, the
/// later one is told the outcome that stands. The same again is safe.
#[utoipa::path(
    post,
    path = "/v1/{context}/promises/{promise}/resolve",
    operation_id = "promise_resolve",
    tag = "promises",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("promise" = String, Path, description = "The promise's id."),
    ),
    request_body(content = Value, content_type = "application/json", description = "The value."),
    responses(
        (status = 200, description = "The promise has this outcome, by this request or an equal one.", body = Settled),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_promise`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`promise_settled`, `promise_closed`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_promise_value`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`, `worker_stopped`"),
    )
)]
pub(super) async fn resolve(
    Within(context): Within,
    PromiseParam(id): PromiseParam,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Settled>> {
    resolves(&context, id.into(), &headers, body).await
}

/// Resolve a promise of a tree
///
/// By its name, if the tree has only one of it, as resolving by the promise's id.
#[utoipa::path(
    post,
    path = "/v1/{context}/trees/{id}/promises/{name}/resolve",
    operation_id = "tree_promise_resolve",
    tag = "promises",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
        ("name" = String, Path, description = "The promise's name."),
    ),
    request_body(content = Value, content_type = "application/json", description = "The value."),
    responses(
        (status = 200, description = "The promise has this outcome, by this request or an equal one.", body = Settled),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_promise`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`ambiguous_promise`, `promise_settled`, `promise_closed`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_promise_value`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`, `worker_stopped`"),
    )
)]
pub(super) async fn named_resolve(
    Within(context): Within,
    TreeParam(tree): TreeParam,
    Name(name): Name,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Settled>> {
    resolves(&context, PromiseName { tree, path: None, name }, &headers, body).await
}

/// Reject a promise
///
/// The function that awaits it gets an error with the message. A promise is settled once, as by resolving it.
#[utoipa::path(
    post,
    path = "/v1/{context}/promises/{promise}/reject",
    operation_id = "promise_reject",
    tag = "promises",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("promise" = String, Path, description = "The promise's id."),
    ),
    request_body(content = RejectBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The promise has this outcome, by this request or an equal one.", body = Settled),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_promise`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`promise_settled`, `promise_closed`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_request`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`, `worker_stopped`"),
    )
)]
pub(super) async fn reject(
    Within(context): Within,
    PromiseParam(id): PromiseParam,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Settled>> {
    rejects(&context, id.into(), &headers, body).await
}

/// Reject a promise of a tree
///
/// By its name, if the tree has only one of it, as rejecting by the promise's id.
#[utoipa::path(
    post,
    path = "/v1/{context}/trees/{id}/promises/{name}/reject",
    operation_id = "tree_promise_reject",
    tag = "promises",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
        ("name" = String, Path, description = "The promise's name."),
    ),
    request_body(content = RejectBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The promise has this outcome, by this request or an equal one.", body = Settled),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`, `unknown_promise`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`ambiguous_promise`, `promise_settled`, `promise_closed`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_request`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`, `worker_stopped`"),
    )
)]
pub(super) async fn named_reject(
    Within(context): Within,
    TreeParam(tree): TreeParam,
    Name(name): Name,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Settled>> {
    rejects(&context, PromiseName { tree, path: None, name }, &headers, body).await
}

async fn read(context: &ContextApi, name: PromiseName, query: &WaitQuery) -> Answer<Json<Promise>> {
    let wait = request::wait(query.wait.as_deref())?;
    let engine = context.engine();
    let waited = tokio::select! {
        view = request::answered_after(wait, engine.promise_view(&name, wait)) => Some(view?),
        // A waiting client must not delay the end of the process; it can ask the next one.
        () = request::draining(&engine), if !wait.is_zero() => None,
    };
    let view = match waited {
        Some(view) => view,
        None => request::answered(engine.promise_view(&name, std::time::Duration::ZERO)).await?,
    };
    Ok(Json(view.map_err(|error| of_read(context, error))?.into()))
}

async fn resolves(context: &ContextApi, name: PromiseName, headers: &HeaderMap, body: Body) -> Answer<Json<Settled>> {
    let engine = context.engine();
    let value = request::json_body(headers, body, engine.limits().payload_bytes).await?;
    let settled = request::answered(engine.promise_resolve(&name, &value)).await?;
    let (id, settle) = settled.map_err(|error| of_settle(context, error))?;
    Ok(Json(Settled { id, effect: effect(settle) }))
}

async fn rejects(context: &ContextApi, name: PromiseName, headers: &HeaderMap, body: Body) -> Answer<Json<Settled>> {
    let RejectBody { message } = request::object(headers, body, BODY_MOST).await?;
    let settled = request::answered(context.engine().promise_reject(&name, message)).await?;
    let (id, settle) = settled.map_err(|error| of_settle(context, error))?;
    Ok(Json(Settled { id, effect: effect(settle) }))
}

/// Why a promise was not found.
fn of_read(context: &ContextApi, error: PromiseReadError) -> Problem {
    let detail = error.to_string();
    match error {
        PromiseReadError::UnknownTree(tree) => Problem::unknown_tree(context.name(), tree),
        PromiseReadError::Unknown(_) => Problem::new(Code::UnknownPromise, detail),
        PromiseReadError::Ambiguous { tree, name, paths } => {
            let ids = paths.iter().map(|path| PromiseId { tree, path: path.clone(), name: name.clone() }.to_string());
            let ids: Vec<String> = ids.collect();
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            Problem::new(Code::AmbiguousPromise, detail).with("paths", json!(paths)).with("promises", json!(ids))
        }
        PromiseReadError::Store(error) => error.into(),
    }
}

/// Why a promise was not settled.
fn of_settle(context: &ContextApi, error: SettleError) -> Problem {
    let detail = error.to_string();
    match error {
        SettleError::Read(error) => of_read(context, error),
        SettleError::Settled(view) => Problem::new(Code::PromiseSettled, detail).with("promise", shown(*view)),
        SettleError::Closed(_) => Problem::new(Code::PromiseClosed, detail),
        SettleError::InvalidValue { schema, .. } => {
            let schema: Value = serde_json::from_slice(&schema).unwrap_or_default();
            Problem::new(Code::InvalidPromiseValue, detail).with("schema", schema)
        }
        SettleError::TooLarge { .. } => Problem::new(Code::PayloadTooLarge, detail),
        SettleError::InvalidMessage(_) => Problem::new(Code::InvalidRequest, detail),
    }
}

fn shown(view: PromiseView) -> Value {
    serde_json::to_value(Promise::from(view)).unwrap_or_default()
}
