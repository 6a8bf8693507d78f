//! Governing trees over REST (K3, K6, K7, R9, F8, K2).

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
    let accepted = json!({
        "tree": tree, "path": "/", "verb": "cancel", "effect": "accepted", "why": null, "detail": null, "state": null
    });
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
    assert_eq!(again["detail"], "it is cancelled: an outcome never changes, and nothing of it is left to do");
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

/// Waits until the tree is as `is_so` says, and gives it.
async fn shows(test: &TestStore, server: &Server, tree: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let look = async || {
        let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
        is_so(&shown).then_some(shown)
    };
    within("a tree as expected", test.changes().seen(look)).await
}

/// F8, G6: the reason is shown with its code, the tree is found by its state, and the request is kept.
pub(crate) async fn what_is_exhausted_says_so_and_is_retried(test: &TestStore) {
    let server = Server::on(test).await;
    let functions = server.get("/v1/parcels/functions").await.expect(200);
    let of =
        |name: &str| functions["functions"].as_array().expect("a list").iter().find(|it| it["name"] == name).cloned();
    let policies = ["label", "weigh"].map(|name| of(name).expect("there")["on_exhausted"].clone());
    assert_eq!(policies, ["pause", "reject"]);
    let tree = started(&server, "label", json!({"parcel": "p-1"})).await;
    let shown = shows(test, &server, &tree, |shown| shown["state"] == "parked").await;
    let waits_on = &shown["nodes"][0]["waits_on"][0];
    assert_eq!((&waits_on["kind"], &waits_on["reason"]["code"]), (&json!("operator"), &json!("exhausted")));
    assert_eq!(waits_on["reason"]["message"], "the scale is busy");
    assert_eq!((&waits_on["reason"]["attempts"], &waits_on["reason"]["forgotten"]), (&json!(1), &json!([0])));
    let listed = server.get("/v1/parcels/trees?state=parked").await.expect(200);
    assert_eq!(super::ids(&listed), std::slice::from_ref(&tree));

    server.app.probe.turn_on("printer");
    let reply = asks(&server, &tree, "retry", anna()).await.expect(200);
    let accepted = json!({
        "tree": tree, "path": "/", "verb": "retry", "effect": "accepted", "why": null, "detail": null, "state": null
    });
    assert_eq!(reply, accepted);
    let outcome = outcome(&server, &tree).await;
    assert_eq!((&outcome["value"], &outcome["attempts"]), (&json!("p-1"), &json!(2)));
    let shown = server.get(&format!("/v1/parcels/trees/{tree}?timeline=true")).await.expect(200);
    let request = &shown["requests"][0];
    assert_eq!((&request["verb"], &request["actor"]), (&json!("retry"), &json!("anna")));
    let retried = shown["nodes"][0]["timeline"].as_array().expect("a list").iter().find(|it| it["kind"] == "retried");
    assert_eq!(retried.expect("it is recorded")["payload"]["afresh"], true);
    server.end().await;
}

/// R9: what is resumed is as it was: with the attempt that it had.
pub(crate) async fn what_is_parked_is_resumed(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "label", json!({"parcel": "p-2"})).await;
    shows(test, &server, &tree, |shown| shown["state"] == "parked").await;
    let reply = asks(&server, &tree, "resume", anna()).await.expect(200);
    assert_eq!((&reply["effect"], &reply["verb"]), (&json!("accepted"), &json!("resume")));
    // Its attempts are over still.
    let parked_again =
        |shown: &Value| shown["state"] == "parked" && shown["nodes"][0]["waits_on"][0]["kind"] == "operator";
    let shown =
        shows(test, &server, &tree, |shown| shown["requests"][0]["verb"] == "resume" && parked_again(shown)).await;
    assert_eq!(shown["nodes"][0]["attempt"], 1);
    server.end().await;
}

/// K2, P2: by the path of the undo; the outcome stays as it is.
pub(crate) async fn a_compensation_that_failed_is_retried_after_the_outcome(test: &TestStore) {
    let server = Server::on(test).await;
    server.app.probe.turn_on("printer");
    let tree = started(&server, "mislabel", json!({"parcel": "p-3"})).await;
    let before = outcome(&server, &tree).await;
    assert_eq!((&before["state"], &before["closing"]), (&json!("rejected"), &json!("compensation_failed")));
    server.app.probe.turn_on("solvent");
    let mut body = anna();
    body["path"] = json!("/~0");
    let reply = asks(&server, &tree, "retry", body).await.expect(200);
    assert_eq!((&reply["effect"], &reply["path"]), (&json!("accepted"), &json!("/~0")));
    let shown = shows(test, &server, &tree, |shown| shown["closing"] == "compensated").await;
    let nodes: Vec<_> = shown["nodes"].as_array().expect("nodes").iter().map(|node| node["path"].clone()).collect();
    assert_eq!(nodes, ["/", "/0", "/~0", "/~0.2"]);
    let undo = &shown["nodes"][3];
    assert_eq!((&undo["state"], &undo["undoes"]), (&json!("resolved"), &json!(0)));
    let mut after = outcome(&server, &tree).await;
    after["closing"] = before["closing"].clone();
    assert_eq!(after, before);
    server.end().await;
}

/// K6, P2: an unknown tree, an unknown node, and what goes on by itself or has its outcome.
pub(crate) async fn a_request_to_go_on_that_changes_nothing_says_why(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "store", json!({"hours": 1})).await;
    has_node(test, &server, &tree, "/0").await;
    let weighed = started(&server, "weigh", json!({"parcel": "lost"})).await;
    outcome(&server, &weighed).await;
    let unknown = "01980000-0000-7000-8000-000000000001";
    for verb in ["resume", "retry"] {
        let none = |reply: &Value| (reply["effect"].clone(), reply["why"].clone(), reply["state"].clone());
        let reply = asks(&server, &tree, verb, anna()).await.expect(200);
        assert_eq!(none(&reply), (json!("none"), json!("not_parked"), json!(null)), "{verb}");
        assert!(
            reply["detail"].as_str().is_some_and(|detail| detail.starts_with("nothing of it is parked")),
            "{reply}"
        );
        let reply = asks(&server, &weighed, verb, anna()).await.expect(200);
        assert_eq!(none(&reply), (json!("none"), json!("settled"), json!("rejected")), "{verb}");
        asks(&server, unknown, verb, anna()).await.problem(404, "unknown_tree");
        asks(&server, "42", verb, anna()).await.problem(400, "invalid_id");
        for (path, status, code) in [
            ("/7", 404, "unknown_node"),
            ("/~7.2", 404, "unknown_node"),
            ("/~7.1", 422, "invalid_request"),
            ("/0/", 422, "invalid_request"),
        ] {
            let mut body = anna();
            body["path"] = json!(path);
            asks(&server, &tree, verb, body).await.problem(status, code);
        }
        asks(&server, &tree, verb, json!({"actor": "anna"})).await.problem(422, "invalid_request");
        asks(&server, &tree, verb, json!({"actor": " ", "reason": "why"})).await.problem(422, "invalid_request");
        server
            .send("GET", &format!("/v1/parcels/trees/{tree}/{verb}"), &[], b"")
            .await
            .problem(405, "method_not_allowed");
    }
    let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
    assert_eq!(shown["requests"], json!([]));
    server.end().await;
}
