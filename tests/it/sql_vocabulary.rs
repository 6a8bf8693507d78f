//! The words of SQL: one name for each table, column, part and statement, the same in both stores.
//!
//! A statement is a file, `<noun>_<verb>.sql`. Every list here is exact: what is found and not listed fails, and so does
//! what is listed and not found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;

use sapwood_tests::workspace::texts;

/// The nouns of statements, besides the tables.
const NOUNS: &[&str] =
    &["connection", "hint", "intake", "log", "outcome", "partition", "schema", "start", "store", "transaction", "turn"];

/// What a statement does with its noun, or asks of it.
const VERBS: &[&str] = &[
    "advance",
    "alive",
    "append",
    "assign",
    "bury",
    "bury_all",
    "change",
    "check",
    "checkpoint",
    "children",
    "claim",
    "clear",
    "clear_all",
    "close",
    "commit",
    "configure",
    "copy",
    "count",
    "describe",
    "exists",
    "extend",
    "find",
    "govern",
    "holder",
    "insert",
    "join",
    "keep",
    "late_find",
    "leave",
    "list",
    "list_by_function",
    "list_owned",
    "load",
    "lock",
    "needed_find",
    "notify",
    "open",
    "orphan_find",
    "ping",
    "read",
    "ready_find",
    "ready_next",
    "release",
    "renew",
    "revision",
    "row",
    "set",
    "set_aside",
    "suspect_find",
    "take_over",
    "thin",
    "time_out",
    "wake",
];

/// Jobs that are one statement on PostgreSQL and several on SQLite, where a further statement costs no round trip.
const DIVIDED: &[(&str, &[&str])] = &[
    (
        "turn_commit",
        &[
            "fence_check",
            "invocation_change",
            "invocation_insert",
            "journal_insert",
            "lane_extend",
            "outbox_insert",
            "timer_clear",
            "timer_set",
            "tree_insert",
            "tree_keep",
            "tree_release",
        ],
    ),
    ("start_insert", &["fence_check", "invocation_insert", "start_key_insert", "tree_insert"]),
    (
        "tree_claim",
        &[
            "tree_needed_find",
            "tree_orphan_find",
            "tree_ready_find",
            "tree_ready_next",
            "tree_suspect_find",
            "tree_take_over",
        ],
    ),
    ("intake_insert", &["group_offset_advance"]),
    ("tree_load", &["invocation_count", "invocation_open", "timer_list"]),
    ("tree_read", &["invocation_list", "journal_list", "timer_list"]),
    ("invocation_load", &["invocation_children", "journal_load", "timer_load"]),
    ("lane_claim", &["lane_list"]),
    ("promise_time_out", &[]),
    ("tree_time_out", &["invocation_late_find", "invocation_time_out", "timer_clear_all"]),
    ("log_append", &["log_record_insert", "log_topic_extend"]),
    ("worker_join", &["fence_insert"]),
    ("worker_renew", &["worker_list"]),
    ("worker_bury", &["fence_close"]),
];

/// Statements of jobs that only PostgreSQL has, and why.
const POSTGRES_ALONE: &[(&str, &str)] = &[
    ("connection_configure", "the driver sets SQLite's pragmas when it connects"),
    ("hint_notify", "hints of SQLite stay within the one process"),
    ("schema_find", "a SQLite file has one schema, which is always there"),
    ("schema_lock", "a SQLite file has one process, so nothing else migrates it"),
];

/// Statements of jobs that only SQLite has, and why.
const SQLITE_ALONE: &[(&str, &str)] = &[
    ("fence_thin", "goes with `worker_thin`"),
    ("store_checkpoint", "a PostgreSQL server makes its checkpoints itself"),
    ("store_copy", "PostgreSQL has `pg_dump`"),
    ("worker_bury_all", "the lock on the file proves at an opening that no earlier worker lives"),
    ("worker_thin", "PostgreSQL keeps its workers and marks those that own nothing as emptied"),
];

