//! A body is polled by whichever thread has time, so what it holds across an await can be sent.

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>) -> Result<u64, OrderError> { //~ future cannot be sent between threads safely
    let count = std::rc::Rc::new(3);
    let paid = cx.call(charge("card".to_owned(), 3)).await?;
    Ok(paid + *count)
}

fn main() {}
