//! Cursors: where the next page of a list begins.
//!
//! A cursor is opaque to clients. It is the last id of the previous page, and a checksum that binds it to its list. So
//! a cursor that was cut, invented or used with other filters is refused, instead of giving the wrong page.

use sapwood_core::TreeId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Trees on a page if the request does not say: few enough to answer quickly.
pub(crate) const LIMIT_DEFAULT: usize = 50;
/// The most trees on a page, because a page is built in memory.
pub(crate) const LIMIT_MOST: usize = 200;

/// What a cursor belongs to: the parts that decide which trees are in the list, in a fixed order.
pub(crate) struct List<'a>(pub(crate) &'a [&'a str]);

impl List<'_> {
    /// The cursor of the page after the one that ends with `last`.
    pub(crate) fn cursor(&self, last: TreeId) -> String {
        format!("{}{:08x}", last.uuid().simple(), self.check(last))
    }

    /// The last tree of the previous page; `None` if the text is not a cursor of this list.
    pub(crate) fn last(&self, cursor: &str) -> Option<TreeId> {
        // `get` refuses a cut through a character. The whole text is compared, so that each page has exactly one
        // cursor.
        let id = TreeId::from(Uuid::try_parse(cursor.get(..32)?).ok()?);
        (self.cursor(id) == cursor).then_some(id)
    }

    fn check(&self, last: TreeId) -> u32 {
        let mut hash = Sha256::new_with_prefix(last.uuid().as_bytes());
        for part in self.0 {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_taken_by_its_own_list_only() {
        let id = TreeId::fresh();
        let cursor = List(&["orders", "place_order", ""]).cursor(id);
        assert_eq!(List(&["orders", "place_order", ""]).last(&cursor), Some(id));
        assert_eq!(List(&["orders", "", "place_order"]).last(&cursor), None, "another filter");
        assert_eq!(List(&["shipping", "place_order", ""]).last(&cursor), None, "another context");
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let list = List(&["orders"]);
        let good = list.cursor(TreeId::fresh());
        for bad in ["", "x", &good[..39], &format!("{good}0"), &good.to_uppercase(), &"é".repeat(20)] {
            assert_eq!(list.last(bad), None, "{bad:?}");
        }
    }
}