/// Every column of both stores.
const COLUMNS: &[&str] = &[
    "actor",
    "applied",
    "aside",
    "attempt",
    "causation",
    "closing",
    "cloud_type",
    "consumer_group",
    "content",
    "control",
    "correlation",
    "created_at",
    "deadline",
    "digest",
    "due_at",
    "emptied",
    "ended_at",
    "epoch",
    "event_id",
    "fence",
    "function",
    "headers",
    "id",
    "inbox",
    "incarnation",
    "input",
    "joined_at",
    "key",
    "kind",
    "lane",
    "lanes",
    "last_seq",
    "lease_us",
    "log_offset",
    "name",
    "needs",
    "next_offset",
    "number",
    "only_row",
    "outcome",
    "owner",
    "parked",
    "partition",
    "path",
    "payload",
    "position",
    "process",
    "published",
    "publisher",
    "ready_at",
    "reason",
    "recorded_at",
    "renewals",
    "requested_at",
    "revision",
    "scope",
    "seen",
    "seq",
    "settled_at",
    "source",
    "state",
    "taken_over_at",
    "takeovers",
    "time",
    "topic",
    "topic_id",
    "traceparent",
    "tree_id",
    "undo",
    "verb",
    "version",
    "worker",
];

/// The named parts of statements (`with part as …`).
const PARTS: &[&str] = &[
    "accepted",
    "advanced",
    "called",
    "changed",
    "chosen",
    "claimed",
    "cleared",
    "closed",
    "created",
    "due",
    "emitted",
    "emptied",
    "entered",
    "fenced",
    "fences",
    "free",
    "fresh",
    "heads",
    "joined",
    "keyed",
    "lanes",
    "late",
    "leased",
    "leaving",
    "locked",
    "me",
    "moment",
    "moved",
    "needed",
    "next",
    "offsets",
    "open",
    "orphaned",
    "permit",
    "renewed",
    "sent",
    "settled",
    "silent",
    "started",
    "suspected",
    "suspected_again",
    "taken",
    "timers_cleared",
    "timers_set",
    "topics",
    "whole",
];

/// Words that something else here is called, and what to say instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("birth", "created"),
    ("born", "created"),
    ("cursor", "published"),
    ("entry", "journal"),
    ("held", "fenced, locked or chosen"),
    ("intake_position", "group_offset"),
    ("lease_ends_at", "renewals, which a watcher counts"),
    ("meta", "store_setting"),
    ("phase", "state"),
    ("place", "ordinal"),
    ("slot", "fence"),
];

/// Those of them that comments do not use either.
const FORBIDDEN_IN_COMMENTS: &[&str] = &["birth", "born", "cursor", "phase", "slot"];

/// SQL that stands in Rust, and why.
const IN_RUST: &[(&str, &str)] = &[
    ("begin", "makes up for a transaction that an author ended and SQLite's driver still counts"),
    ("begin immediate", "frames a transaction of SQLite's writer"),
    ("begin isolation level repeatable read, read only", "frames the reading of a whole tree"),
    ("commit", "frames a transaction of SQLite's writer"),
    ("rollback", "frames a transaction of SQLite's writer"),
];

/// The files of a folder of the workspace and of those below it, with their text.
fn files(folder: &str, extension: &str) -> BTreeMap<PathBuf, String> {
    let mut files = texts(extension);
    files.retain(|file, _| file.starts_with(folder));
    assert!(!files.is_empty(), "{folder} is there");
    files
}

/// The statements of a store by name.
fn statements(store: &str) -> BTreeMap<String, String> {
    let name = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let files = files(&format!("crates/sapwood-{store}/queries"), "sql").into_iter();
    files.map(|(path, text)| (name(path), text)).collect()
}

fn names(store: &str) -> BTreeSet<String> {
    statements(store).into_keys().collect()
}

