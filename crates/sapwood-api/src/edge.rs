//! What every request passes through: the access log, panics, and the framework's own errors.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, OriginalUri, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use crate::problem::{Code, Problem};

/// Runs a request, answers every error with a problem that names its path, and logs one line about it.
///
/// The log has the route and not the path, so that it can be counted by route and holds no ids of callers.
pub(crate) async fn pass(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = request.extensions().get::<OriginalUri>().map_or(request.uri(), |uri| &uri.0).path().to_owned();

    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_panic| {
        // The panic hook has logged the panic's message, which is of no use to the client.
        Problem::new(Code::Internal, "the request failed; its reason is in the log").into_response()
    });
    let response = with_problem(response, &path);

    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let status = response.status().as_u16();
    let duration_ms = began.elapsed().as_micros() as f64 / 1e3;
    if route.starts_with("/health/") {
        // Probes come every few seconds and would fill the log.
        tracing::debug!(target: "sapwood::access", %method, route, status, duration_ms, "served");
    } else {
        tracing::info!(target: "sapwood::access", %method, route, status, duration_ms, "served");
    }
    response
}

/// The answer if no route has the path.
pub(crate) async fn unknown_route(uri: OriginalUri) -> Problem {
    Problem::new(Code::UnknownRoute, format!("there is nothing at `{}`; see /docs", uri.path()))
}

/// The answer if the route does not take the method. (The framework adds the header `Allow`.)
pub(crate) async fn method_not_allowed(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(Code::MethodNotAllowed, format!("`{path}` does not take {method}"))
}

fn with_problem(mut response: Response, path: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None => Problem::of_status(status),
    };
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut answer = problem.respond(Some(path));
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    if status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::PAYLOAD_TOO_LARGE {
        // The rest of the body was not read, so the connection cannot be used again.
        answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    answer
}
