//! The load: clients over REST, each with one tree, who ask any process and ask again until they are answered.

use std::time::Duration;

use sapwood_core::TreeId;
use sapwood_tests::fleet::{ALWAYS, ANSWER, Plan, STEP_ATTEMPTS, Task};
use sapwood_tests::http::{self, Reply};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::processes::Addresses;
use crate::model::chance::Chance;

/// How long a client waits for an answer before it asks another process.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// How long a client waits before it asks again.
const AGAIN: Duration = Duration::from_millis(100);

/// What a client wants of its tree.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) plan: Plan,
    /// The deadline of the tree, in milliseconds.
    pub(super) deadline_ms: Option<u64>,
    /// A request, and after how many milliseconds it is made.
    request: Option<(Request, u64)>,
    /// How the promise of a tree that asks is settled, and after how many milliseconds.
    answer: Option<(Answer, u64)>,
}

/// What a client asks for: a verb, for the whole tree or for the call at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) verb: &'static str,
    pub(super) path: &'static str,
}

/// How a client settles a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Resolve,
    Reject,
}

/// What a client knows of its tree in the end.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) wish: Wish,
    pub(super) tree: TreeId,
    /// A request that was acknowledged.
    pub(super) requested: Option<Request>,
    /// How the promise was settled, as this client was told.
    pub(super) answered: Option<Answer>,
}

impl Wish {
    /// What the client of this number wants.
    pub(super) fn draw(number: u32, chance: &mut Chance) -> Self {
        let mut below = |least: u64, most: u64| least + chance.below(most - least);
        // Short steps are those between which a process is stopped most often, long ones those in which it is.
        let ms = if below(0, 2) == 0 { below(1, 40) } else { below(40, 500) };
        let task = match below(0, 14) {
            0..=3 => Task::Works { steps: small(if ms < 40 { below(4, 20) } else { below(1, 4) }), ms, fails: 0 },
            4 => Task::Works { steps: 2, ms, fails: small(below(1, STEP_ATTEMPTS.into())) },
            5 => Task::Works { steps: 2, ms, fails: ALWAYS },
            6 => Task::Fans { calls: small(below(2, 6)), ms },
            7 => Task::Naps { ms: below(1, 6_000) },
            8 => Task::Orders { calls: small(below(1, 4)), ms, fails: false },
            9 => Task::Orders { calls: small(below(1, 4)), ms, fails: true },
            10..=11 => Task::Enters { entries: small(below(1, 8)), ms: ms / 4 },
            12 => Task::Hurries { nap_ms: below(1, 3_000), deadline_ms: below(200, 3_000) },
            _ => Task::Asks { deadline_ms: (below(0, 2) == 0).then(|| below(200, 5_000)) },
        };
        let asks = matches!(task, Task::Asks { .. });
        let answer = below(0, 10);
        let answer = match answer {
            0..=4 if asks => Some((Answer::Resolve, below(0, 4_000))),
            5..=6 if asks => Some((Answer::Reject, below(0, 4_000))),
            _ => None,
        };
        let verb = match below(0, 20) {
            0..=2 => Some("cancel"),
            3 => Some("kill"),
            // Nothing else ends it.
            _ if task == (Task::Asks { deadline_ms: None }) && answer.is_none() => Some("cancel"),
            _ => None,
        };
        let calls = matches!(task, Task::Fans { .. } | Task::Orders { .. } | Task::Hurries { .. });
        let path = if calls && below(0, 2) == 0 { "/0" } else { "/" };
        let request = verb.map(|verb| (Request { verb, path }, below(0, 1_200)));
        let deadline_ms = (below(0, 10) == 0).then(|| below(200, 3_000));
        Self { plan: Plan { number, task }, deadline_ms, request, answer }
    }

    /// Steps in sequence and nothing else.
    pub(super) fn works(number: u32) -> Self {
        let task = Task::Works { steps: 3, ms: 5, fails: 0 };
        Self { plan: Plan { number, task }, deadline_ms: None, request: None, answer: None }
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).expect("a small number")
}

/// A client of the fleet, or of one of its processes.
pub(super) struct Client {
    addresses: Addresses,
    only: Option<usize>,
    chance: Chance,
}

impl Client {
    /// A client who asks any process.
    pub(super) fn of_any(addresses: &Addresses, chance: Chance) -> Self {
        Self { addresses: Addresses::clone(addresses), only: None, chance }
    }

    /// A client who asks this process only.
    pub(super) fn of(addresses: &Addresses, process: usize) -> Self {
        Self { addresses: Addresses::clone(addresses), only: Some(process), chance: Chance::of(0) }
    }

