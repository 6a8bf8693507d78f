//! What `#[sapwood::consumer]` takes, and what it may stand on.

mod contexts;
use contexts::*;

#[sapwood::consumer] //~ a consumer belongs to a group
pub async fn no_group(_: &mut ConsumerCx<ShippingDependencies>, _: Delivered<OrderCompleted>) -> Result<(), CourierError> {
    Ok(())
}

#[sapwood::consumer(group = "shipping", on_dead = "skip")] //~ has no key `on_dead`
pub async fn unknown_key(_: &mut ConsumerCx<ShippingDependencies>, _: Delivered<OrderCompleted>) -> Result<(), CourierError> {
    Ok(())
}

#[sapwood::consumer(group = "Shipping!")] //~ `Shipping!` is not a valid name
pub async fn group_name(_: &mut ConsumerCx<ShippingDependencies>, _: Delivered<OrderCompleted>) -> Result<(), CourierError> {
    Ok(())
}

#[sapwood::consumer(group = "shipping")]
pub async fn of_a_function(_: &mut Cx<ShippingDependencies>, _: Delivered<OrderCompleted>) -> Result<(), CourierError> { //~ `cx: &mut ConsumerCx<Dependencies>`
    Ok(())
}

#[sapwood::consumer(group = "shipping")]
pub async fn undelivered(_: &mut ConsumerCx<ShippingDependencies>, _: OrderCompleted) -> Result<(), CourierError> { //~ one event: `event: Delivered<OrderCompleted>`
    Ok(())
}

#[sapwood::consumer(group = "shipping")]
pub async fn no_event(_: &mut ConsumerCx<ShippingDependencies>) -> Result<(), CourierError> { //~ one event: `event: Delivered<OrderCompleted>`
    Ok(())
}

#[sapwood::consumer(group = "shipping")]
pub async fn two(_: &mut ConsumerCx<ShippingDependencies>, _: Delivered<OrderCompleted>, _: u32) -> Result<(), CourierError> { //~ one event
    Ok(())
}

#[sapwood::consumer(group = "shipping")]
pub async fn gives(_: &mut ConsumerCx<ShippingDependencies>, _: Delivered<OrderCompleted>) -> Result<u32, CourierError> { //~ no caller waits for its value
    Ok(3)
}

#[sapwood::consumer(group = "shipping")]
pub async fn no_event_type(_: &mut ConsumerCx<ShippingDependencies>, _: Delivered<String>) -> Result<(), CourierError> { //~ `String: sapwood::Event` is not satisfied
    Ok(())
}

#[sapwood::consumer(group = "shipping")]
pub async fn calls_abroad(cx: &mut ConsumerCx<ShippingDependencies>, _: Delivered<OrderCompleted>) -> Result<(), CourierError> {
    let _ = cx.start(charge("card".to_owned(), 3)).await; //~ charge` belongs to another bounded context
    Ok(())
}

fn main() {}
