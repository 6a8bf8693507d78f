//! The API's own description: the OpenAPI document, and what the codes of problems mean.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use crate::nearest::did_you_mean;
use crate::problem::{Answer, Code, Problem};
use crate::request::Name;

/// The OpenAPI document of this process, written once.
#[derive(Clone)]
pub(super) struct Document(pub(super) Arc<str>);

/// The routes that serve the document, and that redirect `/` to the page that shows it.
pub(super) fn document(document: Document) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/docs/") }))
        .route("/openapi.json", get(openapi))
        .with_state(document)
}

async fn openapi(State(document): State<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.0.to_string()).into_response()
}

/// What a problem's code means
///
/// The `type` of every problem is this path.
#[utoipa::path(
    get,
    path = "/problems/{name}",
    operation_id = "problem_show",
    tag = "docs",
    params(("name" = String, Path, description = "The code.", example = "id_conflict")),
    responses(
        (
            status = 200, description = "Its meaning, and what to do, in Markdown.",
            body = String, content_type = "text/markdown"
        ),
        (status = 404, description = "`unknown_route`"),
    )
)]
pub(super) async fn problem(Name(name): Name) -> Answer<Response> {
    let code = Code::from_name(&name).ok_or_else(|| {
        let near = did_you_mean(&name, Code::ALL.map(Code::name));
        Problem::new(Code::UnknownRoute, format!("no problem has the code `{name}`{near}"))
    })?;
    let text =
        format!("# {}\n\n`{}`, status {}.\n\n{}\n", code.title(), code.name(), code.status().as_u16(), code.help());
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response())
}
