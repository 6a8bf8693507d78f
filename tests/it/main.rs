//! Every test that opens a socket, a database or a process.
