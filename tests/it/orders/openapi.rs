//! The OpenAPI document of the example, as clients are generated from it.

use std::path::Path;

use sapwood_tests::sqlite::TestFile;

use super::rest::Client;
use super::{few_orders, orders};

/// With the value `overwrite`, the document is written instead of compared.
const GOLDEN: &str = "SAPWOOD_TEST_GOLDEN";

/// A change of the API is a change of this file, to be seen in review.
#[tokio::test]
async fn the_document_that_is_served_is_the_one_that_is_kept() {
    let place = TestFile::fresh();
    let process = orders(place.directory()).arguments(["--orders", &few_orders(place.directory(), 0)]).start();
    let served = Client::of(&process).get("/openapi.json").await;
    assert_eq!(served.status, 200, "{served:?}");

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/openapi.json");
    if std::env::var(GOLDEN).is_ok_and(|value| value == "overwrite") {
        std::fs::write(&file, &served.body).expect("the document is written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    // Not `assert_eq`, which would print both whole.
    let differs = kept.lines().zip(served.body.lines()).position(|(kept, served)| kept != served);
    assert!(
        kept == served.body,
        "docs/reference/openapi.json differs from what is served, first in line {}. If that is meant: \
         {GOLDEN}=overwrite cargo test -p sapwood-tests the_document_that_is_served",
        1 + differs.unwrap_or_else(|| kept.lines().count().min(served.body.lines().count())),
    );
}
