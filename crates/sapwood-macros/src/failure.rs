//! `#[derive(Failure)]`: which errors are worth another attempt, decided by their type.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DataEnum, DeriveInput, Field, Fields, Ident, Member, Meta, Type, Variant};

use crate::arguments::Keys;
use crate::home::{Home, at};

const KEYS: Keys = Keys { attribute: "#[failure]", known: &["call"] };

pub(crate) fn failure(input: &DeriveInput, home: Home) -> syn::Result<TokenStream> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(syn::Error::new_spanned(parameter, "a failure is recorded as one type: it takes no generics"));
    }
    let (ident, core) = (&input.ident, home.core());
    let (is_transient, conversions, call) = match &input.data {
        Data::Enum(data) => of_enum(input, data, &core)?,
        Data::Struct(data) => (of_struct(input, &data.fields, &core)?, TokenStream::new(), None),
        Data::Union(data) => {
            return Err(syn::Error::new_spanned(data.union_token, "a failure is an enum or a struct"));
        }
    };
    let of_call = call.map(|variant| {
        quote! {
            fn of_call(failure: #core::failure::CallFailure) -> ::core::option::Option<Self> {
                ::core::option::Option::Some(Self::#variant(failure))
            }
        }
    });
    Ok(quote! {
        #[automatically_derived]
        impl #core::failure::Failure for #ident {
            fn is_transient(&self) -> bool {
                #is_transient
            }
            #of_call
        }
        #conversions
        #core::__private::inventory::submit! { #core::failure::FailureType::of::<#ident>() }
        #core::__private::inventory::submit! { #core::failure::FailureType::of_call::<#ident>() }
    })
}

/// The class of an enum's value, the conversions into it, and the variant that takes what a call can end with.
type OfEnum<'a> = (TokenStream, TokenStream, Option<&'a Ident>);

