//! Trees: lists, whole trees, outcomes.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sapwood_core::store::{ListedTree, StoreErrorKind, TreeFilter, UnreadableTree};
use sapwood_core::tree::TreeState;
use sapwood_core::{CallerId, TreeId};
use sapwood_engine::Engine;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::context::ContextApi;
use crate::model::outcome::{Outcome, Pending};
use crate::model::state::Urls;
use crate::model::tree::{Tree, TreeList};
use crate::nearest::did_you_mean;
use crate::page::{LIMIT_DEFAULT, LIMIT_MOST, List};
use crate::problem::{Answer, Code, Problem};
use crate::request::{self, Params, TreeParam, Within};

/// Which trees to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only trees whose root is this function.
    #[param(example = "place_order", min_length = 1, max_length = 200)]
    function: Option<String>,
    /// Only trees in this state.
    #[param(value_type = Option<crate::model::state::TreeState>, example = "rejected")]
    state: Option<String>,
    /// Only the tree that was started with this `Idempotency-Key`: at most one.
    #[param(example = "order-42", min_length = 1, max_length = 200)]
    id: Option<String>,
    /// `next_cursor` of the previous page, with the same filters.
    cursor: Option<String>,
    /// Trees on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

/// Trees of a context
///
/// Newest first, one page at a time. A tree that is started in the meantime is not on a later page, and no tree is
/// listed twice. `?id=` finds the tree of a caller's id, to attach to it.
#[utoipa::path(
    get,
    path = "/v1/{context}/trees",
    operation_id = "tree_list",
    tag = "trees",
    params(("context" = String, Path, description = "The context's name."), ListQuery),
    responses(
        (status = 200, description = "A page of trees; empty if none is found.", body = TreeList),
        (status = 400, description = "`invalid_query`, `invalid_cursor`, `invalid_id`"),
        (status = 404, description = "`unknown_context`"),
        (status = 503, description = "`store_unavailable`"),
    )
)]
pub(super) async fn list(Within(context): Within, Params(query): Params<ListQuery>) -> Answer<Json<TreeList>> {
    let limit = page_limit(query.limit)?;
    let state = query.state.as_deref().map(tree_state).transpose()?;
    let function = query.function.as_deref().map(function_name).transpose()?;
    let id = query.id.as_deref().map(request::id).transpose()?;

    let filters = [
        context.name(),
        function.unwrap_or_default(),
        state.map(TreeState::name).unwrap_or_default(),
        id.as_ref().map(CallerId::as_str).unwrap_or_default(),
    ];
    let list = List(&filters);
    let before = match query.cursor.as_deref() {
        None => None,
        Some(cursor) => Some(list.last(cursor).ok_or_else(|| {
            Problem::new(
                Code::InvalidCursor,
                "the cursor does not belong to this list; send `next_cursor` of the previous page, same filters",
            )
        })?),
    };

    let filter = TreeFilter { function: function.map(str::to_owned), state, before, limit: limit + 1 };
    let mut rows = match &id {
        Some(id) => request::answered(of_id(&context.engine(), id, &filter)).await??,
        None => request::answered(context.engine().list(&filter)).await??,
    };
    // One row more than requested was read, to know whether there is a next page.
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|last| list.cursor(last.id()));
    Ok(Json(TreeList::of(context.name(), rows, next_cursor)))
}

/// How to show a tree.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// Whether each node shows its journal.
    #[serde(default)]
    #[param(required = false, default = false)]
    timeline: bool,
}

/// A whole tree
///
/// Each node with its function, version, outcome, attempt, error, events, and what it waits on, all at one moment.
#[utoipa::path(
    get,
    path = "/v1/{context}/trees/{id}",
    operation_id = "tree_show",
    tag = "trees",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
        ShowQuery,
    ),
    responses(
        (status = 200, description = "The tree.", body = Tree),
        (status = 400, description = "`invalid_id`, `invalid_query`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`"),
    )
)]
pub(super) async fn show(
    Within(context): Within,
    TreeParam(id): TreeParam,
    Params(query): Params<ShowQuery>,
) -> Answer<Json<Tree>> {
    let view = request::answered(context.engine().tree(id))
        .await??
        .ok_or_else(|| Problem::unknown_tree(context.name(), id))?;
    Ok(Json(Tree::of(context.name(), view, query.timeline)))
}

