//! Rebuilds the crate when a migration is added; `migrate!` itself only sees changes of those it has read.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/sqlite");
}
