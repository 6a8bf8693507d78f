//! `#[sapwood::function]`: one `async fn` becomes a constructor of a call and the durable function behind it.
//!
//! A function and a braced struct of one name live in different namespaces, so `charge(card, total)` is a value of
//! type `Call<charge>`, and `charge` as a type is the struct of its parameters, which is what is recorded. The body
//! becomes a function inside `Function::run`, where `charge(…)` still means the constructor.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Ident, Pat, PatType, Type};

use crate::arguments::Keys;
use crate::durable::{Attributes, Durable, Kind, Source, body_excuses, excuses, one_argument, with_error};
use crate::home::{SCHEMARS, SERDE, at, engine};
use crate::values::{Naming, OnExhausted, Retry, duration_expression, length, version};

const KEYS: Keys = Keys {
    attribute: "#[sapwood::function]",
    known: &["retry", "on_exhausted", "deadline", "grace", "version", "name"],
};
const KIND: Kind = Kind { noun: "durable function", cx: "Cx" };

/// The attribute's arguments.
struct Options {
    retry: Option<Retry>,
    on_exhausted: OnExhausted,
    deadline: Option<Duration>,
    grace: Option<Duration>,
    version: u32,
    name: Option<String>,
}

pub(crate) fn function(arguments: TokenStream, source: Source) -> syn::Result<TokenStream> {
    let (options, error) = read_options(arguments);
    Ok(with_error(expand(&options, source)?, error))
}

/// The options, and the error if they are wrong: the function is generated all the same, so that its callers compile.
fn read_options(arguments: TokenStream) -> (Options, Option<syn::Error>) {
    let mut options = Options {
        retry: None,
        on_exhausted: OnExhausted::default(),
        deadline: None,
        grace: None,
        version: 1,
        name: None,
    };
    let read = |input: ParseStream<'_>| {
        KEYS.read(input, |key, input| {
            match key.to_string().as_str() {
                "retry" => options.retry = Some(Retry::read(key, input)?),
                "on_exhausted" => options.on_exhausted = OnExhausted::read(input)?,
                "deadline" => options.deadline = Some(length(input)?),
                "grace" => options.grace = Some(length(input)?),
                "version" => options.version = version(input)?,
                _ => options.name = Some(Naming::Function.read(input)?),
            }
            Ok(())
        })
    };
    let error = read.parse2(arguments).err();
    (options, error)
}

