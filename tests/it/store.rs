//! The conformance suite of the store port, on PostgreSQL, on SQLite and in memory.

use std::collections::BTreeSet;
use std::path::Path;

use sapwood_tests::workspace;

mod commit {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::commit {
        a_turn_of_a_tree_owned_by_another_is_refused_and_99_others_commit,
        a_turn_of_a_tree_without_owner_is_refused_and_99_others_commit,
        a_turn_of_an_older_revision_is_refused_and_99_others_commit,
        a_turn_of_a_later_revision_is_refused_and_99_others_commit,
        a_turn_of_another_control_counter_is_refused_and_99_others_commit,
        a_turn_that_names_another_inbox_counter_is_refused_and_99_others_commit,
        a_turn_of_a_tree_that_is_not_there_is_refused_and_99_others_commit,
        a_turn_that_creates_a_tree_that_exists_is_refused_and_99_others_commit,
        a_batch_of_a_buried_worker_is_refused_whole_while_anothers_99_commit,
        a_batch_of_a_worker_that_left_is_refused_whole,
        a_worker_whose_lease_is_over_commits_until_it_is_buried,
        each_commit_moves_the_revision_on_by_one,
        an_empty_batch_has_no_verdicts,
        verdicts_keep_the_order_of_a_mixed_batch,
        a_permanent_error_applies_nothing_and_the_others_commit_without_the_culprit,
        a_change_of_an_invocation_that_is_not_there_is_refused_by_name,
        two_full_turns_leave_exactly_what_they_say,
        a_released_tree_has_no_owner_and_says_when_and_what_it_needs,
        what_settles_is_stamped_by_the_clock_of_the_database,
        a_tree_may_be_created_and_settled_in_one_turn,
        every_field_of_every_record_survives,
        every_field_of_a_change_survives,
        every_state_can_be_stored,
        a_batch_of_a_thousand_trees_commits,
        an_event_keeps_the_time_of_its_emit,
    });
}

/// They move the counters by SQL.
mod counters {
    sapwood_tests::on_both_stores!(sapwood_tests::conformance::store::commit {
        a_tree_whose_control_counter_moved_refuses_who_does_not_know,
        a_tree_whose_inbox_moved_refuses_to_be_given_up_and_goes_on_otherwise,
    });
}

mod recover {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::recover {
        a_batch_that_was_committed_is_told_so,
        a_batch_that_was_lost_is_told_so_and_commits_when_sent_again,
        a_turn_whose_tree_moved_on_or_away_is_refused,
        a_release_that_was_committed_is_never_told_lost,
        what_was_sent_before_a_recovery_cannot_commit_after_it,
        a_buried_worker_finds_itself_fenced,
        a_recovery_on_one_fence_leaves_the_other_alone,
    });
}

mod start {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::start {
        a_started_tree_is_there_with_a_root_that_has_not_begun,
        a_held_key_gives_the_tree_that_holds_it,
        a_held_key_reports_another_digest_and_the_function_that_holds_it,
        two_starters_of_the_same_keys_at_once_give_one_tree_a_key,
        of_one_key_twice_in_a_batch_the_first_wins,
        a_batch_of_held_and_free_keys_starts_the_free_ones,
        scopes_of_keys_are_apart,
        awkward_keys_are_kept_apart,
        a_start_sent_twice_is_one_tree,
        a_start_without_owner_is_ready_to_be_claimed,
        a_start_of_a_worker_is_owned_by_it,
        a_buried_worker_starts_nothing,
        every_field_of_a_start_survives,
        an_empty_batch_of_starts_is_nothing,
    });
}

mod claim {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::claim {
        two_claimers_share_what_is_ready_without_overlap,
        a_claim_moves_the_revision_and_makes_the_tree_run,
        a_claimed_tree_refuses_its_former_owner,
        a_tree_that_needs_a_version_is_claimed_by_who_has_it,
        a_tree_is_claimed_when_its_time_has_come,
        trees_of_the_dead_are_taken_over_and_those_of_the_living_are_not,
        trees_of_an_expired_worker_are_not_claimed_before_it_is_buried,
        a_tree_that_was_given_up_is_not_taken_over,
        a_tree_that_is_taken_over_again_and_again_is_a_suspect,
        a_settled_tree_is_never_claimed,
        a_claim_is_bounded,
        the_trees_of_a_worker_are_listed_page_by_page,
        the_revisions_of_trees_are_read_without_those_that_are_not_there,
        a_tree_goes_from_hand_to_hand,
    });
}

mod governing {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::governing {
        an_owner_that_has_not_read_a_request_is_refused,
        a_tree_without_an_owner_is_due_at_once,
        a_request_that_changes_nothing_is_told_why,
        of_many_equal_requests_at_once_one_is_accepted,
        requests_and_commits_of_one_tree_are_one_after_the_other,
        only_what_is_parked_is_resumed,
        a_tree_that_was_set_aside_is_brought_back,
        a_compensation_is_retried_in_a_settled_tree,
    });
}

