//! Events from one context to others, end to end: outbox, relay, broker, intake, consumers. Both stores, each with
//! the log of the store as the broker.
//!
//! What is claimed to be woken is woken: relays and readers look by themselves once an hour, except if a test is
//! about looking.

mod apart;
mod cases;
mod failover;
mod kafka;
mod setback;
mod silence;
mod unreadable;
mod world;

sapwood_tests::on_both_stores!(crate::events::cases {
    a_consumer_added_later_gets_what_is_kept_and_the_producer_notices_nothing,
    a_retried_function_emits_one_event,
    an_event_replayed_after_a_crash_is_the_same_event,
    an_event_carries_its_place_its_tree_and_what_led_to_it,
    a_broker_that_is_away_holds_no_tree_up_and_gets_everything_afterwards,
    a_broker_that_is_away_at_the_start_is_waited_for,
    the_order_on_the_broker_is_the_commit_order_with_two_workers,
    another_worker_publishes_what_a_dead_one_left,
    a_drained_worker_hands_its_lanes_over,
    a_refused_event_stops_its_own_lane_in_sight,
    nothing_that_consumers_do_changes_the_tree,
    a_tree_that_fails_can_emit_too,
    each_group_of_each_context_gets_each_event,
    an_event_not_accepted_by_a_store_comes_again_and_an_accepted_one_does_not,
    on_redelivery_only_the_unfinished_step_runs,
    an_event_that_comes_again_is_handled_once,
    records_that_are_no_events_are_passed_over,
    an_event_that_its_consumer_cannot_read_is_seen_in_its_tree,
    a_subscription_to_a_context_elsewhere_is_a_start_up_error,
});

/// Their own module, because the macro makes two of fixed names.
mod rows {
    sapwood_tests::on_both_stores!(crate::events::unreadable {
        a_row_of_the_outbox_that_cannot_be_read_stops_its_own_lane_in_sight,
        a_record_of_the_log_that_cannot_be_read_stops_its_partition_in_sight,
        damaged_rows_beside_the_trees_hold_nobody_else_up,
    });
}

/// As above.
mod back {
    sapwood_tests::on_both_stores!(crate::events::setback {
        events_after_a_setback_are_published_by_a_living_relay,
        a_setback_is_noticed_by_a_relay_that_is_idle,
        events_after_a_setback_of_the_log_are_taken_in,
        a_living_intake_goes_on_where_its_store_went_back_to,
        a_setback_is_noticed_by_an_intake_that_is_idle,
    });
}

/// As above.
mod quiet {
    sapwood_tests::on_both_stores!(crate::events::silence {
        a_relay_gives_up_what_is_never_answered_and_goes_on,
        an_intake_gives_up_what_is_never_answered_and_goes_on,
        a_drain_does_not_wait_for_what_is_never_answered,
        what_was_ended_does_nothing_beside_its_successor,
    });
}
