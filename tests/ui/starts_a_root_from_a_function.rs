//! Only a consumer starts roots.

mod contexts;
use contexts::*;

#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>) -> Result<(), OrderError> {
    let _ = cx.start(charge("card".to_owned(), 3)).await; //~ only a consumer starts a root
    Ok(())
}

fn main() {}
