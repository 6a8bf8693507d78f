//! Measures how the cost of one tree grows with its size: each shape at growing sizes, with the ratio to half the size.
//!
//! What a tree does costs what it touches, so twice the size is twice the cost, or a little more: a logarithm, caches
//! that no longer hold everything. Processor time is compared, and the least of several runs, because other programs of
//! the machine make a run longer and never shorter.

mod functions;
mod shapes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use sapwood::{CachePolicy, Engine, EngineOptions, Limits, SystemEnvironment};
use sapwood_core::clock::Clock;

use self::shapes::Shape;
use crate::Result;
use crate::place::Place;
use crate::processes::{Postmaster, own_time};
use crate::workloads::BenchApp;

/// More than any measured tree has: the defaults end where the measuring begins.
const UNLIMITED: usize = 1_000_000;

/// No worker is declared dead because the machine is busy; the one that is, is by name.
const LEASE: Duration = Duration::from_secs(3_600);

/// Long compared with a renewal, whose cost would count, and short compared with a run.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Runs of a point beyond those asked for, while its ratio is too large: a machine that was busy all the time until now
/// may not be so later, while a cost that grows too fast stays so.
const MORE_RUNS: u32 = 7;

/// Measures how the cost of one tree grows with its size
#[derive(Args)]
pub(crate) struct Growth {
    /// Sizes, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 2_000, 4_000, 8_000, 10_000])]
    sizes: Vec<u32>,
    /// Runs of each point, of which the cheapest counts
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Only these shapes
    #[arg(long, value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// Fails if twice the size costs more than so many times as much
    #[arg(long)]
    most: Option<f64>,
    /// Counts this process alone: others use the database
    #[arg(long)]
    worker_only: bool,
}

impl Growth {
    pub(crate) async fn measure(&self, store: Option<&str>) -> Result<()> {
        let place = Place::open(store).await?;
        let info = place.store.info();
        println!("{} {}: {:?}", info.kind, info.location, info.durability);
        if !self.worker_only {
            place.tell_what_is_not_measured().await?;
        }
        place.remove().await?;
        println!(
            "shape                          size   worker ms  database ms     wall ms  µs/size  ratio to half the size"
        );
        let shapes = if self.shapes.is_empty() { Shape::value_variants() } else { &self.shapes };
        let mut steep = Vec::new();
        for shape in shapes {
            let mut points = Vec::new();
            // The first run of a program reads itself from the disk.
            self.run(*shape, store, self.sizes.first().copied().unwrap_or_default()).await?;
            for size in &self.sizes {
                points.push(Point { size: *size, spent: self.least(*shape, store, *size).await? });
                let ratio = self.ratio(*shape, store, &mut points).await?;
                print(*shape, &points, ratio);
                if ratio.is_some_and(|ratio| self.is_steep(ratio)) {
                    steep.push(format!("{shape} at {size}"));
                }
            }
        }
        if steep.is_empty() { Ok(()) } else { Err(format!("more than linear: {}", steep.join(", ")).into()) }
    }

    async fn least(&self, shape: Shape, store: Option<&str>, size: u32) -> Result<Spent> {
        let mut least = self.run(shape, store, size).await?;
        for _ in 1..self.runs {
            least = least.or_less(self.run(shape, store, size).await?);
        }
        Ok(least)
    }

    /// The ratio of the last point to the one of half its size, if that was measured. Both are measured again while it is
    /// too large.
    async fn ratio(&self, shape: Shape, store: Option<&str>, points: &mut [Point]) -> Result<Option<f64>> {
        let Some((last, others)) = points.split_last_mut() else { return Ok(None) };
        let Some(half) = others.iter_mut().find(|point| 2 * point.size == last.size) else { return Ok(None) };
        let ratio = |half: &Point, last: &Point| last.spent.cost().as_secs_f64() / half.spent.cost().as_secs_f64();
        for _ in 0..MORE_RUNS {
            if !self.is_steep(ratio(half, last)) {
                break;
            }
            half.spent = half.spent.or_less(self.run(shape, store, half.size).await?);
            last.spent = last.spent.or_less(self.run(shape, store, last.size).await?);
        }
        Ok(Some(ratio(half, last)))
    }

