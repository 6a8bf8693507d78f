//! The macros that make a test of each case, on every database, engine or broker it is promised for.
//!
//! A case is an async function of a module; its test has its name. Each macro is used once within a module, because it
//! makes modules of its own:
//!
//! ```text
//! mod claim {
//!     sapwood_tests::on_every_store!(sapwood_tests::conformance::store::claim { a_claim_is_bounded });
//! }
//! ```

/// Runs each case of a module on both databases and in memory, as `postgres::CASE`, `sqlite::CASE` and `memory::CASE`.
///
/// A case is `pub async fn case(test: &TestStore)`.
#[macro_export]
macro_rules! on_every_store {
    ($($module:ident)::+ { $($cases:tt)* }) => {
        $crate::on_both_stores!($($module)::+ { $($cases)* });
        mod memory {
            use $crate::store::{Database, run};
            $crate::each_case!(nothing run(Database::Memory); [$($module)::+] $($cases)*);
        }
    };
}

/// Runs each case of a module on both databases, as `postgres::CASE` and `sqlite::CASE`: those that have SQL of their own,
/// or that are about what only a database does.
///
/// A case is `pub async fn case(test: &TestStore)`.
#[macro_export]
macro_rules! on_both_stores {
    ($($module:ident)::+ { $($cases:tt)* }) => {
        mod postgres {
            use $crate::store::{Database, run};
            $crate::each_case!(postgres run(Database::Postgres); [$($module)::+] $($cases)*);
        }
        mod sqlite {
            use $crate::store::{Database, run};
            $crate::each_case!(nothing run(Database::Sqlite); [$($module)::+] $($cases)*);
        }
    };
}

/// Runs each case of a module on both databases and in memory, each time with bodies cached and with bodies evicted
/// whenever they wait, as `sqlite::cached::CASE`, `memory::evicted::CASE` and so on.
///
/// A case is `async fn case(world: &World)`.
#[macro_export]
macro_rules! on_every_engine {
    ($($module:ident)::+ { $($cases:tt)* }) => {
        $crate::on_both_engines!($($module)::+ { $($cases)* });
        mod memory {
            $crate::on_both_engines!(@both nothing Memory [$($module)::+] $($cases)*);
        }
    };
}

/// Runs each case of a module on both databases, with bodies cached and with bodies evicted: those that have SQL of their
/// own.
///
/// A case is `async fn case(world: &World)`.
#[macro_export]
macro_rules! on_both_engines {
    ($($module:ident)::+ { $($cases:tt)* }) => {
        mod postgres {
            $crate::on_both_engines!(@both postgres Postgres [$($module)::+] $($cases)*);
        }
        mod sqlite {
            $crate::on_both_engines!(@both nothing Sqlite [$($module)::+] $($cases)*);
        }
    };
    (@both $needs:ident $database:ident $module:tt $($cases:tt)*) => {
        mod cached {
            use $crate::engine::{CACHED, run};
            use $crate::store::Database;
            $crate::each_case!($needs run(Database::$database, CACHED); $module $($cases)*);
        }
        mod evicted {
            use $crate::engine::{EVICTED, run};
            use $crate::store::Database;
            $crate::each_case!($needs run(Database::$database, EVICTED); $module $($cases)*);
        }
    };
}

/// Runs every case of the broker port on one broker: `on_a_broker!(NEEDS fixture)`, with `kafka`, `postgres` or
/// `nothing` for what has to be there. `fixture()` gives an `Arc<dyn Broker>`, its `Features`, and what is kept until the end.
#[macro_export]
macro_rules! on_a_broker {
    ($needs:ident $fixture:ident) => {
        use $crate::conformance::broker::run;
        $crate::each_case!($needs run($fixture); [$crate::conformance::broker::publishing]
            every_record_comes_back_as_it_was_published,
            records_of_a_key_stay_in_order,
            an_empty_publish_is_answered,
            a_record_too_large_is_refused_and_the_others_go_through,
            topics_that_exist_are_left_as_they_are,
            a_broker_that_is_there_answers,
        );
        $crate::each_case!($needs run($fixture); [$crate::conformance::broker::reading]
            a_group_that_never_read_begins_at_the_oldest_record,
            a_record_published_later_arrives,
            reading_goes_on_at_the_offset_named,
            nothing_of_a_partition_is_delivered_before_it_is_begun,
            an_offset_that_is_not_there_is_reported,
            a_slow_reader_misses_nothing,
            advice_changes_nothing_for_the_reader,
            waiting_for_the_next_delivery_can_be_given_up,
        );
        $crate::each_case!($needs run($fixture); [$crate::conformance::broker::groups]
            each_group_gets_everything,
            the_next_member_takes_over_when_one_leaves,
            members_share_the_partitions,
        );
    };
}

/// A test of each case: `run`, with its arguments and the case.
#[doc(hidden)]
#[macro_export]
macro_rules! each_case {
    ($needs:ident $run:ident $arguments:tt; $module:tt $($case:ident),* $(,)?) => {
        $($crate::each_case!(@one $needs $run $arguments $module $case);)*
    };
    (@one $needs:ident $run:ident ($($argument:expr),*) [$($module:tt)+] $case:ident) => {
        $crate::each_case!(@test $needs
            async fn $case() {
                $run($($argument,)* $($module)+::$case).await;
            }
        );
    };
    (@test nothing $($item:tt)+) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($item)+
    };
    (@test postgres $($item:tt)+) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
        $($item)+
    };
    (@test kafka $($item:tt)+) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[cfg_attr(not(sapwood_services), ignore = "needs Kafka: ./test provides it")]
        $($item)+
    };
}
