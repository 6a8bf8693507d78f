//! The crate that an expansion names: the one its derive was imported from.
//!
//! The derives of a contract crate exist twice, as `sapwood_core::Event` and as `sapwood::Event`. A contract crate
//! depends on `sapwood-core` alone, an app on `sapwood` alone, and each has the derive that names what it depends on.
//! Rejected: reading the user's `Cargo.toml` during expansion, which guesses what the import already says.

use proc_macro2::{Span, TokenStream};
use quote::quote;

/// Where a derive was imported from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Home {
    /// `sapwood_core`.
    Contract,
    /// `sapwood`.
    App,
}

impl Home {
    /// The path to `sapwood-core` in the user's crate.
    pub(crate) fn core(self) -> TokenStream {
        match self {
            Self::Contract => quote!(::sapwood_core),
            Self::App => quote!(::sapwood::__private::sapwood_core),
        }
    }
}

/// The path to what the attributes of an app expand to.
pub(crate) fn engine() -> TokenStream {
    quote!(::sapwood::__private)
}

/// [`engine`]'s `serde`, for the attributes of derives, which take paths as text.
pub(crate) const SERDE: &str = "::sapwood::__private::serde";
/// [`engine`]'s `schemars`, likewise.
pub(crate) const SCHEMARS: &str = "::sapwood::__private::schemars";

/// A span that points at what the author wrote and resolves names as generated code does. With the author's own span,
/// `self` and lifetimes would not be found if a `macro_rules!` wrote the item.
pub(crate) fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}
