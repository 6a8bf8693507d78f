//! Claims trees that are ready and have no live owner: woken by hints and by what this worker knows to be due, with a
//! slow jittered poll as backstop.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;

use crate::due::Due;
use crate::outage::User;
use crate::quarantine::SUSPECT_FROM;
use crate::services::Services;
use crate::trees::Trees;

/// The most trees of one claim: enough to share the cost of a round trip, few enough to leave some to other workers.
const BATCH_TREES: usize = 100;

/// Trees loaded at once: about as many as the connections of a store serve without a queue.
const LOADS: usize = 8;

/// The pause after a claim that failed: the store may not answer, and more claims would not help it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The shortest pause between two claims if nothing more is ready. What is known of the database's clock is a moment
/// behind or ahead of it: a tree that is due by the one may not be due by the other, and would be claimed for in a tight
/// loop.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// Claims until the engine drains. `poll` is the backstop.
pub(crate) async fn run(services: Arc<Services>, trees: Arc<Trees>, due: Arc<Due>, poll: Duration) {
    let versions = services.registry.versions();
    while !services.life.is_draining() {
        let now = services.clock.now();
        let mut next = due.next_after(now);
        let suspects = services.quarantine.allows(services.environment.monotonic());
        match services.store.tree_claim(services.worker, BATCH_TREES, &versions, suspects).await {
            Ok(claims) => {
                services.outage.of(User::Claims).answered();
                for unreadable in &claims.unreadable {
                    trees.set_aside(unreadable.id, &unreadable.reason).await;
                }
                let is_full = claims.trees.len() + claims.unreadable.len() >= BATCH_TREES;
                for claimed in claims.trees.iter().filter(|claimed| claimed.takeovers >= SUSPECT_FROM) {
                    services.quarantine.admit(claimed.row.id, claimed.takeovers, services.environment.monotonic());
                }
                futures::stream::iter(claims.trees)
                    .for_each_concurrent(LOADS, |claimed| trees.run_claimed(claimed))
                    .await;
                if is_full {
                    continue;
                }
                next = [next, claims.next_ready_at].into_iter().flatten().min();
            }
            Err(error) => {
                // It may have been applied all the same: the search for strays finds those trees when the store answers.
                services.outage.of(User::Claims).failed(&error);
                next = now.checked_add(AGAIN_AFTER).ok();
            }
        }
        let pause = pause(&services, poll, next);
        tokio::time::sleep(PAUSE_MIN).await;
        tokio::select! {
            biased;

            () = due.raised() => {}
            () = services.quarantine.freed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How much shorter and longer than the poll the backstop is, so that workers do not claim in step.
const JITTER: f64 = 0.25;

/// The longest pause between two claims.
pub(crate) fn longest_pause(poll: Duration) -> Duration {
    poll.mul_f64(1.0 + JITTER)
}

/// The pause until the next tree is due, at most the backstop.
fn pause(services: &Services, poll: Duration, next: Option<Timestamp>) -> Duration {
    let backstop = poll.mul_f64(1.0 - JITTER + 2.0 * JITTER * services.environment.jitter());
    let Some(next) = next else { return backstop };
    services.clock.until(next).min(backstop)
}
