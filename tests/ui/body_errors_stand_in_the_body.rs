//! What is wrong in a body, or in a call's arguments, is shown where its author wrote it.

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>, order_id: String) -> Result<u64, OrderError> {
    let number: u32 = order_id; //~ mismatched types
    let paid = cx.call(charge("card".to_owned(), "3")).await?; //~ mismatched types
    let more = cx.call(charge("card".to_owned())).await?; //~ this function takes 2 arguments but 1 argument was supplied
    unknown(number); //~ cannot find function `unknown`
    Ok(paid + more)
}

#[sapwood::function]
pub async fn returns(_: &mut Cx<OrdersDependencies>) -> Result<u64, OrderError> {
    Ok("text") //~ mismatched types
}

fn main() {}
