//! The nearest known name, for the text of an error about an unknown one.

/// The name that was probably meant: the most similar of `known`, if it is similar at all.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Below this, Jaro-Winkler calls names similar that only share a few letters.
    const SIMILAR: f64 = 0.8;
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?` where there is a near name, else nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name_and_another_word_finds_none() {
        let known = ["orders", "shipping", "loyalty"];
        assert_eq!(nearest("order", known), Some("orders"));
        assert_eq!(nearest("shiping", known), Some("shipping"));
        assert_eq!(nearest("billing", known), None);
    }
}
