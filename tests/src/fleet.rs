//! What the fleet test and its processes share: plans of trees, and the file of effects.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A step that never succeeds fails so often.
pub const ALWAYS: u32 = u32::MAX;

/// Attempts of each step.
pub const STEP_ATTEMPTS: u32 = 3;

/// The table of the entries, and how it is made.
pub const ENTRIES: &str = "public.entry";

/// A step that makes an entry.
pub const ENTER: &str = "enter";

/// The promise of a tree that asks.
pub const ANSWER: &str = "answer";

/// What a tree is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Which tree of the run it is.
    pub number: u32,
    /// What its root does.
    pub task: Task,
}

/// What the root of a tree does. Times are in milliseconds; each step takes `ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Task {
    /// Steps in sequence, the first of which fails so often.
    Works {
        /// How many.
        steps: u32,
        /// How long each takes.
        ms: u64,
        /// How often the first fails.
        fails: u32,
    },
    /// Calls at once.
    Fans {
        /// How many.
        calls: u32,
        /// How long each takes.
        ms: u64,
    },
    /// A sleep, then a step.
    Naps {
        /// How long.
        ms: u64,
    },
    /// Calls in sequence, each with an undo; then perhaps an error.
    Orders {
        /// How many.
        calls: u32,
        /// How long each takes.
        ms: u64,
        /// Whether it fails in the end.
        fails: bool,
    },
    /// A call that naps, and has a deadline.
    Hurries {
        /// How long the call naps.
        nap_ms: u64,
        /// When it times out.
        deadline_ms: u64,
    },
    /// Entries in a table of the author's, in sequence: each in one commit with its step.
    Enters {
        /// How many.
        entries: u32,
        /// How long each takes.
        ms: u64,
    },
    /// An external promise, with a deadline if there is one.
    Asks {
        /// When it times out.
        deadline_ms: Option<u64>,
    },
}

/// One run of the closure of a step. A step that succeeds returns it, so the journal names the run whose result it has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    /// The idempotency key: tree and place.
    pub key: String,
    /// The process.
    pub process: u32,
    /// When it began, in microseconds since 1970: the first thing that the closure found out.
    pub at_us: i64,
}

/// Where effects are noted, outside of every database: a file for each tree, a line for each effect.
#[derive(Debug, Clone)]
pub struct Effects {
    directory: PathBuf,
}

impl Effects {
    /// Effects that are noted in this directory.
    #[must_use]
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Notes an effect of this process. Returns it, and how often an effect of the key has been noted.
    ///
    /// # Errors
    /// Of the file.
    pub fn note(&self, key: &str) -> std::io::Result<(Effect, usize)> {
        let at_us = Timestamp::now().as_microsecond();
        let effect = Effect { key: key.to_owned(), process: std::process::id(), at_us };
        let file = self.file(tree_of(key));
        let mut log = OpenOptions::new().create(true).append(true).open(&file)?;
        // One write a line, so that two processes do not mix theirs.
        log.write_all(format!("{} {} {}\n", effect.key, effect.process, effect.at_us).as_bytes())?;
        let count = read(&file)?.iter().filter(|noted| noted.key == key).count();
        Ok((effect, count))
    }

    /// What was noted of a tree, in order.
    ///
    /// # Errors
    /// Of the file, if there is one.
    pub fn of(&self, tree: &str) -> std::io::Result<Vec<Effect>> {
        match read(&self.file(tree)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    fn file(&self, tree: &str) -> PathBuf {
        self.directory.join(tree)
    }
}

fn tree_of(key: &str) -> &str {
    key.split(':').next().unwrap_or(key)
}

fn read(file: &Path) -> std::io::Result<Vec<Effect>> {
    let invalid = |line: &str| std::io::Error::other(format!("{}: no effect: {line}", file.display()));
    let text = std::fs::read_to_string(file)?;
    text.lines().map(|line| line.parse().map_err(|()| invalid(line))).collect()
}

impl FromStr for Effect {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let [key, process, at_us] = line.split(' ').collect::<Vec<_>>()[..] else { return Err(()) };
        let (process, at_us) = (process.parse().map_err(drop)?, at_us.parse().map_err(drop)?);
        Ok(Self { key: key.to_owned(), process, at_us })
    }
}
