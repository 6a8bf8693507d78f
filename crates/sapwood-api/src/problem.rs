//! Errors, sent as problems (RFC 9457): one table of stable codes, each with its status and what to do about it.
//!
//! A client may rely on `code` and `status`; titles and details are for people. The cause of an internal error goes to
//! the log and never to the client.

use std::fmt::Write as _;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sapwood_core::TreeId;
use sapwood_core::store::{StoreError, StoreErrorKind};
use sapwood_engine::{ReadError, StartError};
use serde_json::{Map, Value, json};

/// A stable code. A code is never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Code {
    /// The body is not JSON.
    MalformedJson,
    /// The request's path or headers cannot be read.
    MalformedRequest,
    /// A parameter of the query is unknown, or its value is not valid.
    InvalidQuery,
    /// The cursor does not belong to this list.
    InvalidCursor,
    /// The id is not valid.
    InvalidId,
    /// A deadline has passed, or is too far away.
    InvalidDeadline,
    /// Nothing exists at this path.
    UnknownRoute,
    /// The process does not serve this context.
    UnknownContext,
    /// The context has no such function.
    UnknownFunction,
    /// The context has no such tree.
    UnknownTree,
    /// The tree has no such invocation.
    UnknownNode,
    /// The tree has no such promise.
    UnknownPromise,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The id belongs to a tree of another function or input.
    IdConflict,
    /// Several promises of the tree have the name.
    AmbiguousPromise,
    /// The promise was settled before, in another way.
    PromiseSettled,
    /// Nobody awaits the promise any longer.
    PromiseClosed,
    /// The body, or a value in it, is larger than the limit.
    PayloadTooLarge,
    /// The body's content type is not JSON.
    UnsupportedMediaType,
    /// The input is not what the function takes.
    InvalidInput,
    /// The value is not what the promise takes.
    InvalidPromiseValue,
    /// The body is not what the route takes.
    InvalidRequest,
    /// The function is started by an event, not by a request.
    NotStartable,
    /// Something went wrong on this side.
    Internal,
    /// A row of the tree holds what this build cannot read.
    UnreadableTree,
    /// The store does not answer now.
    StoreUnavailable,
    /// The process is about to end and starts no more trees.
    Draining,
    /// The worker of the context has stopped by itself.
    WorkerStopped,
    /// The store refuses what a start would record.
    StartRefused,
    /// A part of the process is not ready to serve.
    NotReady,
}

/// One row of the table of codes.
struct Meaning {
    name: &'static str,
    status: StatusCode,
    title: &'static str,
    help: &'static str,
}

impl Code {
    /// All codes, by status.
    pub const ALL: [Self; 31] = [
        Self::MalformedJson,
        Self::MalformedRequest,
        Self::InvalidQuery,
        Self::InvalidCursor,
        Self::InvalidId,
        Self::InvalidDeadline,
        Self::UnknownRoute,
        Self::UnknownContext,
        Self::UnknownFunction,
        Self::UnknownTree,
        Self::UnknownNode,
        Self::UnknownPromise,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::IdConflict,
        Self::AmbiguousPromise,
        Self::PromiseSettled,
        Self::PromiseClosed,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidInput,
        Self::InvalidPromiseValue,
        Self::InvalidRequest,
        Self::NotStartable,
        Self::Internal,
        Self::UnreadableTree,
        Self::StoreUnavailable,
        Self::Draining,
        Self::WorkerStopped,
        Self::StartRefused,
        Self::NotReady,
    ];

