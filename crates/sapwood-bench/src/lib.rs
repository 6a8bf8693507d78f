//! Measures trees a second beside bare batched SQL; a program, never a test.
