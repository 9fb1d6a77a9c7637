//! Everything that needs more than one module, or a server: one binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// What the other tests stand on: a database, a place for state.
mod support;

/// The configuration: what is taken and what is refused.
mod config;
/// The embedded Postgres: started, joined, stopped, left behind.
mod embedded;
/// Two processes and one job, in any order of events.
mod fencing;
/// The map of the modules.
mod floors;
/// The client, against servers that answer precise bytes.
mod impact;
/// The loader, on a real Postgres.
mod mirror;
/// Restarts of the real process: killed, stopped, frozen, cut off.
mod restart;
/// The simulator of impact.com, spoken to by a plain HTTP client.
mod sandbox;
/// The spool: written, checked, swept.
mod spool;
