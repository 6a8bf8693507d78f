//! Bounded contexts: the owners of functions, events and a store.

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
}
