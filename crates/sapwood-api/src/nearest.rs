//! The nearest known name, as a half sentence of an error about an unknown one.

use sapwood_core::nearest::nearest;

/// `; did you mean …?` if there is a near name, else nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
