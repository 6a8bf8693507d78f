//! Stored codes: each enum that is stored by number has one table, which owns its codes and its names.

/// Gives an enum with `#[repr(i16)]` its codes and its names on the wire, from one list of its variants.
///
/// The list is complete: if it lacks a variant, it does not compile. A code is never given a second meaning.
macro_rules! stored_codes {
    ($type:ident { $($variant:ident: $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every variant, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stored code.
            #[must_use]
            pub const fn code(self) -> i16 {
                self as i16
            }

            /// The variant of a stored code.
            #[must_use]
            pub fn from_code(code: i16) -> Option<Self> {
                Self::ALL.iter().copied().find(|variant| variant.code() == code)
            }

            /// The name on the wire, in errors and in the timeline.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

pub(crate) use stored_codes;

#[cfg(test)]
mod tests {
    use crate::control::ControlVerb;
    use crate::journal::EntryKind;
    use crate::tree::{Closing, PromiseState, TimerKind, TreeState};

    /// Checks each enum that is stored by code, given the count of its codes.
    macro_rules! walk {
        ($($type:ident: $count:literal),+ $(,)?) => {
            $(
                let codes: Vec<i16> = $type::ALL.iter().map(|variant| variant.code()).collect();
                assert_eq!(codes.len(), $count, stringify!($type));
                assert!(codes.is_sorted_by(|a, b| a < b), "{} has two variants of one code: {codes:?}", stringify!($type));
                for variant in $type::ALL {
                    assert_eq!($type::from_code(variant.code()), Some(*variant));
                    assert!(variant.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
                }
                let unknown = (i16::MIN..=i16::MAX).filter(|code| !codes.contains(code));
                assert!(unknown.into_iter().all(|code| $type::from_code(code).is_none()), stringify!($type));
            )+
        };
    }

    #[test]
    fn every_stored_code_names_one_variant() {
        walk!(TreeState: 8, PromiseState: 9, Closing: 5, TimerKind: 4, EntryKind: 19, ControlVerb: 4);
    }
}