    /// The code on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.meaning().name
    }

    /// The HTTP status it is sent with.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.meaning().status
    }

    /// What it is, in a few words that do not change from one occurrence to the next.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.meaning().title
    }

    /// Why it happens, and what to do about it.
    #[must_use]
    pub const fn help(self) -> &'static str {
        self.meaning().help
    }

    /// The code of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// The URI reference that identifies the type of the problem; this process serves its description there.
    #[must_use]
    pub fn uri(self) -> String {
        format!("/problems/{}", self.name())
    }

    const fn meaning(self) -> Meaning {
        const fn row(name: &'static str, status: StatusCode, title: &'static str, help: &'static str) -> Meaning {
            Meaning { name, status, title, help }
        }
        match self {
            Self::MalformedJson => row(
                "malformed_json",
                StatusCode::BAD_REQUEST,
                "The body is not JSON",
                "The body could not be parsed; the detail names line and column. Send one JSON object of the \
                 function's parameters, or `{}` if it has none.",
            ),
            Self::MalformedRequest => row(
                "malformed_request",
                StatusCode::BAD_REQUEST,
                "The request cannot be read",
                "The path or a header is not what HTTP allows, such as a percent-encoding that is not UTF-8.",
            ),
            Self::InvalidQuery => row(
                "invalid_query",
                StatusCode::BAD_REQUEST,
                "A parameter of the query is not valid",
                "A parameter is unknown, repeated, or has a value outside its bounds; the detail names it and the \
                 values allowed. Unknown parameters are refused, because a misspelled filter would otherwise filter \
                 nothing.",
            ),
            Self::InvalidCursor => row(
                "invalid_cursor",
                StatusCode::BAD_REQUEST,
                "The cursor does not belong to this list",
                "A cursor is valid only for the list that returned it: same context, same filters. Send `next_cursor` \
                 of the previous page unchanged, or begin again without a cursor.",
            ),
            Self::InvalidId => row(
                "invalid_id",
                StatusCode::BAD_REQUEST,
                "The id is not valid",
                "A caller's id (`Idempotency-Key`) is 1 to 200 visible ASCII characters without spaces, sent once. \
                 A tree's id is a UUID. A promise's id is what its function gave out: tree, path and name between `~`.",
            ),
            Self::InvalidDeadline => row(
                "invalid_deadline",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The deadline is not valid",
                "The deadline of a start has passed, by the database's clock, or lies beyond the year 9998. Nothing was \
                 started. Give a later one, or none.",
            ),
            Self::UnknownRoute => row(
                "unknown_route",
                StatusCode::NOT_FOUND,
                "Nothing exists at this path",
                "The paths that are served are listed in `/openapi.json`, which `/docs` shows in a browser.",
            ),
            Self::UnknownContext => row(
                "unknown_context",
                StatusCode::NOT_FOUND,
                "No such context",
                "This process serves other contexts; the detail suggests a similar name. A context that runs as its \
                 own process has its own address.",
            ),
            Self::UnknownFunction => row(
                "unknown_function",
                StatusCode::NOT_FOUND,
                "No such function",
                "The context has no function of this name in this build; `GET /v1/{context}/functions` lists them.",
            ),
            Self::UnknownTree => row(
                "unknown_tree",
                StatusCode::NOT_FOUND,
                "No such tree",
                "The context has no tree with this id: it was never started, belongs to another context, or its \
                 retention has passed.",
            ),
            Self::UnknownNode => row(
                "unknown_node",
                StatusCode::NOT_FOUND,
                "No such invocation",
                "The tree is there, but no invocation of it has this path, or none that is durable yet. The paths are in the \
                 whole tree: `GET /v1/{context}/trees/{id}`.",
            ),
            Self::UnknownPromise => row(
                "unknown_promise",
                StatusCode::NOT_FOUND,
                "No such promise",
                "The tree is there, but has made no promise of this name, or none that is durable yet. Those it has made are in \
                 `GET /v1/{context}/trees/{id}/promises`.",
            ),
            Self::MethodNotAllowed => row(
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "The path does not take this method",
                "The header `Allow` lists the methods that it takes.",
            ),
            Self::RequestTimeout => row(
                "request_timeout",
                StatusCode::REQUEST_TIMEOUT,
                "The body did not arrive in time",
                "A body has to be complete within 30 seconds. Nothing was started.",
            ),
            Self::IdConflict => row(
                "id_conflict",
                StatusCode::CONFLICT,
                "The id belongs to another start",
                "The same `Idempotency-Key` was used before with another function or another input; the member `tree` \
                 is the tree that has it. Nothing was started. Use another id for another piece of work.",
            ),
            Self::AmbiguousPromise => row(
                "ambiguous_promise",
                StatusCode::CONFLICT,
                "Several promises have the name",
                "Several nodes of the tree have made a promise of this name; the members `paths` and `promises` have the nodes \
                 and the ids. Nothing was settled. Ask for one by its id: `/v1/{context}/promises/{promise}`.",
            ),
            Self::PromiseSettled => row(
                "promise_settled",
                StatusCode::CONFLICT,
                "The promise was settled before",
                "An earlier settle brought another outcome, and that stands: the member `promise` has the outcome. What this \
                 request brought is not stored.",
            ),
            Self::PromiseClosed => row(
                "promise_closed",
                StatusCode::CONFLICT,
                "Nobody awaits the promise any longer",
                "The function that made the promise has ended, is cancelled, or went on without it. What this request brought \
                 is not stored.",
            ),
            Self::PayloadTooLarge => row(
                "payload_too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "The input, or the value, exceeds the context's limit of payload bytes (1 MiB unless set). Store large data \
                 elsewhere and send a reference to it.",
            ),
            Self::UnsupportedMediaType => row(
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body's content type is not JSON",
                "Send `Content-Type: application/json`.",
            ),
            Self::InvalidInput => row(
                "invalid_input",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The input is not what the function takes",
                "The body is JSON, but not an object of the function's parameters; the detail names the place and what \
                 was expected there. The function's schema is in `GET /v1/{context}/functions`.",
            ),
            Self::InvalidPromiseValue => row(
                "invalid_promise_value",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The value is not what the promise takes",
                "The body is JSON, but does not fit the promise's schema; the detail names the places, and the member `schema` \
                 has the schema. Nothing was settled.",
            ),
            Self::InvalidRequest => row(
                "invalid_request",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The body is not what this path takes",
                "The body is JSON, but a member is missing, unknown or out of its bounds; the detail names it. The schema is \
                 in `/openapi.json`.",
            ),
            Self::NotStartable => row(
                "not_startable",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The function is not started by requests",
                "A consumer is started by the event that it subscribes to. Publish that event, or start another \
                 function.",
            ),
            Self::Internal => row(
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong on this side",
                "The cause is in the log of the process. A start with an `Idempotency-Key` can be sent again safely.",
            ),
            Self::UnreadableTree => row(
                "unreadable_tree",
                StatusCode::INTERNAL_SERVER_ERROR,
                "A row of the tree cannot be read",
                "The store has a value that this build cannot read; the detail names its column. Only this tree is \
                 concerned: it is set aside when a worker claims it, and lists name it. Once the row is mended, \
                 or a build that can read the value runs, an operator resumes the tree.",
            ),
            Self::StoreUnavailable => row(
                "store_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The store cannot be reached",
                "The context's database does not answer now; trees wait, and go on when it answers. It is unknown \
                 whether a start was recorded: send it again with the same `Idempotency-Key`.",
            ),
            Self::Draining => row(
                "draining",
                StatusCode::SERVICE_UNAVAILABLE,
                "The process is about to end",
                "Nothing was started. Send the request again; another process, or the next one, takes it.",
            ),
            Self::WorkerStopped => row(
                "worker_stopped",
                StatusCode::SERVICE_UNAVAILABLE,
                "The worker has stopped",
                "Nothing was started. `detail` says why; the process joins its store again as a new worker, or ends. Send the \
                 request again.",
            ),
            Self::StartRefused => row(
                "start_refused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The store refuses the start",
                "The database refuses what the start would record, and would refuse it again; `detail` has its words.",
            ),
            Self::NotReady => row(
                "not_ready",
                StatusCode::SERVICE_UNAVAILABLE,
                "Not ready to serve",
                "The member `parts` lists each part of each context with its state.",
            ),
        }
    }
}