/// How long to wait.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultQuery {
    /// How long to wait for the outcome, at most a minute: `30s`, `500ms`, `1m`. Without it the answer comes at once.
    #[param(example = "30s")]
    wait: Option<String>,
}

/// The outcome of a tree
///
/// 200 once there is an outcome, with a result or an error: both are the function's answer, not this request's. 202
/// before that; ask again as often as necessary, from any client.
#[utoipa::path(
    get,
    path = "/v1/{context}/trees/{id}/result",
    operation_id = "tree_result",
    tag = "trees",
    params(
        ("context" = String, Path, description = "The context's name."),
        ("id" = uuid::Uuid, Path, description = "The tree's id."),
        ResultQuery,
    ),
    responses(
        (status = 200, description = "The outcome; it never changes.", body = Outcome),
        (
            status = 202, description = "No outcome yet.", body = Pending,
            headers(("Retry-After" = u32, description = "Seconds to wait before asking again."))
        ),
        (status = 400, description = "`invalid_id`, `invalid_query`"),
        (status = 404, description = "`unknown_context`, `unknown_tree`"),
        (status = 500, description = "`internal`, `unreadable_tree`"),
        (status = 503, description = "`store_unavailable`"),
    )
)]
pub(super) async fn result(
    Within(context): Within,
    TreeParam(id): TreeParam,
    Params(query): Params<ResultQuery>,
) -> Answer<Response> {
    let wait = request::wait(query.wait.as_deref())?;
    let engine = context.engine();
    let outcome = tokio::select! {
        outcome = engine.outcome(id, wait) => outcome.map_err(|error| Problem::of_read(context.name(), id, error))?,
        // A waiting client must not delay the end of the process; it can ask the next one.
        () = request::draining(&engine), if !wait.is_zero() => None,
    };
    match outcome {
        Some(outcome) => Ok(Json(Outcome::of(id, outcome)).into_response()),
        None => request::answered(pending(&context, id)).await?,
    }
}

async fn pending(context: &ContextApi, id: TreeId) -> Answer<Response> {
    let read = context.engine().store().outcome_read(id).await?;
    let read = read.ok_or_else(|| Problem::unknown_tree(context.name(), id))?;
    if read.state.is_settled() {
        // It has settled since the first read.
        return Ok(Json(Outcome::of(id, read)).into_response());
    }
    let body = Pending { tree: id, state: read.state.into(), urls: Urls::of(context.name(), id) };
    Ok((StatusCode::ACCEPTED, [(header::RETRY_AFTER, "1")], Json(body)).into_response())
}

/// The tree that has a caller's id, if it passes the other filters.
async fn of_id(engine: &Engine, id: &CallerId, filter: &TreeFilter) -> Answer<Vec<ListedTree>> {
    let Some(tree) = engine.find(id).await? else { return Ok(Vec::new()) };
    let row = match engine.store().tree_row(tree).await {
        Err(error) if error.kind() == StoreErrorKind::Unreadable => {
            return Ok(vec![ListedTree::Unreadable(UnreadableTree { id: tree, reason: error.to_string() })]);
        }
        row => row?,
    };
    let row = row.filter(|row| {
        filter.function.as_ref().is_none_or(|function| *function == row.function)
            && filter.state.is_none_or(|state| state == row.state)
            && filter.before.is_none_or(|before| row.id < before)
    });
    Ok(row.map(ListedTree::Row).into_iter().collect())
}

fn page_limit(limit: Option<usize>) -> Answer<usize> {
    match limit {
        None => Ok(LIMIT_DEFAULT),
        Some(limit) if (1..=LIMIT_MOST).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::new(Code::InvalidQuery, format!("limit: {limit} is not within 1 to {LIMIT_MOST}"))),
    }
}

fn tree_state(name: &str) -> Answer<TreeState> {
    TreeState::ALL.iter().copied().find(|state| state.name() == name).ok_or_else(|| {
        let names: Vec<&str> = TreeState::ALL.iter().map(|state| state.name()).collect();
        let near = did_you_mean(name, names.iter().copied());
        Problem::new(Code::InvalidQuery, format!("state: `{name}` is not one of {}{near}", names.join(", ")))
    })
}

/// A function's name as a filter. This build need not have the function, because trees may outlive it.
fn function_name(name: &str) -> Answer<&str> {
    match name.chars().count() {
        1..=200 => Ok(name),
        _ => Err(Problem::new(Code::InvalidQuery, "function: a name has 1 to 200 characters")),
    }
}
