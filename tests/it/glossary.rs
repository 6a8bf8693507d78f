//! The glossary has every word of the public surface, and no word that is not there.

use std::collections::{BTreeMap, BTreeSet};

use sapwood_core::journal::EntryKind;
use sapwood_core::tree::{Closing, PromiseState, TimerKind, TreeState};
use sapwood_tests::workspace;

/// Public types that are not part of the surface: they exist for what a macro or the compiler needs.
const HIDDEN: &[(&str, &str)] = &[
    ("FailureType", "the link-time register of failures; `#[derive(Failure)]` writes it"),
    ("StartsRoots", "exists only for a compile error"),
    ("Result", "the `Result` of Rust, with the error of a start filled in"),
    ("FunctionVersionError", "the error of parsing a `FunctionVersion`"),
];

fn page(name: &str) -> String {
    std::fs::read_to_string(workspace::root().join("docs/reference").join(name)).expect("a page of the reference")
}

fn glossary() -> String {
    page("glossary.md")
}

/// What stands between backticks in the rows of the tables.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The public types of the library crates, each with its file.
fn types() -> BTreeMap<String, String> {
    let mut types = BTreeMap::new();
    for (path, text) in workspace::texts("rs") {
        let is_library = path.starts_with("crates")
            && !path.starts_with("crates/sapwood-macros")
            && !path.starts_with("crates/sapwood-bench");
        if !is_library {
            continue;
        }
        let path = path.display().to_string();
        for line in text.lines() {
            let words: Vec<&str> = line.trim_start().split([' ', '<', '(', '{', ':', ';']).collect();
            if let ["pub", "struct" | "enum" | "trait" | "type", name, ..] = words[..] {
                types.insert(name.to_owned(), path.clone());
            }
        }
    }
    types
}

#[test]
fn every_public_type_is_in_the_glossary() {
    let (glossary, types) = (glossary(), types());
    assert!(types.len() > 100, "the public types are found: {types:?}");
    let quoted = quoted(&glossary);
    let missing: Vec<_> = types
        .iter()
        .filter(|(name, _)| !quoted.contains(name.as_str()) && !HIDDEN.iter().any(|(hidden, _)| hidden == name))
        .collect();
    assert!(missing.is_empty(), "not in docs/reference/glossary.md: {missing:#?}");
    let stale: Vec<_> = HIDDEN.iter().filter(|(name, _)| !types.contains_key(*name)).collect();
    assert!(stale.is_empty(), "hidden, and not there: {stale:?}");
}

#[test]
fn the_glossary_names_no_type_that_is_gone() {
    let (glossary, types) = (glossary(), types());
    let camel = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric())
            && word.chars().any(|c| c.is_ascii_lowercase())
    };
    // Rust's own, to compare with.
    let foreign = ["JoinHandle"];
    let gone: Vec<_> = quoted(&glossary)
        .into_iter()
        .filter(camel)
        .filter(|word| !types.contains_key(*word) && !foreign.contains(word))
        .collect();
    assert!(gone.is_empty(), "in the glossary, and not in the code: {gone:?}");
}

#[test]
fn every_table_is_in_the_glossary() {
    let glossary = glossary();
    let quoted = quoted(&glossary);
    for (path, text) in workspace::texts("sql").into_iter().filter(|(path, _)| path.starts_with("migrations")) {
        let path = path.display();
        for table in text.lines().filter_map(|line| line.strip_prefix("create table ")) {
            let table = table.split([' ', '(']).next().unwrap_or_default();
            assert!(quoted.contains(table), "the table `{table}` of {path} is not in docs/reference/glossary.md");
        }
    }
}

/// The names on the wire have a page: kinds of entries in the journal's, states where the glossary or REST says them.
#[test]
fn every_name_on_the_wire_is_documented() {
    let pages = ["glossary.md", "journal.md", "rest.md", "openapi.json"];
    let pages: String = pages.into_iter().map(page).collect();
    let names = EntryKind::ALL.iter().map(|kind| kind.name());
    let names = names.chain(TreeState::ALL.iter().map(|state| state.name()));
    let names = names.chain(PromiseState::ALL.iter().map(|state| state.name()));
    let names = names.chain(Closing::ALL.iter().map(|closing| closing.name()));
    let names = names.chain(TimerKind::ALL.iter().map(|kind| kind.name()));
    for name in names {
        assert!(
            pages.contains(&format!("`{name}`")) || pages.contains(&format!("\"{name}\"")),
            "`{name}` is on no page of the reference"
        );
    }
}
