//! The rules of the house that a machine can keep: how files open, how long they are, and what they import.
//!
//! | room | what is there |
//! |---|---|
//! | here | the rules about Rust files, and the lists of what they leave out |
//! | [`source`] | what of a file is code, its tokens, and how long its functions are |
//! | [`imports`] | which files of a crate import which |
//!
//! A rule about another kind of file, such as the words of SQL, is a module beside these; [`texts`] reads files of any
//! extension.
//!
//! A rule with exceptions has a list of them, each with its reason. An entry that is no longer needed fails its test as
//! well, so the lists only shrink unless a review decides otherwise.

mod imports;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use sapwood_tests::workspace::{self, texts};

use imports::{Crate, Imports};

/// A file that is longer holds more than one subject.
const FILE_LINES_MOST: usize = 700;

/// A function that is longer is not read at one glance, even as one linear story.
const FUNCTION_LINES_MOST: usize = 100;

/// Files over [`FILE_LINES_MOST`], and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions over [`FUNCTION_LINES_MOST`], and why.
const LONG_FUNCTIONS: &[(&str, &str, &str)] =
    &[("crates/sapwood-api/src/problem.rs", "meaning", "a table: a few lines of text for each code")];

/// Circles of files, and why each may stay.
const CIRCLES: &[(&[&str], &str)] = &[(
    &["crates/sapwood/src/app.rs", "crates/sapwood/src/cli.rs"],
    "the app's `main` hands over to the command line, which builds the app: two halves of one entrance",
)];

/// Files that stand beside the folder of their children, and why.
const BESIDE_THEIR_FOLDER: &[(&str, &str)] = &[];

/// Files and folders whose decisions are made of values alone: they replay and are tested without a clock, a store or
/// a runtime.
const PURE: &[&str] = &[
    "crates/sapwood-engine/src/replay/",
    "crates/sapwood-engine/src/tree/draft.rs",
    "crates/sapwood-engine/src/tree/hold.rs",
    "crates/sapwood-engine/src/tree/model.rs",
    "crates/sapwood-engine/src/tree/node.rs",
    "crates/sapwood-engine/src/tree/record.rs",
    "crates/sapwood-engine/src/tree/settle.rs",
];

/// What a pure file does not name: what waits, the time, chance, and the store.
const IMPURE: &[&str] = &[
    "async",
    ".await",
    "tokio",
    "Clock",
    "Timestamp::now",
    "Instant",
    "SystemTime",
    "Uuid::now_v7",
    "Uuid::new_v4",
    "fraction(",
    "dyn Store",
];

/// What gives time, chance, identities or tasks of the machine.
const ASKS: &[&str] = &[
    "Timestamp::now",
    "SystemClock",
    "Instant::now",
    "SystemTime",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "TreeId::fresh",
    "tokio::spawn",
    "task::spawn",
    "thread::spawn",
    "thread::Builder",
    "RandomState",
];

/// Compares what was found with the list of what may be.
fn assert_listed<T: Ord + Debug>(rule: &str, found: &BTreeSet<T>, listed: &BTreeSet<T>) {
    let new: Vec<_> = found.difference(listed).collect();
    let stale: Vec<_> = listed.difference(found).collect();
    assert!(
        new.is_empty() && stale.is_empty(),
        "{rule}\nfound and not listed: {new:#?}\nlisted and not found: {stale:#?}"
    );
}

/// A file's first paragraph could stand on a map.
#[test]
fn every_rust_file_opens_with_its_sentence() {
    let texts = texts("rs");
    assert!(texts.len() > 200, "the files are found");
    let opens_well = |text: &str| {
        let lines = text.lines().map_while(|line| line.strip_prefix("//! "));
        lines.last().is_some_and(|line| line.ends_with(['.', ':']))
    };
    let wrong: Vec<_> = texts.iter().filter(|(_, text)| !opens_well(text)).map(|(file, _)| file).collect();
    assert!(wrong.is_empty(), "these do not open with a sentence behind `//!`: {wrong:#?}");
}

/// Length is a sign, not a fault: what is long for a reason says so in the list.
#[test]
fn no_file_and_no_function_is_long_without_a_reason() {
    let (mut files, mut functions) = (BTreeSet::new(), BTreeSet::new());
    for (file, text) in texts("rs") {
        if text.lines().count() > FILE_LINES_MOST {
            files.insert(file.clone());
        }
        let all = source::functions(&source::code(&text)).into_iter();
        let long = all.filter(|function| function.lines > FUNCTION_LINES_MOST);
        functions.extend(long.map(|function| (file.clone(), function.name)));
    }
    let listed = LONG_FILES.iter().map(|(file, _)| file.into()).collect();
    assert_listed(&format!("a file has at most {FILE_LINES_MOST} lines"), &files, &listed);
    let listed = LONG_FUNCTIONS.iter().map(|(file, name, _)| (file.into(), (*name).to_owned())).collect();
    assert_listed(&format!("a function has at most {FUNCTION_LINES_MOST} lines"), &functions, &listed);
}