/// SQL without its comments and without what stands in quotes.
fn code(sql: &str) -> String {
    let mut code = String::new();
    for line in sql.lines() {
        let line = line.split("--").next().unwrap_or_default();
        let unquoted = line.split('\'').step_by(2).collect::<Vec<_>>().join("''");
        code.push_str(&unquoted.split('"').step_by(2).collect::<Vec<_>>().join("\"\""));
        code.push('\n');
    }
    code
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Tables with their columns, as the migrations of both stores make them.
fn tables() -> BTreeMap<String, BTreeSet<String>> {
    let mut tables = BTreeMap::<String, BTreeSet<String>>::new();
    for sql in files("migrations", "sql").values() {
        for table in code(sql).split("create table ").skip(1) {
            let (name, columns) = table.split_once(" (\n").expect("a table has columns");
            let columns = columns.split("\n)").next().unwrap_or_default();
            let first_words = columns.lines().filter_map(|line| words(line).next());
            let columns = first_words.filter(|word| *word != "primary").map(str::to_owned);
            tables.entry(name.to_owned()).or_default().extend(columns);
        }
    }
    tables
}

fn assert_exact<T: Ord + Debug + ?Sized>(what: &str, found: &BTreeSet<&T>, listed: &BTreeSet<&T>) {
    let new: Vec<_> = found.difference(listed).collect();
    let stale: Vec<_> = listed.difference(found).collect();
    assert!(new.is_empty() && stale.is_empty(), "{what}: found and not listed {new:?}, listed and not found {stale:?}");
}

/// A statement is found by what it is about and what it does with it.
#[test]
fn every_statement_is_a_noun_and_a_verb() {
    let tables = tables();
    let nouns: Vec<&str> = tables.keys().map(String::as_str).chain(NOUNS.iter().copied()).collect();
    let (mut nouns_used, mut verbs_used) = (BTreeSet::new(), BTreeSet::new());
    for name in ["postgres", "sqlite"].iter().flat_map(|store| names(store)) {
        let known = nouns.iter().find_map(|noun| {
            let verb = name.strip_prefix(noun)?.strip_prefix('_')?;
            VERBS.iter().find(|known| **known == verb).map(|verb| (*noun, *verb))
        });
        let (noun, verb) = known.unwrap_or_else(|| panic!("{name}.sql is not a known noun and a known verb"));
        nouns_used.insert(noun);
        verbs_used.insert(verb);
    }
    assert_exact("verbs", &verbs_used, &VERBS.iter().copied().collect());
    nouns_used.retain(|noun| !tables.contains_key(*noun));
    assert_exact("nouns", &nouns_used, &NOUNS.iter().copied().collect());
}

/// A job that both stores do has one name; a job that only one of them does says why.
#[test]
fn both_stores_have_the_same_statements_but_for_a_list() {
    let (postgres, sqlite) = (names("postgres"), names("sqlite"));
    let divided = DIVIDED.iter().map(|(whole, _)| *whole);
    let parts = DIVIDED.iter().flat_map(|(_, parts)| *parts).copied();
    for (name, parts) in DIVIDED {
        assert!(postgres.contains(*name), "{name} is not on PostgreSQL");
        assert!(parts.is_sorted(), "{name}: in alphabetical order");
    }
    let both: BTreeSet<&str> = postgres.intersection(&sqlite).map(String::as_str).collect();
    let listed = divided.filter(|name| !both.contains(name)).chain(POSTGRES_ALONE.iter().map(|(name, _)| *name));
    let found = postgres.iter().map(String::as_str).filter(|name| !both.contains(name)).collect();
    assert_exact("only on PostgreSQL", &found, &listed.collect());
    let listed = parts.chain(SQLITE_ALONE.iter().map(|(name, _)| *name)).collect();
    let found = sqlite.iter().map(String::as_str).filter(|name| !both.contains(name)).collect();
    assert_exact("only on SQLite", &found, &listed);
}

/// One word for one meaning.
#[test]
fn columns_and_parts_are_words_of_the_vocabulary() {
    let tables = tables();
    assert!(tables.len() > 12, "{tables:?}");
    let columns: BTreeSet<&str> = tables.values().flatten().map(String::as_str).collect();
    assert_exact("columns", &columns, &COLUMNS.iter().copied().collect());
    for (table, columns) in &tables {
        assert!(table == "tree" || table == "worker" || !columns.contains("id"), "{table}: say which id it is");
    }

    let statements: Vec<String> =
        ["postgres", "sqlite"].iter().flat_map(|store| statements(store).into_values()).collect();
    let code: Vec<String> = statements.iter().map(|sql| code(sql)).collect();
    let part = |line: &'_ str| {
        let (before, _) = line.split_once(" as (").or_else(|| line.split_once(" as materialized ("))?;
        let name = before.trim_start_matches("with ").split(' ').next()?;
        // At the end of its line: the bracket opens the part. A generated column or an alias does not.
        line.ends_with('(').then(|| name.to_owned())
    };
    let parts: BTreeSet<String> = code.iter().flat_map(|sql| sql.lines()).filter_map(part).collect();
    assert_exact("parts", &parts.iter().map(String::as_str).collect(), &PARTS.iter().copied().collect());
}

