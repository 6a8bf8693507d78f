//! Rows whose order is a promise: what is read of them ends before the first that cannot be read.

/// Rows in their order, up to the first that this build cannot read. That one is never passed over, because those behind
/// it may need it to come before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedRows<T> {
    /// The rows before it, or all.
    pub rows: Vec<T>,
    /// The first row that cannot be read, if the read came to it.
    pub unreadable: Option<UnreadableRow>,
}

/// A row that this build cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableRow {
    /// Its place: a `seq` of a lane, an offset of a topic.
    pub at: i64,
    /// What is wrong with it, in words.
    pub reason: String,
}

impl<T> OrderedRows<T> {
    /// Takes rows until one cannot be read. Each comes with its place.
    pub fn until_unreadable<E: std::fmt::Display>(found: impl IntoIterator<Item = (i64, Result<T, E>)>) -> Self {
        let mut rows = Vec::new();
        for (at, row) in found {
            match row {
                Ok(row) => rows.push(row),
                Err(error) => {
                    return Self { rows, unreadable: Some(UnreadableRow { at, reason: error.to_string() }) };
                }
            }
        }
        Self { rows, unreadable: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_before_the_first_that_cannot_be_read() {
        let found = [(1, Ok('a')), (4, Ok('b')), (5, Err("no time")), (9, Ok('c'))];
        let read = OrderedRows::until_unreadable(found);
        assert_eq!(read.rows, ['a', 'b']);
        assert_eq!(read.unreadable, Some(UnreadableRow { at: 5, reason: "no time".to_owned() }));
        let whole = OrderedRows::until_unreadable([(1, Ok::<_, String>('a'))]);
        assert_eq!(whole, OrderedRows { rows: vec!['a'], unreadable: None });
    }
}
