//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};

/// Takes 1,000 orders through payment, shipping and loyalty points, prints what became of them, and stays up.
///
/// Without settings everything is in one process, on SQLite files under ./.sapwood and with the store's own log as the
/// broker. SAPWOOD_STORE=postgres://… and, with `--features kafka`, SAPWOOD_BROKER=kafka://HOST:PORT run the same
/// program on PostgreSQL and Apache Kafka, as one process or, with --only, as three.
#[derive(Parser)]
#[command(about, long_about)]
pub(crate) struct Arguments {
    /// End after the summary; exit 0 only if everything is settled. Needs the context orders, which knows when that is
    #[arg(long)]
    pub(crate) once: bool,
    /// Remove what earlier runs left (SQLite only)
    #[arg(long)]
    pub(crate) fresh: bool,
    /// The orders, one JSON object per line [default: 1,000 orders of the example]
    #[arg(long, value_name = "FILE")]
    pub(crate) orders: Option<PathBuf>,
    /// Where REST listens [default: SAPWOOD_LISTEN, or 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// Run only this context
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) only: Option<Context>,
    /// How long every gateway takes
    #[arg(long, value_name = "MILLISECONDS", default_value = "5", value_parser = milliseconds)]
    pub(crate) latency: Duration,
    /// Append a line to this file for every side effect of the orders gateways
    #[arg(long, value_name = "FILE")]
    pub(crate) effects: Option<PathBuf>,
    /// The configuration file [default: sapwood.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// A context of the example.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Context {
    Orders,
    Shipping,
    Loyalty,
}

impl Context {
    pub(crate) const ALL: [Self; 3] = [Self::Orders, Self::Shipping, Self::Loyalty];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Shipping => "shipping",
            Self::Loyalty => "loyalty",
        }
    }
}

impl Arguments {
    /// Reads the command line. Arguments that contradict each other end the process, as unreadable ones do.
    pub(crate) fn read() -> Self {
        let arguments = Self::parse();
        if arguments.once && !arguments.runs(Context::Orders) {
            let message =
                "--once ends when all orders are settled, so it cannot be used with --only of another context";
            Self::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
        arguments
    }

    /// Whether this process runs `context`.
    pub(crate) fn runs(&self, context: Context) -> bool {
        self.only.is_none_or(|only| only == context)
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    text.trim_end_matches("ms")
        .parse()
        .map(Duration::from_millis)
        .map_err(|_| "expected a number of milliseconds".to_owned())
}
