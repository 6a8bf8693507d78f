//! A step borrows `cx`, so nothing durable happens inside of it.

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn calls(cx: &mut Cx<OrdersDependencies>) -> Result<u64, OrderError> {
    let step = cx.step("nested", || {
        let call = cx.call(charge("card".to_owned(), 3)); //~^ cannot borrow `*cx` as mutable
        async { call.await.map_err(OrderError::from) }
    });
    step.await
}

#[sapwood::function]
pub async fn emits(cx: &mut Cx<OrdersDependencies>) -> Result<u64, OrderError> {
    let step = cx.step("emitting", || {
        cx.emit(OrderCompleted { order_id: "1".to_owned() }); //~^ cannot borrow `*cx` as mutable
        async { Ok(3) }
    });
    step.await
}

#[sapwood::function]
pub async fn emits_in_an_async_closure(cx: &mut Cx<OrdersDependencies>) -> Result<u64, OrderError> {
    let step = cx.step("emitting", async || {
        cx.emit(OrderCompleted { order_id: "1".to_owned() }); //~^ it captures state from its environment
        Ok(3)
    });
    step.await
}

fn main() {}
