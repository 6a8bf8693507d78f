//! Values of attributes, checked at expansion: names, versions, durations, retry policies.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::ParseStream;
use syn::{Ident, LitInt, LitStr, parenthesized};

use crate::arguments::{Keys, value};
use crate::home::engine;

/// The longest name of a context: it becomes the name of a database schema and of topics.
const CONTEXT_NAME: usize = 40;
/// The longest name of anything else: it is part of keys, routes and headers.
const NAME: usize = 100;

/// The kinds of names, which differ in what they may consist of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Naming {
    /// A bounded context.
    Context,
    /// An event, or a group of consumers.
    Dashed,
    /// A function or a consumer, named as Rust names functions.
    Function,
}

impl Naming {
    fn separator(self) -> char {
        match self {
            Self::Context | Self::Dashed => '-',
            Self::Function => '_',
        }
    }

    fn longest(self) -> usize {
        match self {
            Self::Context => CONTEXT_NAME,
            Self::Dashed | Self::Function => NAME,
        }
    }

    /// Checks a name; the error is the message about what is wrong with it.
    pub(crate) fn check(self, name: &str) -> Result<(), String> {
        let longest = self.longest();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == self.separator();
        let separators = match self.separator() {
            '-' => "dashes",
            _ => "underscores",
        };
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(allowed) {
            return Err(format!(
                "`{name}` is not a valid name: it consists of lower case letters, digits and {separators}, and starts \
                 with a letter"
            ));
        }
        if name.len() > longest {
            return Err(format!("`{name}` is too long: {} characters, at most {longest}", name.len()));
        }
        Ok(())
    }

    /// Reads ` = "name"`.
    pub(crate) fn read(self, input: ParseStream<'_>) -> syn::Result<String> {
        let literal: LitStr = value(input)?;
        self.check(&literal.value()).map_err(|message| syn::Error::new(literal.span(), message))?;
        Ok(literal.value())
    }
}

/// Reads ` = 2`.
pub(crate) fn version(input: ParseStream<'_>) -> syn::Result<u32> {
    positive(input, "versions count from 1")
}

fn positive(input: ParseStream<'_>, message: &str) -> syn::Result<u32> {
    let literal: LitInt = value(input)?;
    match literal.base10_parse()? {
        0 => Err(syn::Error::new(literal.span(), message)),
        number => Ok(number),
    }
}

/// What `retry(…)` gives; the default gives what it leaves out.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    attempts: Option<u32>,
    backoff: Option<Backoff>,
}

impl Retry {
    const KEYS: Keys = Keys { attribute: "retry(…)", known: &["attempts", "backoff"] };

    /// Reads `(attempts = 5, backoff = "100ms..30s")`.
    pub(crate) fn read(key: &Ident, input: ParseStream<'_>) -> syn::Result<Self> {
        if !input.peek(syn::token::Paren) {
            let message = "a policy is written as `retry(attempts = 5, backoff = \"100ms..30s\")`";
            return Err(syn::Error::new(key.span(), message));
        }
        let content;
        parenthesized!(content in input);
        let mut retry = Self::default();
        Self::KEYS.read(&content, |key, input| {
            match key.to_string().as_str() {
                "attempts" => retry.attempts = Some(positive(input, "the first attempt counts: at least 1 attempt")?),
                _ => retry.backoff = Some(Backoff::read(input)?),
            }
            Ok(())
        })?;
        if retry.attempts.is_none() && retry.backoff.is_none() {
            return Err(syn::Error::new(key.span(), "a policy has `attempts`, `backoff` or both"));
        }
        Ok(retry)
    }

