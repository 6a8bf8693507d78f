//! Bounded contexts: the owners of functions, events and a store.

use crate::store::Database;

/// A bounded context, declared in its contract crate as a type without data.
///
/// ```text
/// /// The orders context.
/// #[derive(BoundedContext)]
/// #[context(name = "orders")]
/// pub struct Orders;
/// ```
pub trait BoundedContext: Send + Sync + 'static {
    /// The context's name: lower case letters, digits and dashes, at most 40 (checked by the derive).
    const NAME: &'static str;
}

/// The dependencies of a context's functions: gateways, clients, settings. Declared in the context's app.
pub trait Dependencies: Send + Sync + 'static {
    /// The context whose functions take these.
    type Context: BoundedContext;

    /// The kind of store without which its functions cannot run, because authors write in its database too.
    const DATABASE: Option<&'static str> = None;
}

/// Dependencies of a context whose functions have transactional steps. It runs on one kind of store only, and says which:
/// `#[dependencies(of = Orders, database = sapwood::Postgres)]`.
pub trait Transactional: Dependencies {
    /// Where authors write: in the database of the context's store.
    type Database: Database;
}
