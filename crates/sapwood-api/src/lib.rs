//! The state of trees over REST, described by OpenAPI.
//!
//! One router serves every context of a process, each under `/v1/{context}/`. It starts trees, attaches to them, lists
//! and shows them. It knows only an [`Engine`](sapwood_engine::Engine), and no database or broker.
//!
//! | room | what is there |
//! |---|---|
//! | [`context`] | a context as it is served: its engine, and the further sources of its health |
//! | [`problem`] | errors: one table of stable codes, sent as RFC 9457 problems |
//! | `routes` | the handlers, by noun: functions, trees, health, docs |
//! | `model` | what goes over the wire; deliberately not the types of the core |
//! | `request` | what is taken from a request: names, ids, bodies, waits; each with its bounds |
//! | `page` | cursors |
//! | `edge` | what every request passes through: the access log, panics, the framework's own errors |
//! | [`openapi()`] | the OpenAPI document, with the functions of the contexts in it |

pub mod context;
mod edge;
mod model;
mod nearest;
mod openapi;
mod page;
pub mod problem;
mod request;
mod routes;

pub use context::{ContextApi, HealthPart, HealthSource, HealthState};
pub use routes::openapi;

/// Everything that is served: the contexts under `/v1/`, and beside them health, the OpenAPI document and its browser.
///
/// Each context needs a name of its own; of two with one name, only the later is served.
///
/// ```no_run
/// # async fn serve(orders: sapwood_engine::Engine) -> std::io::Result<()> {
/// let router = sapwood_api::router(vec![sapwood_api::ContextApi::new(orders)]);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// axum::serve(listener, router).await
/// # }
/// ```
pub fn router(contexts: Vec<ContextApi>) -> axum::Router {
    routes::router(context::Contexts::new(contexts))
}
