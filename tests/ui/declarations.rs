//! What the derives of contexts, dependencies and events refuse.

mod contexts;
use contexts::*;

#[derive(BoundedContext)] //~ a bounded context has a name: `#[context(name = "orders")]`
pub struct Nameless;

#[derive(BoundedContext)]
#[context(nam = "orders")] //~ has no key `nam`; it takes `name`; did you mean `name`?
pub struct Misspelled;

#[derive(BoundedContext)]
#[context(name = "Orders")] //~ lower case letters, digits and dashes
pub struct Capital;

#[derive(BoundedContext)]
#[context(name = "a-context-with-a-name-of-more-than-forty-characters")] //~ is too long: 51 characters, at most 40
pub struct Long;

#[derive(BoundedContext)]
#[context(name = "full")]
pub struct Full(u32); //~ a bounded context is a name alone: `pub struct Full;`

#[derive(Dependencies)] //~ dependencies belong to a bounded context
pub struct Free;

#[derive(Dependencies)]
#[dependencies(of = Orders, schema = "orders")] //~ has no key `schema`
pub struct Database;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "keyless")] //~ an event has a key
pub struct Keyless;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "misspelled", key = order)] //~ the event has no field `order`; it has `order_id`, `total`; did you mean `order_id`?
pub struct MisspelledField {
    order_id: String,
    total: u64,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "textless", key = order)] //~ the trait `std::fmt::Display` is not implemented for `Vec<u8>`
pub struct Textless {
    order: Vec<u8>,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "either", key = order)] //~ an enum has no fields of its own: write a closure
pub enum Either {
    One { order: String },
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "generic", key = order)]
pub struct Generic<T> { //~ it takes no generics
    order: T,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "retried", key = order, retry = 3)] //~ has no key `retry`; it takes `context`, `name`, `version`, `key`
pub struct Retried {
    order: String,
}

fn main() {}
