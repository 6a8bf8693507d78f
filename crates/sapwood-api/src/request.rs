//! What is taken from a request: names, ids, bodies, waits; each with its bounds.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use sapwood_core::id::CallerIdError;
use sapwood_core::{CallerId, Deadline, PromiseId, TreeId};
use sapwood_engine::Engine;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::context::{ContextApi, Contexts};
use crate::nearest::did_you_mean;
use crate::problem::{Answer, Code, Problem};

/// The longest that a request waits for an outcome; most proxies close a connection that is idle for longer.
pub(crate) const WAIT_MOST: Duration = Duration::from_secs(60);
/// A body has to arrive in this time, because slow senders could otherwise hold connections for ever.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// A store that takes longer counts as unreachable. It is less than the minute after which proxies end a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How often a waiting request checks whether its process drains. It can be often, because the flag is in memory.
const DRAIN_SEEN_WITHIN: Duration = Duration::from_millis(200);
/// The header with the caller's id.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The context that the path names.
pub(crate) struct Within(pub(crate) ContextApi);

impl FromRequestParts<Contexts> for Within {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, contexts: &Contexts) -> Answer<Self> {
        let name = path_param(parts, "context").await?;
        contexts.find(&name).cloned().map(Self).ok_or_else(|| {
            let near = did_you_mean(&name, contexts.names());
            Problem::new(Code::UnknownContext, format!("this process does not serve context `{name}`{near}"))
        })
    }
}

/// The name at the end of the path.
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        path_param(parts, "name").await.map(Self)
    }
}

/// The id of a tree in the path.
pub(crate) struct TreeParam(pub(crate) TreeId);

impl<S: Send + Sync> FromRequestParts<S> for TreeParam {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        let text = path_param(parts, "id").await?;
        text.parse().map(Self).map_err(|_| {
            Problem::new(
                Code::InvalidId,
                format!("`{text}` is not the id of a tree, which is a UUID; by your own id: trees?id=…"),
            )
        })
    }
}

/// The id of a promise in the path.
pub(crate) struct PromiseParam(pub(crate) PromiseId);

impl<S: Send + Sync> FromRequestParts<S> for PromiseParam {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        let text = path_param(parts, "promise").await?;
        text.parse().map(Self).map_err(|error| Problem::new(Code::InvalidId, format!("`{text}` is {error}")))
    }
}

/// The parameters of the query; unknown ones are refused by `Q` (`deny_unknown_fields`).
pub(crate) struct Params<Q>(pub(crate) Q);

impl<Q: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<Q> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::new(Code::InvalidQuery, text)
        })
    }
}

async fn path_param(parts: &mut Parts, name: &str) -> Answer<String> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|rejection| Problem::new(Code::MalformedRequest, rejection.body_text()))?;
    let value = params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    value.ok_or_else(|| Problem::new(Code::Internal, "the route has no such parameter"))
}

/// The caller's id, if the request has one.
pub(crate) fn caller_id(headers: &HeaderMap) -> Answer<Option<CallerId>> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::new(Code::InvalidId, "`Idempotency-Key` is sent more than once"));
    }
    id(&String::from_utf8_lossy(value.as_bytes())).map(Some)
}

/// A caller's id, as a client wrote it.
pub(crate) fn id(text: &str) -> Answer<CallerId> {
    text.parse().map_err(|error: CallerIdError| Problem::new(Code::InvalidId, error.to_string()))
}

/// How long to wait: `30s`, `500ms`, `1m`; zero if the request does not say.
pub(crate) fn wait(text: Option<&str>) -> Answer<Duration> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    let wrong = |why: &str| Problem::new(Code::InvalidQuery, format!("wait: `{text}` {why}"));
    let wait: SignedDuration = text.parse().map_err(|_| wrong("is not a duration; write it as 30s, 500ms or 1m"))?;
    let wait = Duration::try_from(wait).map_err(|_| wrong("is negative"))?;
    if wait > WAIT_MOST {
        return Err(wrong("is longer than 60s, the maximum; ask again after that"));
    }
    Ok(wait)
}

/// A deadline: a length of time, or a time.
pub(crate) fn deadline(text: Option<&str>) -> Answer<Option<Deadline>> {
    let Some(text) = text else { return Ok(None) };
    let wrong = |why: &str| Problem::new(Code::InvalidQuery, format!("deadline: `{text}` {why}"));
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Some(Deadline::At(time)));
    }
    // A day has 24 hours here, whatever the calendar of some place says.
    let span: Span =
        text.parse().map_err(|_| wrong("is no time and no length; write 2026-12-24T18:00:00Z, 7d or 90s"))?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let length = length.map_err(|_| wrong("has months or years, whose lengths differ; write it in days"))?;
    Duration::try_from(length).map(|length| Some(Deadline::After(length))).map_err(|_| wrong("is negative"))
}