    async fn run(&self, shape: Shape, store: Option<&str>, size: u32) -> Result<Spent> {
        let spent = run(shape, store, size).await?;
        Ok(Spent { database: spent.database.filter(|_| !self.worker_only), ..spent })
    }

    fn is_steep(&self, ratio: f64) -> bool {
        self.most.is_some_and(|most| ratio > most)
    }
}

/// The cost of a shape at one size.
struct Point {
    size: u32,
    spent: Spent,
}

fn print(shape: Shape, points: &[Point], ratio: Option<f64>) {
    let Some(Point { size, spent }) = points.last() else { return };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let database = spent.database.map_or_else(|| "-".to_owned(), |time| format!("{:.0}", ms(time)));
    println!(
        "{:<28} {size:>6}  {:>10.1}  {database:>11}  {:>10.1}  {:>7.1}  {}",
        shape.to_string(),
        ms(spent.worker),
        ms(spent.wall),
        ms(spent.cost()) * 1e3 / f64::from(*size),
        ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
    );
}

/// Runs a shape in a place of its own.
async fn run(shape: Shape, store: Option<&str>, size: u32) -> Result<Spent> {
    let place = Place::open(store).await?;
    let app = Arc::<BenchApp>::default();
    let world = World { engine: launch(&place, &app).await?, place, app };
    let spent = shape.run(&world, size).await?;
    world.engine.kill();
    world.engine.idle().await;
    world.place.remove().await?;
    Ok(spent)
}

/// What a shape runs in.
struct World {
    engine: Engine,
    place: Place,
    app: Arc<BenchApp>,
}

async fn launch(place: &Place, app: &Arc<BenchApp>) -> Result<Engine> {
    let limits = Limits { nodes: UNLIMITED, fan_out: UNLIMITED, entries: UNLIMITED, ..Limits::default() };
    let options = EngineOptions {
        limits,
        // The bodies of the largest tree have room.
        cache: CachePolicy::Bytes(1 << 30),
        lease: LEASE,
        heartbeat: HEARTBEAT,
        environment: Arc::new(SystemEnvironment::with_clock(Arc::clone(&place.clock) as Arc<dyn Clock>)),
        ..EngineOptions::default()
    };
    Ok(Engine::launch(Arc::clone(app), Arc::clone(&place.store), options).await?)
}

/// What a run took.
#[derive(Clone, Copy)]
struct Spent {
    /// Of this process.
    worker: Duration,
    /// Of the database's processes, if there are any and they can be seen.
    database: Option<Duration>,
    wall: Duration,
}

impl Spent {
    fn cost(self) -> Duration {
        self.worker + self.database.unwrap_or_default()
    }

    fn or_less(self, other: Self) -> Self {
        if other.cost() < self.cost() { other } else { self }
    }
}

/// Measures from when it is made.
struct Stopwatch {
    postmaster: Option<Postmaster>,
    worker: Duration,
    database: Option<Duration>,
    begun: Instant,
}

impl Stopwatch {
    async fn start(place: &Place) -> Result<Self> {
        let postmaster = match place.connect().await? {
            Some(mut connection) => Postmaster::of(&mut connection).await?,
            None => None,
        };
        let database = postmaster.and_then(Postmaster::time);
        Ok(Self { postmaster, database, worker: own_time(), begun: Instant::now() })
    }

    fn stop(self) -> Spent {
        let wall = self.begun.elapsed();
        let worker = own_time().saturating_sub(self.worker);
        let database = self.postmaster.and_then(Postmaster::time);
        let database = database.zip(self.database).map(|(after, before)| after.saturating_sub(before));
        Spent { worker, database, wall }
    }
}