fn of_enum<'a>(input: &DeriveInput, data: &'a DataEnum, core: &TokenStream) -> syn::Result<OfEnum<'a>> {
    if let Some(retry) = retry_attribute(&input.attrs)? {
        return Err(syn::Error::new_spanned(retry, "`#[retry]` marks the variants that are worth another attempt"));
    }
    let (mut arms, mut call): (Vec<TokenStream>, Option<&Ident>) = (Vec::new(), None);
    for variant in &data.variants {
        let name = &variant.ident;
        if is_call(variant)? {
            if call.replace(name).is_some() {
                let message =
                    "one variant takes what a call can end with; this is the second marked `#[failure(call)]`";
                return Err(syn::Error::new(name.span(), message));
            }
            arms.push(quote!(Self::#name { .. } => false));
            continue;
        }
        arms.push(match Class::of(&variant.attrs, &variant.fields)? {
            Class::Terminal => quote!(Self::#name { .. } => false),
            Class::Transient => quote!(Self::#name { .. } => true),
            Class::Inner(member, ty) => {
                let inner = inner_class(core, ty, quote!(inner));
                quote!(Self::#name { #member: inner, .. } => #inner)
            }
        });
    }
    let conversions = call.map(|variant| {
        let of_call = call_conversions(&input.ident, variant, core);
        // An enum may tell promises from calls, by a variant of its own.
        let of_promise = (!takes_promises(data)).then(|| promise_conversion(&input.ident, variant, core));
        quote!(#of_call #of_promise)
    });
    let conversions = conversions.unwrap_or_default();
    if arms.is_empty() {
        return Ok((quote!(match *self {}), conversions, call));
    }
    Ok((quote!(match self { #(#arms,)* }), conversions, call))
}

fn of_struct(input: &DeriveInput, fields: &Fields, core: &TokenStream) -> syn::Result<TokenStream> {
    if let Some(attribute) = input.attrs.iter().find(|attribute| attribute.path().is_ident("failure")) {
        return Err(syn::Error::new_spanned(attribute, "`#[failure(call)]` marks a variant of an enum"));
    }
    Ok(match Class::of(&input.attrs, fields)? {
        Class::Terminal => quote!(false),
        Class::Transient => quote!(true),
        Class::Inner(member, ty) => inner_class(core, ty, quote!(&self.#member)),
    })
}

/// Whether another attempt may help.
enum Class<'a> {
    Terminal,
    Transient,
    /// As the error from which it was converted says.
    Inner(Member, &'a Type),
}

impl<'a> Class<'a> {
    /// The class of an error or a variant. `#[retry]` is explicit, so it wins over what an inner error says.
    fn of(attributes: &[Attribute], fields: &'a Fields) -> syn::Result<Self> {
        if retry_attribute(attributes)?.is_some() {
            return Ok(Self::Transient);
        }
        let Some((member, field)) = fields.members().zip(fields).find(|(_, field)| from_attribute(field).is_some())
        else {
            return Ok(Self::Terminal);
        };
        if is_type(&field.ty, "CallFailure") {
            let message = "mark the variant `#[failure(call)]` instead: it then takes every way in which a call can end \
                           without a result";
            return Err(syn::Error::new_spanned(from_attribute(field), message));
        }
        Ok(Self::Inner(member, &field.ty))
    }
}

fn inner_class(core: &TokenStream, ty: &Type, inner: TokenStream) -> TokenStream {
    // If the inner type is not a `Failure`, the compiler's error points at it.
    quote_spanned!(at(ty.span())=> <#ty as #core::failure::Failure>::is_transient(#inner))
}

fn retry_attribute(attributes: &[Attribute]) -> syn::Result<Option<&Attribute>> {
    let Some(retry) = attributes.iter().find(|attribute| attribute.path().is_ident("retry")) else {
        return Ok(None);
    };
    match &retry.meta {
        Meta::Path(_) => Ok(Some(retry)),
        other => {
            let message = "`#[retry]` takes nothing: it marks an error that is worth another attempt; how often is the \
                           policy of the step or function";
            Err(syn::Error::new_spanned(other, message))
        }
    }
}

fn from_attribute(field: &Field) -> Option<&Attribute> {
    field.attrs.iter().find(|attribute| attribute.path().is_ident("from"))
}

/// Whether the variant is marked `#[failure(call)]`; an error if it is and does not have the required shape.
fn is_call(variant: &Variant) -> syn::Result<bool> {
    let Some(attribute) = variant.attrs.iter().find(|attribute| attribute.path().is_ident("failure")) else {
        return Ok(false);
    };
    let mut call = false;
    attribute.parse_args_with(|input: ParseStream<'_>| {
        KEYS.read(input, |_, _| {
            call = true;
            Ok(())
        })
    })?;
    if !call {
        return Err(syn::Error::new_spanned(attribute, "write `#[failure(call)]`"));
    }
    let Fields::Unnamed(fields) = &variant.fields else {
        return Err(misshapen_call(variant.ident.span()));
    };
    let [field] = &fields.unnamed.iter().collect::<Vec<_>>()[..] else {
        return Err(misshapen_call(variant.ident.span()));
    };
    if let Some(from) = from_attribute(field) {
        return Err(syn::Error::new_spanned(from, "`#[failure(call)]` writes the conversion: remove `#[from]`"));
    }
    if let Some(retry) = retry_attribute(&variant.attrs)? {
        let message = "a call that has ended is never retried: remove `#[retry]`";
        return Err(syn::Error::new_spanned(retry, message));
    }
    Ok(true)
}

fn misshapen_call(span: Span) -> syn::Error {
    syn::Error::new(span, "`#[failure(call)]` marks a variant that contains what happened: `Call(CallFailure)`")
}

/// Whether a variant is made of the error of a promise.
fn takes_promises(data: &DataEnum) -> bool {
    let mut fields = data.variants.iter().flat_map(|variant| &variant.fields);
    fields.any(|field| from_attribute(field).is_some() && is_type(&field.ty, "PromiseError"))
}

fn is_type(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

fn promise_conversion(ident: &Ident, variant: &Ident, core: &TokenStream) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl ::core::convert::From<#core::failure::PromiseError> for #ident {
            fn from(error: #core::failure::PromiseError) -> Self {
                Self::#variant(::core::convert::Into::into(error))
            }
        }
    }
}

fn call_conversions(ident: &Ident, variant: &Ident, core: &TokenStream) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl ::core::convert::From<#core::failure::CallFailure> for #ident {
            fn from(failure: #core::failure::CallFailure) -> Self {
                Self::#variant(failure)
            }
        }
        #[automatically_derived]
        impl<E> ::core::convert::From<#core::failure::CallError<E>> for #ident
        where
            Self: ::core::convert::From<E>,
        {
            fn from(error: #core::failure::CallError<E>) -> Self {
                match error {
                    #core::failure::CallError::Failed { error, .. } | #core::failure::CallError::Exhausted { error, .. } => {
                        <Self as ::core::convert::From<E>>::from(error)
                    }
                    #core::failure::CallError::Ended(failure) => Self::#variant(failure),
                }
            }
        }
    }
}
