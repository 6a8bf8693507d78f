//! `docs/conformance.md`: every sentence of SEMANTICS, with the tests that show it. A test shows a sentence if its doc comment
//! begins with the sentence's label, as `/// P2, R3: …`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use sapwood_tests::workspace;

/// With the value `overwrite`, the page is written instead of compared.
const GOLDEN: &str = "SAPWOOD_TEST_GOLDEN";

/// Sentences that no test shows yet, and why.
const OPEN: &[(&str, &str)] = &[
    ("P7", "nothing is deleted yet, so identity never ends"),
    ("F9", "forks are not built"),
    ("H5", "a consumer's own calls and events are ordinary ones; no test names it yet"),
    ("H6", "order by key among consumers is not built"),
    ("G3", "of the policies of a tree only cancelling and resuming are built"),
    ("G5", "of an operator's actions cancelling, killing, resuming and retrying are built, and none in bulk"),
    ("G7", "lineage is not built"),
    ("G8", "bulk verbs are not built"),
    ("G9", "announcements are not built"),
    ("O1", "authentication is not built; the listener is on loopback unless set otherwise"),
    ("O2", "the audit is not built; a request keeps its actor and reason"),
    ("O3", "permissions are not built"),
    ("A4", "shapes are not reported"),
    ("V3", "recorded histories are not replayed against a candidate yet"),
];

/// Labels of rules of how, which are no sentences of SEMANTICS: they stand in ARCHITECTURE.
const RULES: &[&str] = &["W1", "W2", "W3"];

/// The sentences: label and text, in order.
fn sentences() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(workspace::root().join("docs/SEMANTICS.md")).expect("the page is there");
    let sentence = |line: &str| {
        let (label, text) = line.split_once(". ")?;
        is_label(label).then(|| (label.to_owned(), text.to_owned()))
    };
    page.lines().filter_map(sentence).collect()
}

fn is_label(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_uppercase())
        && !chars.as_str().is_empty()
        && chars.all(|c| c.is_ascii_digit())
}

/// The labels that a doc comment begins with.
fn labels(doc: &str) -> Vec<&str> {
    let Some((head, _)) = doc.split_once(':') else { return Vec::new() };
    let mut labels = Vec::new();
    for word in head.split(", ") {
        // The last one may be followed by a word or two: `A1, N3 at compile time:`.
        let label = word.split(' ').next().unwrap_or_default();
        if !is_label(label) {
            return Vec::new();
        }
        labels.push(label);
    }
    labels
}

/// What each file shows: label, then the names of tests, or of the cases of which tests are made.
fn shown() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let mut shown: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for (path, text) in workspace::texts("rs") {
        let mut doc: Option<&str> = None;
        // Below `tests` cases are functions of which a macro makes tests; elsewhere the attribute says what is one.
        let has_cases = path.starts_with("tests");
        let mut is_test = has_cases;
        for line in text.lines().map(str::trim_start) {
            if let Some(comment) = line.strip_prefix("/// ") {
                doc.get_or_insert(comment);
                continue;
            }
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let name = line.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next());
            match name {
                Some(name) => {
                    let labels = doc.take().filter(|_| is_test).map(labels).unwrap_or_default();
                    is_test = has_cases;
                    for label in labels {
                        shown
                            .entry(label.to_owned())
                            .or_default()
                            .insert((path.display().to_string(), name.to_owned()));
                    }
                }
                // Attributes may stand between a comment and its function.
                None if line.starts_with("#[") || line.starts_with("///") => {}
                None => doc = None,
            }
        }
    }
    shown
}

/// The page, as Markdown.
fn page(sentences: &[(String, String)], shown: &BTreeMap<String, BTreeSet<(String, String)>>) -> String {
    let mut page = String::from(
        "# Conformance\n\nEvery sentence of [SEMANTICS](SEMANTICS.md), with the tests that show it. This page is made from \
         the doc comments of the\ntests (`tests/it/conformance.rs`); a sentence without a test fails the run, unless it is \
         listed as open.\n",
    );
    for (label, text) in sentences {
        let _ = write!(page, "\n## {label}\n\n{text}\n\n");
        if let Some((_, why)) = OPEN.iter().find(|(open, _)| open == label) {
            let _ = writeln!(page, "*Open: {why}.*");
        }
        let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (file, name) in shown.get(label).into_iter().flatten() {
            by_file.entry(file).or_default().push(name);
        }
        for (file, names) in by_file {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(page, "- [{file}](../{file}): {}", names.join(", "));
        }
    }
    page
}

/// Each promise is shown, or is known to be open.
#[test]
fn every_sentence_has_a_test_or_is_listed_as_open() {
    let (sentences, shown) = (sentences(), shown());
    assert!(sentences.len() > 80, "the sentences are found: {sentences:?}");
    let known: BTreeSet<&str> = sentences.iter().map(|(label, _)| label.as_str()).collect();
    let is_known = |label: &&String| known.contains(label.as_str()) || RULES.contains(&label.as_str());
    let unknown: Vec<_> = shown.keys().filter(|label| !is_known(label)).collect();
    assert!(unknown.is_empty(), "tests name sentences that are not in docs/SEMANTICS.md: {unknown:?}");
    let is_open = |label: &str| OPEN.iter().any(|(open, _)| *open == label);
    let missing: Vec<_> = known.iter().filter(|label| !shown.contains_key(**label) && !is_open(label)).collect();
    assert!(missing.is_empty(), "no test names these sentences: {missing:?}");
    let stale: Vec<_> = OPEN.iter().filter(|(label, _)| shown.contains_key(*label) || !known.contains(label)).collect();
    assert!(stale.is_empty(), "listed as open, and a test names them: {stale:?}");
}

/// The page is the one that the tests make.
#[test]
fn the_page_is_up_to_date() {
    let made = page(&sentences(), &shown());
    let file = workspace::root().join(Path::new("docs/conformance.md"));
    if std::env::var(GOLDEN).is_ok_and(|value| value == "overwrite") {
        std::fs::write(&file, &made).expect("the page is written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = kept.lines().zip(made.lines()).position(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "docs/conformance.md is out of date, first in line {}: {GOLDEN}=overwrite cargo test -p sapwood-tests --test it \
         the_page_is_up_to_date",
        1 + differs.unwrap_or_else(|| kept.lines().count().min(made.lines().count())),
    );
}