mod promises {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::promises {
        a_promise_is_found_by_its_name,
        a_promise_is_settled_once,
        of_many_settles_at_once_one_wins,
        a_promise_that_nobody_awaits_is_not_settled,
        a_promise_is_not_settled_past_the_deadline_of_its_function,
        a_promise_is_settled_by_its_deadline,
        a_deadline_and_settles_make_one_outcome,
        a_settle_is_heard_before_its_tree_is_released,
        what_settled_is_heard_until_it_is_recorded,
        settles_and_commits_of_one_tree_are_one_after_the_other,
    });
}

mod reading {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::reading {
        an_activation_reads_only_its_own,
        what_is_not_there_is_told_so,
        a_claimed_tree_is_loaded_by_what_is_open,
        a_reader_gets_the_whole_tree,
        the_outcome_of_a_tree_is_its_root_s,
        a_returned_root_has_no_outcome_before_the_tree_is_settled,
        trees_are_listed_newest_first_in_pages,
    });
}

mod timers {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::timers {
        a_cleared_timer_leaves_the_others,
        a_timer_set_again_takes_the_place_of_the_former,
        a_timer_cleared_and_set_in_one_turn_stands,
        clearing_a_timer_that_is_gone_is_nothing,
        a_sleep_is_found_by_another_worker_when_it_is_over,
    });
}

mod deadlines {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::deadlines {
        a_turn_is_refused_outside_of_the_times_that_it_names,
        a_deadline_survives,
        a_start_has_its_deadline,
        no_reader_sees_a_promise_pending_after_its_deadline,
        what_is_late_is_settled_in_the_order_of_its_deadlines,
        a_tree_that_timed_out_is_driven_until_it_is_closed,
    });
}

mod lanes {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::lanes {
        a_lane_is_read_in_commit_order,
        a_reader_that_follows_its_cursor_misses_no_row_of_concurrent_committers,
        a_lane_has_one_publisher,
        lanes_claimed_at_once_are_apart,
        a_released_lane_goes_on_where_it_was,
        a_lane_does_not_move_to_where_no_row_is,
        lanes_of_a_buried_worker_are_taken_and_its_cursors_refused,
        a_stale_epoch_is_refused_and_the_others_move,
        a_lane_given_back_does_not_move,
        a_cursor_never_goes_back,
        lanes_of_a_worker_that_left_are_free,
    });
}

mod intake {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::intake {
        an_accepted_batch_moves_the_position_and_starts_its_trees,
        an_event_that_comes_again_starts_nothing,
        of_one_event_twice_in_a_batch_the_first_wins,
        a_batch_sent_twice_is_taken_in_once,
        each_group_gets_the_event,
        a_batch_of_an_older_epoch_is_refused_whole,
        a_batch_that_does_not_follow_the_stored_offset_is_refused_whole,
        how_partitions_stand_is_read_without_taking_them,
        a_batch_of_a_partition_never_assigned_is_refused,
        a_topic_made_anew_is_not_where_the_old_one_was,
        a_topic_without_an_id_keeps_its_position,
        members_that_race_for_a_partition_accept_each_event_once,
        a_buried_worker_takes_nothing_in,
    });
}

mod log {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::log {
        records_are_read_in_the_order_they_were_appended,
        awkward_contents_survive,
        a_reader_misses_nothing_of_concurrent_appenders,
    });
}

mod membership {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::membership {
        every_life_has_an_identity_of_its_own,
        a_renewal_tells_of_the_others_that_are_there,
        a_renewal_tells_of_which_process_the_others_are,
        a_clock_that_is_set_ends_no_lease,
        who_renewed_since_it_was_seen_is_not_buried,
        only_who_is_there_is_buried_and_once,
        a_buried_worker_is_fenced_for_ever_and_a_living_one_never,
        two_who_bury_the_same_worker_bury_it_once,
        who_left_renews_nothing,
    });
}

mod hints {
    sapwood_tests::on_every_store!(sapwood_tests::conformance::store::hints {
        a_hint_reaches_everybody_on_the_store,
        a_commit_gives_no_hint,
        the_hints_end_when_the_store_closes,
    });
}

/// A case that stands in no list would pass for ever.
#[test]
fn every_case_of_the_suite_is_listed_here() {
    assert_all_listed("store", "(test: &TestStore)", include_str!("store.rs"));
}

/// The same for the cases of the broker port.
#[test]
fn every_case_of_the_broker_s_suite_is_listed_in_its_macro() {
    assert_all_listed("broker", "(broker: Arc<dyn Broker>", include_str!("../src/cases.rs"));
}

/// Shows that `list` has each case of a suite, a name and a comma on a line; their parameters begin like this.
fn assert_all_listed(suite: &str, parameters: &str, list: &str) {
    let suite = Path::new("tests/src/conformance").join(suite);
    let listed: BTreeSet<&str> = list.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let texts = workspace::texts("rs").into_iter().filter(|(file, _)| file.starts_with(&suite));
    let mut cases = 0;
    for (file, text) in texts {
        let lines = text.lines().filter_map(|line| line.strip_prefix("pub async fn "));
        for name in lines.filter_map(|line| line.split_once(parameters)).map(|(name, _)| name) {
            cases += 1;
            assert!(listed.contains(name), "{name} of {} is not run", file.display());
        }
    }
    assert!(cases > 10, "the cases are found");
}