fn expand(options: &Options, source: Source) -> syn::Result<TokenStream> {
    let durable = Durable::read(KIND, &source.signature)?;
    let parameters = durable.parameters.iter().map(Parameter::read).collect::<syn::Result<Vec<_>>>()?;
    let (name, number) = (durable.name(options.name.as_deref())?, options.version);
    let Source { attributes, visibility, body, .. } = source;
    let attributes = Attributes::sort(attributes);
    let description = attributes.description();
    let Attributes { conditions, outside, inside } = attributes;
    let Durable { ident, cx, dependencies, returns, .. } = durable;

    let engine = engine();
    let (excuses, body_excuses) = (excuses(), body_excuses());
    let fields = parameters.iter().map(Parameter::field);
    let arguments = parameters.iter().map(Parameter::argument);
    let undo = match &parameters[..] {
        [Parameter { name, ty, .. }] => Some(quote! {
            #[automatically_derived]
            impl #engine::UndoOf<#ty> for #ident {
                fn of_result(#name: #ty) -> Self {
                    Self { #name }
                }
            }
        }),
        _ => None,
    };
    let entry = match &parameters[..] {
        [Parameter { ty, .. }] => quote!(undo::<#ident, #ty>()),
        _ => quote!(of::<#ident>()),
    };
    let names: Vec<&Ident> = parameters.iter().map(|parameter| &parameter.name).collect();
    let body_parameters = parameters.iter().map(Parameter::body_parameter);
    let output = quote_spanned!(at(returns.span())=> <#returns as #engine::Returned>::Ok);
    let error = quote_spanned!(at(returns.span())=> <#returns as #engine::Returned>::Err);
    let policy =
        options.retry.as_ref().map_or_else(|| quote!(#engine::RetryPolicy::FUNCTION), |retry| retry.policy("FUNCTION"));
    let on_exhausted = options.on_exhausted.expression();
    let deadline = options.deadline.map(duration_expression).map(|length| {
        quote!(const DEADLINE: ::core::option::Option<::core::time::Duration> = ::core::option::Option::Some(#length);)
    });
    let grace =
        options.grace.map(duration_expression).map(|length| quote!(const GRACE: ::core::time::Duration = #length;));
    // If the body's future is not `Send`, the error is shown at the function's name and its note at the culprit.
    let future = quote_spanned!(at(ident.span())=>
        impl ::core::future::Future<
            Output = ::core::result::Result<<Self as #engine::Function>::Output, <Self as #engine::Function>::Error>
        > + ::core::marker::Send + 'a
    );

    Ok(quote! {
        #(#conditions)*
        #(#outside)*
        #excuses
        #visibility fn #ident(#(#arguments),*) -> #engine::Call<#ident> {
            #engine::Call::new(#ident { #(#names),* })
        }

        #(#conditions)*
        #[doc(hidden)]
        #excuses
        #[derive(#engine::serde::Serialize, #engine::serde::Deserialize, #engine::schemars::JsonSchema)]
        #[serde(crate = #SERDE)]
        #[schemars(crate = #SCHEMARS)]
        #visibility struct #ident { #(#fields),* }

        #(#conditions)*
        const _: () = {
            #[automatically_derived]
            impl #engine::Function for #ident {
                type Dependencies = #dependencies;
                type Output = #output;
                type Error = #error;
                const NAME: &'static str = #name;
                const VERSION: u32 = #number;
                const DESCRIPTION: &'static str = #description;
                const LOCATION: &'static str =
                    ::core::concat!(::core::file!(), ":", ::core::line!(), ":", ::core::column!());
                const RETRY: #engine::RetryPolicy = #policy;
                const ON_EXHAUSTED: #engine::OnExhausted = #on_exhausted;
                #deadline
                #grace

                fn run<'a>(self, cx: &'a mut #engine::Cx<#dependencies>) -> #future {
                    #(#inside)*
                    #body_excuses
                    async fn __body(#cx #(, #body_parameters)*) -> #returns #body
                    __body(cx #(, self.#names)*)
                }
            }

            #[automatically_derived]
            impl #engine::CallableFrom<#dependencies> for #ident {}

            #undo

            #engine::inventory::submit! { #engine::FunctionEntry::#entry }
        };
    })
}

/// A parameter after `cx`: a field of the struct that is recorded.
struct Parameter {
    name: Ident,
    mutable: bool,
    ty: Type,
    /// Doc comments, `#[serde]` and `#[schemars]`: on the field.
    recorded: Vec<Attribute>,
    /// Lint levels: on the body's parameter.
    inside: Vec<Attribute>,
}

impl Parameter {
    fn read(parameter: &PatType) -> syn::Result<Self> {
        let (name, mutable) = match &*parameter.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                (name.ident.clone(), name.mutability.is_some())
            }
            pattern => {
                let message =
                    "a parameter is recorded under its name: write `name: Type`, and take it apart in the body";
                return Err(syn::Error::new_spanned(pattern, message));
            }
        };
        check_owned(&parameter.ty)?;
        let (mut recorded, mut inside) = (Vec::new(), Vec::new());
        for attribute in &parameter.attrs {
            let is = |names: &[&str]| names.iter().any(|name| attribute.path().is_ident(name));
            if is(&["doc", "serde", "schemars"]) {
                recorded.push(attribute.clone());
            } else if is(&["allow", "expect", "warn", "deny"]) {
                inside.push(attribute.clone());
            } else {
                let message = "a parameter takes doc comments, `#[serde(…)]`, `#[schemars(…)]` and lint levels";
                return Err(syn::Error::new_spanned(attribute, message));
            }
        }
        Ok(Self { name, mutable, ty: Type::clone(&parameter.ty), recorded, inside })
    }

    fn field(&self) -> TokenStream {
        let Self { name, ty, recorded, .. } = self;
        quote!(#(#recorded)* #name: #ty)
    }

    fn argument(&self) -> TokenStream {
        let Self { name, ty, .. } = self;
        quote!(#name: #ty)
    }

    fn body_parameter(&self) -> TokenStream {
        let Self { name, ty, inside, .. } = self;
        let mutability = self.mutable.then(|| quote!(mut));
        quote!(#(#inside)* #mutability #name: #ty)
    }
}

fn check_owned(ty: &Type) -> syn::Result<()> {
    let message = match ty {
        Type::Reference(_) => {
            "a parameter is recorded and outlives its caller: take an owned value, such as `String` for `&str`"
        }
        Type::ImplTrait(_) => "a parameter is recorded and read back: name its type",
        ty if one_argument(ty, "Cx").is_some() || one_argument(ty, "ConsumerCx").is_some() => {
            "a durable function has one `cx`"
        }
        _ => return Ok(()),
    };
    Err(syn::Error::new_spanned(ty, message))
}
