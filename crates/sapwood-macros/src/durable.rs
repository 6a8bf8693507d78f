//! What a function and a consumer have in common: an `async fn` whose first parameter is `cx`.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};

use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, ExprLit, FnArg, GenericArgument, Ident, Lit, Meta, Pat, PatType, PathArguments, ReturnType,
    Safety, Signature, Type, Visibility,
};

use crate::values::Naming;

/// An `async fn` as written. Its body is not parsed: the compiler reports the mistakes in it, and an unfinished body
/// still gets completion in editors.
pub(crate) struct Source {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: TokenTree,
}

impl Parse for Source {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        if !input.peek(syn::token::Brace) {
            return Err(input.error("expected the function's body"));
        }
        Ok(Self { attributes, visibility, signature, body: input.parse()? })
    }
}

/// The kind of durable function, for its messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// `durable function` or `consumer`.
    pub(crate) noun: &'static str,
    /// `Cx` or `ConsumerCx`.
    pub(crate) cx: &'static str,
}

/// The parts that both kinds need, checked.
pub(crate) struct Durable {
    /// The function's name in Rust.
    pub(crate) ident: Ident,
    /// `cx` as written, for the body's signature.
    pub(crate) cx: PatType,
    /// The `D` of `Cx<D>`.
    pub(crate) dependencies: Type,
    /// The parameters after `cx`.
    pub(crate) parameters: Vec<PatType>,
    /// The type it returns, which is a `Result<T, E>` or an alias of one.
    pub(crate) returns: Type,
}

impl Durable {
    pub(crate) fn read(kind: Kind, signature: &Signature) -> syn::Result<Self> {
        check_plainness(kind, signature)?;
        let mut inputs = signature.inputs.iter();
        let (cx, dependencies) = match inputs.next() {
            Some(FnArg::Typed(cx)) => (cx.clone(), read_cx(kind, cx)?),
            Some(FnArg::Receiver(receiver)) => {
                let message =
                    format!("a {} is a free function: what it needs, it finds in `cx.dependencies()`", kind.noun);
                return Err(syn::Error::new_spanned(receiver, message));
            }
            None => return Err(no_cx(kind, signature.paren_token.span.join())),
        };
        let parameters = inputs.filter_map(|input| match input {
            FnArg::Typed(parameter) => Some(parameter.clone()),
            FnArg::Receiver(_) => None,
        });
        let ReturnType::Type(_, returns) = &signature.output else {
            let message = format!("a {} returns a `Result<T, E>`, where `E` is a `Failure`", kind.noun);
            return Err(syn::Error::new(signature.ident.span(), message));
        };
        Ok(Self {
            ident: signature.ident.clone(),
            cx,
            dependencies,
            parameters: parameters.collect(),
            returns: Type::clone(returns),
        })
    }

    /// The recorded name: the one given, or else the function's own.
    pub(crate) fn name(&self, given: Option<&str>) -> syn::Result<String> {
        if let Some(given) = given {
            return Ok(given.to_owned());
        }
        let name = self.ident.unraw().to_string();
        match Naming::Function.check(&name) {
            Ok(()) => Ok(name),
            Err(message) => {
                Err(syn::Error::new(self.ident.span(), format!("{message}; give it one with `name = \"…\"`")))
            }
        }
    }
}

fn check_plainness(kind: Kind, signature: &Signature) -> syn::Result<()> {
    let noun = kind.noun;
    let refuse = |tokens: &dyn ToTokens, message: String| Err(syn::Error::new_spanned(tokens, message));
    if signature.asyncness.is_none() {
        return refuse(&signature.fn_token, format!("a {noun} is async: `async fn {}`", signature.ident));
    }
    if let Some(constness) = &signature.constness {
        return refuse(constness, format!("a {noun} is not const"));
    }
    if let Safety::Unsafe(token) = &signature.safety {
        return refuse(token, format!("a {noun} is started by the engine, which cannot keep an unsafe contract"));
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi, format!("a {noun} is started by the engine: it has no ABI"));
    }
    if let Some(parameter) = signature.generics.params.first() {
        let message = format!("a {noun} is found again by its name, so there is only one of it: it takes no generics");
        return refuse(parameter, message);
    }
    if let Some(bounds) = &signature.generics.where_clause {
        return refuse(bounds, format!("a {noun} takes no generics, so there is nothing to bound"));
    }
    Ok(())
}

/// The `D` in `cx: &mut Cx<D>`.
fn read_cx(kind: Kind, cx: &PatType) -> syn::Result<Type> {
    let wrong = || no_cx(kind, cx.span());
    if !matches!(&*cx.pat, Pat::Ident(_) | Pat::Wild(_)) {
        return Err(wrong());
    }
    let Type::Reference(reference) = &*cx.ty else { return Err(wrong()) };
    if reference.mutability.is_none() {
        return Err(wrong());
    }
    one_argument(&reference.elem, kind.cx).cloned().ok_or_else(wrong)
}

fn no_cx(kind: Kind, span: Span) -> syn::Error {
    let message = format!(
        "the first parameter of a {} is `cx: &mut {}<Dependencies>`, with the struct of its context's dependencies",
        kind.noun, kind.cx
    );
    syn::Error::new(span, message)
}

/// The `T` of a type written `Name<T>`, by whatever path.
pub(crate) fn one_argument<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let path = match ty {
        // A type that came through a `macro_rules!` variable.
        Type::Group(group) => return one_argument(&group.elem, name),
        Type::Path(path) => path,
        _ => return None,
    };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    match &types.collect::<Vec<_>>()[..] {
        [ty] if last.ident == name => Some(ty),
        _ => None,
    }
}

/// Attributes sorted by the item they belong to.
pub(crate) struct Attributes {
    /// `#[cfg]`: on everything that is generated.
    pub(crate) conditions: Vec<Attribute>,
    /// The doc comment, and other attributes for callers.
    pub(crate) outside: Vec<Attribute>,
    /// The rest, such as lint levels: on the body.
    pub(crate) inside: Vec<Attribute>,
}

impl Attributes {
    pub(crate) fn sort(attributes: Vec<Attribute>) -> Self {
        let mut sorted = Self { conditions: Vec::new(), outside: Vec::new(), inside: Vec::new() };
        for attribute in attributes {
            let is = |name: &str| attribute.path().is_ident(name);
            let place = if is("cfg") {
                &mut sorted.conditions
            } else if is("doc") || is("deprecated") {
                &mut sorted.outside
            } else {
                &mut sorted.inside
            };
            place.push(attribute);
        }
        sorted
    }

    /// The doc comment as text, for OpenAPI and the console.
    pub(crate) fn description(&self) -> String {
        let lines = self.outside.iter().filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
        let lines: Vec<String> =
            lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
        lines.join("\n").trim().to_owned()
    }
}

/// The lints that generated items may break, because their author cannot mend them.
pub(crate) fn excuses() -> TokenStream {
    quote! {
        #[allow(
            dead_code, missing_docs, non_camel_case_types, unreachable_pub, missing_debug_implementations,
            missing_copy_implementations, clippy::all, clippy::pedantic
        )]
    }
}

/// The lints that the body may break, because the attribute demands its shape and its author cannot choose another.
pub(crate) fn body_excuses() -> TokenStream {
    quote! {
        #[allow(clippy::needless_pass_by_value, clippy::too_many_arguments, clippy::unused_async)]
    }
}

/// An item's tokens with the error beside them, so that one mistake in an attribute gives one message.
pub(crate) fn with_error(expansion: TokenStream, error: Option<syn::Error>) -> TokenStream {
    let error = error.map(syn::Error::into_compile_error);
    quote!(#expansion #error)
}
