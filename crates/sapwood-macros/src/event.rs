//! `#[derive(Event)]`: a fact that a context publishes, and the one impl that lets its owner emit it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Expr, ExprLit, Fields, Index, Lit, Member, Path};

use crate::arguments::{Keys, among, value};
use crate::home::{Home, at};
use crate::values::{Naming, version};

const KEYS: Keys = Keys { attribute: "#[event]", known: &["context", "name", "version", "key"] };
const MISSING: &str = "an event names its owner, itself and its key: \
                       `#[event(context = Orders, name = \"order-completed\", key = order_id)]`";

pub(crate) fn event(input: &DeriveInput, home: Home) -> syn::Result<TokenStream> {
    let (mut context, mut name, mut number, mut key) = (None::<Path>, None, 1, None::<Expr>);
    let span = KEYS.read_attribute(&input.attrs, MISSING, |argument, input| {
        match argument.to_string().as_str() {
            "context" => context = Some(value(input)?),
            "name" => name = Some(Naming::Dashed.read(input)?),
            "version" => number = version(input)?,
            _ => key = Some(value(input)?),
        }
        Ok(())
    })?;
    let missing = |what: &str, example: &str| syn::Error::new(span, format!("an event has {what}: `{example}`"));
    let context = context.ok_or_else(|| missing("an owner", "context = Orders"))?;
    let name = name.ok_or_else(|| missing("a name", "name = \"order-completed\""))?;
    let key = key.ok_or_else(|| missing("a key, by which its order is kept", "key = order_id"))?;
    if let Some(parameter) = input.generics.params.first() {
        return Err(syn::Error::new_spanned(parameter, "an event is one type of one shape: it takes no generics"));
    }
    let key = key_expression(&key, &input.data)?;
    let (ident, core) = (&input.ident, home.core());
    Ok(quote! {
        #[automatically_derived]
        impl #core::event::Event for #ident {
            type Context = #context;
            const NAME: &'static str = #name;
            const VERSION: u32 = #number;
            fn key(&self) -> ::std::string::String {
                #key
            }
        }
        #[automatically_derived]
        impl #core::event::EmittableFrom<#context> for #ident {}
    })
}

/// The key's text as an expression, from a field, a field of a field, or a closure over the event.
fn key_expression(key: &Expr, data: &Data) -> syn::Result<TokenStream> {
    if let Expr::Closure(closure) = key
        && let [parameter] = &closure.inputs.iter().collect::<Vec<_>>()[..]
    {
        let body = &closure.body;
        // Not called as a closure: its parameter's type could not be inferred, and its result could not borrow.
        let text = quote_spanned!(at(body.span())=> ::std::string::ToString::to_string(&(#body)));
        return Ok(quote!({ let #parameter: &Self = self; #text }));
    }
    let field = field_path(key, data)?;
    Ok(quote_spanned!(at(key.span())=> ::std::string::ToString::to_string(&#field)))
}

fn field_path(key: &Expr, data: &Data) -> syn::Result<TokenStream> {
    match key {
        Expr::Field(nested) => {
            let (base, member) = (field_path(&nested.base, data)?, &nested.member);
            Ok(quote_spanned!(at(key.span())=> #base.#member))
        }
        Expr::Path(path) if path.path.get_ident().is_some() => {
            let ident = path.path.require_ident()?;
            known_field(&Member::Named(ident.clone()), data, key)
        }
        Expr::Lit(ExprLit { lit: Lit::Int(index), .. }) => {
            known_field(&Member::Unnamed(Index { index: index.base10_parse()?, span: index.span() }), data, key)
        }
        _ => {
            let message = "a key is a field, `key = order_id`, or a closure, `key = |event| event.order.id`";
            Err(syn::Error::new_spanned(key, message))
        }
    }
}

fn known_field(member: &Member, data: &Data, key: &Expr) -> syn::Result<TokenStream> {
    let Data::Struct(data) = data else {
        let message = "an enum has no fields of its own: write a closure, `key = |event| match event { … }`";
        return Err(syn::Error::new_spanned(key, message));
    };
    if data.fields.members().any(|field| field == *member) {
        return Ok(quote_spanned!(at(key.span())=> self.#member));
    }
    let fields: Vec<String> = match &data.fields {
        Fields::Unit => return Err(syn::Error::new_spanned(key, "the event has no fields")),
        fields => fields.members().map(|field| quote!(#field).to_string()).collect(),
    };
    let asked = quote!(#member).to_string();
    let message = format!("the event has no field `{asked}`; it has {}", among(&asked, &fields));
    Err(syn::Error::new_spanned(key, message))
}
