//! Damage to stored rows: for every column of a table, as the catalog has it, values that a build may not be able to
//! read. What the database itself refuses cannot be there, and damages nothing.

use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::store::TestStore;

/// A value for a column, as SQL.
#[derive(Debug, Clone)]
pub struct Damage {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The value.
    pub value: &'static str,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{} = {}", self.table, self.column, self.value)
    }
}

/// The tables of a store, without those of its migrations and of the test.
///
/// # Panics
/// If the database does not answer, or there is none.
pub async fn tables(test: &TestStore) -> Vec<String> {
    let mut tables: Vec<String> = columns(test).await.into_iter().map(|(table, ..)| table).collect();
    tables.dedup();
    tables
}

/// Every damage of a table.
///
/// # Panics
/// If the database does not answer, or has no such table.
pub async fn damages(test: &TestStore, table: &str) -> Vec<Damage> {
    let columns = columns(test).await.into_iter().filter(|(of, ..)| of == table);
    let damages: Vec<Damage> = columns
        .flat_map(|(table, column, kind)| {
            let damage = move |value| Damage { table: table.clone(), column: column.clone(), value };
            values(&kind).iter().copied().map(damage).collect::<Vec<_>>()
        })
        .collect();
    assert!(!damages.is_empty(), "there is a table {table}");
    damages
}

/// Values at and past the edges of a column's type.
fn values(kind: &str) -> &'static [&'static str] {
    match kind {
        // SQLite: integers of eight bytes, also for times; text and blobs of any bytes.
        "INTEGER" => &["null", "-1", "77", "9223372036854775807", "-9223372036854775808"],
        "TEXT" => &["null", "''", "cast(x'ff' as text)", "'\n'"],
        "BLOB" => &["null", "x''", "x'ff'", "x'0100'"],
        // PostgreSQL.
        "smallint" => &["null", "-1", "77", "32767", "-32768"],
        "integer" => &["null", "-1", "77", "2147483647", "-2147483648"],
        "bigint" => &["null", "-1", "77", "9223372036854775807", "-9223372036854775808"],
        "timestamp with time zone" => &["null", "'infinity'", "'-infinity'", "'290000-01-01'", "'4000-01-01 bc'"],
        "text" => &["null", "''", "E'\\n'"],
        "bytea" => &["null", "'\\x'", "'\\xff'", "'\\x0100'"],
        "uuid" => &["null", "'00000000-0000-0000-0000-000000000000'"],
        "boolean" => &["null"],
        other => panic!("no damage is known for a column of type {other}"),
    }
}

/// Table, column and type of each column, table by table.
async fn columns(test: &TestStore) -> Vec<(String, String, String)> {
    let skipped =
        |table: &String| table.starts_with("_sqlx") || table.starts_with("sqlite_") || table.starts_with("test_");
    let columns: Vec<(String, String, String)> = match (test.schema(), test.file()) {
        (Some(schema), _) => {
            let sql = "select table_name::text, column_name::text, data_type::text from information_schema.columns
                       where table_schema = $1 order by table_name, ordinal_position";
            let found = sqlx::query(sql).bind(schema.name()).fetch_all(&mut schema.connect().await).await;
            found.expect("the catalog answers").iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
        }
        (None, Some(file)) => {
            let sql = "select m.name, c.name, c.type from sqlite_schema m, pragma_table_info(m.name) c
                       where m.type = 'table' order by m.name, c.cid";
            let found = sqlx::query(sql).fetch_all(&mut file.connect().await).await;
            found.expect("the catalog answers").iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
        }
        (None, None) => panic!("a store in memory has no rows that could be damaged"),
    };
    columns.into_iter().filter(|(table, ..)| !skipped(table)).collect()
}

/// Makes the damage in the rows that `which` selects; returns whether the database took it.
///
/// # Panics
/// If it concerns no row, or more than one.
pub async fn make(test: &TestStore, damage: &Damage, which: &str) -> bool {
    let Damage { table, column, value } = damage;
    let sql = AssertSqlSafe(format!("update {table} set {column} = {value} where {which}"));
    let _tell = test.changes().tell_at_the_end();
    let made = match (test.schema(), test.file()) {
        (Some(schema), _) => schema.connect().await.execute(sql).await.map(|done| done.rows_affected()),
        (None, Some(file)) => file.connect().await.execute(sql).await.map(|done| done.rows_affected()),
        (None, None) => panic!("a store in memory has no rows that could be damaged"),
    };
    match made {
        Ok(rows) => assert_eq!(rows, 1, "{damage} where {which}"),
        Err(sqlx::Error::Database(_)) => return false,
        Err(error) => panic!("{damage}: {error}"),
    }
    true
}
