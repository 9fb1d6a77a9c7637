//! Everything that needs more than one module: one binary, so that it is linked once.

/// What the other tests stand on: a database, a place for state.
mod support;

/// The embedded Postgres: started, joined, stopped, left behind.
mod embedded;
