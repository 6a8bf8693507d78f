//! `#[sapwood::consumer]`: one `async fn` becomes a durable function whose trigger is an event.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{GenericArgument, PatType, PathArguments, Type};

use crate::arguments::Keys;
use crate::durable::{Attributes, Durable, Kind, Source, body_excuses, excuses, one_argument, with_error};
use crate::home::{at, engine};
use crate::values::{Naming, OnExhausted, Retry, version};

const KEYS: Keys =
    Keys { attribute: "#[sapwood::consumer]", known: &["group", "retry", "on_exhausted", "version", "name"] };
const KIND: Kind = Kind { noun: "consumer", cx: "ConsumerCx" };
const NO_GROUP: &str = "a consumer belongs to a group, which sees each event once: `group = \"shipping\"`";

/// The attribute's arguments.
struct Options {
    group: Option<String>,
    retry: Option<Retry>,
    on_exhausted: OnExhausted,
    version: u32,
    name: Option<String>,
}

pub(crate) fn consumer(arguments: TokenStream, source: Source) -> syn::Result<TokenStream> {
    let (options, error) = read_options(arguments);
    Ok(with_error(expand(&options, source)?, error))
}

/// The options, and the error if they are wrong: the body is checked all the same.
fn read_options(arguments: TokenStream) -> (Options, Option<syn::Error>) {
    let mut options =
        Options { group: None, retry: None, on_exhausted: OnExhausted::default(), version: 1, name: None };
    let read = |input: ParseStream<'_>| {
        KEYS.read(input, |key, input| {
            match key.to_string().as_str() {
                "group" => options.group = Some(Naming::Dashed.read(input)?),
                "retry" => options.retry = Some(Retry::read(key, input)?),
                "on_exhausted" => options.on_exhausted = OnExhausted::read(input)?,
                "version" => options.version = version(input)?,
                _ => options.name = Some(Naming::Function.read(input)?),
            }
            Ok(())
        })
    };
    let error = read.parse2(arguments).err();
    let no_group = || syn::Error::new(proc_macro2::Span::call_site(), NO_GROUP);
    let error = error.or_else(|| options.group.is_none().then(no_group));
    (options, error)
}

fn expand(options: &Options, source: Source) -> syn::Result<TokenStream> {
    let durable = Durable::read(KIND, &source.signature)?;
    let (delivered, event) = read_event(&durable)?;
    check_unit(&durable.returns)?;
    let (name, number) = (durable.name(options.name.as_deref())?, options.version);
    let group = options.group.as_deref().unwrap_or_default();
    let Source { attributes, visibility, body, .. } = source;
    let attributes = Attributes::sort(attributes);
    let description = attributes.description();
    let Attributes { conditions, outside, inside } = attributes;
    let Durable { ident, cx, dependencies, returns, .. } = &durable;

    let engine = engine();
    let (excuses, body_excuses) = (excuses(), body_excuses());
    let error = quote_spanned!(at(returns.span())=> <#returns as #engine::Returned>::Err);
    let policy =
        options.retry.as_ref().map_or_else(|| quote!(#engine::RetryPolicy::CONSUMER), |retry| retry.policy("CONSUMER"));
    let on_exhausted = options.on_exhausted.expression();
    // If the body's future is not `Send`, the error is shown at the consumer's name and its note at the culprit.
    let future = quote_spanned!(at(ident.span())=>
        impl ::core::future::Future<
            Output = ::core::result::Result<(), <Self as #engine::Consumer>::Error>
        > + ::core::marker::Send + 'a
    );

    Ok(quote! {
        #(#conditions)*
        #(#outside)*
        #excuses
        #visibility struct #ident {}

        #(#conditions)*
        const _: () = {
            #[automatically_derived]
            impl #engine::Consumer for #ident {
                type Dependencies = #dependencies;
                type Event = #event;
                type Error = #error;
                const NAME: &'static str = #name;
                const VERSION: u32 = #number;
                const DESCRIPTION: &'static str = #description;
                const LOCATION: &'static str =
                    ::core::concat!(::core::file!(), ":", ::core::line!(), ":", ::core::column!());
                const GROUP: &'static str = #group;
                const RETRY: #engine::RetryPolicy = #policy;
                const ON_EXHAUSTED: #engine::OnExhausted = #on_exhausted;

                fn run<'a>(event: #engine::Delivered<#event>, cx: &'a mut #engine::ConsumerCx<#dependencies>) -> #future {
                    #(#inside)*
                    #body_excuses
                    async fn __body(#cx, #delivered) -> #returns #body
                    __body(cx, event)
                }
            }

            #engine::inventory::submit! { #engine::FunctionEntry::consumer::<#ident>() }
        };
    })
}

/// The parameter as written, and the `E` of its `Delivered<E>`.
fn read_event(durable: &Durable) -> syn::Result<(&PatType, &Type)> {
    const SHAPE: &str = "a consumer takes `cx` and one event: `event: Delivered<OrderCompleted>`";
    match &durable.parameters[..] {
        [parameter] => match one_argument(&parameter.ty, "Delivered") {
            Some(event) => Ok((parameter, event)),
            None => Err(syn::Error::new_spanned(&parameter.ty, SHAPE)),
        },
        [] => Err(syn::Error::new(durable.ident.span(), SHAPE)),
        [_, more, ..] => Err(syn::Error::new_spanned(more, SHAPE)),
    }
}

/// Refuses a `Result<T, E>` whose `T` is visibly not `()`. Behind an alias, the compiler's own error is enough.
fn check_unit(returns: &Type) -> syn::Result<()> {
    let Type::Path(path) = returns else { return Ok(()) };
    let Some(last) = path.path.segments.last().filter(|last| last.ident == "Result") else { return Ok(()) };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Ok(()) };
    match arguments.args.first() {
        Some(GenericArgument::Type(Type::Tuple(tuple))) if tuple.elems.is_empty() => Ok(()),
        Some(GenericArgument::Type(ty)) => {
            let message = "a consumer returns `Result<(), E>`: no caller waits for its value";
            Err(syn::Error::new_spanned(ty, message))
        }
        _ => Ok(()),
    }
}
