//! One function, two steps. Kill it between them and start it again: the first step does not run twice.
//!
//! Run with `cargo run -p hello`.

use std::time::Duration;

use sapwood::prelude::*;

/// The hello context.
#[derive(BoundedContext)]
#[context(name = "hello")]
pub struct Hello;

/// What its functions need: nothing.
#[derive(Dependencies)]
#[dependencies(of = Hello)]
pub struct HelloDependencies;

/// Greets a person, slowly.
#[sapwood::function]
pub async fn greet(cx: &mut Cx<HelloDependencies>, name: String) -> Result<String, sapwood::Error> {
    let greeting = cx.step("compose", || compose(&name)).await?;
    let said = cx.step("say", || say(&greeting)).await?;
    Ok(said)
}

async fn compose(name: &str) -> Result<String, sapwood::Error> {
    println!("composing a greeting (this line is printed once)");
    Ok(format!("Hello, {name}!"))
}

async fn say(greeting: &str) -> Result<String, sapwood::Error> {
    println!("about to say it: kill me within five seconds and start me again");
    tokio::time::sleep(Duration::from_secs(5)).await;
    Ok(greeting.to_owned())
}

#[tokio::main]
async fn main() -> sapwood::Result<()> {
    sapwood::telemetry::init();
    let config = sapwood::Config { listen: "127.0.0.1:0".to_owned(), ..sapwood::Config::load(None)? };
    let running = App::new().context(HelloDependencies).launch(&config).await?;
    let engine = running.engine("hello").expect("the context was added above");
    tokio::select! {
        said = hello(&engine) => println!("{said}"),
        () = sapwood::shutdown::asked() => println!("draining; start me again"),
    }
    running.drain().await;
    Ok(())
}

/// Starts the greeting, or finds the one that an earlier run started: the id is the same.
async fn hello(engine: &Engine) -> String {
    match engine.start(greet("world".to_owned()).id("hello-world")).await {
        Ok(tree) => match tree.result().await {
            Ok(said) => format!("{said} (this is tree {}; remove ./.sapwood/hello.db to begin again)", tree.id()),
            Err(error) => format!("no greeting: {error}"),
        },
        Err(error) => format!("not started: {error}"),
    }
}
