//! The smallest app that ends in [`App::run`], for tests of the command line and of processes: a function whose step waits
//! for a file, and a consumer of the event that says so.
//!
//! What is done is noted in `FILE.log`, a line each, with the id of the process that did it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use sapwood::prelude::*;

/// How often the file is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The desk context.
#[derive(BoundedContext)]
#[context(name = "desk")]
pub struct Desk;

/// What its functions need: nothing.
#[derive(Dependencies)]
#[dependencies(of = Desk)]
pub struct DeskDependencies;

/// A file came.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Desk, name = "file-arrived", version = 1, key = file)]
pub struct FileArrived {
    file: String,
}

/// Waits for a file.
#[sapwood::function]
pub async fn await_file(cx: &mut Cx<DeskDependencies>, file: String) -> Result<String, sapwood::Error> {
    cx.step("wait", || wait(&file)).await?;
    cx.emit(FileArrived { file: file.clone() });
    Ok(file)
}

/// Notes that a file came.
#[sapwood::consumer(group = "notes")]
pub async fn note_arrival(
    cx: &mut ConsumerCx<DeskDependencies>,
    event: Delivered<FileArrived>,
) -> Result<(), sapwood::Error> {
    cx.step("note", async || note(&event.file, "noted")).await
}

async fn wait(file: &str) -> Result<(), sapwood::Error> {
    note(file, "begun")?;
    while !Path::new(file).exists() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    note(file, "ended")
}

fn note(file: &str, what: &str) -> Result<(), sapwood::Error> {
    let mut log = OpenOptions::new().create(true).append(true).open(format!("{file}.log"))?;
    // One write a line, so that two processes do not mix theirs.
    log.write_all(format!("{what} {}\n", std::process::id()).as_bytes())?;
    Ok(())
}

#[tokio::main]
async fn main() -> sapwood::Result<()> {
    App::new().context(DeskDependencies).run().await
}