/// The reference of all codes in Markdown, one section per code.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for code in Code::ALL {
        let _ = write!(
            text,
            "### `{}`\n\n{} {}.\n\n{}\n\n",
            code.name(),
            code.status().as_u16(),
            code.title(),
            code.help()
        );
    }
    text
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Code,
    /// What happened this time, for people.
    detail: String,
    /// Whether the same request is worth sending again soon.
    retry_after: bool,
    /// Members of the body besides those that every problem has.
    members: Map<String, Value>,
}

/// The result of a handler.
pub(crate) type Answer<T> = Result<T, Problem>;

impl Problem {
    /// The content type of problems.
    pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: false, members: Map::new() }
    }

    /// Its code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// A further member of the body.
    pub(crate) fn with(mut self, member: &str, value: Value) -> Self {
        self.members.insert(member.to_owned(), value);
        self
    }

    /// Adds a header that asks the client to send the request again in a moment.
    pub(crate) fn worth_retrying(mut self) -> Self {
        self.retry_after = true;
        self
    }

    pub(crate) fn unknown_tree(context: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::UnknownTree, format!("context `{context}` has no tree `{id}`"))
    }

    /// What the framework answered without us: its status decides.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => Code::UnknownRoute,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Code::RequestTimeout,
            StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            status if status.is_client_error() => Code::MalformedRequest,
            _ => Code::Internal,
        };
        Self::new(code, code.title())
    }

    /// The response, with the path it was an answer to.
    pub(crate) fn respond(self, instance: Option<&str>) -> Response {
        let mut body = self.members.clone();
        body.insert("type".into(), json!(self.code.uri()));
        body.insert("title".into(), json!(self.code.title()));
        body.insert("status".into(), json!(self.code.status().as_u16()));
        body.insert("code".into(), json!(self.code.name()));
        body.insert("detail".into(), json!(self.detail));
        if let Some(instance) = instance {
            body.insert("instance".into(), json!(instance));
        }
        let mut response = (self.code.status(), Value::Object(body).to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, Self::CONTENT_TYPE);
        if self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl IntoResponse for Problem {
    /// The response without its instance. The problem is kept as an extension, so that the edge, which knows the path,
    /// can add it.
    fn into_response(self) -> Response {
        let mut response = self.clone().respond(None);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Connection | StoreErrorKind::Transient => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a request met a store that does not answer");
                Self::new(Code::StoreUnavailable, "the store does not answer; send the request again").worth_retrying()
            }
            StoreErrorKind::Fenced => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a request met a worker that was declared dead"
                );
                Self::new(Code::WorkerStopped, "this worker was declared dead; send the request again").worth_retrying()
            }
            StoreErrorKind::Unreadable => {
                tracing::error!(error = &error as &dyn std::error::Error, "a request met a row that cannot be read");
                Self::new(Code::UnreadableTree, error.to_string())
            }
            StoreErrorKind::Permanent | StoreErrorKind::Refused => {
                tracing::error!(error = &error as &dyn std::error::Error, "a request met an error of the store");
                Self::new(Code::Internal, "the store refused the request; its reason is in the log")
            }
        }
    }
}

