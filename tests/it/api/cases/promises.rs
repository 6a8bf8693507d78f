//! External promises over REST (P2, P3, P6).

use sapwood_tests::http::Reply;
use sapwood_tests::store::TestStore;
use sapwood_tests::wait::within;
use serde_json::{Value, json};

use super::{outcome, started};
use crate::api::client::Server;
use crate::api::context::HOUR;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn courier(name: &str) -> Value {
    json!({"courier": name, "load": 3})
}

async fn posts(server: &Server, path: &str, body: &Value) -> Reply {
    server.send("POST", path, JSON, body.to_string().as_bytes()).await
}

fn of_tree(tree: &str) -> String {
    format!("/v1/parcels/trees/{tree}/promises")
}

/// The promises of a tree, once it has so many.
async fn made(test: &TestStore, server: &Server, tree: &str, many: usize) -> Vec<Value> {
    let look = async || {
        let list = server.get(&of_tree(tree)).await.expect(200);
        let promises = list["promises"].as_array().expect("a list").clone();
        (promises.len() == many).then_some(promises)
    };
    within("promises", test.changes().seen(look)).await
}

/// A tree that waits for a courier, and the path of its promise.
async fn waiting(test: &TestStore, server: &Server) -> (String, String) {
    let tree = started(server, "hand_over", json!({})).await;
    let promises = made(test, server, &tree, 1).await;
    let id = promises[0]["id"].as_str().expect("an id");
    (tree, format!("/v1/parcels/promises/{id}"))
}

/// P2, G2: the id needs no escape; the tree says what it waits on, and goes on with the value.
pub(crate) async fn a_promise_is_resolved_by_its_id_and_its_tree_goes_on(test: &TestStore) {
    let server = Server::on(test).await;
    let (tree, promise) = waiting(test, &server).await;
    let id = format!("{tree}~.~hand.20over");
    assert_eq!(promise, format!("/v1/parcels/promises/{id}"));
    let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
    let waits = json!([{"kind": "promise", "position": 0, "name": "hand over", "id": id, "until": null}]);
    assert_eq!(shown["nodes"][0]["waits_on"], waits);
    let pending = server.get(&promise).await.expect(200);
    assert_eq!(shown["nodes"][0]["promises"], json!([pending]));
    assert_eq!((&pending["id"], &pending["tree"], &pending["path"]), (&json!(id), &json!(tree), &json!("/")));
    assert_eq!((&pending["name"], &pending["state"]), (&json!("hand over"), &json!("pending")));
    assert_eq!((&pending["deadline"], &pending["settled_at"]), (&json!(null), &json!(null)));
    assert_eq!(pending.get("value"), None);
    assert_eq!(pending["schema"]["required"], json!(["courier", "load"]));

    let reply = posts(&server, &format!("{promise}/resolve"), &courier("anna")).await.expect(200);
    assert_eq!(reply, json!({"id": id, "effect": "stored"}));
    let outcome = outcome(&server, &tree).await;
    assert_eq!((&outcome["state"], &outcome["value"]), (&json!("resolved"), &courier("anna")));
    let again = server.send("POST", &format!("{promise}/resolve"), JSON, b" {\"load\":3, \"courier\":\"anna\"} ").await;
    assert_eq!(again.expect(200)["effect"], "already", "white space and order do not matter");
    let settled = server.get(&promise).await.expect(200);
    assert_eq!((&settled["state"], &settled["value"]), (&json!("resolved"), &courier("anna")));
    assert!(settled["settled_at"].is_string() && settled.get("message").is_none());
    server.end().await;
}

/// P2: by its tree and its name.
pub(crate) async fn a_promise_is_rejected_by_its_name_with_a_message(test: &TestStore) {
    let server = Server::on(test).await;
    let (tree, _) = waiting(test, &server).await;
    let promise = format!("{}/hand%20over", of_tree(&tree));
    let message = json!({"message": "the courier is ill"});
    let reply = posts(&server, &format!("{promise}/reject"), &message).await.expect(200);
    assert_eq!(reply["effect"], "stored");
    let outcome = outcome(&server, &tree).await;
    assert_eq!((&outcome["state"], &outcome["error"]["kind"]), (&json!("rejected"), &json!("failed")));
    let text = outcome["error"]["message"].as_str().expect("words");
    assert!(text.contains("promise hand over") && text.contains("the courier is ill"), "{text}");
    assert_eq!(posts(&server, &format!("{promise}/reject"), &message).await.expect(200)["effect"], "already");
    let settled = server.get(&promise).await.expect(200);
    assert_eq!((&settled["state"], &settled["message"]), (&json!("rejected"), &json!("the courier is ill")));
    assert!(settled.get("value").is_none());
    server.end().await;
}