    /// Starts the tree, and does with it what is wished.
    pub(super) async fn carries_out(mut self, wish: Wish) -> Known {
        let tree = self.start(&wish).await;
        let (answered, requested) = match (wish.answer, wish.request) {
            (Some((answer, at)), Some((request, then))) => {
                sleep(Duration::from_millis(at)).await;
                let answered = self.answer(tree, answer).await;
                sleep(Duration::from_millis(then)).await;
                (answered, self.request(tree, request).await)
            }
            (Some((answer, at)), None) => {
                sleep(Duration::from_millis(at)).await;
                (self.answer(tree, answer).await, None)
            }
            (None, Some((request, at))) => {
                sleep(Duration::from_millis(at)).await;
                (None, self.request(tree, request).await)
            }
            (None, None) => (None, None),
        };
        Known { wish, tree, requested, answered }
    }

    /// Starts it as often as it takes (P5).
    pub(super) async fn start(&mut self, wish: &Wish) -> TreeId {
        let id = format!("fleet-{}", wish.plan.number);
        let deadline = wish.deadline_ms.map(|ms| format!("?deadline={ms}ms")).unwrap_or_default();
        let path = format!("/v1/fleet/functions/fleet_performs{deadline}");
        loop {
            let reply = self.post(&path, &[("idempotency-key", &id)], &json!({"plan": wish.plan})).await;
            match reply.status {
                200 | 201 => return reply.json()["tree"].as_str().expect("a tree").parse().expect("an id"),
                // The deadline passed before the store had taken it, and nothing was started.
                _ if reply.body.contains("invalid_deadline") => {}
                status => panic!("a start was answered {status}: {}", reply.body),
            }
        }
    }

    /// Returns the request, if the tree is to obey it.
    async fn request(&mut self, tree: TreeId, request: Request) -> Option<Request> {
        let Request { verb, path } = request;
        let body = json!({"actor": "a client", "reason": "by chance", "path": path});
        loop {
            let reply = self.post(&format!("/v1/fleet/trees/{tree}/{verb}"), &[], &body).await;
            if reply.status == 404 {
                // The call is not made yet, and never is if the tree ends before.
                if self.is_settled(tree).await {
                    return None;
                }
                sleep(AGAIN).await;
                continue;
            }
            let told = reply.expect(200);
            // What was asked for before was asked by this client, who was not told.
            return (told["effect"] == "accepted" || told["why"] == "requested").then_some(request);
        }
    }

    /// Returns the answer, if it is the outcome of the promise.
    async fn answer(&mut self, tree: TreeId, answer: Answer) -> Option<Answer> {
        let (verb, body) = match answer {
            Answer::Resolve => ("resolve", json!("yes")),
            Answer::Reject => ("reject", json!({"message": "no"})),
        };
        let path = format!("/v1/fleet/trees/{tree}/promises/{ANSWER}/{verb}");
        loop {
            let reply = self.post(&path, &[], &body).await;
            match reply.status {
                200 => return Some(answer),
                409 => return None,
                // The promise is not made yet; it never is if the tree times out or is cancelled before.
                404 if !self.is_settled(tree).await => sleep(AGAIN).await,
                404 => return None,
                status => panic!("a settle was answered {status}: {}", reply.body),
            }
        }
    }

    async fn is_settled(&mut self, tree: TreeId) -> bool {
        self.ask("GET", &format!("/v1/fleet/trees/{tree}/result"), &[], b"").await.status == 200
    }

    /// The outcome of a tree, once it has one.
    pub(super) async fn outcome(&mut self, tree: TreeId) -> Value {
        loop {
            let reply = self.ask("GET", &format!("/v1/fleet/trees/{tree}/result?wait=2s"), &[], b"").await;
            if reply.status == 200 {
                return reply.json();
            }
        }
    }

    /// Returns once the process is ready.
    pub(super) async fn is_ready(&mut self) {
        self.ask("GET", "/health/ready", &[], b"").await.expect(200);
    }

    async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.ask("POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// Asks until it is answered by a process that can.
    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        loop {
            let address = {
                let addresses = self.addresses.lock();
                addresses[self.only.unwrap_or_else(|| self.chance.index(addresses.len()))].clone()
            };
            let asked = timeout(ANSWERED_WITHIN, http::try_send(&address, method, path, headers, body));
            match asked.await {
                Ok(Ok(reply)) if reply.status == 503 => {}
                Ok(Ok(reply)) => {
                    assert!(reply.status < 500, "{method} {path}: {} {}", reply.status, reply.body);
                    return reply;
                }
                // It is gone, or stands still.
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }
}
