//! The statements of one schema: the files under `queries/`, with the name of the schema written in.
//!
//! In the files every table, function and sequence stands in the schema `context`. The name of the context's own schema
//! takes its place before a statement is prepared. So no statement needs a `search_path`, which is a state of the
//! session: behind a pooler that lends sessions, rows would go to whichever schema the session was left with.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::AssertSqlSafe;

/// What stands in the files for the schema.
const PLACEHOLDER: &str = "context.";

/// The statements of one schema.
pub(crate) struct Statements {
    /// Quoted, with a dot.
    prefix: String,
    /// By where the text of the file is in the program and how long it is; each is written once.
    written: RwLock<HashMap<(usize, usize), Arc<str>>>,
}

impl Statements {
    /// For a schema whose name was checked: it has no quotes.
    pub(crate) fn of(schema: &str) -> Self {
        Self { prefix: format!("\"{schema}\"."), written: RwLock::default() }
    }

    /// A statement of a file.
    pub(crate) fn sql(&self, file: &'static str) -> AssertSqlSafe<Arc<str>> {
        // Nothing that holds the lock can panic half way, so what a poisoned lock guards is whole.
        let place = (file.as_ptr().addr(), file.len());
        let known = self.written.read().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        let sql = known.unwrap_or_else(|| {
            let sql: Arc<str> = file.replace(PLACEHOLDER, &self.prefix).into();
            let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(written.entry(place).or_insert(sql))
        });
        AssertSqlSafe(sql)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_stands_in_a_statement_and_nothing_else_of_it_changes() {
        const FILE: &str = "select id from context.tree where id = $1";
        let statements = Statements::of("my-orders");
        let AssertSqlSafe(sql) = statements.sql(FILE);
        assert_eq!(&*sql, "select id from \"my-orders\".tree where id = $1");
        let AssertSqlSafe(again) = statements.sql(FILE);
        assert!(Arc::ptr_eq(&sql, &again), "it is written once");
    }
}