/// What was said in two ways is said in one.
#[test]
fn no_word_has_come_back_that_something_else_is_called() {
    let mut wrong = Vec::new();
    for (file, sql) in texts("sql") {
        let code = code(&sql);
        let in_code = words(&code).filter(|word| FORBIDDEN.iter().any(|(forbidden, _)| forbidden == word));
        let in_comments = words(&sql).filter(|word| FORBIDDEN_IN_COMMENTS.contains(word));
        for word in in_code.chain(in_comments).collect::<BTreeSet<_>>() {
            let instead = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == word).map(|(_, instead)| *instead);
            wrong.push(format!("{}: {word}, say {}", file.display(), instead.unwrap_or_default()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One statement per file, in lower case.
#[test]
fn sql_is_lower_case_and_a_statement_has_a_file_of_its_own() {
    for (file, sql) in texts("sql") {
        let code = code(&sql);
        assert_eq!(code, code.to_lowercase(), "{} is not in lower case", file.display());
        if !file.starts_with("migrations") {
            let ends = code.trim_end().trim_end_matches(';').matches(';').count();
            assert_eq!(ends, 0, "{} has more than one statement", file.display());
        }
    }
}

/// On PostgreSQL every table and function of ours stands in the schema `context`, for which the store writes the context's
/// own: a statement that is found by the `search_path` is found by what a session was left with.
#[test]
fn every_table_and_function_of_a_statement_on_postgresql_names_its_schema() {
    let tables = tables();
    let functions = files("migrations/postgres", "sql").into_values().flat_map(|sql| {
        let names = sql.split("create function ").skip(1).filter_map(|rest| rest.split('(').next().map(str::to_owned));
        let sequences =
            sql.split("create sequence ").skip(1).filter_map(|rest| rest.split(';').next().map(str::to_owned));
        names.chain(sequences).collect::<Vec<_>>()
    });
    let functions: BTreeSet<String> = functions.collect();
    assert!(functions.len() > 2, "{functions:?}");
    let mut wrong = Vec::new();
    for (name, sql) in statements("postgres") {
        // Names in quotes count: `nextval('…')`, `'…'::regclass`. Comments do not.
        let code: String =
            sql.lines().map(|line| line.split("--").next().unwrap_or_default().to_owned() + " ").collect();
        for (place, word) in words(&code).map(|word| (word.as_ptr().addr() - code.as_ptr().addr(), word)) {
            let before = code[..place].trim_end();
            let keyword = words(before).last().unwrap_or_default();
            let (opens, follows) = (code[..place].ends_with(' '), ["from", "join", "into", "update", "using"]);
            let is_table =
                tables.contains_key(word) && opens && follows.contains(&keyword) && before.ends_with(keyword);
            let is_named = tables.contains_key(word) && code[..place].ends_with('\'');
            if (is_table || is_named || functions.contains(word)) && !code[..place].ends_with("context.") {
                wrong.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "these do not say in which schema they are: {wrong:#?}");
}

/// A statement is read by its own store, and none is left over. (One that is included and not there does not compile.)
#[test]
fn every_statement_is_used_by_its_own_store_alone() {
    for (store, other) in [("postgres", "sqlite"), ("sqlite", "postgres")] {
        let sources = files(&format!("crates/sapwood-{store}/src"), "rs");
        let used: BTreeSet<&str> = sources
            .values()
            .flat_map(|text| text.split("include_str!(\"../queries/").skip(1))
            .filter_map(|rest| rest.split(".sql").next())
            .collect();
        let there = names(store);
        assert_exact(store, &there.iter().map(String::as_str).collect(), &used);
        let elsewhere = files("crates", "rs");
        let foreign = format!("sapwood-{other}/queries");
        let borrowed: Vec<_> =
            elsewhere.iter().filter(|(_, text)| text.contains(&foreign)).map(|(file, _)| file).collect();
        assert!(borrowed.is_empty(), "these read statements of {other}: {borrowed:#?}");
    }
}

/// SQL is in files of its own, but for what frames a transaction.
#[test]
fn no_statement_stands_in_rust() {
    const CALLS: [&str; 5] = ["query(\"", "query_as(\"", "query_scalar(\"", "query_with(\"", "begin_with(\""];
    let mut found = BTreeSet::new();
    for store in ["postgres", "sqlite"] {
        for text in files(&format!("crates/sapwood-{store}/src"), "rs").into_values() {
            for call in CALLS {
                let statements = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(statements.map(str::to_owned));
            }
        }
    }
    let listed = IN_RUST.iter().map(|(sql, _)| *sql).collect();
    assert_exact("SQL in Rust", &found.iter().map(String::as_str).collect(), &listed);
}
