//! Configuration: defaults, then `sapwood.toml`, then the environment, which wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sapwood_core::nearest::nearest;

use sapwood_engine::DRAIN_WITHIN;

use crate::error::{Result, StartupError};

/// The settings of an app: its stores, its broker, where it listens, how much it does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The store of every context without one of its own. `SAPWOOD_STORE`.
    pub store: StoreUrl,
    /// Stores of single contexts, by context. `SAPWOOD_STORE_ORDERS`.
    pub stores: BTreeMap<String, StoreUrl>,
    /// The database of `store` past a pooler, where hints are listened for. `SAPWOOD_DIRECT_STORE`.
    pub direct_store: Option<StoreUrl>,
    /// The broker. `SAPWOOD_BROKER`.
    pub broker: BrokerUrl,
    /// Where REST listens: an address and a port, 0 for any free one. `SAPWOOD_LISTEN`.
    pub listen: String,
    /// Whether `serve` migrates the stores first. `SAPWOOD_MIGRATE`.
    pub migrate: bool,
    /// Functions that may be active at once, per context. `SAPWOOD_CONCURRENCY`.
    pub concurrency: usize,
    /// How long a shutdown takes at most; what has not ended by then is left to the next process.
    /// `SAPWOOD_SHUTDOWN_TIMEOUT`.
    pub shutdown_timeout: Duration,
    /// How long an attempt of a step may take, unless the step says otherwise; `None`: as long as it takes.
    /// `SAPWOOD_STEP_TIMEOUT`.
    pub step_timeout: Option<Duration>,
    /// Connections that commit turns, per context on PostgreSQL. `SAPWOOD_COMMITTERS`.
    pub committers: u16,
    /// Transactions of functions that may be open at once, each on a connection of its own, per context on PostgreSQL whose
    /// functions have any. `SAPWOOD_TRANSACTIONS`.
    pub transactions: u16,
    /// Connections for readers, per context on PostgreSQL. `SAPWOOD_READER_CONNECTIONS`.
    pub reader_connections: u32,
    /// Connections for claims, loads and events, per context on PostgreSQL. `SAPWOOD_WORKER_CONNECTIONS`.
    pub worker_connections: u32,
}

/// Where a store is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory of SQLite files, one per context.
    Sqlite(PathBuf),
    /// A PostgreSQL database; each context has a schema of its name.
    Postgres(String),
}

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerUrl {
    /// The stores' own logs: only for contexts of one process.
    Log,
    /// Apache Kafka, as `kafka://host:port,host:port`.
    Kafka(String),
}

/// The names of the settings in the file; in the environment they are in upper case, after `SAPWOOD_`.
const SETTINGS: [&str; 13] = [
    "store",
    "stores",
    "direct_store",
    "broker",
    "listen",
    "migrate",
    "concurrency",
    "shutdown_timeout",
    "step_timeout",
    "committers",
    "transactions",
    "reader_connections",
    "worker_connections",
];

impl Default for Config {
    fn default() -> Self {
        Self {
            store: StoreUrl::Sqlite(PathBuf::from("./.sapwood")),
            stores: BTreeMap::new(),
            direct_store: None,
            broker: BrokerUrl::Log,
            listen: "127.0.0.1:8080".to_owned(),
            migrate: true,
            concurrency: 10_000,
            shutdown_timeout: DRAIN_WITHIN,
            step_timeout: None,
            committers: 2,
            transactions: 4,
            reader_connections: 4,
            worker_connections: 4,
        }
    }
}

