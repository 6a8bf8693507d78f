//! What is wrong at the start: each a clear error with a stable code, and an exit code that is not 0.

use std::net::TcpListener;

use sapwood_tests::process::{Ended, Program};
use sapwood_tests::sqlite::TestFile;

use super::{few_orders, orders};

/// An address at which nothing listens: its port was ours a moment ago.
fn no_listener() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Runs it to its end and shows that it says all of this, the code in brackets among it.
fn assert_refused(program: Program, code: &str, says: &[&str]) -> String {
    let Ended { status, out, err } = program.run();
    assert_eq!(status.code(), Some(1), "{out}\n{err}");
    assert!(err.contains(&format!("[{code}]")), "not `{code}`: {err}");
    for text in says {
        assert!(err.contains(text), "`{text}` is not in: {err}");
    }
    assert!(!out.contains("listening"), "{out}");
    err
}

#[test]
fn a_taken_port_is_named_with_the_setting() {
    let place = TestFile::fresh();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("an address").to_string();
    let program = Program::new("orders", place.directory()).arguments(["--listen", &taken]);
    assert_refused(program, "address_in_use", &[&taken, "SAPWOOD_LISTEN"]);
}

#[test]
fn an_unreadable_configuration_is_named_with_line_and_nearest_key() {
    let place = TestFile::fresh();
    let write = |text: &str| std::fs::write(place.directory().join("sapwood.toml"), text).expect("it is written");
    write("broker = \"log\"\nlisen = \"127.0.0.1:0\"\n");
    let says = ["sapwood.toml", "line 2", "`lisen`", "`listen`"];
    assert_refused(orders(place.directory()), "invalid_configuration", &says);
    write("broker = \"log\"\nlisten = \n");
    assert_refused(orders(place.directory()), "invalid_configuration", &["sapwood.toml", "line 2"]);
    write("concurrency = 0\n");
    assert_refused(orders(place.directory()), "invalid_configuration", &["sapwood.toml", "line 1"]);
    let elsewhere = orders(place.directory()).arguments(["--config", "nowhere.toml"]);
    assert_refused(elsewhere, "invalid_configuration", &["nowhere.toml"]);
}

#[test]
fn a_setting_of_the_environment_that_makes_no_sense_is_named() {
    let place = TestFile::fresh();
    let settings = [
        ("SAPWOOD_STORE", "mysql://root@localhost/shop"),
        ("SAPWOOD_STORE_ORDERS", "orders.db"),
        ("SAPWOOD_BROKER", "rabbit"),
        ("SAPWOOD_BROKER", "kafka://"),
        ("SAPWOOD_LISTEN", "8080"),
        ("SAPWOOD_MIGRATE", "perhaps"),
        ("SAPWOOD_CONCURRENCY", "0"),
        ("SAPWOOD_COMMITTERS", "many"),
    ];
    for (name, value) in settings {
        assert_refused(orders(place.directory()).environment([(name, value)]), "invalid_setting", &[name]);
    }
}

#[test]
fn a_variable_that_is_no_setting_is_left_alone() {
    let place = TestFile::fresh();
    let few = few_orders(place.directory(), 1);
    let program = orders(place.directory()).arguments(["--once", "--orders", &few]);
    let _ = program.environment([("SAPWOOD_COLOUR", "green")]).run().well();
}

#[test]
fn a_database_that_does_not_answer_is_named_by_its_setting_and_not_by_its_password() {
    let place = TestFile::fresh();
    let url = format!("postgres://me:open-sesame@{}/shop", no_listener());
    let program = orders(place.directory()).environment([("SAPWOOD_STORE", &url)]);
    let err = assert_refused(program, "store_unavailable", &["SAPWOOD_STORE", "`orders`"]);
    assert!(!err.contains("open-sesame"), "{err}");
}

#[test]
fn a_broker_that_does_not_answer_is_named_by_its_setting() {
    let place = TestFile::fresh();
    let url = format!("kafka://{}", no_listener());
    let program = orders(place.directory()).environment([("SAPWOOD_BROKER", &url)]);
    assert_refused(program, "broker_unavailable", &["SAPWOOD_BROKER"]);
}

#[tokio::test]
async fn a_database_of_a_newer_schema_is_refused_and_left_as_it_is() {
    use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
    let place = TestFile::fresh();
    let few = few_orders(place.directory(), 1);
    let program = || orders(place.directory()).arguments(["--once", "--orders", &few]);
    let _ = program().run().well();

    let file = place.directory().join(".sapwood/orders.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut connection = options.connect().await.expect("the database opens");
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (9999, 'of a later build', true, x'00', 0)";
    connection.execute(newer).await.expect("a row is added");
    connection.close().await.expect("closed");

    let err = assert_refused(program(), "store_refused", &["SAPWOOD_STORE", "`orders`"]);
    assert!(err.contains("9999") && err.contains("newer"), "{err}");
}

#[test]
fn a_second_process_on_a_sqlite_file_is_refused_and_the_first_goes_on() {
    let place = TestFile::fresh();
    let few = few_orders(place.directory(), 1);
    let mut first = orders(place.directory()).arguments(["--orders", &few]).start();
    let _ = first.prints("Ctrl-C ends it.");
    let second = orders(place.directory()).arguments(["--once", "--orders", &few]);
    assert_refused(second, "store_refused", &[".sapwood/orders.db"]);
    assert!(first.runs());
}

/// With the stores' own logs nothing of another process would ever arrive, so it is said at once.
#[test]
fn a_context_that_subscribes_to_another_process_needs_kafka() {
    let place = TestFile::fresh();
    let program = orders(place.directory()).arguments(["--only", "shipping"]);
    assert_refused(program, "invalid_functions", &["orders"]);
}

#[test]
fn orders_that_cannot_be_read_are_named_with_their_line() {
    let place = TestFile::fresh();
    let few = few_orders(place.directory(), 2);
    let file = place.directory().join(&few);
    let good = std::fs::read_to_string(&file).expect("orders");
    std::fs::write(&file, format!("{good}\n{{\"id\": \"half\n")).expect("a line is added");
    let program = |file: &str| orders(place.directory()).arguments(["--orders", file]);
    assert_refused(program(&few), "invalid_orders", &["few.jsonl", "line 4"]);
    std::fs::write(&file, format!("{good}{{\"id\": \"no-lines\"}}\n")).expect("a line is added");
    assert_refused(program(&few), "invalid_orders", &["few.jsonl", "line 3", "missing field"]);
    assert_refused(program("nowhere.jsonl"), "invalid_orders", &["nowhere.jsonl"]);
}

/// SQLite files can be removed; what is in PostgreSQL may belong to others.
#[test]
fn fresh_removes_nothing_from_postgres() {
    let place = TestFile::fresh();
    let program = orders(place.directory()).arguments(["--fresh"]);
    let program = program.environment([("SAPWOOD_STORE", "postgres://me@localhost/shop")]);
    assert_refused(program, "invalid_setting", &["--fresh"]);
}
