//! Functions, health, documents, and what the framework answers by itself.

use sapwood_api::problem::Code;
use sapwood_api::{HealthPart, HealthState};
use sapwood_tests::store::TestStore;
use serde_json::{Value, json};

use super::{parcel, started};
use crate::api::client::Server;

pub(crate) async fn functions_are_listed_with_their_schemas(test: &TestStore) {
    let server = Server::on(test).await;
    let list = server.get("/v1/parcels/functions").await.expect(200);
    let functions = list["functions"].as_array().expect("functions");
    let names: Vec<_> = functions.iter().map(|function| function["name"].as_str().expect("a name")).collect();
    let expected = [
        "archive",
        "hand_over",
        "hand_over_soon",
        "hand_over_two",
        "keep",
        "label",
        "mislabel",
        "retry",
        "scan",
        "send",
        "store",
        "unlabel",
        "weigh",
    ];
    assert_eq!(names, expected);

    let send = &functions[names.iter().position(|name| *name == "send").expect("it is listed")];
    assert_eq!(
        (&send["version"], &send["startable"], &send["trigger"]),
        (&json!(1), &json!(true), &json!({"kind": "call"}))
    );
    assert_eq!(send["url"], "/v1/parcels/functions/send");
    assert_eq!(send["description"], "Sends a parcel.\n\nIt is weighed before.");
    assert_eq!(send["retry"], json!({"attempts": 3, "backoff_first_ms": 100, "backoff_most_ms": 60_000}));
    assert_eq!(send["on_exhausted"], "reject");
    assert_eq!((&send["input"]["type"], &send["input"]["required"]), (&json!("object"), &json!(["parcel"])));
    assert!(send["output"]["properties"]["grams"].is_object(), "{send}");
    assert!(send["error"]["oneOf"].is_array(), "{send}");

    let archive = &functions[0];
    assert_eq!(archive["startable"], false);
    assert!(archive.get("url").is_none());
    let trigger = json!({
        "kind": "event", "group": "archive", "source_context": "parcels", "topic": "parcels.events",
        "type": "parcels.parcel-sent.v1", "source": "/sapwood/parcels",
    });
    assert_eq!(archive["trigger"], trigger);
    server.end().await;
}

pub(crate) async fn what_the_framework_refuses_is_a_problem_too(test: &TestStore) {
    let server = Server::on(test).await;
    let path = "/v1/parcels/functions/send";
    let json = ("content-type", "application/json");

    for unknown in ["/nope", "/v1", "/v1/parcels", "/v1/parcels/functions/send/", "/docs/nope.js"] {
        server.get(unknown).await.problem(404, "unknown_route");
    }
    let reply = server.send("DELETE", path, &[], b"").await;
    reply.problem(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "POST");

    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp"]
    {
        let reply = server.send("POST", path, &[("content-type", content_type)], b"{}").await;
        reply.problem(415, "unsupported_media_type");
    }
    server.send("POST", path, &[], b"{}").await.problem(415, "unsupported_media_type");
    server
        .send("POST", path, &[("content-type", "Application/JSON; charset=UTF-8")], b"{")
        .await
        .problem(400, "malformed_json");

    let large = parcel(&"x".repeat(server.engine.limits().payload_bytes));
    server.start("send", None, large.clone()).await.problem(413, "payload_too_large");
    let body = large.to_string();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: test\r\n{}: {}\r\ntransfer-encoding: chunked\r\n\r\n", json.0, json.1);
    let chunked = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    server.send_raw(chunked.as_bytes()).await.problem(413, "payload_too_large");

    server.get("/v1/%ff/trees").await.problem(400, "malformed_request");
    let problem = server.get("/nope?secret=1").await.problem(404, "unknown_route");
    assert_eq!(problem["instance"], "/nope", "without the query");
    server.end().await;
}

