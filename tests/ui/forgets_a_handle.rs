//! A handle that is dropped abandons its operation.
#![deny(unused_must_use)]

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>) -> Result<(), OrderError> {
    cx.call(charge("card".to_owned(), 3)); //~ dropping a call's handle cancels the call
    cx.step("gateway", async || Ok::<_, PaymentError>(3)); //~ a step does nothing unless it is awaited
    cx.sleep(std::time::Duration::from_secs(1)); //~ a sleep does nothing unless it is awaited
    charge("card".to_owned(), 3); //~ a call does nothing until it is given to
    Ok(())
}

fn main() {}