    /// The policy, as an expression; `default` is the name of the constant that gives what is left out.
    pub(crate) fn policy(&self, default: &str) -> TokenStream {
        let engine = engine();
        let default = Ident::new(default, Span::call_site());
        let default = quote!(#engine::RetryPolicy::#default);
        let attempts = match self.attempts {
            Some(attempts) => quote!(#attempts),
            None => quote!(#default.attempts),
        };
        let (first, most) = match &self.backoff {
            Some(Backoff { first, most }) => (duration_expression(*first), duration_expression(*most)),
            None => (quote!(#default.first), quote!(#default.most)),
        };
        quote!(#engine::RetryPolicy::new(#attempts, #first, #most))
    }
}

/// Reads ` = "7d"`: a length of time that is longer than zero.
pub(crate) fn length(input: ParseStream<'_>) -> syn::Result<Duration> {
    let literal: LitStr = value(input)?;
    match duration(&literal.value()) {
        Ok(Duration::ZERO) => Err(syn::Error::new(literal.span(), "this is longer than zero")),
        read => read.map_err(|message| syn::Error::new(literal.span(), message)),
    }
}

/// What `on_exhausted = "…"` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OnExhausted {
    #[default]
    Reject,
    Pause,
}

impl OnExhausted {
    /// Reads ` = "pause"`.
    pub(crate) fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let literal: LitStr = value(input)?;
        Self::parse(&literal.value()).map_err(|message| syn::Error::new(literal.span(), message))
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "reject" => Ok(Self::Reject),
            "pause" => Ok(Self::Pause),
            _ => Err(format!(
                "`{text}` is not what becomes of a function whose attempts are over: write \"reject\" (it settles with its \
                 last error; the default) or \"pause\" (it is parked until an operator retries it)"
            )),
        }
    }

    /// The constant, as an expression.
    pub(crate) fn expression(self) -> TokenStream {
        let engine = engine();
        match self {
            Self::Reject => quote!(#engine::OnExhausted::Reject),
            Self::Pause => quote!(#engine::OnExhausted::Pause),
        }
    }
}

/// The first and the longest wait, `"100ms..30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let literal: LitStr = value(input)?;
        Self::parse(&literal.value()).map_err(|message| syn::Error::new(literal.span(), message))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Some((first, most)) = text.split_once("..") else {
            return Err(format!(
                "`{text}` is not a backoff: write the first and the longest wait, as in \"100ms..30s\""
            ));
        };
        let (first, most) = (duration(first)?, duration(most)?);
        if first.is_zero() {
            return Err("the first wait is longer than zero: waits grow by doubling it".to_owned());
        }
        if first > most {
            return Err(format!("the first wait of `{text}` is longer than its longest"));
        }
        Ok(Self { first, most })
    }
}

/// `100ms`, `30s`, `5m`, `2h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write a number and its unit, as in 100ms, 30s, 5m, 2h, 7d");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis_per_unit).map(Duration::from_millis).ok_or_else(wrong)
}

pub(crate) fn duration_expression(duration: Duration) -> TokenStream {
    // Built from milliseconds counted in a `u64`, so it fits.
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    quote!(::core::time::Duration::from_millis(#millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_its_unit() {
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "5", "s", "1.5s", "-1s", "5 s", "5min", "99999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_backoff_grows() {
        let expected = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(30) };
        assert_eq!(Backoff::parse("100ms..30s"), Ok(expected));
        for wrong in ["1s", "30s..1s", "0s..1s", "..", "1s..", "1s..2"] {
            assert!(Backoff::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn on_exhaustion_a_function_rejects_or_pauses() {
        assert_eq!(OnExhausted::parse("reject"), Ok(OnExhausted::Reject));
        assert_eq!(OnExhausted::parse("pause"), Ok(OnExhausted::Pause));
        for wrong in ["", "Pause", "park", "fail"] {
            let message = OnExhausted::parse(wrong).expect_err("refused");
            assert!(message.contains("\"reject\"") && message.contains("\"pause\""), "{message}");
        }
    }

    #[test]
    fn a_name_is_plain_enough_for_topics_and_routes() {
        assert!(Naming::Context.check("orders-2").is_ok());
        assert!(Naming::Function.check("place_order").is_ok());
        for wrong in ["", "Orders", "2orders", "-orders", "or ders", "orders.eu", "or_ders"] {
            assert!(Naming::Context.check(wrong).is_err(), "{wrong}");
        }
        assert!(Naming::Context.check(&"o".repeat(41)).is_err());
        assert!(Naming::Dashed.check(&"o".repeat(41)).is_ok());
        assert!(Naming::Function.check("place-order").is_err());
    }
}
