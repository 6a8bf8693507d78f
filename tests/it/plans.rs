//! The plans of PostgreSQL: every statement of the store reaches the tables that grow by an index, at every size.
//!
//! A statement is planned as the store's connections plan it, with their settings and a generic plan, so that no
//! argument matters. The hot ones keep one plan: one that flips with the statistics is a latency that flips with them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use sapwood_tests::postgres::TestSchema;
use sapwood_tests::store::TestStore;

/// Tables that grow with the work done. The others have a row a worker, a lane, a partition.
const GROWING: &[&str] = &["tree", "invocation", "journal", "timer", "promise", "start_key", "outbox", "log_record"];

/// Rows of each table, in a small schema and in a large one.
const SIZES: [u32; 2] = [1_000, 200_000];

/// Statements that run with every turn, start, activation or round of the relay: these keep one plan.
const HOT: &[&str] = &[
    "intake_insert",
    "invocation_load",
    "start_key_holder",
    "log_append",
    "log_read",
    "outbox_read",
    "start_insert",
    "tree_load",
    "tree_claim",
    "turn_commit",
];

/// Statements of start-up and of migrations, which ask the catalog.
const OF_START_UP: &[&str] =
    &["connection_configure", "schema_exists", "schema_find", "schema_lock", "schema_read", "store_describe"];

fn statements() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sapwood-postgres/queries");
    let mut statements = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("the statements are there") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if !OF_START_UP.contains(&name.as_str()) {
            statements.insert(name, std::fs::read_to_string(path).expect("it is text"));
        }
    }
    statements
}

async fn connection_of_the_store(schema: &TestSchema) -> PgConnection {
    let mut connection = schema.connect().await;
    sqlx::query(include_str!("../../crates/sapwood-postgres/queries/connection_configure.sql"))
        .bind(false)
        .execute(&mut connection)
        .await
        .expect("the settings are made");
    connection
}

/// A statement as it is prepared: with the schema that takes the place of `context`.
fn in_schema(schema: &TestSchema, sql: &str) -> String {
    sql.replace("context.", &format!("{}.", schema.name()))
}

/// The highest parameter that a statement names.
fn parameters(sql: &str) -> usize {
    let numbers = sql.split('$').skip(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    numbers.filter_map(|digits| digits.parse().ok()).max().unwrap_or(0)
}

async fn plan_of(connection: &mut PgConnection, name: &str, sql: &str) -> Value {
    let prepare = format!("prepare {name} as {sql}");
    connection.execute(AssertSqlSafe(prepare)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let nulls = vec!["null"; parameters(sql)].join(", ");
    let execute = if nulls.is_empty() { format!("execute {name}") } else { format!("execute {name}({nulls})") };
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(format!("explain (format json) {execute}")))
        .fetch_one(&mut *connection)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    connection.execute(AssertSqlSafe(format!("deallocate {name}"))).await.expect("forgotten");
    plan
}

/// A node of a plan that reads a growing table, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    table: String,
    node: String,
    index: Option<String>,
    /// By a condition on the index, or in its order as far as a limit goes.
    bounded: bool,
}

fn reads(plan: &Value, below_limit: bool, found: &mut Vec<Read>) {
    let text = |key: &str| plan.get(key).and_then(Value::as_str).map(str::to_owned);
    let node = text("Node Type").unwrap_or_default();
    // Partitions are named after their table.
    let table = text("Relation Name").unwrap_or_default();
    let grows = GROWING.iter().any(|name| table == *name || table.starts_with(&format!("{name}_")));
    // The insert, update or delete itself reads nothing.
    if grows && node != "ModifyTable" {
        let bounded = plan.get("Index Cond").is_some() || below_limit;
        found.push(Read { table, index: text("Index Name"), bounded, node: node.clone() });
    }
    let sorts = node == "Sort" || node == "Aggregate" || node == "WindowAgg";
    let below_limit = (below_limit || node == "Limit") && !sorts;
    for child in plan.get("Plans").and_then(Value::as_array).into_iter().flatten() {
        reads(child, below_limit, found);
    }
}

async fn reads_of_all(schema: &TestSchema) -> BTreeMap<String, Vec<Read>> {
    let mut connection = connection_of_the_store(schema).await;
    let mut all = BTreeMap::new();
    for (name, sql) in statements() {
        let plan = plan_of(&mut connection, &name, &in_schema(schema, &sql)).await;
        let mut found = Vec::new();
        reads(&plan[0]["Plan"], false, &mut found);
        found.sort();
        all.insert(name, found);
    }
    all
}

fn assert_indexed(reads: &BTreeMap<String, Vec<Read>>, size: &str) {
    let wrong: Vec<_> = reads
        .iter()
        .flat_map(|(name, reads)| reads.iter().map(move |read| (name, read)))
        .filter(|(_, read)| read.node == "Seq Scan" || read.node.contains("Bitmap") || !read.bounded)
        .collect();
    assert!(wrong.is_empty(), "with {size} table these read more than they need: {wrong:#?}");
}

