//! What the compiler refuses, in which words, and that it refuses nothing else: the cases under `ui/`.
//!
//! A case says on each wrong line what its author is told: `//~ words` for its own line, `//~^ words` for the line
//! above. Every error of the compiler stands on such a line, and what is said of that line holds the words; all else
//! is the compiler's to word as it likes, which changes from version to version. `ui/pass/*.rs` compile without
//! a warning.
//!
//! The crates a case names are those that this binary was linked with, so nothing is built anew. (`trybuild` builds
//! every dependency a second time, under flags of its own: minutes, and more than a gigabyte.) Cargo names
//! a library's file by a hash of how it was built; the harness's library refers to its dependencies by these hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use std::{env, fs, iter, thread};

use serde_json::Value;

/// The crates that cases name.
const NAMED: [&str; 7] = ["futures", "sapwood", "sapwood_core", "schemars", "serde", "thiserror", "tokio"];

/// A1, A3, N3 at compile time: each wrong line of a case is refused in the promised words, and no other line is.
#[test]
fn what_is_wrong_does_not_compile_and_says_why() {
    check_all("ui", |compiler, case| {
        let said = compiler.compile(case, &[]).into_iter().filter(|diagnostic| diagnostic.level == "error");
        compare(&promises(&compiler.directory.join(case)), said.collect())
    });
}

/// What an author may write compiles without a warning, also under lints that look at generated code.
#[test]
fn what_is_right_compiles_in_silence() {
    const LINTS: [&str; 5] = ["-Dwarnings", "-Dmissing_docs", "-Dunreachable_pub", "-Dunused", "-Dnonstandard_style"];
    check_all("ui/pass", |compiler, case| {
        compiler
            .compile(case, &LINTS)
            .iter()
            .map(|diagnostic| format!("{}: {}", diagnostic.line, diagnostic.said))
            .collect()
    });
}

