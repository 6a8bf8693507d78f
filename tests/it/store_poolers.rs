//! A pooler before PostgreSQL that lends its connections for single transactions.

use sapwood_core::store::StoreErrorKind;
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_tests::conformance::store::{
    claim, commit, hints, intake, lanes, log, membership, reading, recover, start,
};
use sapwood_tests::pooler::{Pooler, system_pgbouncer};
use sapwood_tests::postgres::TestSchema;
use sapwood_tests::store::TestStore;

/// A store behind a pooler passes what a store passes; three connections of the pooler serve all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_store_behind_a_pooler_that_keeps_prepared_statements_is_a_store() {
    let pooler = Pooler::keeping(200).await;
    macro_rules! pass {
        ($($module:ident::$case:ident),* $(,)?) => {
            $({
                let test = TestStore::in_schema(TestSchema::behind(pooler.url())).await;
                $module::$case(&test).await;
                test.store().close().await;
            })*
        };
    }
    pass!(
        commit::two_full_turns_leave_exactly_what_they_say,
        commit::a_batch_of_a_thousand_trees_commits,
        recover::what_was_sent_before_a_recovery_cannot_commit_after_it,
        start::two_starters_of_the_same_keys_at_once_give_one_tree_a_key,
        claim::two_claimers_share_what_is_ready_without_overlap,
        reading::a_reader_gets_the_whole_tree,
        reading::trees_are_listed_newest_first_in_pages,
        lanes::a_reader_that_follows_its_cursor_misses_no_row_of_concurrent_committers,
        intake::members_that_race_for_a_partition_accept_each_event_once,
        log::a_reader_misses_nothing_of_concurrent_appenders,
        membership::a_buried_worker_is_fenced_for_ever_and_a_living_one_never,
        hints::a_hint_reaches_everybody_on_the_store,
    );
}

async fn assert_refused(pooler: &Pooler) {
    let schema = TestSchema::fresh();
    // The statements that an earlier process left on the pooler's connections do not hide it either.
    for _ in 0..3 {
        let connected = PostgresStore::connect(PostgresOptions::new(pooler.url(), schema.name())).await;
        let error = connected.err().expect("it loses prepared statements");
        assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
        for part in ["prepared statements", "pgbouncer 1.21", "max_prepared_statements"] {
            assert!(error.to_string().contains(part), "{error} lacks {part}");
        }
    }
}

/// A pooler that loses prepared statements is refused at the start, by name, not at some later statement.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_pooler_that_loses_prepared_statements_is_refused_at_the_start() {
    assert_refused(&Pooler::keeping(0).await).await;
}

/// The same for one that is too old to know of them, as that of Debian 12 is.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_pooler_that_knows_nothing_of_prepared_statements_is_refused_at_the_start() {
    // The system's own, whatever its version: without the setting, old ones and those before 1.24 lose them.
    let version = std::process::Command::new(system_pgbouncer()).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let minor = version.split(['.', ' ']).nth(2).and_then(|minor| minor.parse::<u32>().ok());
    let settings = if minor.is_none_or(|minor| minor < 21) { "" } else { "max_prepared_statements = 0\n" };
    assert_refused(&Pooler::start(system_pgbouncer(), settings).await).await;
}

/// What an operator is told to set for the user is what the store sets on its connections.
#[test]
fn the_planner_s_settings_are_those_that_the_documentation_names() {
    let configure = include_str!("../../crates/sapwood-postgres/queries/connection_configure.sql");
    let pairs = configure.lines().filter_map(|line| line.trim().strip_prefix("set_config('")?.split_once("', '"));
    let set: Vec<_> = pairs.filter_map(|(name, rest)| Some(format!("{name} = {}", rest.split_once('\'')?.0))).collect();
    let config = include_str!("../../docs/reference/config.md");
    let named = config.lines().filter_map(|line| line.strip_prefix("alter role orders set ")?.strip_suffix(';'));
    assert_eq!(set, named.collect::<Vec<_>>());
    assert!(set.len() > 5);
}
