//! Everything that needs more than one module, or a server: one binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// What the other tests stand on: a database, a place for state, a running daemon.
mod support;

/// The archive: a directory, a bucket, and the commands that read it.
mod archive;
/// The status page in a real browser; see `make test-browser`.
mod browser;
/// The command line: helps, exit codes, JSON.
mod cli;
/// The configuration: what is taken and what is refused.
mod config;
/// Killed at every named place, and at random ones.
#[cfg(feature = "failpoints")]
mod crash;
/// What the documents say of the data, and the queries in them.
mod data;
/// From a credential to the first rows: the catalogue beside the simulator, `reports`, `init`.
mod discovery;
/// The embedded Postgres: started, joined, stopped, left behind.
mod embedded;
/// The engine in this process, against the simulator and a real database.
mod engine;
/// Faults between the real process and impact.com, and between it and Postgres; its recovery is timed.
mod faults;
/// Two holders on the same jobs: a write is taken if and only if the lease is held.
mod fencing;
/// The map of the modules.
mod floors;
/// The HTTP face: page, probes, metrics.
mod http;
/// The client, against servers that answer precise bytes.
mod impact;
/// The ledger of quota, in random worlds.
mod ledger;
/// Metrics, alerts, dashboard and runbook: that they fit each other.
mod metrics;
/// The loader, on a real Postgres.
mod mirror;
/// Webhooks and NOTIFY: what is told without being asked.
mod notices;
/// What a planning pass reads.
mod planning;
/// Postbacks: who is heard, what it leads to, and what does no harm.
mod postback;
/// The reference of the configuration.
mod reference;
/// The publication of the tables, and who subscribes to it.
mod replication;
/// The real process, killed, stopped, frozen and cut off, and started again.
mod restart;
/// The simulator of impact.com, spoken to by a plain HTTP client.
mod sandbox;
/// What keeps others out: secrets, roles, statements.
mod secure;
/// The spool: written, checked, swept.
mod spool;
/// What an operator reads: status, its reasons, a job's story.
mod terminal;
/// Traces, received by a collector.
mod traces;
/// Random worlds: whatever happens in them, the tables hold the truth in the end.
mod worlds;
