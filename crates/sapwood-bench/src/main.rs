//! Measures trees per second and the cost of a tree, and compares them with the same rows written by bare batched SQL.
//!
//! Run with `cargo run --release -p sapwood-bench -- --store postgres://…`, or without `--store` for SQLite in a
//! temporary directory. The speed of machines varies, so compare ratios within one run. `… -- growth` measures instead
//! how the cost of one tree grows with its size, `… -- suspended N` what functions cost that wait.

mod bare;
mod growth;
mod meter;
mod place;
mod processes;
mod suspended;
mod workloads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use sapwood::{Call, Engine, EngineOptions, Function, ResultError};

use crate::growth::Growth;
use crate::meter::{Cost, Reading};
use crate::place::Place;
use crate::suspended::Suspended;
use crate::workloads::{BenchApp, dozes, fails, seq3, times_out, tree4x2, undone};

/// Measures trees per second and the cost of a tree, and compares them with the same rows written by bare batched SQL.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// postgres://USER@HOST/DATABASE; without it, SQLite in a temporary directory
    #[arg(long, global = true)]
    store: Option<String>,
    /// Trees of a workload with many in flight; a workload with one in flight runs a twentieth of them
    #[arg(long, default_value_t = 40_000)]
    trees: u32,
    /// Connections that commit (PostgreSQL)
    #[arg(long, default_value_t = 2)]
    committers: u16,
}

#[derive(Subcommand)]
enum Command {
    Growth(Growth),
    /// Measures what an undo and a deadline add to a tree
    Contract,
    Suspended(Suspended),
}

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Growth(growth)) => growth.measure(arguments.store.as_deref()).await,
        Some(Command::Suspended(suspended)) => suspended.measure(arguments.store.as_deref()).await,
        Some(Command::Contract) => contract(&arguments).await,
        None => compare(&arguments).await,
    }
}

/// Measures trees in pairs, each without and with one means of the contract.
async fn contract(arguments: &Arguments) -> Result<()> {
    const HOUR: Duration = Duration::from_secs(3_600);
    let (place, engine) = begin(arguments).await?;
    let trees = arguments.trees;
    run(&engine, &place, "seq3", 256, trees, seq3).await?;
    run(&engine, &place, "  + deadline", 256, trees, || seq3().deadline(HOUR)).await?;
    run(&engine, &place, "fails", 256, trees, fails).await?;
    run(&engine, &place, "  + undo", 256, trees, undone).await?;
    run(&engine, &place, "sleeps", 256, trees, || dozes(20)).await?;
    run(&engine, &place, "times out", 256, trees, || times_out(20)).await?;
    engine.drain().await?;
    place.remove().await
}

/// A worker that has run for a moment, with the head of the table printed.
async fn begin(arguments: &Arguments) -> Result<(Place, Engine)> {
    let place = Place::open(arguments.store.as_deref()).await?;
    let info = place.store.info();
    println!("{} {}: {:?}", info.kind, info.location, info.durability);
    place.tell_what_is_not_measured().await?;
    println!(
        "workload      in flight  trees/s   p50 ms  worker µs  database µs  commits  statements  ins/upd/del       WAL bytes   (per tree)"
    );
    let options = EngineOptions { committers: arguments.committers, ..EngineOptions::default() };
    let engine = Engine::launch(Arc::<BenchApp>::default(), Arc::clone(&place.store), options).await?;
    run(&engine, &place, "warm-up", 64, 2_000, seq3).await?;
    Ok((place, engine))
}

/// Measures trees per second beside bare batched SQL.
async fn compare(arguments: &Arguments) -> Result<()> {
    let (place, engine) = begin(arguments).await?;
    run(&engine, &place, "seq3", 1, arguments.trees / 20, seq3).await?;
    run(&engine, &place, "seq3", 256, arguments.trees, seq3).await?;
    run(&engine, &place, "tree4x2", 64, arguments.trees / 4, tree4x2).await?;
    engine.drain().await?;
    bare(&place, 1, arguments.trees / 20).await?;
    bare(&place, 256, arguments.trees).await?;
    place.remove().await
}

/// Runs `trees` trees with callers' ids, `in_flight` at a time, and prints what they cost.
async fn run<F: Function>(
    engine: &Engine,
    place: &Place,
    name: &str,
    in_flight: u32,
    trees: u32,
    call: fn() -> Call<F>,
) -> Result<()> {
    let mut connection = place.connect().await?;
    let before = Reading::take(connection.as_mut()).await?;
    let begun = Instant::now();
    let next = Arc::new(AtomicU32::new(0));
    let runners: Vec<_> = (0..in_flight)
        .map(|_| {
            let (engine, next, name) = (engine.clone(), Arc::clone(&next), format!("{name}-{in_flight}"));
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let tree = next.fetch_add(1, Ordering::Relaxed);
                    if tree >= trees {
                        return Ok::<_, String>(times);
                    }
                    let begun = Instant::now();
                    let started = engine.start(call().id(format!("{name}-{tree}"))).await;
                    let tree = started.map_err(|error| error.to_string())?;
                    match tree.result().await {
                        Ok(_) | Err(ResultError::Call(_)) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                    times.push(begun.elapsed());
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for runner in runners {
        times.extend(runner.await??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = Reading::take(connection.as_mut()).await?;
    times.sort_unstable();
    let p50 = times.get(times.len() / 2).copied().unwrap_or_default();
    if name != "warm-up" {
        print(name, in_flight, trees, seconds, Some(p50), &before.cost_until(&after, trees));
    }
    Ok(())
}

fn print(name: &str, in_flight: u32, trees: u32, seconds: f64, p50: Option<Duration>, cost: &Cost) {
    let p50 = p50.map(|p50| format!("{:.2}", p50.as_secs_f64() * 1e3)).unwrap_or_default();
    let counted = cost.counted.map(|[commits, statements, inserted, updated, deleted, wal]| {
        format!("{commits:>7.2}  {statements:>10.2}  {inserted:.1}/{updated:.1}/{deleted:.1}  {wal:>14.0}")
    });
    let database = cost.database_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
    println!(
        "{name:<12} {in_flight:>10} {:>8.0} {p50:>8} {:>10.0} {database:>12}  {}",
        f64::from(trees) / seconds,
        cost.worker_us,
        counted.unwrap_or_default()
    );
}

/// Writes the same rows without the platform.
async fn bare(place: &Place, batch: u32, trees: u32) -> Result<()> {
    let mut connection = place.connect().await?;
    let before = Reading::take(connection.as_mut()).await?;
    let begun = Instant::now();
    if let Some(url) = &place.url {
        bare::postgres(url, trees as usize, batch as usize).await?;
    } else if let Some(directory) = &place.directory {
        bare::sqlite(&directory.join(format!("bare_{batch}.db")), trees as usize, batch as usize).await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = Reading::take(connection.as_mut()).await?;
    print("bare seq3", batch, trees, seconds, None, &before.cost_until(&after, trees));
    Ok(())
}
