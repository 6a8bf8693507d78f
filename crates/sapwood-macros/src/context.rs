//! `#[derive(BoundedContext)]` and `#[derive(Dependencies)]`: the name of a context, and what its functions need.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Path};

use crate::arguments::{Keys, value};
use crate::home::Home;
use crate::values::Naming;

const CONTEXT: Keys = Keys { attribute: "#[context]", known: &["name"] };
const CONTEXT_MISSING: &str = "a bounded context has a name: `#[context(name = \"orders\")]`";

const DEPENDENCIES: Keys = Keys { attribute: "#[dependencies]", known: &["of", "database"] };
const DEPENDENCIES_MISSING: &str =
    "dependencies belong to a bounded context: `#[dependencies(of = orders_contract::Orders)]`";

pub(crate) fn bounded_context(input: &DeriveInput, home: Home) -> syn::Result<TokenStream> {
    let mut name = None;
    let span = CONTEXT.read_attribute(&input.attrs, CONTEXT_MISSING, |_, input| {
        name = Some(Naming::Context.read(input)?);
        Ok(())
    })?;
    let name = name.ok_or_else(|| syn::Error::new(span, CONTEXT_MISSING))?;
    if !matches!(&input.data, Data::Struct(data) if data.fields.is_empty()) || !input.generics.params.is_empty() {
        let message = format!(
            "a bounded context is a name alone: `pub struct {};` (its dependencies have a struct of their own)",
            input.ident
        );
        return Err(syn::Error::new_spanned(&input.ident, message));
    }
    let (ident, core) = (&input.ident, home.core());
    Ok(quote! {
        #[automatically_derived]
        impl #core::context::BoundedContext for #ident {
            const NAME: &'static str = #name;
        }
    })
}

pub(crate) fn dependencies(input: &DeriveInput) -> syn::Result<TokenStream> {
    let (mut context, mut database): (Option<Path>, Option<Path>) = (None, None);
    let span = DEPENDENCIES.read_attribute(&input.attrs, DEPENDENCIES_MISSING, |key, input| {
        *(if key == "database" { &mut database } else { &mut context }) = Some(value(input)?);
        Ok(())
    })?;
    let context = context.ok_or_else(|| syn::Error::new(span, DEPENDENCIES_MISSING))?;
    let (ident, core) = (&input.ident, Home::App.core());
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    let kind = database.as_ref().map(|database| {
        quote! {
            const DATABASE: ::core::option::Option<&'static str> =
                ::core::option::Option::Some(<#database as #core::store::Database>::KIND);
        }
    });
    let transactional = database.as_ref().map(|database| {
        quote! {
            #[automatically_derived]
            impl #generics #core::context::Transactional for #ident #arguments #bounds {
                type Database = #database;
            }
        }
    });
    Ok(quote! {
        #[automatically_derived]
        impl #generics #core::context::Dependencies for #ident #arguments #bounds {
            type Context = #context;
            #kind
        }
        #transactional
    })
}
