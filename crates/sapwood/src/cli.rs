//! The command line of every app.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::app::App;
use crate::config::Config;
use crate::error::Result;
use crate::{shutdown, telemetry};

/// Runs the bounded contexts of this app.
///
/// Settings come from `sapwood.toml` and from the environment, which wins: SAPWOOD_STORE (sqlite:DIRECTORY or
/// postgres://…), SAPWOOD_STORE_<CONTEXT>, SAPWOOD_BROKER (log or kafka://HOST:PORT), SAPWOOD_LISTEN (ADDRESS:PORT),
/// SAPWOOD_MIGRATE, SAPWOOD_CONCURRENCY, SAPWOOD_COMMITTERS, SAPWOOD_SHUTDOWN_TIMEOUT and SAPWOOD_STEP_TIMEOUT (30s, 2m).
/// RUST_LOG selects what is logged.
#[derive(Parser)]
#[command(about, long_about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file [default: sapwood.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run trees, publish events and answer REST until Ctrl-C or SIGTERM (the default)
    Serve,
    /// Migrate the stores of all contexts to this version, and exit
    Migrate,
    /// Print the OpenAPI document, and exit
    Openapi,
    /// Copy the SQLite database of a context to FILE, also while another process runs on it, and exit
    Backup {
        /// The copy; it must not exist
        file: PathBuf,
        /// The context, if there are several
        #[arg(long)]
        context: Option<String>,
    },
}

pub(crate) async fn run(app: App) -> Result<()> {
    let arguments = Arguments::parse();
    telemetry::init();
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            let running = app.launch(&Config::load(arguments.config.as_deref())?).await?;
            let address = running.address();
            println!("listening on http://{address}; REST is described at http://{address}/docs");
            let lost = tokio::select! {
                () = shutdown::asked() => None,
                why = running.lost() => Some(why),
            };
            println!("draining; a second signal ends the process at once");
            running.drain().await;
            if let Some(why) = lost {
                eprintln!("{why} [worker_lost]");
                std::process::exit(shutdown::EXIT_LOST.into());
            }
        }
        Command::Migrate => app.migrate(&Config::load(arguments.config.as_deref())?).await?,
        Command::Backup { file, context } => {
            app.backup(&Config::load(arguments.config.as_deref())?, context.as_deref(), &file).await?;
            println!("{} is written", file.display());
        }
        Command::Openapi => println!("{}", app.openapi()?),
    }
    Ok(())
}
