//! Governing trees over REST (K3, K6, K7).

use sapwood_tests::http::Reply;
use sapwood_tests::store::TestStore;
use sapwood_tests::wait::within;
use serde_json::{Value, json};

use super::{outcome, started};
use crate::api::client::Server;

async fn asks(server: &Server, tree: &str, verb: &str, body: Value) -> Reply {
    let path = format!("/v1/parcels/trees/{tree}/{verb}");
    server.send("POST", &path, &[("content-type", "application/json")], body.to_string().as_bytes()).await
}

fn anna() -> Value {
    json!({"actor": "anna", "reason": "the customer left"})
}

/// Waits until the tree has a node at this path.
async fn has_node(test: &TestStore, server: &Server, tree: &str, path: &str) {
    let look = async || {
        let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
        shown["nodes"].as_array().expect("nodes").iter().any(|node| node["path"] == path).then_some(())
    };
    within(&format!("a node {path}"), test.changes().seen(look)).await;
}

/// K3, K6: the answer says what the request did, the outcome and the tree say who made it, and asking again is safe.
pub(crate) async fn a_tree_is_cancelled_and_says_by_whom(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "store", json!({"hours": 1})).await;
    let reply = asks(&server, &tree, "cancel", anna()).await.expect(200);
    let accepted =
        json!({"tree": tree, "path": "/", "verb": "cancel", "effect": "accepted", "why": null, "state": null});
    assert_eq!(reply, accepted);
    let outcome = outcome(&server, &tree).await;
    assert_eq!((&outcome["state"], &outcome["error"]["kind"]), (&json!("cancelled"), &json!("cancelled")));
    assert_eq!(outcome["error"]["message"], "cancelled: by anna: the customer left");
    let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
    assert_eq!(shown["requests"][0]["actor"], "anna");
    assert!(shown["requests"][0]["requested_at"].is_string());
    let again = asks(&server, &tree, "cancel", anna()).await.expect(200);
    assert_eq!(
        (&again["effect"], &again["why"], &again["state"]),
        (&json!("none"), &json!("settled"), &json!("cancelled"))
    );
    server.end().await;
}

/// K3, K8: a part of the tree, by the path of its topmost invocation.
pub(crate) async fn a_part_of_a_tree_is_cancelled(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "store", json!({"hours": 1})).await;
    has_node(test, &server, &tree, "/0").await;
    let body = json!({"actor": "anna", "reason": "the shelf is full", "path": "/0"});
    let reply = asks(&server, &tree, "cancel", body).await.expect(200);
    assert_eq!((&reply["effect"], &reply["path"]), (&json!("accepted"), &json!("/0")));
    let outcome = outcome(&server, &tree).await;
    assert_eq!(outcome["state"], "rejected", "its caller got the error, and passed it on");
    let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
    assert_eq!(shown["nodes"][1]["state"], "cancelled");
    server.end().await;
}

/// K7: and is told apart from a cancelled one.
pub(crate) async fn a_tree_that_hangs_is_killed(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "scan", json!({})).await;
    let runs = async || {
        let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
        (shown["nodes"][0]["waits_on"][0]["kind"] == "running").then_some(())
    };
    within("a step in flight", test.changes().seen(runs)).await;
    let reply = asks(&server, &tree, "kill", anna()).await.expect(200);
    assert_eq!((&reply["effect"], &reply["verb"]), (&json!("accepted"), &json!("kill")));
    let outcome = outcome(&server, &tree).await;
    assert_eq!((&outcome["state"], &outcome["error"]["kind"]), (&json!("cancelled"), &json!("killed")));
    server.end().await;
}

/// K6: what is wrong with a request is told by a stable code, and nothing is recorded.
pub(crate) async fn a_bad_request_for_a_tree_is_refused(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "store", json!({"hours": 1})).await;
    let unknown = "01980000-0000-7000-8000-000000000001";
    asks(&server, unknown, "cancel", anna()).await.problem(404, "unknown_tree");
    asks(&server, "42", "cancel", anna()).await.problem(400, "invalid_id");
    let with = |member: &str, value: Value| {
        let mut body = anna();
        body[member] = value;
        body
    };
    asks(&server, &tree, "cancel", with("path", json!("/7"))).await.problem(404, "unknown_node");
    for path in ["", "7", "/+1", "/01", "/x", "//", "/4294967296"] {
        asks(&server, &tree, "cancel", with("path", json!(path))).await.problem(422, "invalid_request");
    }
    let deep = "/0".repeat(256);
    asks(&server, &tree, "cancel", with("path", json!(deep))).await.problem(422, "invalid_request");
    for (member, value) in [
        ("actor", json!("")),
        ("actor", json!(7)),
        ("actor", json!("a".repeat(201))),
        ("actor", json!("an\u{0}na")),
        ("reason", json!(" ")),
        ("reason", json!("r".repeat(2_001))),
        ("force", json!(true)),
    ] {
        asks(&server, &tree, "kill", with(member, value)).await.problem(422, "invalid_request");
    }
    for body in [json!({"actor": "anna"}), json!({"reason": "why"}), json!([]), json!(null)] {
        asks(&server, &tree, "cancel", body).await.problem(422, "invalid_request");
    }
    let path = format!("/v1/parcels/trees/{tree}/cancel");
    server.send("POST", &path, &[], b"{}").await.problem(415, "unsupported_media_type");
    server.send("GET", &path, &[], b"").await.problem(405, "method_not_allowed");
    let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
    assert_eq!(shown["requests"], json!([]));
    server.end().await;
}
