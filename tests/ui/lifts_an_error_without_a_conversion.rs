//! A child's error needs a way into its parent's.

mod contexts;
use contexts::*;

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum StockError {
    #[error("sold out")]
    SoldOut,
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

#[sapwood::function]
pub async fn reserve(cx: &mut Cx<OrdersDependencies>) -> Result<u64, StockError> {
    let paid = cx.call(charge("card".to_owned(), 3)).await?; //~ `?` couldn't convert the error
    Ok(paid)
}

fn main() {}