/// P3: by a code and the outcome itself, at any process.
pub(crate) async fn the_loser_is_told_the_outcome_that_stands(test: &TestStore) {
    let (server, other) = (Server::on(test).await, Server::on(test).await);
    let (tree, promise) = waiting(test, &server).await;
    let resolve = format!("{promise}/resolve");
    let (anna, berta) = (courier("anna"), courier("berta"));
    let (here, there) = tokio::join!(posts(&server, &resolve, &anna), posts(&other, &resolve, &berta));
    let (winner, loser) = if here.status == 200 { ("anna", there) } else { ("berta", here) };
    let problem = loser.problem(409, "promise_settled");
    assert_eq!((&problem["promise"]["state"], &problem["promise"]["value"]), (&json!("resolved"), &courier(winner)));
    assert!(problem["promise"]["settled_at"].is_string(), "{problem}");
    let rejects = posts(&other, &format!("{promise}/reject"), &json!({"message": "no"})).await;
    assert_eq!(rejects.problem(409, "promise_settled")["promise"]["value"], courier(winner));
    assert_eq!(outcome(&server, &tree).await["value"], courier(winner));
    other.end().await;
    server.end().await;
}

/// P6: any client may wait, at any process.
pub(crate) async fn who_waits_is_told_when_the_promise_settles(test: &TestStore) {
    let (server, other) = (Server::on(test).await, Server::on(test).await);
    let (_, promise) = waiting(test, &server).await;
    let at_once = server.get(&format!("{promise}?wait=1ms")).await.expect(200);
    assert_eq!(at_once["state"], "pending");
    let (wait, resolve) = (format!("{promise}?wait=30s"), format!("{promise}/resolve"));
    let anna = courier("anna");
    let waits = async { tokio::join!(server.get(&wait), other.get(&wait)) };
    let (waited, settled) = within("the outcome", async { tokio::join!(waits, posts(&other, &resolve, &anna)) }).await;
    settled.expect(200);
    for waited in [waited.0, waited.1] {
        assert_eq!(waited.expect(200)["value"], courier("anna"));
    }
    for wait in ["61s", "soon", "-1s"] {
        server.get(&format!("{promise}?wait={wait}")).await.problem(400, "invalid_query");
    }
    server.get(&format!("{promise}?until=1s")).await.problem(400, "invalid_query");
    other.end().await;
    server.end().await;
}

/// P2: what is wrong with it is told by a stable code, with the schema if it is the value.
pub(crate) async fn a_bad_settle_is_refused_and_settles_nothing(test: &TestStore) {
    let server = Server::on(test).await;
    let (tree, promise) = waiting(test, &server).await;
    let (resolve, reject) = (format!("{promise}/resolve"), format!("{promise}/reject"));
    for (value, place) in [
        (json!({"courier": "anna"}), "load"),
        (json!({"courier": "anna", "load": 256}), "/load"),
        (json!({"courier": 7, "load": 1}), "/courier"),
        (json!(null), "null"),
        (json!([]), "object"),
        (json!({"courier": "anna", "load": 1, "$serde_json::private::RawValue": "1"}), "a meaning of its own"),
    ] {
        let problem = posts(&server, &resolve, &value).await.problem(422, "invalid_promise_value");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(place)), "{problem}");
        assert_eq!(problem["schema"]["properties"]["load"]["maximum"], 255, "{problem}");
    }
    for body in [
        json!({}),
        json!({"message": ""}),
        json!({"message": "a\u{0}b"}),
        json!({"message": "m".repeat(2_001)}),
        json!({"message": 7}),
        json!({"message": "no", "by": "anna"}),
        json!("no"),
    ] {
        posts(&server, &reject, &body).await.problem(422, "invalid_request");
    }
    for path in [&resolve, &reject] {
        server.send("POST", path, JSON, b"{").await.problem(400, "malformed_json");
        server.send("POST", path, JSON, b"").await.problem(400, "malformed_json");
        server.send("POST", path, &[], b"{}").await.problem(415, "unsupported_media_type");
        server.send("GET", path, &[], b"").await.problem(405, "method_not_allowed");
    }
    let large = json!({"courier": "a".repeat(1024 * 1024), "load": 1});
    posts(&server, &resolve, &large).await.problem(413, "payload_too_large");
    let unknown = "01980000-0000-7000-8000-000000000001";
    let none = |id: String| format!("/v1/parcels/promises/{id}");
    for id in ["42".to_owned(), tree.clone(), format!("{tree}~~x"), format!("{tree}~.~a%20b"), format!("{tree}~.~.6")] {
        server.get(&none(id)).await.problem(400, "invalid_id");
    }
    server.get(&none(format!("{unknown}~.~x"))).await.problem(404, "unknown_tree");
    server.get(&none(format!("{tree}~.~x"))).await.problem(404, "unknown_promise");
    server.get(&none(format!("{tree}~.7~hand.20over"))).await.problem(404, "unknown_promise");
    server.get(&none(format!("{tree}~.~a.00"))).await.problem(404, "unknown_promise");
    server.get(&format!("{}/a%00b", of_tree(&tree))).await.problem(404, "unknown_promise");
    server.get(&of_tree(unknown)).await.problem(404, "unknown_tree");
    server.get(&of_tree("42")).await.problem(400, "invalid_id");
    posts(&server, &format!("{}/other/resolve", of_tree(&tree)), &json!(1)).await.problem(404, "unknown_promise");
    posts(&server, &format!("{}/x/reject", of_tree(unknown)), &json!({"message": "no"}))
        .await
        .problem(404, "unknown_tree");
    server.get("/v1/parcel/promises/x").await.problem(404, "unknown_context");
    assert_eq!(server.get(&promise).await.expect(200)["state"], "pending");
    server.end().await;
}

