//! An undo takes the result of the call that it undoes, and nothing else.

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn refund(cx: &mut Cx<OrdersDependencies>, payment: u64) -> Result<(), PaymentError> {
    cx.step("refund", async || if payment == 0 { Err(PaymentError::Declined) } else { Ok(()) }).await
}

#[sapwood::function]
pub async fn forget(_: &mut Cx<OrdersDependencies>, card: String) -> Result<(), PaymentError> {
    drop(card);
    Ok(())
}

#[sapwood::function]
pub async fn refund_part(_: &mut Cx<OrdersDependencies>, payment: u64, part: u64) -> Result<u64, PaymentError> {
    Ok(payment / part)
}

#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>) -> Result<u64, OrderError> {
    cx.call(charge("card".to_owned(), 3).undo(refund)).await?;
    cx.call(charge("card".to_owned(), 3).undo(forget)).await?; //~ mismatched types
    cx.call(charge("card".to_owned(), 3).undo(refund_part)).await?; //~ mismatched types
    Ok(cx.call(charge("card".to_owned(), 3).undo(|payment| refund_part(payment, 2))).await?) //~ cannot undo a call whose result is a `u64`
}

fn main() {}