impl Problem {
    /// Why a start was refused.
    pub(crate) fn of_start(context: &str, error: StartError) -> Self {
        let detail = error.to_string();
        match error {
            StartError::UnknownFunction { .. } => Self::new(Code::UnknownFunction, detail),
            StartError::NotStartable { .. } => Self::new(Code::NotStartable, detail),
            StartError::InvalidInput { .. } => Self::new(Code::InvalidInput, detail),
            StartError::InvalidId(_) => Self::new(Code::InvalidId, detail),
            StartError::InvalidDeadline { .. } => Self::new(Code::InvalidDeadline, detail),
            StartError::TooLarge { .. } => Self::new(Code::PayloadTooLarge, detail),
            StartError::Conflict { tree, .. } => Self::new(Code::IdConflict, detail)
                .with("tree", json!(tree))
                .with("url", json!(crate::model::state::tree_url(context, tree))),
            StartError::Draining => Self::new(Code::Draining, detail).worth_retrying(),
            StartError::Stopped(_) => Self::new(Code::WorkerStopped, detail).worth_retrying(),
            StartError::Refused { .. } => Self::new(Code::StartRefused, detail),
            StartError::Store(error) => error.into(),
        }
    }

    /// Why a tree could not be read.
    pub(crate) fn of_read(context: &str, tree: TreeId, error: ReadError) -> Self {
        match error {
            ReadError::Unknown(_) => Self::unknown_tree(context, tree),
            ReadError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_and_an_error_status() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), Some(code));
            assert!(code.status().is_client_error() || code.status().is_server_error());
            assert!(code.help().ends_with('.') && !code.title().ends_with('.'), "{}", code.name());
        }
    }

    #[test]
    fn what_the_framework_answers_without_us_has_a_code_too() {
        assert_eq!(Problem::of_status(StatusCode::NOT_FOUND).code, Code::UnknownRoute);
        assert_eq!(Problem::of_status(StatusCode::URI_TOO_LONG).code, Code::MalformedRequest);
        assert_eq!(Problem::of_status(StatusCode::BAD_GATEWAY).code, Code::Internal);
    }
}
