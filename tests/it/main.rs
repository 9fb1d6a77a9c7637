//! The tests that need the outside: one binary, one module per part.

/// Loading files into mirrored tables, on a real Postgres.
mod mirror;
/// What tests stand on.
mod support;
