//! The outcomes of the orders, and what followed from their events.

use std::collections::BTreeMap;
use std::time::Duration;

use sapwood::{Config, Engine, Running, StoreUrl, TreeId};

use crate::arguments::Arguments;

/// How often the consumers' progress is checked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The most events of a lane that are counted: far more than the example makes.
const ROWS_MOST: usize = 1_000_000;

/// The consumers of the example: the context, the consumer, and the function that it starts, if any.
const CONSUMERS: [(&str, &str, Option<&str>); 2] =
    [("shipping", "book_courier", Some("track_parcel")), ("loyalty", "add_points", None)];

/// The outcome of one order.
pub(crate) struct Settled {
    pub(crate) tree: sapwood::TreeId,
    pub(crate) is_new: bool,
    pub(crate) outcome: Result<(), String>,
    /// Whether what it had done was undone.
    pub(crate) is_compensated: bool,
}

/// The numbers that the example prints at its end.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) orders: usize,
    new: usize,
    completed: usize,
    rejected: BTreeMap<String, usize>,
    compensated: usize,
    a_completed_tree: Option<TreeId>,
    a_rejected_tree: Option<TreeId>,
    published: usize,
    handled: BTreeMap<&'static str, usize>,
}

impl Summary {
    pub(crate) fn count(&mut self, order: Settled) {
        self.orders += 1;
        self.new += usize::from(order.is_new);
        self.compensated += usize::from(order.is_compensated);
        match order.outcome {
            Ok(()) => {
                self.completed += 1;
                self.a_completed_tree.get_or_insert(order.tree);
            }
            Err(reason) => {
                *self.rejected.entry(reason).or_default() += 1;
                self.a_rejected_tree.get_or_insert(order.tree);
            }
        }
    }

    pub(crate) fn print(&self, running: &Running, config: &Config, arguments: &Arguments) {
        let url = format!("http://{}", running.address());
        println!();
        if running.engine("orders").is_some() {
            println!("orders               {} (new: {})", self.orders, self.new);
            println!("  completed          {}", self.completed);
            for (reason, count) in &self.rejected {
                println!("  rejected           {count} ({reason})");
            }
            println!("  compensated        {} (what they had reserved was released)", self.compensated);
            println!("events published     {}", self.published);
        }
        for (consumer, count) in &self.handled {
            println!("events handled       {count} by {consumer}");
        }
        match &config.store {
            StoreUrl::Sqlite(directory) => println!("data                 {}", directory.display()),
            StoreUrl::Postgres(_) => println!("data                 in PostgreSQL, one schema per context"),
        }
        for (what, tree) in [("a completed order", self.a_completed_tree), ("a rejected order", self.a_rejected_tree)] {
            if let Some(tree) = tree {
                println!("{what:<20} {url}/v1/orders/trees/{tree}");
            }
        }
        println!("REST                 {url}/v1/");
        println!("its description      {url}/docs and {url}/openapi.json");
        if running.engine("orders").is_some() && !arguments.once {
            println!("your own order:");
            println!(
                "  curl -i {url}/v1/orders/functions/place_order -H 'content-type: application/json' \\\n    \
                 -H 'idempotency-key: my-order' -d '{{\"order\": {{\"id\": \"my-order\", \"customer\": \"me\", \
                 \"card\": {{\"number\": \"4000-1\"}}, \"lines\": [{{\"sku\": \"sku-1\", \"quantity\": 1, \
                 \"price_cents\": 500}}]}}}}'"
            );
        }
    }
}

/// Waits until the consumers of this process have handled every completed order, and what they started is settled.
/// Returns whether all of it resolved: none was rejected or parked.
pub(crate) async fn await_consumers(running: &Running, summary: &mut Summary) -> Result<bool, String> {
    loop {
        let seen = look(running, summary).await?;
        if !seen.waits {
            return Ok(seen.failed == 0);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The progress of the consumers at one moment.
#[derive(Default)]
pub(crate) struct Seen {
    waits: bool,
    failed: usize,
}

/// Checks once how far the events and their consumers are.
pub(crate) async fn look(running: &Running, summary: &mut Summary) -> Result<Seen, String> {
    let feeds = running.engine("orders").is_some();
    let mut seen = Seen::default();
    for (context, consumer, starts) in CONSUMERS {
        let Some(engine) = running.engine(context) else { continue };
        let handled = Counts::of(&engine, consumer).await?;
        seen.failed += handled.failed;
        seen.waits |= handled.open > 0 || (feeds && handled.resolved + handled.failed < summary.completed);
        if let Some(starts) = starts {
            let started = Counts::of(&engine, starts).await?;
            seen.failed += started.failed;
            seen.waits |= started.open > 0 || started.resolved + started.failed < handled.resolved;
        }
        summary.handled.insert(consumer, handled.resolved);
    }
    if let Some((engine, choreography)) = running.engine("orders").zip(running.choreography("orders")) {
        summary.published = published(&engine, &choreography.health().relay.lanes).await?;
        seen.waits |= summary.published < summary.completed;
    }
    Ok(seen)
}

/// Events that the broker has acknowledged: those of the outbox up to the row up to which each lane is published.
async fn published(engine: &Engine, lanes: &BTreeMap<u16, i64>) -> Result<usize, String> {
    let mut published = 0;
    for (lane, cursor) in lanes {
        let rows = engine.store().outbox_read(*lane, 0, ROWS_MOST).await.map_err(|error| error.to_string())?;
        published += rows.rows.iter().filter(|row| row.seq <= *cursor).count();
    }
    Ok(published)
}

/// Trees of a function, counted by state.
#[derive(Default)]
struct Counts {
    resolved: usize,
    failed: usize,
    open: usize,
}

impl Counts {
    async fn of(engine: &Engine, function: &str) -> Result<Self, String> {
        use sapwood::{TreeFilter, TreeState};
        let mut counts = Self::default();
        let mut filter = TreeFilter { function: Some(function.to_owned()), limit: 500, ..TreeFilter::default() };
        loop {
            let rows = engine.list(&filter).await.map_err(|error| error.to_string())?;
            let last = rows.last().map(|last| last.id()).filter(|_| rows.len() == filter.limit);
            for listed in rows {
                match listed.row().map(|row| row.state) {
                    Some(TreeState::Resolved) => counts.resolved += 1,
                    Some(TreeState::Running | TreeState::Suspended) => counts.open += 1,
                    Some(
                        TreeState::Parked
                        | TreeState::Rejected
                        | TreeState::Cancelled
                        | TreeState::TimingOut
                        | TreeState::TimedOut,
                    )
                    | None => counts.failed += 1,
                }
            }
            match last {
                Some(last) => filter.before = Some(last),
                None => return Ok(counts),
            }
        }
    }
}
