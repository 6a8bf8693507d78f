//! Measures what suspended functions cost one worker: its memory, what it asks the database while nothing happens, and the
//! time until many of them have woken at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use sapwood::{CachePolicy, Engine, EngineOptions, Path, PromiseId, TreeId};
use sqlx::PgConnection;

use crate::Result;
use crate::place::Place;
use crate::processes::resident;
use crate::workloads::{BenchApp, GO, awaits_go, sleeps_until};

/// Starts under way at once.
const IN_FLIGHT: u32 = 256;

/// Longer than any run.
const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);

/// How long after the first start the sleepers are due, besides a millisecond for each: all sleep by then.
const SOON: SignedDuration = SignedDuration::from_secs(5);

/// Measures what suspended functions cost a worker: its memory, its queries while idle, the time to wake many at once
#[derive(Args)]
pub(crate) struct Suspended {
    /// Suspended functions: half of them wait for a promise each, half sleep
    #[arg(default_value_t = 100_000)]
    functions: u32,
    /// So many wake at once: by promises that are settled, and by sleeps that are due
    #[arg(long, default_value_t = 10_000)]
    wake: u32,
    /// For so many seconds queries are counted while nothing happens
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Megabytes for bodies that wait in memory; without it, as many as an app has
    #[arg(long)]
    cache: Option<usize>,
    /// Fails if the functions take more megabytes
    #[arg(long)]
    most: Option<u64>,
}

impl Suspended {
    pub(crate) async fn measure(&self, store: Option<&str>) -> Result<()> {
        let place = Place::open(store).await?;
        let info = place.store.info();
        println!("{} {}: {:?}", info.kind, info.location, info.durability);
        let app = Arc::<BenchApp>::default();
        let defaults = EngineOptions::default();
        let cache = self.cache.map_or(defaults.cache, |megabytes| CachePolicy::Bytes(megabytes << 20));
        let options = EngineOptions { cache, ..defaults };
        let engine = Engine::launch(Arc::clone(&app), Arc::clone(&place.store), options).await?;
        println!("{} functions, {cache:?}", self.functions);

        let before = resident();
        let begun = Instant::now();
        let asleep_until = Timestamp::now() + YEAR;
        let waiting = start_all(&engine, self.functions, asleep_until).await?;
        engine.idle().await;
        println!("suspended      {:>8.0} a second", f64::from(self.functions) / begun.elapsed().as_secs_f64());
        let after = resident();
        print_memory("memory", before, after, self.functions);
        if self.most.is_some_and(|most| after.saturating_sub(before) > most << 20) {
            return Err("the functions take more memory than they may".into());
        }

        if let Some(mut connection) = place.connect().await? {
            self.count_queries(&mut connection).await?;
        }
        self.wake_by_promises(&engine, &app, &waiting).await?;
        self.wake_by_sleeps(&engine, &app).await?;
        print_memory("in the end", before, resident(), self.functions);
        engine.drain().await?;
        place.remove().await
    }

    /// Prints the statements of a minute in which nothing happens.
    async fn count_queries(&self, connection: &mut PgConnection) -> Result<()> {
        // It can be created where it is not loaded, and then counts nothing.
        let reset = "create extension if not exists pg_stat_statements; select pg_stat_statements_reset()";
        if sqlx::raw_sql(reset).execute(&mut *connection).await.is_err() {
            println!("idle           queries are not counted: the server has not loaded pg_stat_statements");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(self.idle)).await;
        // Not those of this connection, nor those of the heartbeat.
        let counted: Vec<(String, i64)> = sqlx::query_as(
            "select regexp_replace(query, '\\s+', ' ', 'g'), calls from pg_stat_statements
             where dbid = (select oid from pg_database where datname = current_database())
                 and query not like '%pg_stat_statements%' order by calls desc",
        )
        .fetch_all(connection)
        .await?;
        let (heartbeat, others): (Vec<_>, Vec<_>) =
            counted.into_iter().partition(|(query, _)| query.contains("set renewals = renewals"));
        let a_minute = |queries: &[(String, i64)]| {
            let calls: i64 = queries.iter().map(|(_, calls)| calls).sum();
            calls as f64 * 60.0 / self.idle as f64
        };
        let (heartbeat, all) = (a_minute(&heartbeat), a_minute(&others));
        println!("idle           {all:>8.1} queries a minute besides {heartbeat:.0} of the heartbeat");
        for (query, calls) in others {
            println!("               {calls:>8} {}", query.chars().take(80).collect::<String>());
        }
        Ok(())
    }

