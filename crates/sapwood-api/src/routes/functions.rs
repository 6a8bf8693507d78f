//! Functions: listing them, and starting one.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sapwood_engine::StartOptions;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::model::function::FunctionList;
use crate::model::outcome::Started;
use crate::model::state::{Urls, tree_url};
use crate::problem::{Answer, Code, Problem};
use crate::request::{self, Name, Params, Within};

/// The functions of a context
///
/// Every version in this build, consumers included, with the JSON Schemas of input, result and error.
#[utoipa::path(
    get,
    path = "/v1/{context}/functions",
    operation_id = "function_list",
    tag = "functions",
    params(("context" = String, Path, description = "The context's name.")),
    responses(
        (status = 200, description = "The functions, by name and version.", body = FunctionList),
        (status = 404, description = "`unknown_context`"),
    )
)]
pub(super) async fn list(Within(context): Within) -> Json<FunctionList> {
    Json(FunctionList::of(context.name(), context.engine().registry()))
}

/// What a start may say besides its input.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StartQuery {
    /// When the tree settles at the latest: a length of time from now, such as `7d`, `90s` or `1h 30m`, or a time, such as
    /// `2026-12-24T18:00:00Z`. Without it, as the function declares. If an earlier start has the same id, its deadline holds.
    #[param(example = "7d")]
    deadline: Option<String>,
}

/// Start a function
///
/// Creates a tree whose root is the newest version of the function, and answers once it is durable; the outcome is
/// requested separately. With an `Idempotency-Key` the same request can be sent any number of times, also from several
/// processes at once, and creates one tree.
#[utoipa::path(
    post,
    path = "/v1/{context}/functions/{name}",
    operation_id = "function_start",
    tag = "functions",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("name" = String, Path, description = "The function's name.", example = "place_order"),
        (
            "Idempotency-Key" = Option<String>, Header, nullable = false,
            min_length = 1, max_length = 200, pattern = "^[!-~]{1,200}$",
            description = "The caller's id of this start. One id creates one tree; the same id with another function \
                           or input is a conflict. Without it every request creates a tree.",
            example = "order-42"
        ),
        StartQuery,
    ),
    request_body(
        content = Object, description = "An object of the function's parameters.", content_type = "application/json"
    ),
    responses(
        (
            status = 201, description = "A tree was created.", body = Started,
            headers(("Location" = String, description = "The path of the tree."))
        ),
        (
            status = 200, description = "The same start was made before; this is its tree.", body = Started,
            headers(("Location" = String, description = "The path of the tree."))
        ),
        (status = 400, description = "`malformed_json`, `malformed_request`, `invalid_id`, `invalid_query`"),
        (status = 404, description = "`unknown_context`, `unknown_function`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`id_conflict`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_input`, `invalid_deadline`, `not_startable`, `start_refused`"),
        (status = 503, description = "`store_unavailable`, `draining`, `worker_stopped`"),
    )
)]
pub(super) async fn start(
    Within(context): Within,
    Name(function): Name,
    Params(query): Params<StartQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let engine = context.engine();
    let id = request::caller_id(&headers)?;
    let deadline = request::deadline(query.deadline.as_deref())?;
    let options = StartOptions { id, deadline, ..StartOptions::default() };
    let input = request::json_body(&headers, body, engine.limits().payload_bytes).await?;

    if input.trim_ascii_start().first() != Some(&b'{') {
        // The decoder would accept an array of the parameters in their order, which the API does not promise.
        return Err(Problem::new(Code::InvalidInput, "the body has to be an object of the function's parameters"));
    }
    let reply = request::answered(engine.start_json(&function, &input, options))
        .await?
        .map_err(|error| Problem::of_start(context.name(), error))?;

    let status = if reply.created { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(header::LOCATION, tree_url(context.name(), reply.tree))];
    let urls = Urls::of(context.name(), reply.tree);
    Ok((status, location, Json(Started { tree: reply.tree, created: reply.created, urls })).into_response())
}
