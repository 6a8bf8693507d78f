//! What `#[sapwood::function]` may stand on.

mod contexts;
use contexts::*;

#[sapwood::function]
pub fn not_async(_: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> { //~ a durable function is async: `async fn not_async`
    Ok(())
}

#[sapwood::function]
pub async fn no_cx() -> Result<(), PaymentError> { //~ `cx: &mut Cx<Dependencies>`
    Ok(())
}

#[sapwood::function]
pub async fn no_reference(cx: Cx<OrdersDependencies>) -> Result<(), PaymentError> { //~ `cx: &mut Cx<Dependencies>`
    Ok(())
}

#[sapwood::function]
pub async fn of_a_consumer(cx: &mut ConsumerCx<OrdersDependencies>) -> Result<(), PaymentError> { //~ `cx: &mut Cx<Dependencies>`
    Ok(())
}

#[sapwood::function]
pub async fn generic<T>(_: &mut Cx<OrdersDependencies>, value: T) -> Result<T, PaymentError> { //~ it takes no generics
    Ok(value)
}

#[sapwood::function]
pub async fn method(&self, _: &mut Cx<OrdersDependencies>) -> Result<(), PaymentError> { //~ a durable function is a free function
    Ok(())
}

#[sapwood::function]
pub async fn takes_apart(_: &mut Cx<OrdersDependencies>, (a, b): (u32, u32)) -> Result<u32, PaymentError> { //~ write `name: Type`
    Ok(a + b)
}

#[sapwood::function]
pub async fn borrows(_: &mut Cx<OrdersDependencies>, name: &str) -> Result<(), PaymentError> { //~ take an owned value, such as `String`
    Ok(())
}

#[sapwood::function]
pub async fn nameless(_: &mut Cx<OrdersDependencies>, value: impl Into<String>) -> Result<(), PaymentError> { //~ name its type
    Ok(())
}

#[sapwood::function]
pub async fn returns_nothing(_: &mut Cx<OrdersDependencies>) {} //~ a durable function returns a `Result<T, E>`

#[sapwood::function]
pub async fn returns_no_result(_: &mut Cx<OrdersDependencies>) -> u64 { //~ Returned` is not implemented for `u64`
    3
}

#[sapwood::function]
pub struct Struct; //~ expected `fn`

fn main() {}
