//! One statement for many rows: its text for 64, 16, 4 and 1 rows, so that every batch is made of few executions of few
//! cached statements.
//!
//! Each execution costs a hop to the connection's thread and back, which is more than a row costs. A text for every
//! possible number of rows, on the other hand, would never be found in the cache. Rejected after measuring:
//! `json_each`, which is slower for rows with blobs, because JSON cannot carry them.

use std::sync::{Arc, OnceLock};

/// Rows that one execution takes, largest first.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// A statement for many rows. Its parameters are bare `?`, taken in order.
pub(crate) struct Bulk {
    sql: &'static str,
    shape: Shape,
    /// The text for each of the sizes, made when it is first needed.
    forms: [OnceLock<Arc<str>>; SIZES.len()],
}

#[derive(Clone, Copy)]
enum Shape {
    /// `… values (?, …)`: the row is repeated within the statement.
    Rows,
    /// The statement is repeated whole, and each repetition tells how many rows it touched.
    Each,
}

impl Bulk {
    /// An insert whose row is repeated.
    pub(crate) const fn rows(sql: &'static str) -> Self {
        Self { sql, shape: Shape::Rows, forms: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// Any statement, repeated whole.
    pub(crate) const fn each(sql: &'static str) -> Self {
        Self { sql, shape: Shape::Each, forms: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// Parameters of one row.
    pub(crate) fn width(&self) -> usize {
        self.sql.bytes().filter(|byte| *byte == b'?').count()
    }

    /// Cuts `items` into slices, each with the text for that many rows.
    pub(crate) fn cut<'i, T>(&self, items: &'i [T]) -> Vec<(Arc<str>, &'i [T])> {
        let mut pieces = Vec::new();
        let mut rest = items;
        for (form, size) in SIZES.into_iter().enumerate() {
            while rest.len() >= size {
                let (piece, others) = rest.split_at(size);
                pieces.push((self.text(form), piece));
                rest = others;
            }
        }
        pieces
    }

    fn text(&self, form: usize) -> Arc<str> {
        Arc::clone(self.forms[form].get_or_init(|| match self.shape {
            Shape::Rows => repeat_row(&without_comments(self.sql), SIZES[form]).into(),
            Shape::Each => vec![without_comments(self.sql); SIZES[form]].join(";\n").into(),
        }))
    }
}

fn without_comments(sql: &str) -> String {
    sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Repeats the row of parameters: the only parenthesis that begins with one.
fn repeat_row(sql: &str, times: usize) -> String {
    let Some(start) = sql.find("(?") else { return sql.to_owned() };
    let end = sql[start..].find(')').map_or(sql.len(), |close| start + close + 1);
    let row = &sql[start..end];
    format!("{}{}{}", &sql[..start], vec![row; times].join(", "), &sql[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_few_sizes_in_order() {
        let bulk = Bulk::rows("insert into t (a, b) values (?, ?)");
        let items: Vec<_> = (0..86).collect();
        let pieces = bulk.cut(&items);
        let sizes: Vec<_> = pieces.iter().map(|(_, piece)| piece.len()).collect();
        assert_eq!(sizes, [64, 16, 4, 1, 1]);
        let order: Vec<_> = pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect();
        assert_eq!(order, items);
        assert_eq!(bulk.width(), 2);
    }

    #[test]
    fn an_insert_repeats_its_row_and_any_other_statement_itself() {
        let rows = repeat_row("insert into t (a, b)\nvalues (?, ?)\non conflict (a) do nothing", 2);
        assert_eq!(rows, "insert into t (a, b)\nvalues (?, ?), (?, ?)\non conflict (a) do nothing");
        let each = Bulk::each("-- why\nupdate t set a = ?\nwhere b = ?\n");
        assert_eq!(&*each.text(2), ["update t set a = ?\nwhere b = ?"; 4].join(";\n"));
    }
}
