//! REST, over a real socket: every route, every code, and the sentences P5, P6, G1 and G2 as a client sees them.

mod cases;
mod client;
mod context;

use std::collections::BTreeSet;

use sapwood_api::problem::{self, Code};
use sapwood_engine::Registry;
use serde_json::Value;

use context::ParcelsApp;

mod starts {
    sapwood_tests::on_both_stores!(crate::api::cases::starts {
        a_start_answers_with_its_tree_and_the_outcome_is_fetched_apart,
        the_same_start_again_gives_the_same_tree,
        an_id_with_another_input_or_function_is_a_conflict,
        starts_of_one_id_at_once_at_two_processes_give_one_tree,
        starts_without_an_id_are_trees_of_their_own,
        what_is_no_start_is_refused_and_starts_nothing,
    });
}

mod outcomes {
    sapwood_tests::on_both_stores!(crate::api::cases::outcomes {
        any_client_attaches_by_id_later_and_at_another_process,
        a_rejection_is_an_answer_with_the_function_s_own_error,
        a_pending_tree_says_so_and_the_wait_is_bounded,
        who_waits_is_told_when_the_tree_settles,
        a_process_that_drains_lets_waiting_clients_go,
    });
}

mod trees {
    sapwood_tests::on_both_stores!(crate::api::cases::trees {
        one_query_shows_the_whole_tree,
        every_node_that_is_not_settled_says_what_it_waits_on,
        the_timeline_is_there_on_request,
        lists_are_filtered,
        pages_hold_every_tree_once_while_others_start,
        a_cursor_is_refused_by_another_list,
        unknown_trees_and_parameters_are_refused,
        a_tree_that_cannot_be_read_is_named_and_the_others_are_listed,
    });
}

mod control {
    sapwood_tests::on_both_stores!(crate::api::cases::control {
        a_tree_is_cancelled_and_says_by_whom,
        a_part_of_a_tree_is_cancelled,
        a_tree_that_hangs_is_killed,
        a_bad_request_for_a_tree_is_refused,
        what_is_exhausted_says_so_and_is_retried,
        what_is_parked_is_resumed,
        a_compensation_that_failed_is_retried_after_the_outcome,
        a_request_to_go_on_that_changes_nothing_says_why,
    });
}

mod promises {
    sapwood_tests::on_both_stores!(crate::api::cases::promises {
        a_promise_is_resolved_by_its_id_and_its_tree_goes_on,
        a_promise_is_rejected_by_its_name_with_a_message,
        the_loser_is_told_the_outcome_that_stands,
        who_waits_is_told_when_the_promise_settles,
        a_bad_settle_is_refused_and_settles_nothing,
        a_name_of_two_promises_is_ambiguous,
        a_promise_that_nobody_awaits_is_closed,
        a_promise_past_its_deadline_is_timed_out,
    });
}

mod edge {
    sapwood_tests::on_both_stores!(crate::api::cases::edge {
        functions_are_listed_with_their_schemas,
        what_the_framework_refuses_is_a_problem_too,
        a_drained_process_is_not_ready_and_starts_nothing,
        a_store_that_is_gone_is_told_so,
        a_degraded_part_is_told_and_does_not_count,
        a_panic_is_a_problem_without_details,
        the_document_and_its_browser_need_no_network,
        the_type_of_every_problem_leads_to_its_description,
    });
}

#[test]
fn the_document_depends_on_the_functions_alone_and_refers_to_nothing_missing() {
    let registry = Registry::of::<ParcelsApp>().expect("a registry");
    let text = sapwood_api::openapi(&[("parcels", &registry)]);
    assert_eq!(text, sapwood_api::openapi(&[("parcels", &Registry::of::<ParcelsApp>().expect("a registry"))]));

    let document: Value = serde_json::from_str(&text).expect("JSON");
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    assert!(references.contains("#/components/schemas/parcels.send.input"));
    assert!(references.contains("#/components/schemas/parcels.Parcel"), "a type within an input");
    for reference in &references {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }

    let start = &document["paths"]["/v1/parcels/functions/send"]["post"];
    assert_eq!(start["summary"], "Sends a parcel.");
    assert!(document["paths"]["/v1/parcels/functions/archive"].is_null(), "a consumer is not started by requests");
}

#[test]
fn every_code_has_its_section_in_the_reference() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/errors.md"));
    let page = page.expect("the page of errors");
    for section in problem::reference().split_inclusive("\n### ").map(|section| section.trim_end_matches("\n### ")) {
        assert!(page.contains(section.trim_end()), "docs/reference/errors.md lacks, or says otherwise:\n\n{section}");
    }
    assert!(Code::ALL.iter().all(|code| page.contains(&format!("### `{}`", code.name()))));
}

fn collect_references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| match value {
            Value::String(reference) if key == "$ref" => {
                found.insert(reference);
            }
            _ => collect_references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}