/// Checks each case of a directory, on as many threads as there are processors; panics with all that is wrong.
fn check_all(directory: &str, check: impl Fn(&Compiler, &Path) -> Vec<String> + Sync) {
    let compiler = Compiler::of_this_binary();
    let mut cases: Vec<PathBuf> = fs::read_dir(compiler.directory.join(directory))
        .expect("the directory of the cases can be read")
        .map(|entry| Path::new(directory).join(entry.expect("its entries too").file_name()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {directory}");
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = check(&compiler, case);
                    if !found.is_empty() {
                        wrong.lock().expect("no check panics with the lock").insert(case.clone(), found);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no check panics with the lock");
    let report = wrong.iter().map(|(case, found)| format!("{}\n    {}\n", case.display(), found.join("\n    ")));
    assert!(wrong.is_empty(), "\n{}", report.collect::<String>());
}

/// What a case promises of its lines.
fn promises(case: &Path) -> BTreeMap<u64, Vec<String>> {
    let mut promises = BTreeMap::<u64, Vec<String>>::new();
    let text = fs::read_to_string(case).expect("a case can be read");
    for (number, line) in (1u64..).zip(text.lines()) {
        if let Some((_, words)) = line.split_once("//~") {
            let above = words.chars().take_while(|c| *c == '^').count();
            let words = words.trim_start_matches('^').trim().to_owned();
            promises.entry(number - above as u64).or_default().push(words);
        }
    }
    promises
}

/// What differs between what a case promises and what the compiler says.
fn compare(promises: &BTreeMap<u64, Vec<String>>, said: Vec<Diagnostic>) -> Vec<String> {
    let mut by_line = BTreeMap::<u64, String>::new();
    for diagnostic in said {
        by_line.entry(diagnostic.line).or_default().push_str(&format!("{}\n", diagnostic.said));
    }
    let unexpected = by_line.iter().filter(|(line, _)| !promises.contains_key(line));
    let unexpected = unexpected.map(|(line, said)| format!("{line}: not promised, but said: {said}"));
    let missing = promises.iter().flat_map(|(line, words)| words.iter().map(move |words| (line, words)));
    let missing = missing.filter_map(|(line, words)| match by_line.get(line) {
        Some(said) if said.contains(words.as_str()) => None,
        said => Some(format!("{line}: promised `{words}`, said: {}", said.map_or("nothing", String::as_str))),
    });
    unexpected.chain(missing).collect()
}

/// An error or a warning.
struct Diagnostic {
    level: String,
    /// The line of the case; 0 if it stands in none.
    line: u64,
    /// The message with its labels, notes and helps.
    said: String,
}

impl Diagnostic {
    fn read(case: &Path, line: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(line).ok()?;
        let level = json["level"].as_str()?.to_owned();
        if !["error", "warning"].contains(&level.as_str()) {
            return None;
        }
        let spans = json["spans"].as_array().filter(|spans| !spans.is_empty());
        if spans.is_none() && json["message"].as_str()?.starts_with("aborting due to") {
            return None;
        }
        let mut primary = spans.into_iter().flatten().filter(|span| span["is_primary"] == true);
        let line = primary.find_map(|span| line_in(case, span)).unwrap_or(0);
        Some(Self { level, line, said: texts(&json).join("\n") })
    }
}

/// The line of a span in the case, be it that of a macro's call.
fn line_in(case: &Path, span: &Value) -> Option<u64> {
    let inside_out =
        iter::successors(Some(span), |span| Some(&span["expansion"]["span"]).filter(|span| span.is_object()));
    let mut here = inside_out.filter(|span| span["file_name"].as_str().is_some_and(|name| Path::new(name) == case));
    here.find_map(|span| span["line_start"].as_u64())
}

/// A message, its labels, and those of its notes and helps.
fn texts(diagnostic: &Value) -> Vec<String> {
    let labels = diagnostic["spans"].as_array().into_iter().flatten().map(|span| &span["label"]);
    let own = iter::once(&diagnostic["message"]).chain(labels).filter_map(Value::as_str).map(str::to_owned);
    let children = diagnostic["children"].as_array().into_iter().flatten().flat_map(texts);
    own.chain(children).collect()
}

/// The compiler, with the crates that this binary was linked with.
struct Compiler {
    rustc: PathBuf,
    /// Where the package is; cases are named relative to it.
    directory: PathBuf,
    arguments: Vec<String>,
}

impl Compiler {
    fn of_this_binary() -> Self {
        let binary = env::current_exe().expect("a running binary has a path");
        let libraries = binary.parent().expect("a file is in a directory");
        let files = Library::all_in(libraries);
        let harness = files.iter().filter(|file| file.name == "sapwood_tests").max_by_key(|file| file.modified);
        let harness = harness.expect("the harness's library stands beside the binary linked with it");
        let metadata =
            fs::read(harness.path.with_extension("rmeta")).expect("cargo writes a library's metadata beside it");
        let metadata = String::from_utf8_lossy(&metadata);
        let mut arguments = vec![format!("-Ldependency={}", libraries.display())];
        for name in NAMED {
            let mut built = files.iter().filter(|file| file.name == name);
            let linked = built.find(|file| metadata.contains(&file.hash));
            let linked = linked.unwrap_or_else(|| panic!("the harness does not name {name}: see tests/src/lib.rs"));
            arguments.push(format!("--extern={name}={}", linked.path.display()));
        }
        Self { rustc: rustc(), directory: env!("CARGO_MANIFEST_DIR").into(), arguments }
    }

    /// All that the compiler says of a case.
    fn compile(&self, case: &Path, lints: &[&str]) -> Vec<Diagnostic> {
        let output = Command::new(&self.rustc)
            .current_dir(&self.directory)
            .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--error-format=json"])
            .args([Path::new("--out-dir"), Path::new(env!("CARGO_TARGET_TMPDIR"))])
            .args(&self.arguments)
            .args(lints)
            .arg(case)
            .output()
            .expect("the compiler can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        let diagnostics: Vec<Diagnostic> = said.lines().filter_map(|line| Diagnostic::read(case, line)).collect();
        assert!(output.status.success() || !diagnostics.is_empty(), "{}: {said}", case.display());
        diagnostics
    }
}

/// The compiler of the cargo that runs this test.
fn rustc() -> PathBuf {
    let beside =
        env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc")).filter(|rustc| rustc.exists());
    env::var_os("RUSTC").map(PathBuf::from).or(beside).unwrap_or_else(|| "rustc".into())
}

/// `libsapwood-0123456789abcdef.rlib`
struct Library {
    name: String,
    hash: String,
    path: PathBuf,
    modified: SystemTime,
}

impl Library {
    fn all_in(directory: &Path) -> Vec<Self> {
        let entries = fs::read_dir(directory).expect("the directory of this binary can be read");
        entries.filter_map(|entry| Self::read(entry.ok()?.path())).collect()
    }

    fn read(path: PathBuf) -> Option<Self> {
        let (name, hash) = path.file_name()?.to_str()?.strip_prefix("lib")?.strip_suffix(".rlib")?.rsplit_once('-')?;
        let (name, hash) = (name.to_owned(), hash.to_owned());
        let modified = path.metadata().ok()?.modified().ok()?;
        Some(Self { name, hash, path, modified })
    }
}
