//! Only the owner of an event emits it.

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>, order_id: String) -> Result<(), OrderError> {
    cx.emit(OrderCompleted { order_id: order_id.clone() });
    cx.emit(CourierBooked { order_id: order_id.clone() }); //~ CourierBooked` is owned by another bounded context
    cx.emit(CourierBooked { order_id }); //~ subscribe to it
    Ok(())
}

fn main() {}
