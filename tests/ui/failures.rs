//! What `#[derive(Failure)]` refuses.

mod contexts;
use contexts::*;

#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("plain")]
pub struct PlainError;

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum Policy {
    #[error("unavailable")]
    #[retry(attempts = 3)] //~ how often is the policy of the step or function
    Unavailable,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
#[retry] //~ marks the variants that are worth another attempt
pub enum Whole {
    #[error("unavailable")]
    Unavailable,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum UnknownKey {
    #[error(transparent)]
    #[failure(calls)] //~ has no key `calls`; it takes `call`; did you mean `call`?
    Call(CallFailure),
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum Shape {
    #[error("call")]
    #[failure(call)]
    Call { failure: CallFailure }, //~ contains what happened: `Call(CallFailure)`
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum Twice {
    #[error("one")]
    #[failure(call)]
    One(CallFailure),
    #[error("other")]
    #[failure(call)]
    Other(CallFailure), //~ the second marked `#[failure(call)]`
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum Both {
    #[error(transparent)]
    #[failure(call)]
    Call(#[from] CallFailure), //~ remove `#[from]`
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum Unmarked {
    #[error(transparent)]
    Call(#[from] CallFailure), //~ mark the variant `#[failure(call)]` instead
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum Unclassed {
    #[error(transparent)]
    Plain(#[from] PlainError), //~ `PlainError: sapwood::Failure` is not satisfied
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
#[error("generic")]
pub struct Generic<T>(T); //~ it takes no generics

fn main() {}
