//! Programs of the workspace, run as processes and watched: what they print, how they end, and how they are killed.
//!
//! A process sees no setting of the person who runs the tests, only those that a test gives it, and is killed when
//! the test lets go of it. Waits are for what it prints or for its end; each ends after [`RUN`] and shows what
//! the process said until then.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use cargo_metadata::{Message, TargetKind};
use parking_lot::{Condvar, Mutex};

use crate::wait::RUN;

/// Where cargo put the programs, by name.
///
/// Cargo tells a test where the programs of its own package are, but not those of others, so it is asked. `./test` has
/// built them by then with the same arguments, and cargo answers at once.
static PROGRAMS: LazyLock<HashMap<String, PathBuf>> = LazyLock::new(build);

fn build() -> HashMap<String, PathBuf> {
    let this = std::env::current_exe().expect("a test knows where it is");
    // target/PROFILE/deps/it-…
    let directory = this.ancestors().nth(2).expect("tests are in a directory of cargo's");
    let profile = match directory.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = directory.parent().expect("a profile's directory is in the target directory");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["build", "--workspace", "--bins", "--all-features", "--quiet", "--profile", profile])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(target)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "the programs cannot be built");
    let messages = Message::parse_stream(built.stdout.as_slice()).map(|message| message.expect("cargo's own words"));
    let programs = messages.filter_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.target.kind.contains(&TargetKind::Bin) => {
            Some((artifact.target.name, artifact.executable?.into_std_path_buf()))
        }
        _ => None,
    });
    programs.collect()
}

/// A program, and how it will be run.
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Command,
}

impl Program {
    /// A program of the workspace, to be run in `directory`.
    ///
    /// # Panics
    /// If the workspace has none of this name, or it does not compile.
    #[must_use]
    pub fn new(name: &str, directory: &Path) -> Self {
        let path = PROGRAMS.get(name).unwrap_or_else(|| panic!("no program {name} among {PROGRAMS:?}"));
        let mut program = Self::foreign(path, directory);
        name.clone_into(&mut program.name);
        program
    }

    /// A program that is not ours.
    #[must_use]
    pub fn foreign(path: impl AsRef<OsStr>, directory: &Path) -> Self {
        let mut command = Command::new(path.as_ref());
        command.current_dir(directory).env_remove("RUST_LOG");
        for (setting, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SAPWOOD_")) {
            command.env_remove(setting);
        }
        Self { name: path.as_ref().to_string_lossy().into_owned(), command }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets variables of the environment.
    #[must_use]
    pub fn environment<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.command.envs(variables);
        self
    }

    /// Runs it.
    ///
    /// # Panics
    /// If the system cannot run it.
    #[must_use]
    pub fn start(mut self) -> Process {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{} is not run: {error}", self.name));
        let said = Arc::new(Said::default());
        listen(child.stdout.take().expect("it is piped"), &said, |said| &mut said.out);
        listen(child.stderr.take().expect("it is piped"), &said, |said| &mut said.err);
        Process { name: self.name, child, said }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// As [`Self::start`] and [`Process::ended`].
    #[must_use]
    pub fn run(self) -> Ended {
        self.start().ended()
    }
}

/// A process, killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    said: Arc<Said>,
}

impl Process {
    /// Waits for a line of its standard output that contains `text`, and gives the line.
    ///
    /// # Panics
    /// If it ends, or does not print it in time.
    #[must_use]
    pub fn prints(&self, text: &str) -> String {
        let deadline = Instant::now() + RUN;
        let mut lines = self.said.lines.lock();
        loop {
            if let Some(line) = lines.out.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let silent = lines.closed == STREAMS || self.said.changed.wait_until(&mut lines, deadline).timed_out();
            assert!(!silent, "{} does not print `{text}`: {lines:#?}", self.name);
        }
    }

    /// What is behind `label` on the first line of its standard output that contains it.
    ///
    /// # Panics
    /// As [`Self::prints`].
    #[must_use]
    pub fn told(&self, label: &str) -> String {
        let line = self.prints(label);
        let (_, told) = line.split_once(label).expect("the line contains it");
        told.trim().to_owned()
    }

    /// All that it printed on its standard output until now.
    #[must_use]
    pub fn printed(&self) -> String {
        self.said.lines.lock().out.join("\n")
    }

    /// Ends it as an operator does, with SIGTERM.
    ///
    /// # Panics
    /// If the system has no `kill`.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Makes it stand still, as on a machine that is paused, until [`Self::go_on`].
    ///
    /// # Panics
    /// If the system has no `kill`.
    pub fn stand_still(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If the system has no `kill`.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// The system's id of it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: &str) {
        // The standard library sends SIGKILL only. It is not waited for yet, so the id is its own.
        let kill = format!("kill -{signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("the system has a shell");
        assert!(sent.success(), "{kill}: {sent}");
    }

    /// Ends it with SIGKILL, and returns once it is gone and all it said is read.
    ///
    /// # Panics
    /// If it had ended by itself.
    pub fn kill(mut self) -> Ended {
        if let Some(status) = self.child.try_wait().expect("a child can be asked after") {
            panic!("{} ended by itself with {status}: {:#?}", self.name, self.said.lines.lock());
        }
        self.child.kill().expect("a child can be killed");
        self.ended()
    }

    /// Ends it with SIGKILL, and returns once it is gone. Something else takes its place later.
    ///
    /// # Panics
    /// If it had ended by itself.
    pub fn kill_at_once(&mut self) {
        assert!(self.runs(), "{} ended by itself: {:#?}", self.name, self.said.lines.lock());
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If the system does not say.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked after").is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it goes on for too long.
    #[must_use]
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + RUN;
        let mut lines = self.said.lines.lock();
        // The pipes close with the process, because ours start no others.
        while lines.closed < STREAMS {
            let late = self.said.changed.wait_until(&mut lines, deadline).timed_out();
            assert!(!late, "{} does not end: {lines:#?}", self.name);
        }
        let (out, err) = (lines.out.join("\n"), lines.err.join("\n"));
        drop(lines);
        let status = self.child.wait().expect("a child can be waited for");
        Ended { status, out, err }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, or the signal that killed it.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ended {
    /// Its standard output, if it ended well.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    pub fn well(self) -> String {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.out, self.err);
        self.out
    }
}

const STREAMS: usize = 2;

#[derive(Debug, Default)]
struct Said {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    out: Vec<String>,
    err: Vec<String>,
    closed: usize,
}

/// Reads a stream, so that the process never waits for a reader. The thread ends with the stream.
fn listen(stream: impl Read + Send + 'static, said: &Arc<Said>, which: fn(&mut Lines) -> &mut Vec<String>) {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            which(&mut said.lines.lock()).push(String::from_utf8_lossy(&line).into_owned());
            said.changed.notify_all();
        }
        said.lines.lock().closed += 1;
        said.changed.notify_all();
    });
}

/// A file of settings, `NAME=VALUE` a line, as a shell and an init system read them.
///
/// # Panics
/// If the file cannot be read, or has another line.
#[must_use]
pub fn environment_file(file: &Path) -> Vec<(OsString, OsString)> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", file.display())));
    pairs.map(|(name, value)| (name.into(), value.into())).collect()
}
