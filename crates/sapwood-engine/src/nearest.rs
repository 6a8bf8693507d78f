//! The name that was probably meant.

/// The name nearest to `asked`, if one is near enough to be a slip of the pen.
pub(crate) fn nearest<'a>(asked: &str, names: Vec<&'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(asked, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}
