//! Inputs, results and errors are journaled.

mod contexts;
use contexts::*;

pub struct Gateway;

#[derive(Debug, thiserror::Error)]
#[error("plain")]
pub struct PlainError;

#[sapwood::function] //~ `Gateway: serde::Serialize` is not satisfied
pub async fn takes(
    cx: &mut Cx<OrdersDependencies>,
    gateway: Gateway, //~ `Gateway: serde::Deserialize<'de>` is not satisfied
) -> Result<(), PaymentError> {
    let (_, _) = (cx, gateway);
    Ok(())
}

#[sapwood::function]
pub async fn gives(_: &mut Cx<OrdersDependencies>) -> Result<Gateway, PaymentError> { //~ `Gateway: serde::Serialize` is not satisfied
    Ok(Gateway)
}

#[sapwood::function]
pub async fn fails(_: &mut Cx<OrdersDependencies>) -> Result<(), PlainError> { //~ `PlainError: sapwood::Failure` is not satisfied
    Ok(())
}

#[sapwood::function]
pub async fn steps(cx: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> {
    let _gateway = cx.step("build", async || Ok::<_, PaymentError>(Gateway)).await?; //~ `Gateway: serde::Serialize` is not satisfied
    Ok(())
}

fn main() {}
