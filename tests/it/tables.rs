//! Both databases, as they are migrated, have the same tables, columns and indexes, but for a list of differences.

use std::collections::{BTreeMap, BTreeSet};

use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_sqlite::{SqliteOptions, SqliteStore};
use sapwood_tests::postgres::TestSchema;
use sapwood_tests::sqlite::TestFile;
use sqlx::{AssertSqlSafe, Row as _};

/// What only PostgreSQL has, and why.
const POSTGRES_ALONE: &[(&str, &str)] = &[
    (
        "worker.emptied integer not null default 0",
        "workers of many processes are kept for ever; SQLite deletes those of earlier openings (`worker_thin`)",
    ),
    ("index worker_alive", "renewals find the living among all there ever were; SQLite has the workers of one process"),
    ("index worker_ended", "claims find those with trees among all there ever were; as above"),
];

/// What only SQLite has, and why.
const SQLITE_ALONE: &[(&str, &str)] = &[
    ("lane.last_seq integer not null default 0", "PostgreSQL draws the numbers of the outbox from a sequence"),
    ("table log_topic", "PostgreSQL reads the next offset of a topic under the topic's advisory lock"),
];

/// A column, as both databases can tell of it.
struct Column {
    table: String,
    name: String,
    /// How SQLite would store it: `integer`, `text` or `blob`.
    class: &'static str,
    is_nullable: bool,
    default: Option<String>,
}

struct Index {
    table: String,
    /// None for a primary key.
    name: Option<String>,
    columns: Vec<String>,
    is_unique: bool,
    predicate: Option<String>,
}

/// All that is compared of a database.
struct Tables {
    columns: Vec<Column>,
    indexes: Vec<Index>,
}

impl Tables {
    fn names(&self) -> BTreeSet<&str> {
        self.columns.iter().map(|column| column.table.as_str()).collect()
    }

    /// One line per fact. Of tables that the other database does not have, only that they are there.
    fn facts(&self, other: &Self) -> BTreeSet<String> {
        let shared = other.names();
        let is_shared = |table: &String| shared.contains(table.as_str());
        let tables = self.names().into_iter().map(|table| format!("table {table}"));
        let columns = self.columns.iter().filter(|column| is_shared(&column.table)).map(|column| {
            let null = if column.is_nullable { "" } else { " not null" };
            let default = column.default.as_ref().map_or_else(String::new, |default| format!(" default {default}"));
            format!("{}.{} {}{null}{default}", column.table, column.name, column.class)
        });
        let indexes = self.indexes.iter().filter(|index| is_shared(&index.table)).map(|index| {
            let Some(name) = &index.name else { return format!("{} key ({})", index.table, index.columns.join(", ")) };
            let unique = if index.is_unique { " unique" } else { "" };
            let predicate = index.predicate.as_ref().map_or_else(String::new, |predicate| format!(" if {predicate}"));
            format!("index {name}{unique} on {} ({}){predicate}", index.table, index.columns.join(", "))
        });
        tables.chain(columns).chain(indexes).collect()
    }

    /// The columns of each table, in order, as far as the other database has them.
    fn order(&self, other: &Self) -> BTreeMap<&str, Vec<&str>> {
        let known: BTreeSet<(&str, &str)> = other.columns.iter().map(|c| (c.table.as_str(), c.name.as_str())).collect();
        let mut order = BTreeMap::<&str, Vec<&str>>::new();
        for column in self.columns.iter().filter(|c| known.contains(&(c.table.as_str(), c.name.as_str()))) {
            order.entry(&column.table).or_default().push(&column.name);
        }
        order
    }
}

async fn of_postgres(schema: &TestSchema) -> Tables {
    let mut connection = schema.connect().await;
    let columns = "select c.relname::text, a.attname::text, t.typname::text, a.attnotnull,
                       pg_get_expr(d.adbin, d.adrelid)
                   from pg_class c
                   join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                   join pg_type t on t.oid = a.atttypid
                   left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
                   where c.relnamespace = $1::regnamespace and c.relkind = 'r' and c.relname <> '_sqlx_migrations'
                   order by c.relname, a.attnum";
    let columns = sqlx::query(columns).bind(schema.name()).fetch_all(&mut connection).await.expect("columns are read");
    let indexes = "select c.relname::text, i.relname::text, x.indisprimary, x.indisunique,
                       pg_get_expr(x.indpred, x.indrelid),
                       array(
                           select a.attname::text
                           from unnest(x.indkey) with ordinality as k (attnum, ordinal)
                           join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                           order by k.ordinal
                       )
                   from pg_index x
                   join pg_class c on c.oid = x.indrelid
                   join pg_class i on i.oid = x.indexrelid
                   where c.relnamespace = $1::regnamespace and c.relname <> '_sqlx_migrations'";
    let indexes = sqlx::query(indexes).bind(schema.name()).fetch_all(&mut connection).await.expect("indexes are read");
    let columns = columns.iter().map(|row| {
        let default: Option<String> = row.get(4);
        Column {
            table: row.get(0),
            name: row.get(1),
            class: class_on_postgres(row.get(2)),
            is_nullable: !row.get::<bool, _>(3),
            default: default.map(|text| text.replace("::text", "").replace("true", "1").replace("false", "0")),
        }
    });
    let indexes = indexes.iter().map(|row| {
        let predicate: Option<String> = row.get(4);
        Index {
            table: row.get(0),
            name: (!row.get::<bool, _>(2)).then(|| row.get(1)),
            is_unique: row.get(3),
            predicate: predicate.map(|text| text.replace(['(', ')'], "").to_lowercase()),
            columns: row.get(5),
        }
    });
    Tables { columns: columns.collect(), indexes: indexes.collect() }
}