/// What imports in one direction can be read, tested and moved one file at a time.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let workspace = workspace::metadata();
    let read = |file: &Path| std::fs::read_to_string(workspace::root().join(file)).ok();
    let targets = workspace.packages.iter().flat_map(|package| &package.targets);
    let mut imports = Imports::new();
    for target in targets.filter(|target| !target.is_custom_build()) {
        let crate_root = target.src_path.as_std_path().strip_prefix(workspace::root());
        imports.extend(Crate::read(crate_root.expect("a file of the workspace"), &read).imports());
    }
    assert!(imports.values().map(BTreeMap::len).sum::<usize>() > 300, "imports are found");

    // With a path that shows each import, so that it is known what to cut.
    let within = |circle: &BTreeSet<PathBuf>| {
        let arrows = circle.iter().flat_map(|from| {
            let to = imports[from].iter().filter(|(to, _)| circle.contains(*to));
            to.map(|(to, path)| format!("  {} imports {} by {path}\n", from.display(), to.display()))
        });
        arrows.collect::<String>()
    };
    let found: BTreeSet<_> = imports::circles(&imports).into_iter().collect();
    let listed = CIRCLES.iter().map(|(files, _)| files.iter().map(PathBuf::from).collect()).collect();
    let unlisted: String = found.difference(&listed).map(within).collect();
    assert_listed(&format!("imports make no circle\n{unlisted}"), &found, &listed);
}

/// A module with children is `x/mod.rs`: one place to look.
#[test]
fn a_module_with_children_is_in_their_folder() {
    let files: BTreeSet<PathBuf> = texts("rs").into_keys().collect();
    let folders: BTreeSet<PathBuf> = files.iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
    let beside = files.iter().filter(|file| folders.contains(&file.with_extension(""))).cloned().collect();
    let listed = BESIDE_THEIR_FOLDER.iter().map(|(file, _)| file.into()).collect();
    assert_listed("a module with children is x/mod.rs", &beside, &listed);
}

/// Decisions are values: what is decided again on a replay depends on nothing but the record.
#[test]
fn pure_files_name_no_clock_no_chance_no_store_and_do_not_wait() {
    let texts = texts("rs");
    let mut wrong = Vec::new();
    for room in PURE {
        let of_room = texts.iter().filter(|(file, _)| file.to_string_lossy().starts_with(room));
        let files: Vec<_> = of_room.collect();
        assert!(!files.is_empty(), "{room} is not there");
        for (file, text) in files {
            let code = source::code(text);
            let tokens = source::tokens(&code);
            let named = IMPURE.iter().filter(|words| source::contains(&tokens, words));
            wrong.extend(named.map(|words| format!("{} names {words}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The one file of the engine that asks the machine for time, chance, identities and tasks: given another, a run is
/// repeated from its seed.
#[test]
fn only_the_environment_of_the_engine_asks_the_machine() {
    const ENVIRONMENT: &str = "crates/sapwood-engine/src/environment.rs";
    let (mut asks, mut wrong) = (false, Vec::new());
    for (file, text) in texts("rs").into_iter().filter(|(file, _)| file.starts_with("crates/sapwood-engine/src")) {
        let code = source::code(&text);
        let tokens = source::tokens(&code);
        let named: Vec<_> = ASKS.iter().filter(|words| source::contains(&tokens, words)).collect();
        if file == Path::new(ENVIRONMENT) {
            asks = !named.is_empty();
        } else {
            wrong.extend(named.into_iter().map(|words| format!("{} names {words}", file.display())));
        }
    }
    assert!(asks, "{ENVIRONMENT} does");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Which branch of a `select!` is polled first is drawn by its runtime, unless it is said.
#[test]
fn no_select_of_the_engine_draws_its_branch() {
    let (mut count, mut wrong) = (0, Vec::new());
    for (file, text) in texts("rs").into_iter().filter(|(file, _)| file.starts_with("crates/sapwood-engine/src")) {
        let code = source::code(&text);
        let tokens = source::tokens(&code);
        let selects = source::count(&tokens, "select! {");
        count += selects;
        if source::count(&tokens, "select! { biased;") < selects {
            wrong.push(file);
        }
    }
    assert!(count > 3, "they are found");
    assert!(wrong.is_empty(), "a `select!` without `biased;`: {wrong:#?}");
}

/// A run on the store in memory repeats: the store takes its time from its maker, and keeps everything in an order.
#[test]
fn the_store_in_memory_asks_the_machine_for_nothing() {
    let texts = texts("rs").into_iter().filter(|(file, _)| file.starts_with("crates/sapwood-memory/src"));
    let mut wrong = Vec::new();
    for (file, text) in texts {
        let code = source::code(&text);
        let tokens = source::without_tests(&source::tokens(&code));
        let named = ASKS.iter().chain(&["HashMap", "HashSet"]).filter(|words| source::contains(&tokens, words));
        wrong.extend(named.map(|words| format!("{} names {words}", file.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Words that are hard to read for somebody new, or have a plainer one, each with that.
const PLAIN: &[(&str, &str)] = &[
    ("any more", "no longer"),
    ("nobody's", "say whose it is not: no worker owns it"),
    ("somebody", "say who: another worker, the caller, a person"),
    ("see the module", "a sentence that says what the type is"),
    (", for it ", "because it"),
    (", for they ", "because they"),
    ("says whether", "returns whether"),
];

/// Comments and pages are in plain English: what was reworded once does not come back.
#[test]
fn prose_uses_the_plain_word() {
    // The page of the promises has words of its own, which are fixed.
    let pages = texts("md").into_iter().filter(|(file, _)| file != Path::new("docs/SEMANTICS.md"));
    let code = texts("rs").into_iter().chain(texts("sql"));
    let is_prose = |file: &Path, line: &str| {
        let line = line.trim_start();
        file.extension().is_some_and(|of| of == "md") || line.starts_with("//") || line.starts_with("--")
    };
    let mut wrong = Vec::new();
    for (file, text) in code.chain(pages).filter(|(file, _)| !file.ends_with("tidy/mod.rs")) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_prose(&file, line)) {
            let line = line.to_lowercase();
            let found = PLAIN.iter().filter(|(words, _)| line.contains(words));
            wrong.extend(
                found.map(|(words, plain)| format!("{}:{}: `{words}`; better: {plain}", file.display(), number + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