    /// Settles promises, all at once, and prints how long each took from then on until its function went on.
    async fn wake_by_promises(&self, engine: &Engine, app: &BenchApp, waiting: &[(u32, TreeId)]) -> Result<()> {
        let each = (waiting.len() / self.wake.max(1) as usize).max(1);
        let chosen: Vec<(u32, TreeId)> = waiting.iter().copied().step_by(each).take(self.wake as usize).collect();
        app.forget_awake();
        let begun = Instant::now();
        let settles = chosen.iter().map(|(number, tree)| async move {
            let promise = engine.promise(PromiseId { tree: *tree, path: Path::root(), name: GO.to_owned() });
            promise.resolve(true).await.map(|_| (*number, begun.elapsed()))
        });
        let settled = try_join_all(settles).await?;
        let settled_within = settled.iter().map(|(_, after)| *after).max().unwrap_or_default();
        let awake = app.all_awake(chosen.len()).await;
        println!("settled        {:>8} in {:.0} ms", chosen.len(), settled_within.as_secs_f64() * 1e3);
        print_times("  after all", awake.values().map(|at| at.duration_since(begun)).collect());
        let after_own = settled
            .iter()
            .filter_map(|(number, after)| Some(awake.get(number)?.duration_since(begun).saturating_sub(*after)));
        print_times("  after own", after_own.collect());
        Ok(())
    }

    /// Lets as many sleeps end at one time, and prints how long each took from then on until its function went on.
    async fn wake_by_sleeps(&self, engine: &Engine, app: &BenchApp) -> Result<()> {
        app.forget_awake();
        let due = Timestamp::now() + SOON + SignedDuration::from_micros(i64::from(self.wake) * 1_000);
        let sleepers = run_all(self.wake, |number| async move {
            engine.start(sleeps_until(number, due.as_millisecond())).await.map(drop).map_err(|error| error.to_string())
        });
        sleepers.await?;
        engine.idle().await;
        let left = Duration::try_from(due.duration_since(Timestamp::now()))?;
        if left.is_zero() {
            return Err("the sleepers took longer to start than they sleep".into());
        }
        let due = Instant::now() + left;
        let awake = app.all_awake(self.wake as usize).await;
        print_times("slept", awake.values().map(|at| at.duration_since(due)).collect());
        Ok(())
    }
}

/// Starts as many functions; returns those that wait for a promise.
async fn start_all(engine: &Engine, functions: u32, asleep_until: Timestamp) -> Result<Vec<(u32, TreeId)>> {
    let started = run_all(functions, |number| async move {
        if number % 2 == 0 {
            let tree = engine.start(awaits_go(number)).await.map_err(|error| error.to_string())?;
            return Ok(Some((number, tree.id())));
        }
        engine
            .start(sleeps_until(number, asleep_until.as_millisecond()))
            .await
            .map(|_| None)
            .map_err(|error| error.to_string())
    });
    Ok(started.await?.into_iter().flatten().collect())
}

/// Runs as many, [`IN_FLIGHT`] at a time.
async fn run_all<T, Running>(many: u32, run: impl Fn(u32) -> Running) -> Result<Vec<T>>
where
    Running: Future<Output = Result<T, String>>,
{
    let (next, run) = (AtomicU32::new(0), &run);
    let runners = (0..IN_FLIGHT).map(|_| async {
        let mut all = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= many {
                return Ok::<_, String>(all);
            }
            all.push(run(number).await?);
        }
    });
    Ok(try_join_all(runners).await?.into_iter().flatten().collect())
}

fn print_memory(name: &str, before: u64, after: u64, functions: u32) {
    let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let each = after.saturating_sub(before) as f64 / f64::from(functions.max(1));
    println!("{name:<14} {:>8.1} MB before, {:.1} MB after, {each:.0} bytes a function", mb(before), mb(after));
}

fn print_times(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| {
        let last = times.len().saturating_sub(1) as f64;
        times.get((last * part) as usize).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    println!(
        "{name:<14} {:>8} awake: p50 {:.0} ms, p99 {:.0} ms, all {:.0} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