/// The result of `work` on the store, or a problem if the store takes too long.
///
/// The engine waits for an unreachable store as long as necessary; a client gets an error instead.
pub(crate) async fn answered<T>(work: impl Future<Output = T>) -> Answer<T> {
    answered_within(ANSWER_WITHIN, work).await
}

/// As [`answered`], for work that may wait so long besides.
pub(crate) async fn answered_after<T>(wait: Duration, work: impl Future<Output = T>) -> Answer<T> {
    answered_within(wait + ANSWER_WITHIN, work).await
}

/// Waits until the process is about to end.
pub(crate) async fn draining(engine: &Engine) {
    while !engine.health().is_draining {
        tokio::time::sleep(DRAIN_SEEN_WITHIN).await;
    }
}

async fn answered_within<T>(within: Duration, work: impl Future<Output = T>) -> Answer<T> {
    tokio::time::timeout(within, work).await.map_err(|_| {
        let detail = format!("the store has not answered for {} s; see /health/ready", within.as_secs());
        Problem::new(Code::StoreUnavailable, detail).worth_retrying()
    })
}

/// A JSON body of at most `most` bytes.
pub(crate) async fn json_body(headers: &HeaderMap, body: Body, most: usize) -> Answer<Bytes> {
    json_body_within(BODY_WITHIN, headers, body, most).await
}

/// A JSON object as the body, with the members of `T`.
pub(crate) async fn object<T: DeserializeOwned>(headers: &HeaderMap, body: Body, most: usize) -> Answer<T> {
    let bytes = json_body(headers, body, most).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::new(Code::InvalidRequest, error.to_string()))
}

async fn json_body_within(within: Duration, headers: &HeaderMap, body: Body, most: usize) -> Answer<Bytes> {
    require_json(headers)?;
    let bytes = tokio::time::timeout(within, read(headers, body, most)).await.map_err(|_| {
        Problem::new(Code::RequestTimeout, format!("the body was not complete after {} s", within.as_secs()))
    })??;
    if bytes.is_empty() {
        return Err(Problem::new(
            Code::MalformedJson,
            "the body is empty; send JSON, such as an object of the parameters, at least {}",
        ));
    }
    // Only the syntax is checked here, at any depth. The function's type reads the text, with numbers as written.
    serde_json::from_slice::<&RawValue>(&bytes)
        .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    Ok(bytes)
}

/// Refuses any content type but JSON, and a missing one. A browser sends other types to foreign origins without asking,
/// so a web page could start functions on its reader's machine.
fn require_json(headers: &HeaderMap) -> Answer<()> {
    let value = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let kind = value.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
        return Ok(());
    }
    let found = if kind.is_empty() { "it is missing".to_owned() } else { format!("this one is `{kind}`") };
    Err(Problem::new(Code::UnsupportedMediaType, format!("the content type has to be application/json; {found}")))
}

async fn read(headers: &HeaderMap, body: Body, most: usize) -> Answer<Bytes> {
    let too_large = || {
        Problem::new(
            Code::PayloadTooLarge,
            format!("the body is larger than {most} bytes, the maximum of this context"),
        )
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| Problem::new(Code::MalformedRequest, format!("the body ended early: {error}")))?;
        if bytes.len() + chunk.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_length_of_time_up_to_a_minute() {
        let millis = |text| wait(Some(text)).ok().map(|wait| wait.as_millis());
        assert_eq!(wait(None).ok(), Some(Duration::ZERO));
        assert_eq!(millis("30s"), Some(30_000));
        assert_eq!(millis("500ms"), Some(500));
        assert_eq!(millis("1m"), Some(60_000));
        assert_eq!(millis("0s"), Some(0));
        for bad in ["", "30", "61s", "-1s", "soon", "1 year", "99999999999999999h"] {
            assert_eq!(millis(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_visible_and_bounded() {
        assert!(id("order-42").is_ok());
        assert!(id(&"x".repeat(200)).is_ok());
        for bad in ["", "order 42", "tab\t", "é", &"x".repeat(201)] {
            assert!(id(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_given_up() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        let endless = Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>());
        let problem = json_body_within(Duration::ZERO, &headers, endless, 100).await.expect_err("no body");
        assert_eq!(problem.code(), Code::RequestTimeout);
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_told_to_the_client() {
        let problem = answered_within(Duration::ZERO, std::future::pending::<()>()).await.expect_err("no answer");
        assert_eq!(problem.code(), Code::StoreUnavailable);
    }

    #[tokio::test]
    async fn a_body_is_bounded_whether_it_announces_its_length_or_not() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json; charset=utf-8"));
        let body = || Body::from(" ".repeat(98) + "{}");
        assert!(json_body(&headers, body(), 100).await.is_ok());
        let problem = json_body(&headers, body(), 99).await.expect_err("too large");
        assert_eq!(problem.code(), Code::PayloadTooLarge);
        headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("100"));
        let unread = Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>());
        let problem = json_body(&headers, unread, 99).await.expect_err("too large");
        assert_eq!(problem.code(), Code::PayloadTooLarge, "before a byte of it is read");
    }
}