impl Config {
    /// The configuration of a process: from `file`, or else from `sapwood.toml` in the working directory if it exists,
    /// and from the environment.
    ///
    /// # Errors
    /// `invalid_configuration` names the file, the line and the nearest setting; `invalid_setting` names the setting.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let here = Path::new("sapwood.toml");
        let file = file.or_else(|| here.exists().then_some(here));
        let mut config = Self::default();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                let message = format!("the configuration {} cannot be read", file.display());
                StartupError::new("invalid_configuration", message).caused_by(error)
            })?;
            config.read_file(&file.display().to_string(), &text)?;
        }
        config.read_environment(std::env::vars())?;
        Ok(config)
    }

    /// The store of a context.
    #[must_use]
    pub fn store_of(&self, context: &str) -> &StoreUrl {
        self.stores.get(context).unwrap_or(&self.store)
    }

    fn read_file(&mut self, file: &str, text: &str) -> Result<()> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            invalid(file, line, error.message())
        })?;
        for (key, value) in table {
            let line = line_of_key(text, &key);
            if key == "stores" {
                let stores =
                    value.as_table().ok_or_else(|| invalid(file, line, "`stores` is a table of stores by context"))?;
                for (context, url) in stores {
                    let line = line_of_key(text, context);
                    let url = url.as_str().ok_or_else(|| invalid(file, line, "a store is a text"))?;
                    let url = url.parse().map_err(|why: String| invalid(file, line, &why))?;
                    self.stores.insert(context.clone(), url);
                }
                continue;
            }
            if !SETTINGS.contains(&key.as_str()) {
                return Err(invalid(file, line, &unknown(&key)));
            }
            let value = match value {
                toml::Value::String(text) => text,
                value => value.to_string(),
            };
            self.set(&key, &value).map_err(|why| invalid(file, line, &why))?;
        }
        Ok(())
    }

    fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<()> {
        for (name, value) in variables {
            let Some(setting) = name.strip_prefix("SAPWOOD_").map(str::to_ascii_lowercase) else { continue };
            let set = match setting.strip_prefix("store_") {
                Some(context) => value.parse().map(|url| {
                    self.stores.insert(context.replace('_', "-"), url);
                }),
                None if setting != "stores" && SETTINGS.contains(&setting.as_str()) => self.set(&setting, &value),
                None => continue,
            };
            set.map_err(|why| StartupError::new("invalid_setting", format!("{name}: {why}")))?;
        }
        Ok(())
    }

    fn set(&mut self, setting: &str, value: &str) -> std::result::Result<(), String> {
        match setting {
            "store" => self.store = value.parse()?,
            "direct_store" => self.direct_store = Some(direct(value)?),
            "broker" => self.broker = value.parse()?,
            "listen" => self.listen = checked_address(value)?,
            "migrate" => self.migrate = value.parse().map_err(|_| "must be true or false".to_owned())?,
            "concurrency" => self.concurrency = at_least_one(value)?,
            "shutdown_timeout" => self.shutdown_timeout = length(value)?,
            "step_timeout" => self.step_timeout = Some(length(value)?),
            "committers" => self.committers = at_least_one(value)?,
            "transactions" => self.transactions = at_least_one(value)?,
            "reader_connections" => self.reader_connections = at_least_one(value)?,
            "worker_connections" => self.worker_connections = at_least_one(value)?,
            other => return Err(unknown(other)),
        }
        Ok(())
    }
}

impl std::str::FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        match text.strip_prefix("sqlite:") {
            Some("") | None => {
                Err("a store is `sqlite:DIRECTORY` or `postgres://USER:PASSWORD@HOST/DATABASE`".to_owned())
            }
            Some(directory) => Ok(Self::Sqlite(PathBuf::from(directory))),
        }
    }
}

impl std::fmt::Debug for StoreUrl {
    /// Without the password that a URL may contain.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(directory) => write!(f, "sqlite:{}", directory.display()),
            Self::Postgres(_) => f.write_str("postgres://…"),
        }
    }
}

impl std::str::FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "log" => Ok(Self::Log),
            text if text.starts_with("kafka://") => Ok(Self::Kafka(text.to_owned())),
            _ => Err("a broker is `log` (the stores' own logs) or `kafka://HOST:PORT`".to_owned()),
        }
    }
}

fn direct(text: &str) -> std::result::Result<StoreUrl, String> {
    match text.parse()? {
        url @ StoreUrl::Postgres(_) => Ok(url),
        StoreUrl::Sqlite(_) => Err("only a store on PostgreSQL can have a pooler before it".to_owned()),
    }
}

fn checked_address(text: &str) -> std::result::Result<String, String> {
    let port = text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not an address and a port, such as 127.0.0.1:8080")),
    }
}

/// A length of time with its unit, such as `30s` or `2m`.
fn length(text: &str) -> std::result::Result<Duration, String> {
    let length = text.parse::<jiff::SignedDuration>().ok().and_then(|length| Duration::try_from(length).ok());
    length
        .filter(|length| !length.is_zero())
        .ok_or_else(|| format!("`{text}` is not a length of time, such as 30s, 2m or 500ms"))
}

