//! Feeds orders: starts each as a tree with its own number as the id, and waits for its outcome.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use orders_app::{Order, place_order};
use sapwood::{CallerId, Closing, Running, StartError};

use crate::summary::{Settled, Summary};

/// Orders under way at once: enough to keep the gateways busy, and few enough to watch the progress.
const IN_FLIGHT: usize = 64;

/// The pause before an order is started again whose worker had stopped: another is about to take its place.
const REJOIN_PAUSE: Duration = Duration::from_millis(200);

/// How long an outcome that is there is waited for: a store that is away comes back.
const LONG: Duration = Duration::from_secs(3_600);

/// How often progress is printed if standard output is not a terminal.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Reads orders, one JSON object per line. An error in them has its own code, as every error at the start has.
pub(crate) fn read(file: Option<&Path>) -> Result<Vec<Order>, String> {
    let (name, text) = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| invalid(&format!("--orders {}: {error}", file.display())))?;
            (file.display().to_string(), text)
        }
        None => ("the orders of the example".to_owned(), include_str!("../data/orders.jsonl").to_owned()),
    };
    let read = |(line, text): (usize, &str)| {
        serde_json::from_str(text).map_err(|error| invalid(&format!("{name}, line {}: {error}", line + 1)))
    };
    text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()).map(read).collect()
}

fn invalid(why: &str) -> String {
    format!("{why} [invalid_orders]")
}

/// Starts every order and waits until all are settled.
pub(crate) async fn feed(running: &Running, orders: Vec<Order>, summary: &mut Summary) -> Result<(), String> {
    let progress = Progress::new(orders.len());
    let mut settled = futures::stream::iter(orders).map(|order| settle(running, order)).buffer_unordered(IN_FLIGHT);
    while let Some(order) = settled.next().await {
        summary.count(order?);
        progress.tick(summary.orders);
    }
    progress.finish();
    Ok(())
}

async fn settle(running: &Running, order: Order) -> Result<Settled, String> {
    let id = order.id.clone();
    let caller_id: CallerId = id.parse().map_err(|error| invalid(&format!("order {id:?}: {error}")))?;
    let (is_new, tree) = loop {
        // The engine as it is now: a worker that was declared dead joins again as a new one.
        let engine = running.engine("orders").ok_or("this process does not run the context `orders`")?;
        let known = engine.find(&caller_id).await.map_err(|error| error.to_string())?;
        match engine.start(place_order(order.clone()).id(&id)).await {
            Ok(tree) => break (known.is_none(), tree),
            Err(StartError::Stopped(_)) => tokio::time::sleep(REJOIN_PAUSE).await,
            Err(error) => return Err(format!("{id}: {error}")),
        }
    };
    let outcome = match tree.result().await {
        Ok(_) => Ok(()),
        Err(sapwood::ResultError::Call(
            sapwood::CallError::Failed { error, .. } | sapwood::CallError::Exhausted { error, .. },
        )) => Err(reason(&error)),
        Err(sapwood::ResultError::Call(sapwood::CallError::Ended(failure))) => Err(failure.kind.to_string()),
        Err(error) => return Err(format!("{id}: {error}")),
    };
    let engine = running.engine("orders").ok_or("this process does not run the context `orders`")?;
    let known = engine.outcome(tree.id(), LONG).await.map_err(|error| error.to_string())?;
    let is_compensated = known.is_some_and(|known| known.closing == Closing::Compensated);
    Ok(Settled { tree: tree.id(), is_new, outcome, is_compensated })
}

/// The reason, without the part that differs from order to order.
fn reason(error: &orders_app::OrderError) -> String {
    use orders_app::{OrderError, PaymentError, StockError};
    match error {
        OrderError::Payment(PaymentError::Declined { reason }) => format!("card declined: {reason}"),
        OrderError::Stock(StockError::OutOfStock { .. }) => "out of stock".to_owned(),
        other => other.to_string(),
    }
}

/// A bar on a terminal, otherwise one line per second.
struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    /// When progress was last printed.
    told: std::cell::Cell<Instant>,
}

impl Progress {
    fn new(total: usize) -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {per_sec}, {eta} left");
            let bar = ProgressBar::new(total as u64);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, total, told: std::cell::Cell::new(Instant::now()) }
    }

    fn tick(&self, done: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if self.told.get().elapsed() >= TOLD_EVERY => {
                self.told.set(Instant::now());
                println!("{done}/{} orders", self.total);
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
