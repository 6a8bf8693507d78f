//! The name that was probably meant, for the text of an error about an unknown one.

/// The most similar of `known`, if it is similar at all.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // With a lower bound, Jaro-Winkler would call names similar that only share a few letters.
    const SIMILAR: f64 = 0.8;
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
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