/// P3: by its name nobody could say which; the answer has their ids.
pub(crate) async fn a_name_of_two_promises_is_ambiguous(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "hand_over_two", json!({})).await;
    let promises = made(test, &server, &tree, 2).await;
    let named = format!("{}/hand%20over", of_tree(&tree));
    for reply in [server.get(&named).await, posts(&server, &format!("{named}/resolve"), &courier("anna")).await] {
        let problem = reply.problem(409, "ambiguous_promise");
        assert_eq!(problem["paths"], json!(["/0", "/1"]));
        assert_eq!(problem["promises"], json!([promises[0]["id"], promises[1]["id"]]));
    }
    for promise in promises {
        let id = promise["id"].as_str().expect("an id");
        let resolve = format!("/v1/parcels/promises/{id}/resolve");
        posts(&server, &resolve, &courier("anna")).await.expect(200);
    }
    assert_eq!(outcome(&server, &tree).await["state"], "resolved");
    server.end().await;
}

/// P2, K3: its function was cancelled, and so was the promise.
pub(crate) async fn a_promise_that_nobody_awaits_is_closed(test: &TestStore) {
    let server = Server::on(test).await;
    let (tree, promise) = waiting(test, &server).await;
    let cancel = format!("/v1/parcels/trees/{tree}/cancel");
    posts(&server, &cancel, &json!({"actor": "anna", "reason": "the customer left"})).await.expect(200);
    outcome(&server, &tree).await;
    posts(&server, &format!("{promise}/resolve"), &courier("anna")).await.problem(409, "promise_closed");
    posts(&server, &format!("{promise}/reject"), &json!({"message": "no"})).await.problem(409, "promise_closed");
    let shown = server.get(&format!("{promise}?wait=30s")).await.expect(200);
    assert_eq!((&shown["state"], &shown["settled_at"]), (&json!("cancelled"), &json!(null)));
    server.end().await;
}

/// P4, D3: for who looks, for who settles, and for its function.
pub(crate) async fn a_promise_past_its_deadline_is_timed_out(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "hand_over_soon", json!({})).await;
    let pending = made(test, &server, &tree, 1).await.remove(0);
    assert!(pending["deadline"].is_string(), "{pending}");
    let shown = server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200);
    assert_eq!(shown["nodes"][0]["waits_on"][0]["until"], pending["deadline"]);
    test.advance(HOUR).await;

    let promise = format!("/v1/parcels/promises/{}", pending["id"].as_str().expect("an id"));
    let settled = server.get(&promise).await.expect(200);
    assert_eq!((&settled["state"], settled.get("value"), settled.get("message")), (&json!("timed_out"), None, None));
    assert!(settled["settled_at"].is_string());
    let problem = posts(&server, &format!("{promise}/resolve"), &courier("anna")).await.expect(409);
    assert_eq!((&problem["code"], &problem["promise"]), (&json!("promise_settled"), &settled));
    let outcome = outcome(&server, &tree).await;
    let text = outcome["error"]["message"].as_str().expect("words");
    assert!(text.contains("promise hand over at / timed out"), "{text}");
    server.end().await;
}