fn at_least_one<N: std::str::FromStr + PartialOrd + From<u8>>(text: &str) -> std::result::Result<N, String> {
    text.parse()
        .ok()
        .filter(|number| *number >= N::from(1))
        .ok_or_else(|| format!("`{text}` is not a number of at least 1"))
}

fn invalid(file: &str, line: usize, why: &str) -> StartupError {
    StartupError::new("invalid_configuration", format!("{file}, line {line}: {why}"))
}

fn unknown(setting: &str) -> String {
    match nearest(setting, SETTINGS) {
        Some(near) => format!("there is no setting `{setting}`; did you mean `{near}`?"),
        None => format!("there is no setting `{setting}`; the settings are {}", SETTINGS.join(", ")),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The line that sets `key`. It searches the text, because the parsed values do not keep the places of their keys.
fn line_of_key(text: &str, key: &str) -> usize {
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches(['[', '"']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ']', '.', '"']))
    };
    text.lines().position(sets).map_or(1, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let mut config = Config::default();
        config.read_file("sapwood.toml", text).map(|()| config)
    }

    #[test]
    fn the_file_sets_and_the_environment_wins() {
        let mut config =
            read("listen = \"0.0.0.0:80\"\nmigrate = false\n[stores]\nloyalty = \"sqlite:there\"").expect("a file");
        assert_eq!(config.store_of("loyalty"), &StoreUrl::Sqlite("there".into()));
        assert_eq!(config.store_of("orders"), &StoreUrl::Sqlite("./.sapwood".into()));
        assert!(!config.migrate);
        let variables =
            [("SAPWOOD_LISTEN", "127.0.0.1:0"), ("SAPWOOD_STORE_MY_ORDERS", "postgres://h/d"), ("HOME", "x")];
        config.read_environment(variables.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()))).expect("settings");
        assert_eq!(config.listen, "127.0.0.1:0");
        assert_eq!(config.store_of("my-orders"), &StoreUrl::Postgres("postgres://h/d".into()));
    }

    #[test]
    fn a_direct_store_is_on_postgresql_and_is_no_context_s() {
        let mut config = read("direct_store = \"postgres://h/d\"").expect("a file");
        assert_eq!(config.direct_store, Some(StoreUrl::Postgres("postgres://h/d".into())));
        let variables = [("SAPWOOD_DIRECT_STORE".to_owned(), "postgres://h/e".to_owned())];
        config.read_environment(variables.into_iter()).expect("settings");
        assert_eq!(config.direct_store, Some(StoreUrl::Postgres("postgres://h/e".into())));
        assert!(config.stores.is_empty());
        let text = read("direct_store = \"sqlite:there\"").expect_err("no pooler").to_string();
        assert!(text.contains("PostgreSQL"), "{text}");
    }

    #[test]
    fn a_length_of_time_has_a_unit() {
        let config = read("shutdown_timeout = \"2m\"\nstep_timeout = \"500ms\"").expect("a file");
        assert_eq!(config.shutdown_timeout, Duration::from_secs(120));
        assert_eq!(config.step_timeout, Some(Duration::from_millis(500)));
        for wrong in
            ["shutdown_timeout = 30", "step_timeout = \"-1s\"", "step_timeout = \"0s\"", "step_timeout = \"soon\""]
        {
            let text = read(wrong).expect_err(wrong).to_string();
            assert!(text.contains("such as 30s"), "{wrong}: {text}");
        }
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_line_and_the_nearest_name() {
        let error = read("# ours\nbroker = \"log\"\nlisen = \"a:1\"").expect_err("a slip of the pen");
        assert_eq!(error.code(), "invalid_configuration");
        let text = error.to_string();
        assert!(text.contains("sapwood.toml, line 3") && text.contains("`listen`"), "{text}");
    }

    #[test]
    fn what_is_no_toml_is_named_with_its_line() {
        let text = read("broker = \"log\"\nlisten = ").expect_err("half a line").to_string();
        assert!(text.contains("line 2"), "{text}");
    }

    #[test]
    fn a_store_s_password_is_not_shown() {
        let url: StoreUrl = "postgres://me:secret@host/db".parse().expect("a URL");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
