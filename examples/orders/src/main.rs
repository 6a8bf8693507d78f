//! Runs the orders example: the contexts orders, shipping and loyalty, together or one by one, and feeds them orders.
//!
//! Run with `cargo run -p orders`; `--help` shows more.

mod arguments;
mod feed;
mod summary;

use loyalty_app::LoyaltyDependencies;
use orders_app::{Effects, OrdersDependencies};
use sapwood::{App, Config, Running, StoreUrl};
use shipping_app::ShippingDependencies;

use crate::arguments::{Arguments, Context};
use crate::summary::Summary;

/// The exit code of `--once` if something is not settled, and of every failure.
const FAILED: u8 = 1;

/// How a run ended.
enum End {
    /// Everything is settled, or with `--once` something is not.
    Settled(bool),
    /// A signal asked for the end.
    Told,
    /// A context cannot go on, and why.
    Lost(String),
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    sapwood::telemetry::init();
    let arguments = Arguments::read();
    match run(&arguments).await {
        Ok(End::Settled(true)) => std::process::ExitCode::SUCCESS,
        Ok(End::Settled(false)) => FAILED.into(),
        Ok(End::Told) => u8::from(arguments.once).into(),
        Ok(End::Lost(why)) => {
            eprintln!("error: {why} [worker_lost]");
            sapwood::shutdown::EXIT_LOST.into()
        }
        Err(error) => {
            eprintln!("error: {error}");
            FAILED.into()
        }
    }
}

/// Runs until a signal ends it, or with `--once` until everything is settled.
async fn run(arguments: &Arguments) -> Result<End, String> {
    let mut config = Config::load(arguments.config.as_deref()).map_err(|error| format!("{error:?}"))?;
    if let Some(listen) = &arguments.listen {
        config.listen.clone_from(listen);
    }
    if arguments.fresh {
        remove_data(&config, arguments)?;
    }
    let orders = if arguments.runs(Context::Orders) { feed::read(arguments.orders.as_deref())? } else { Vec::new() };
    let running = app(arguments)?.launch(&config).await.map_err(|error| format!("{error:?}"))?;
    println!("listening on http://{}", running.address());
    let end = tokio::select! {
        end = serve(&running, arguments, &config, orders) => end?,
        why = running.lost() => End::Lost(why),
    };
    println!("draining; a second signal ends the process at once");
    running.drain().await;
    Ok(end)
}

/// Serves until a signal ends it, or with `--once` until everything is settled.
async fn serve(
    running: &Running,
    arguments: &Arguments,
    config: &Config,
    orders: Vec<orders_app::Order>,
) -> Result<End, String> {
    let told = sapwood::shutdown::asked();
    tokio::pin!(told);
    if !arguments.runs(Context::Orders) {
        println!("Ctrl-C ends it.");
        told.await;
        // What other processes published can be counted only now.
        let mut summary = Summary::default();
        summary::look(running, &mut summary).await?;
        summary.print(running, config, arguments);
        return Ok(End::Told);
    }
    let settled = tokio::select! {
        settled = work(running, arguments, config, orders) => settled?,
        () = &mut told => return Ok(End::Told),
    };
    if !arguments.once {
        println!("Ctrl-C ends it.");
        told.await;
    }
    Ok(End::Settled(settled))
}

/// Feeds the orders and waits until everything that follows from them is settled, too.
async fn work(
    running: &Running,
    arguments: &Arguments,
    config: &Config,
    orders: Vec<orders_app::Order>,
) -> Result<bool, String> {
    let mut summary = Summary::default();
    feed::feed(running, orders, &mut summary).await?;
    let settled = summary::await_consumers(running, &mut summary).await?;
    summary.print(running, config, arguments);
    Ok(settled)
}

fn app(arguments: &Arguments) -> Result<App, String> {
    let effects = match &arguments.effects {
        Some(file) => Effects::to_file(file)
            .map_err(|error| format!("--effects {}: {error} [invalid_setting]", file.display()))?,
        None => Effects::default(),
    };
    let latency = arguments.latency;
    let mut app = App::new();
    if arguments.runs(Context::Orders) {
        app = app.context(OrdersDependencies::new(latency, effects));
    }
    if arguments.runs(Context::Shipping) {
        app = app.context(ShippingDependencies { latency });
    }
    if arguments.runs(Context::Loyalty) {
        app = app.context(LoyaltyDependencies { latency });
    }
    Ok(app)
}

/// Removes what earlier runs left, for the contexts of this process.
fn remove_data(config: &Config, arguments: &Arguments) -> Result<(), String> {
    for context in Context::ALL.into_iter().filter(|context| arguments.runs(*context)) {
        let StoreUrl::Sqlite(directory) = config.store_of(context.name()) else {
            return Err("--fresh removes SQLite files only; drop the schemas of PostgreSQL by hand [invalid_setting]"
                .to_owned());
        };
        for suffix in ["", "-wal", "-shm"] {
            let file = directory.join(format!("{}.db{suffix}", context.name()));
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", file.display()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