async fn of_sqlite(file: &TestFile) -> Tables {
    let mut connection = file.connect().await;
    let columns = r#"select t.name, c.name, c.type, c."notnull" = 0 and c.pk = 0, c.dflt_value, c.pk
                     from sqlite_schema t, pragma_table_info(t.name) c
                     where t.type = 'table' and t.name not like 'sqlite\_%' escape '\' and t.name <> '_sqlx_migrations'
                     order by t.name, c.cid"#;
    let columns = sqlx::query(columns).fetch_all(&mut connection).await.expect("columns are read");
    let indexes = r#"select t.name, i.name, i."unique", s.sql
                     from sqlite_schema t, pragma_index_list(t.name) i
                     join sqlite_schema s on s.name = i.name
                     where t.type = 'table' and i.origin = 'c'"#;
    let indexes = sqlx::query(indexes).fetch_all(&mut connection).await.expect("indexes are read");

    let mut keys = BTreeMap::<String, Vec<(i64, String)>>::new();
    for column in columns.iter().filter(|column| column.get::<i64, _>(5) > 0) {
        keys.entry(column.get(0)).or_default().push((column.get(5), column.get(1)));
    }
    let mut tables = Tables { columns: Vec::new(), indexes: Vec::new() };
    for (table, mut key) in keys {
        key.sort();
        let columns = key.into_iter().map(|(_, name)| name).collect();
        tables.indexes.push(Index { table, name: None, columns, is_unique: true, predicate: None });
    }
    for row in indexes {
        let (name, sql): (String, String) = (row.get(1), row.get(3));
        let columns = format!("select name from pragma_index_info('{name}') order by seqno");
        let columns = sqlx::query_scalar(AssertSqlSafe(columns)).fetch_all(&mut connection).await.expect("read");
        let predicate = sql.split_once(" where ").map(|(_, predicate)| predicate.to_owned());
        tables.indexes.push(Index { table: row.get(0), name: Some(name), columns, is_unique: row.get(2), predicate });
    }
    tables.columns.extend(columns.iter().map(|row| Column {
        table: row.get(0),
        name: row.get(1),
        class: class_on_sqlite(row.get(2)),
        is_nullable: row.get(3),
        default: row.get(4),
    }));
    tables
}

/// SQLite has no type for times and none for truth: they are microseconds, and 0 or 1.
fn class_on_postgres(of: &str) -> &'static str {
    match of {
        "int2" | "int4" | "int8" | "timestamptz" | "bool" => "integer",
        "text" => "text",
        "bytea" | "uuid" => "blob",
        other => panic!("{other} is a type whose class this test does not know"),
    }
}

fn class_on_sqlite(of: &str) -> &'static str {
    match of {
        "INTEGER" => "integer",
        "TEXT" => "text",
        "BLOB" => "blob",
        other => panic!("{other} is a type that no table has"),
    }
}

/// Names what only one of the two has and its list does not, and what is on its list and not there.
fn check_alone(which: &str, alone: &BTreeSet<String>, listed: &[(&str, &str)]) {
    let is_of = |fact: &str, entry: &str| fact == entry || fact.strip_prefix(entry).is_some_and(|f| f.starts_with(' '));
    let unlisted: Vec<_> = alone.iter().filter(|fact| !listed.iter().any(|(entry, _)| is_of(fact, entry))).collect();
    assert!(unlisted.is_empty(), "only {which} has {unlisted:#?}");
    let stale: Vec<_> = listed.iter().filter(|(entry, _)| !alone.iter().any(|fact| is_of(fact, entry))).collect();
    assert!(stale.is_empty(), "{which} is listed to have alone what it has not: {stale:#?}");
}

/// One vocabulary: what is said of one database is true of the other.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn both_databases_have_the_same_tables_columns_and_indexes() {
    let schema = TestSchema::fresh();
    let options = PostgresOptions::new(schema.url(), schema.name());
    let store = PostgresStore::connect(options).await.expect("PostgreSQL answers");
    store.migrate().await.expect("migrated");
    let file = TestFile::fresh();
    let store = SqliteStore::open(SqliteOptions::file(file.path())).await.expect("it opens");
    store.migrate().await.expect("migrated");

    let (postgres, sqlite) = (of_postgres(&schema).await, of_sqlite(&file).await);
    let (of_postgres, of_sqlite) = (postgres.facts(&sqlite), sqlite.facts(&postgres));
    assert!(of_postgres.len() > 100, "{of_postgres:#?}");
    check_alone("PostgreSQL", &of_postgres.difference(&of_sqlite).cloned().collect(), POSTGRES_ALONE);
    check_alone("SQLite", &of_sqlite.difference(&of_postgres).cloned().collect(), SQLITE_ALONE);
    assert_eq!(postgres.order(&sqlite), sqlite.order(&postgres), "the columns stand in one order");
}
