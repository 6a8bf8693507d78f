//! `backup`, as an operator runs it: beside a process that serves, and where it has to refuse.

use std::path::Path;

use sapwood_tests::process::{Ended, Program};
use sapwood_tests::sqlite::TestFile;
use serde_json::json;

use super::{Desk, noted};

fn desk(place: &Path, store: &str, arguments: &[&str]) -> Ended {
    Program::new("desk", place).environment([("SAPWOOD_STORE", store)]).arguments(arguments).run()
}

fn assert_refused(ended: &Ended, code: &str, says: &str) {
    let Ended { status, out, err } = ended;
    assert_eq!(status.code(), Some(1), "{out}\n{err}");
    assert!(err.contains(&format!("[{code}]")) && err.contains(says), "{code}, {says}: {err}");
}

/// P5, R3: a copy that is made while another process serves the directory has what was acknowledged before, and is a store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_a_process_that_serves_is_a_store() {
    let (place, restored) = (TestFile::fresh(), TestFile::fresh());
    let serving = Desk::start(place.directory(), "sqlite:data");
    let file = place.directory().join("file");
    let tree = serving.begin(&file).await.expect(201);
    noted(&file, "begun", 1).await;

    let out = desk(place.directory(), "sqlite:data", &["backup", "copy.db"]).well();
    assert!(out.contains("copy.db is written"), "{out}");
    serving.is_ready().await;
    let copy = place.directory().join("copy.db");
    let copied = std::fs::read(&copy).expect("a copy");
    for arguments in [["backup", "copy.db"].as_slice(), &["backup", "--context", "desk", "copy.db"]] {
        assert_refused(&desk(place.directory(), "sqlite:data", arguments), "backup_failed", "overwrites nothing");
    }
    assert_eq!(std::fs::read(&copy).expect("a copy"), copied);

    let _ = serving.process.kill();
    std::fs::create_dir(restored.directory().join("data")).expect("a directory");
    std::fs::rename(&copy, restored.directory().join("data/desk.db")).expect("it is restored");
    let next = Desk::start(restored.directory(), "sqlite:data");
    std::fs::write(&file, "").expect("a file is written");
    assert_eq!(next.outcome(&tree).await["value"], json!(file));
    next.process.terminate();
    let _ = next.process.ended().well();
}

#[test]
fn a_backup_that_cannot_be_made_says_why() {
    let place = TestFile::fresh();
    let here = |store: &str, arguments: &[&str]| desk(place.directory(), store, arguments);
    assert_refused(&here("sqlite:data", &["backup", "copy.db"]), "backup_failed", "there is no SQLite database");
    let postgres = here("postgres://nobody@127.0.0.1:1/none", &["backup", "copy.db"]);
    assert_refused(&postgres, "backup_failed", "pg_dump");
    let other = here("sqlite:data", &["backup", "--context", "chair", "copy.db"]);
    assert_refused(&other, "invalid_setting", "`chair` is not one; the contexts are desk");
    assert_eq!(std::fs::read_dir(place.directory()).expect("a directory").count(), 0, "nothing is made");

    let misspelled = here("sqlite:data", &["backup"]);
    assert_eq!(misspelled.status.code(), Some(2), "{}", misspelled.err);
    assert!(misspelled.err.contains("<FILE>"), "{}", misspelled.err);
}

#[test]
fn the_help_names_each_command_and_what_it_needs() {
    let place = TestFile::fresh();
    let help = desk(place.directory(), "sqlite:data", &["--help"]).well();
    for text in ["serve", "migrate", "openapi", "backup", "SAPWOOD_STORE", "--config <FILE>"] {
        assert!(help.contains(text), "{text}: {help}");
    }
    let help = desk(place.directory(), "sqlite:data", &["backup", "--help"]).well();
    for text in ["while another process runs on it", "it must not exist", "--context <CONTEXT>"] {
        assert!(help.contains(text), "{text}: {help}");
    }
}
