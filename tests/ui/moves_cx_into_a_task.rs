//! `cx` is borrowed for the body; it does not leave it.

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>, order_id: String) -> Result<(), OrderError> {
    let task = async move { cx.emit(OrderCompleted { order_id }) };
    tokio::spawn(task); //~ borrowed data escapes outside of function
    Ok(())
}

fn main() {}