/// So many small trees, half of them owned or waiting, and as many rows in every other table.
async fn fill(schema: &TestSchema, rows: u32) {
    let id = "('0190' || lpad(to_hex(n), 28, '0'))::uuid";
    let sql = format!(
        "truncate tree, invocation, journal, timer, promise, start_key, outbox, log_record;
         insert into tree (id, revision, owner, created_at, ready_at, version, number, state, function, correlation)
             select {id}, 1, case when n % 4 = 0 then 1 end, sapwood_now(),
                 case when n % 4 = 1 then sapwood_now() + n * interval '1 second' end, 1, 0, n % 4, 'f' || n % 9, n
             from generate_series(1, {rows}) n;
         insert into invocation (tree_id, path, created_at, version, attempt, state, closing, function, input)
             select {id}, '\\x00', sapwood_now(), 1, 1, n % 4, 0, 'f' || n % 9, '{{}}'
             from generate_series(1, {rows}) n;
         insert into journal (tree_id, recorded_at, path, seq, position, attempt, kind, name, payload)
             select {id}, sapwood_now(), '\\x00', 0, 0, 1, 1, 'gateway', '{{}}'
             from generate_series(1, {rows}) n;
         insert into timer (tree_id, due_at, path, position, kind)
             select {id}, sapwood_now(), '\\x00', 0, 1
             from generate_series(1, {rows}) n;
         insert into promise (tree_id, settled_at, path, position, inbox, state, name, outcome)
             select {id}, sapwood_now(), '\\x00', 0, 1, 5, 'approval', '{{}}'
             from generate_series(1, {rows}) n;
         insert into start_key (scope, key, tree_id, digest, created_at)
             select 'caller', n, {id}, '\\x00', sapwood_now()
             from generate_series(1, {rows}) n;
         insert into outbox
             (seq, tree_id, time, lane, event_id, topic, key, cloud_type, source, correlation, causation, content)
             select n, {id}, sapwood_now(), n % 16, n, 'orders.events', n % 999, 't', 's', n, n, '{{}}'
             from generate_series(1, {rows}) n;
         insert into log_record (log_offset, time, topic, key, headers, content)
             select n, sapwood_now(), 'orders.events', n % 999, '[]', '{{}}'
             from generate_series(1, {rows}) n;
         analyze tree, invocation, journal, timer, promise, start_key, outbox, log_record"
    );
    schema.connect().await.execute(AssertSqlSafe(sql)).await.expect("the schema is filled");
}

/// No statement scans a table that grows, with small tables and with large ones, and no plan flips.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn no_statement_scans_a_table_that_grows() {
    let test = TestStore::postgres().await;
    let schema = test.schema().expect("on PostgreSQL");
    let new = reads_of_all(schema).await;
    assert_indexed(&new, "a new");
    assert!(new["turn_commit"].len() >= 4, "{:#?}", new["turn_commit"]);
    for rows in SIZES {
        fill(schema, rows).await;
        let filled = reads_of_all(schema).await;
        assert_indexed(&filled, &format!("{rows} rows a"));
        for name in HOT {
            assert_eq!(filled[*name], new[*name], "{name} has another plan with {rows} rows a table");
        }
    }
}

/// W2: the trees are locked before the lanes, ascending each, because their parts of the statement need each other.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_commit_takes_its_locks_in_one_order() {
    let test = TestStore::postgres().await;
    let mut connection = connection_of_the_store(test.schema().expect("on PostgreSQL")).await;
    let statements = statements();
    let schema = test.schema().expect("on PostgreSQL");
    let plan = plan_of(&mut connection, "turn_commit", &in_schema(schema, &statements["turn_commit"])).await;
    let parts = parts_of(&plan[0]["Plan"]);
    let needs = |part: &str, other: &str| {
        let text = parts.get(part).unwrap_or_else(|| panic!("no part {part} among {:?}", parts.keys())).to_string();
        text.contains(&format!("\"CTE Name\":\"{other}\""))
    };
    assert!(needs("locked", "fenced"), "trees are locked under the fence");
    assert!(needs("lanes", "moved"), "lanes are taken after the trees moved on");
    assert!(needs("sent", "lanes"), "rows of the outbox are numbered under their lanes");
    let locked = parts["locked"].to_string();
    let (lock, sort) = (locked.find("LockRows"), locked.find("\"Sort Key\""));
    assert!(lock.is_some() && lock < sort, "trees are sorted and then locked: {locked}");
    assert!(parts["lanes"].to_string().contains("\"Sort Key\":[\"") || parts["lanes"].to_string().contains("Unique"));
}

/// The parts of a statement (`with part as …`) by name.
fn parts_of(plan: &Value) -> BTreeMap<String, Value> {
    let mut parts = BTreeMap::new();
    for child in plan.get("Plans").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = child.get("Subplan Name").and_then(Value::as_str).and_then(|name| name.strip_prefix("CTE "))
        {
            parts.insert(name.to_owned(), child.clone());
        }
        parts.extend(parts_of(child));
    }
    parts
}
