//! The first command of the README, and what it prints.

use sapwood_tests::process::{Ended, Process, Program};
use sapwood_tests::sqlite::TestFile;

use super::rest::Client;
use super::{TOTALS, few_orders, orders, totals};

/// P5: a second run on the same data finds every order and starts none again.
#[test]
fn two_runs_on_the_same_data_have_the_same_totals_and_the_second_starts_nothing() {
    let place = TestFile::fresh();
    let first = orders(place.directory()).arguments(["--once", "--fresh"]).run().well();
    assert_eq!(totals(&first), TOTALS, "{first}");
    assert!(first.contains("(new: 1000)"), "{first}");
    assert!(first.lines().any(|line| line.ends_with("/1000 orders")), "no terminal, so a line a second: {first}");

    let second = orders(place.directory()).arguments(["--once"]).run().well();
    assert_eq!(totals(&second), TOTALS, "{second}");
    assert!(second.contains("(new: 0)"), "{second}");

    let few = few_orders(place.directory(), 3);
    let fresh = orders(place.directory()).arguments(["--once", "--fresh", "--orders", &few]).run().well();
    assert!(fresh.contains("(new: 3)"), "{fresh}");
    assert!(totals(&fresh).contains(&"events handled 3 by add_points".to_owned()), "{fresh}");
}

/// What the summary points to is there, the process stays up until SIGTERM, and ends well then.
#[tokio::test]
async fn what_the_summary_prints_can_be_followed() {
    let place = TestFile::fresh();
    let few = few_orders(place.directory(), 3);
    let process = orders(place.directory()).arguments(["--orders", &few]).start();
    let client = Client::of(&process);
    let _ = process.prints("Ctrl-C ends it.");

    let base = format!("http://{}", client.address());
    let data = process.told("data");
    assert!(place.directory().join(&data).join("orders.db").exists(), "{data}");
    let tree = process.told("a completed order");
    let tree = client.get(tree.strip_prefix(&base).expect("a URL of this process")).await.expect(200);
    assert_eq!((&tree["function"], &tree["state"]), (&"place_order".into(), &"resolved".into()), "{tree}");

    let description = client.get("/openapi.json").await.expect(200);
    assert!(description["paths"].get("/v1/orders/functions/place_order").is_some());
    let docs = client.get("/docs/").await;
    assert_eq!(docs.status, 200, "{docs:?}");
    assert!(docs.body.contains("swagger"), "{docs:?}");

    let own = order_as_printed(&process, &client).await;
    let outcome = client.get(&format!("{own}/result?wait=30s")).await.expect(200);
    assert_eq!(outcome["value"]["order_id"], "my-order", "{outcome}");

    process.terminate();
    let out = process.ended().well();
    assert!(out.contains("draining"), "{out}");
}

/// Sends what the printed `curl` would, with the shell taking its words apart, and gives the path of the new tree.
async fn order_as_printed(process: &Process, client: &Client) -> String {
    let out = process.printed();
    let (_, printed) = out.split_once("  curl ").expect("a curl is printed");
    let (printed, _) = printed.split_once("Ctrl-C").expect("it ends before the last line");
    let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}\ncurl {printed}");
    let words = Program::foreign("sh", std::path::Path::new("/")).arguments(["-c", &script]).run().well();

    let mut words = words.lines();
    let (mut url, mut headers, mut body) = ("", Vec::new(), "");
    while let Some(word) = words.next() {
        match word {
            "-i" => {}
            "-H" => headers.extend(words.next().expect("a header").split_once(": ")),
            "-d" => body = words.next().expect("a body"),
            other => url = other,
        }
    }
    let path = url.strip_prefix(&format!("http://{}", client.address())).expect("a URL of this process");
    let reply = client.send("POST", path, &headers, body).await;
    assert!(!reply.header("location").is_empty(), "no tree was started: {reply:?}");
    reply.header("location").to_owned()
}

/// SIGTERM in the middle of the work drains: exit code 0, and the next run goes on.
#[test]
fn a_run_that_is_told_to_end_in_the_middle_drains_and_the_next_goes_on() {
    let place = TestFile::fresh();
    let process = orders(place.directory()).start();
    let _ = process.prints("/1000 orders");
    process.terminate();
    let out = process.ended().well();
    assert!(out.contains("draining") && totals(&out).is_empty(), "{out}");

    let rest = orders(place.directory()).arguments(["--once"]).run().well();
    assert_eq!(totals(&rest), TOTALS, "{rest}");
}

/// `--once` waits until all orders are settled, and only the context orders knows when that is.
#[test]
fn once_is_refused_where_the_orders_are_in_another_process() {
    let place = TestFile::fresh();
    let Ended { status, err, .. } = orders(place.directory()).arguments(["--only", "loyalty", "--once"]).run();
    assert_eq!(status.code(), Some(2), "{err}");
    assert!(err.contains("--once") && err.contains("--only"), "{err}");
}
