//! A tree never calls into another context.

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>) -> Result<(), OrderError> {
    let _ = cx.call(track_parcel("label".to_owned())).await; //~ track_parcel` belongs to another bounded context
    let _ = cx.call(track_parcel("label".to_owned())).await; //~ emit a domain event instead
    Ok(())
}

fn main() {}
