//! The attributes and derives that an author writes; imported from `sapwood`, or from `sapwood-core` in a contract
//! crate.
//!
//! | file | what is there |
//! |---|---|
//! | `context`, `event`, `failure` | the derives of what authors declare |
//! | `function`, `consumer` | the two attributes; `durable` is what they share |
//! | `arguments`, `values` | the keys of attributes; their values, checked at expansion |
//! | `home` | the crate that an expansion names |

mod arguments;
mod consumer;
mod context;
mod durable;
mod event;
mod failure;
mod function;
mod home;
mod values;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use crate::home::Home;

/// Makes an `async fn` a durable function of its bounded context.
///
/// ```text
/// /// Charges the card. (This comment is the function's description in OpenAPI and in the console.)
/// #[sapwood::function(retry(attempts = 5, backoff = "100ms..30s"))]
/// pub async fn charge(cx: &mut Cx<OrdersDependencies>, card: Card, total: Cents) -> Result<Payment, PaymentError> {
///     let dependencies = cx.dependencies();
///     let key = cx.idempotency_key();
///     cx.step("gateway", || dependencies.payments.charge(&key, &card, total)).await
/// }
/// ```
///
/// The name then stands for a constructor, `charge(card, total)`, whose value is a `Call`: `cx.call` takes it inside
/// a function, `start` outside. Parameters are recorded as an object of their names, so one can be added with
/// `#[serde(default)]`; doc comments on them become descriptions in the schema.
///
/// | key | meaning | default |
/// |---|---|---|
/// | `retry(attempts = 5, backoff = "100ms..30s")` | attempts in all; the first and the longest wait between them | 3, `"100ms..60s"` |
/// | `on_exhausted = "pause"` | what becomes of it when its attempts are over after a transient error: `"reject"`, it settles with the error; `"pause"`, it is parked until an operator retries it | `"reject"` |
/// | `version = 2` | the version of the function, for trees that started with another | 1 |
/// | `name = "charge"` | the recorded name, so that the Rust name may change | the function's name |
///
/// Durations are a number and a unit: `ms`, `s`, `m`, `h`, `d`.
#[proc_macro_attribute]
pub fn function(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let source = parse_macro_input!(item as durable::Source);
    finish(function::function(arguments.into(), source))
}

/// Makes an `async fn` a consumer: a durable function whose trigger is an event, of its own context or of another.
///
/// ```text
/// #[sapwood::consumer(group = "shipping", retry(attempts = 8, backoff = "1s..5m"))]
/// pub async fn book_courier(cx: &mut ConsumerCx<ShippingDependencies>, event: Delivered<OrderCompleted>) -> Result<(), CourierError> {
///     let dependencies = cx.dependencies();
///     let label = cx.step("book", || dependencies.courier.book(event.order_id)).await?;
///     cx.start(track_parcel(label.id)).await?;
///     Ok(())
/// }
/// ```
///
/// | key | meaning | default |
/// |---|---|---|
/// | `group = "shipping"` | the group that sees each event once | required |
/// | `retry(attempts = 8, backoff = "1s..5m")` | attempts in all; the first and the longest wait between them | 10, `"100ms..60s"` |
/// | `on_exhausted = "pause"` | what becomes of it when its attempts are over after a transient error: `"reject"`, it settles with the error; `"pause"`, it is parked until an operator retries it | `"reject"` |
/// | `version = 2` | the version of the consumer, for events whose handling began with another | 1 |
/// | `name = "book_courier"` | the recorded name, so that the Rust name may change | the function's name |
#[proc_macro_attribute]
pub fn consumer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let source = parse_macro_input!(item as durable::Source);
    finish(consumer::consumer(arguments.into(), source))
}

/// Declares a bounded context: a name alone, in its contract crate.
///
/// ```text
/// /// The orders context.
/// #[derive(BoundedContext)]
/// #[context(name = "orders")]
/// pub struct Orders;
/// ```
///
/// The name consists of lower case letters, digits and dashes, starts with a letter and has at most 40 characters.
#[proc_macro_derive(BoundedContext, attributes(context))]
pub fn bounded_context(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(context::bounded_context(&input, Home::Contract))
}

/// `BoundedContext` as `sapwood` exports it.
#[doc(hidden)]
#[proc_macro_derive(AppBoundedContext, attributes(context))]
pub fn app_bounded_context(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(context::bounded_context(&input, Home::App))
}

/// Declares the dependencies of a context's functions: the fields of a struct.
///
/// ```text
/// #[derive(Dependencies)]
/// #[dependencies(of = orders_contract::Orders)]
/// pub struct OrdersDependencies { pub payments: PaymentGateway, pub warehouse: Warehouse }
/// ```
///
/// With `database = sapwood::Postgres` or `database = sapwood::Sqlite` beside `of`, functions can write in the database of
/// the context's store, in one commit with their progress (`Cx::transaction`). The context then runs on no other kind.
#[proc_macro_derive(Dependencies, attributes(dependencies))]
pub fn dependencies(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(context::dependencies(&input))
}

/// Declares an event: a fact that its context publishes and others may react to.
///
/// ```text
/// /// An order was completed.
/// #[derive(Event, Serialize, Deserialize, JsonSchema)]
/// #[event(context = Orders, name = "order-completed", version = 1, key = order_id)]
/// pub struct OrderCompleted { pub order_id: OrderId, pub total: Cents }
/// ```
///
/// | key | meaning | default |
/// |---|---|---|
/// | `context = Orders` | the context that owns the event; no other context emits it | required |
/// | `name = "order-completed"` | its name within the context: lower case letters, digits, dashes | required |
/// | `version = 1` | the version of its shape | 1 |
/// | `key = order_id` | the field by which its order is kept, or a closure: <code>key = \|event\| event.order.id</code>; its text (`Display`) is the key | required |
#[proc_macro_derive(Event, attributes(event))]
pub fn event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(event::event(&input, Home::Contract))
}

/// `Event` as `sapwood` exports it.
#[doc(hidden)]
#[proc_macro_derive(AppEvent, attributes(event))]
pub fn app_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(event::event(&input, Home::App))
}

/// Makes an error type a failure, which functions and steps may return: transient or terminal by its variants.
///
/// ```text
/// #[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
/// pub enum OrderError {
///     #[error("no such article: {sku}")] UnknownArticle { sku: String },          // terminal
///     #[error("warehouse unavailable")] #[retry] Unavailable,                     // transient
///     #[error(transparent)] Payment(#[from] PaymentError),                        // as the inner error says
///     #[error(transparent)] #[failure(call)] Call(CallFailure),                   // terminal
/// }
/// ```
///
/// `#[failure(call)]` marks the variant for calls that ended without an error of the callee's own. It also lets `?`
/// convert the `CallError<E>` of every call whose `E` converts into this type.
#[proc_macro_derive(Failure, attributes(retry, failure))]
pub fn failure(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(failure::failure(&input, Home::Contract))
}

/// `Failure` as `sapwood` exports it.
#[doc(hidden)]
#[proc_macro_derive(AppFailure, attributes(retry, failure))]
pub fn app_failure(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(failure::failure(&input, Home::App))
}

fn finish(expansion: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    expansion.unwrap_or_else(syn::Error::into_compile_error).into()
}
