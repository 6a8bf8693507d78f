//! Every test that opens a socket, a database or a process: one binary, a module each subject.

mod api;
mod conformance;
mod desk;
mod engine;
mod events;
mod floors;
mod glossary;
mod growth;
mod kafka;
mod log_broker;
mod migrations;
mod model;
mod orders;
mod plans;
mod restarts;
mod sql_vocabulary;
mod sqlite_file;
mod store;
mod store_connections;
mod store_locks;
mod store_poolers;
mod store_start;
mod store_trouble;
mod tables;
mod tidy;
mod ui;
