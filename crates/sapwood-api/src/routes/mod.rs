//! The handlers, by noun, and the router they make.

mod control;
mod docs;
mod functions;
mod health;
mod promises;
mod trees;

use std::sync::Arc;

use axum::Router;
use sapwood_engine::Registry;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::context::{ContextApi, Contexts};
use crate::edge;
use crate::openapi::with_functions;

/// The router of all contexts.
pub(crate) fn router(contexts: Contexts) -> Router {
    let described: Vec<_> = contexts.iter().map(ContextApi::engine).collect();
    let described: Vec<_> = described.iter().map(|engine| (engine.context(), engine.registry())).collect();
    let document = docs::Document(Arc::from(openapi(&described)));
    // If the validator's URL were not set, the page would ask a server on the internet to check the document.
    let browser = SwaggerUi::new("/docs").config(Config::from("/openapi.json").validator_url("none"));

    let (routes, _) = described_routes().split_for_parts();
    routes
        .with_state(contexts)
        .merge(docs::document(document))
        .merge(browser)
        .fallback(edge::unknown_route)
        .method_not_allowed_fallback(edge::method_not_allowed)
        .layer(axum::middleware::from_fn(edge::pass))
}

/// The OpenAPI 3.1 document of a process that serves these contexts (name and functions), as indented JSON.
#[must_use]
pub fn openapi(contexts: &[(&str, &Registry)]) -> String {
    with_functions(&document(), contexts)
}

/// The OpenAPI document of the routes, without the functions of any context.
fn document() -> OpenApi {
    described_routes().split_for_parts().1
}

fn described_routes() -> OpenApiRouter<Contexts> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(functions::list))
        .routes(routes!(functions::start))
        .routes(routes!(trees::list))
        .routes(routes!(trees::show))
        .routes(routes!(trees::result))
        .routes(routes!(control::cancel))
        .routes(routes!(control::kill))
        .routes(routes!(control::resume))
        .routes(routes!(control::retry))
        .routes(routes!(promises::list))
        .routes(routes!(promises::show))
        .routes(routes!(promises::resolve))
        .routes(routes!(promises::reject))
        .routes(routes!(promises::named))
        .routes(routes!(promises::named_resolve))
        .routes(routes!(promises::named_reject))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(docs::problem))
}

/// The document without its paths, which the routes add.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Sapwood",
        version = "1",
        description = "Starts durable function trees, attaches to them, shows their state, governs them, and settles what they wait for. Errors are \
                       `application/problem+json` (RFC 9457) with a stable `code`. Times are RFC 3339 in UTC.",
         license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(crate::model::problem::Problem)),
    tags(
        (name = "functions", description = "The functions of a context, and starting them."),
        (name = "trees", description = "Trees that were started: lists, whole trees, outcomes, cancelling."),
        (name = "promises", description = "External promises of trees: lists, outcomes, settling."),
        (name = "health", description = "For probes."),
        (name = "docs", description = "The description of the API itself."),
    )
)]
struct Description;
