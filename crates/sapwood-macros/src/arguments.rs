//! The lists inside attributes, `key = value, key(…)`, and the messages about a wrong one.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Ident, Meta, Token};

/// The keys that one attribute knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    /// The attribute as its author writes it, for messages.
    pub(crate) attribute: &'static str,
    /// Every key it takes, in the order in which a message lists them.
    pub(crate) known: &'static [&'static str],
}

impl Keys {
    /// Reads a list; `take` reads what follows a key: ` = value` or `(…)`.
    pub(crate) fn read(
        self,
        input: ParseStream<'_>,
        mut take: impl FnMut(&Ident, ParseStream<'_>) -> syn::Result<()>,
    ) -> syn::Result<()> {
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let key = input.call(Ident::parse_any)?;
            if !self.known.iter().any(|known| key == known) {
                return Err(self.unknown(&key));
            }
            if seen.contains(&key) {
                return Err(syn::Error::new(key.span(), format!("`{key}` is given twice")));
            }
            take(&key, input)?;
            seen.push(key);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    /// Reads the one attribute of this name among `attributes`; without one, the error is `missing`.
    pub(crate) fn read_attribute(
        self,
        attributes: &[Attribute],
        missing: &str,
        take: impl FnMut(&Ident, ParseStream<'_>) -> syn::Result<()>,
    ) -> syn::Result<Span> {
        let name = self.attribute.trim_start_matches("#[").trim_end_matches(']');
        let mut named = attributes.iter().filter(|attribute| attribute.path().is_ident(name));
        let Some(attribute) = named.next() else {
            return Err(syn::Error::new(Span::call_site(), missing));
        };
        if let Some(second) = named.next() {
            return Err(syn::Error::new_spanned(second, format!("`{}` is given twice", self.attribute)));
        }
        let Meta::List(list) = &attribute.meta else {
            return Err(syn::Error::new_spanned(attribute, missing));
        };
        (|input: ParseStream<'_>| self.read(input, take)).parse2(list.tokens.clone())?;
        Ok(attribute.path().segments.first().map_or_else(Span::call_site, |segment| segment.ident.span()))
    }

    fn unknown(self, key: &Ident) -> syn::Error {
        let asked = key.to_string();
        let known = among(&asked, self.known);
        syn::Error::new(key.span(), format!("`{}` has no key `{asked}`; it takes {known}", self.attribute))
    }
}

/// What follows a key as ` = value`.
pub(crate) fn value<T: syn::parse::Parse>(input: ParseStream<'_>) -> syn::Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// `` `a`, `b`, `c`; did you mean `b`? `` The question is added if the name asked for is like one that is known.
pub(crate) fn among<S: AsRef<str>>(asked: &str, known: &[S]) -> String {
    // With a lower bound, names would be called alike that have little more than their letters in common.
    const ALIKE: f64 = 0.8;
    let mut text = known.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ");
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(asked, known.as_ref()), known.as_ref()))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    if let Some((_, nearest)) = nearest {
        text.push_str(&format!("; did you mean `{nearest}`?"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_is_met_with_the_nearest() {
        assert_eq!(among("atempts", &["attempts", "backoff"]), "`attempts`, `backoff`; did you mean `attempts`?");
        assert_eq!(among("deadline", &["retry", "version", "name"]), "`retry`, `version`, `name`");
    }
}
