//! What is suspended costs its worker no more memory than its cache may have.
//!
//! The program that measures is run as a process of its own, because other tests use the memory of this one.

use sapwood_tests::postgres::TestDatabase;
use sapwood_tests::process::Program;
use sapwood_tests::workspace;

/// Megabytes for bodies that wait: a sixth of what all of them would take.
const CACHE: &str = "20";

/// Megabytes that the process may have more than before: the cache, the working memory of a few hundred starts at once,
/// and what an allocator keeps for itself.
const MOST: &str = "50";

/// S1: 20,000 functions that wait take what the cache may have, and nothing besides.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn functions_that_wait_take_no_more_memory_than_the_cache_has() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let arguments =
        ["suspended", "20000", "--cache", CACHE, "--most", MOST, "--wake", "500", "--idle", "1", "--store", &url];
    let process = Program::new("sapwood-bench", workspace::root()).arguments(arguments);
    let ended = tokio::task::spawn_blocking(move || process.run()).await.expect("the process is waited for");
    let told = ended.well();
    println!("{told}");
    assert!(told.contains("awake"), "{told}");
}
