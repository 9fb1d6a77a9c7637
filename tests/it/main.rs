//! Everything that needs more than one module, or a server: one binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// The configuration: what is taken and what is refused.
mod config;
/// The embedded Postgres: started, joined, stopped, left behind.
mod embedded;
/// The map of the modules.
mod floors;
/// What the other tests stand on: a database, a place for state.
mod support;
