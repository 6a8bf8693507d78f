//! Keys and values of `#[sapwood::function]`; each mistake is one message, and the function is there nevertheless.

mod contexts;
use contexts::*;

#[sapwood::function(priority = 3)] //~ `#[sapwood::function]` has no key `priority`; it takes `retry`, `on_exhausted`, `deadline`, `grace`, `version`, `name`
pub async fn priority(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(deadline = "soon")] //~ `soon` is not a duration: write a number and its unit
pub async fn no_deadline(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(grace = "0s")] //~ this is longer than zero
pub async fn no_grace(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(retries(attempts = 5))] //~ did you mean `retry`?
pub async fn misspelled(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(retry(atempts = 5))] //~ did you mean `attempts`?
pub async fn misspelled_inside(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(retry = 5)] //~ a policy is written as `retry(attempts = 5, backoff = "100ms..30s")`
pub async fn short(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(retry())] //~ a policy has `attempts`, `backoff` or both
pub async fn empty(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(retry(attempts = 0))] //~ at least 1 attempt
pub async fn no_attempts(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(retry(backoff = "fast"))] //~ `fast` is not a backoff
pub async fn no_backoff(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(retry(backoff = "100..30s"))] //~ `100` is not a duration: write a number and its unit
pub async fn no_unit(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(retry(backoff = "30s..100ms"))] //~ longer than its longest
pub async fn shrinks(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(on_exhausted = "park")] //~ write "reject" (it settles with its last error; the default) or "pause"
pub async fn parks(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(version = 0)] //~ versions count from 1
pub async fn version_zero(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(version = 2, version = 3)] //~ `version` is given twice
pub async fn twice(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function(name = "Place Order")] //~ `Place Order` is not a valid name
pub async fn named(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    Ok(())
}

#[sapwood::function]
pub async fn _hidden(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> { //~ give it one with `name = "…"`
    Ok(())
}

#[sapwood::function]
pub async fn calls_them_all(cx: &mut Cx<OrdersDependencies>) -> Result<(), OrderError> {
    cx.call(no_deadline()).await?;
    cx.call(twice()).await?;
    Ok(())
}

fn main() {}