pub(crate) async fn a_drained_process_is_not_ready_and_starts_nothing(test: &TestStore) {
    let server = Server::on(test).await;
    assert_eq!(server.get("/health/live").await.expect(200), json!({"status": "live"}));
    let ready = server.get("/health/ready").await.expect(200);
    assert_eq!(ready["status"], "ready");
    let names: Vec<_> = ready["parts"].as_array().expect("parts").iter().map(|part| part["part"].clone()).collect();
    assert_eq!(names, ["store", "lease", "work", "trees"]);

    server.engine.drain().await.expect("drains");
    let problem = server.get("/health/ready").await.problem(503, "not_ready");
    assert!(problem["parts"].as_array().expect("parts").iter().any(|part| part["state"] == "down"), "{problem}");
    assert_eq!(server.get("/health/live").await.expect(200), json!({"status": "live"}));
    let reply = server.start("send", Some("one"), parcel("book")).await;
    reply.problem(503, "draining");
    assert_eq!(reply.header("retry-after"), "1");
}

pub(crate) async fn a_store_that_is_gone_is_told_so(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "weigh", json!({"parcel": "book"})).await;
    server.engine.kill();
    server.engine.store().close().await;
    for path in [
        "/v1/parcels/trees".to_owned(),
        format!("/v1/parcels/trees/{tree}"),
        format!("/v1/parcels/trees/{tree}/result"),
    ] {
        let reply = server.get(&path).await;
        let problem = reply.problem(503, "store_unavailable");
        assert_eq!(reply.header("retry-after"), "1");
        assert!(!problem.to_string().contains("sqlx"), "no causes: {problem}");
    }
}

pub(crate) async fn a_degraded_part_is_told_and_does_not_count(test: &TestStore) {
    let relay = |state| HealthPart { name: "relay".to_owned(), state, detail: Some("the broker is away".to_owned()) };
    let degraded = Server::with_health(test, move || vec![relay(HealthState::Degraded)]).await;
    let ready = degraded.get("/health/ready").await.expect(200);
    let part = json!({"context": "parcels", "part": "relay", "state": "degraded", "detail": "the broker is away"});
    assert_eq!(ready["parts"][4], part);
    degraded.end().await;

    let down = Server::with_health(test, move || vec![relay(HealthState::Down)]).await;
    down.get("/health/ready").await.problem(503, "not_ready");
    down.end().await;
}

pub(crate) async fn a_panic_is_a_problem_without_details(test: &TestStore) {
    let server = Server::with_health(test, || panic!("a secret of the house")).await;
    let problem = server.get("/health/ready").await.problem(500, "internal");
    assert!(!problem.to_string().contains("secret"), "{problem}");
    assert_eq!(server.get("/health/live").await.status, 200, "others are served");
    server.end().await;
}

pub(crate) async fn the_document_and_its_browser_need_no_network(test: &TestStore) {
    let server = Server::on(test).await;
    let reply = server.get("/openapi.json").await;
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.body, sapwood_api::openapi(&[("parcels", server.engine.registry())]));

    assert_eq!(server.get("/docs").await.header("location"), "/docs/");
    assert_eq!(server.get("/").await.header("location"), "/docs/");
    let page = server.get("/docs/").await;
    assert_eq!(page.status, 200);
    for part in page.body.split('"').filter(|part| part.ends_with(".js") || part.ends_with(".css")) {
        let part = part.trim_start_matches("./");
        let asset = server.get(&format!("/docs/{part}")).await;
        assert_eq!(asset.status, 200, "{part}");
    }
    assert!(!page.body.contains("//cdn") && !page.body.contains("https:"), "{}", page.body);
    let settings = server.get("/docs/swagger-initializer.js").await.body;
    assert!(settings.contains("\"/openapi.json\"") && settings.contains(r#""validatorUrl": "none""#), "{settings}");
    server.end().await;
}

pub(crate) async fn the_type_of_every_problem_leads_to_its_description(test: &TestStore) {
    let server = Server::on(test).await;
    for code in Code::ALL {
        let reply = server.get(&code.uri()).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "text/markdown; charset=utf-8"));
        assert!(reply.body.contains(code.help()) && reply.body.contains(code.title()), "{}", reply.body);
    }
    let problem: Value = server.get("/problems/id_conflicts").await.problem(404, "unknown_route");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`id_conflict`")), "{problem}");
    server.end().await;
}
