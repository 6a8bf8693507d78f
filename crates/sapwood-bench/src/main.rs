use sapwood::prelude::*;
use sapwood_engine::{CachePolicy, EngineOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(BoundedContext)]
#[context(name = "smoke")]
pub struct Smoke;

#[derive(Dependencies)]
#[dependencies(of = Smoke)]
pub struct App {}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum Oops {
    #[error("bad {why}")]
    Bad { why: String },
    #[error("flaky")]
    #[retry]
    Flaky,
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

#[sapwood::function]
pub async fn seq3(cx: &mut Cx<App>, n: u32) -> Result<String, Oops> {
    let a = cx.step("a", || async { Ok::<_, Oops>("a".repeat(98)) }).await?;
    let b = cx.step("b", || async { Ok::<_, Oops>("b".repeat(98)) }).await?;
    let c = cx.step("c", || async { Ok::<_, Oops>("c".repeat(98)) }).await?;
    Ok(format!("{n}{}{}{}", &a[..1], &b[..1], &c[..1]))
}

#[sapwood::function]
pub async fn leaf(cx: &mut Cx<App>, n: u32) -> Result<u32, Oops> {
    let a = cx.step("a", || async { Ok::<_, Oops>(n) }).await?;
    let b = cx.step("b", || async { Ok::<_, Oops>(a + 1) }).await?;
    Ok(b)
}

#[sapwood::function]
pub async fn tree4x2(cx: &mut Cx<App>, n: u32) -> Result<u32, Oops> {
    let mut calls = Vec::new();
    for i in 0..4 {
        calls.push(cx.call(leaf(n * i)));
    }
    let all = futures::future::try_join_all(calls).await?;
    Ok(all.into_iter().sum())
}

#[sapwood::function]
pub async fn nap(cx: &mut Cx<App>, ms: u64) -> Result<u64, Oops> {
    cx.sleep(Duration::from_millis(ms)).await;
    let mut tries = 0;
    let v = cx
        .step("flaky", || {
            tries += 1;
            let t = tries;
            async move { if t < 3 { Err(Oops::Flaky) } else { Ok(t) } }
        })
        .retry(RetryPolicy::new(5, Duration::from_millis(5), Duration::from_millis(10)))
        .await?;
    tokio::select! { _ = cx.sleep(Duration::from_millis(5)) => {}, r = cx.call(leaf(1)) => { r?; } }
    Ok(v)
}

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN).init();
    let args: Vec<String> = std::env::args().collect();
    let kind = args.get(1).map(String::as_str).unwrap_or("sqlite");
    let evict = args.get(2).map(String::as_str) == Some("evict");
    let store: Arc<dyn sapwood_core::store::Store> = if kind == "sqlite" {
        let dir = std::env::temp_dir().join(format!("smoke-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let s = sapwood_sqlite::SqliteStore::open(sapwood_sqlite::SqliteOptions::file(dir.join("x.db"))).await.unwrap();
        s.migrate().await.unwrap();
        Arc::new(s)
    } else {
        let s = sapwood_postgres::PostgresStore::connect(sapwood_postgres::PostgresOptions::new(
            kind,
            format!("smoke_{}", std::process::id()),
        ))
        .await
        .unwrap();
        s.migrate().await.unwrap();
        Arc::new(s)
    };
    println!("{:?}", store.info());
    let mut options = EngineOptions::default();
    if evict {
        options.cache = CachePolicy::Evict;
    }
    if let Ok(c) = std::env::var("COMMITTERS") {
        options.committers = c.parse().unwrap();
    }
    let engine = Engine::launch(Arc::new(App {}), store.clone(), options).await.unwrap();
    let h = engine.start(seq3(7).id("one")).await.unwrap();
    println!("seq3 {:?}", tokio::time::timeout(Duration::from_secs(5), h.result()).await);
    let h = engine.start(tree4x2(2)).await.unwrap();
    println!("tree {:?}", tokio::time::timeout(Duration::from_secs(5), h.result()).await);
    let h = engine.start(nap(20)).await.unwrap();
    println!("nap {:?}", tokio::time::timeout(Duration::from_secs(5), h.result()).await);
    let v = engine.tree(h.id()).await.unwrap().unwrap();
    for n in v.nodes {
        println!("{n} {:?}", n.waits_on);
        for (_, e) in &n.timeline {
            println!("   {} {} {:?} {}", e.kind.name(), e.position, e.number, e.name);
        }
    }
    for (name, conc, total) in [("seq3", 1, 500), ("seq3", 256, 20000), ("tree", 64, 4000)] {
        let total = if cfg!(debug_assertions) { total / 10 } else { total };
        let begun = Instant::now();
        let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let tasks: Vec<_> = (0..conc)
            .map(|_| {
                let (engine, next) = (engine.clone(), next.clone());
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if n >= total {
                            break;
                        }
                        if name == "seq3" {
                            let h = engine.start(seq3(n as u32).id(format!("{name}-{conc}-{n}"))).await.unwrap();
                            h.result().await.unwrap();
                        } else {
                            let h = engine.start(tree4x2(n as u32).id(format!("{name}-{conc}-{n}"))).await.unwrap();
                            h.result().await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for t in tasks {
            t.await.unwrap();
        }
        println!("{name} x{conc}: {:.0} trees/s", total as f64 / begun.elapsed().as_secs_f64());
    }
    engine.drain().await.unwrap();
    println!("drained");
}
