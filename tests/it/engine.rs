//! The engine, started in the test, between a simulated impact.com and a real Postgres.

/// The mirrored tables held against what a perfect export would hold.
pub mod truth;
/// A sandbox, a database and a configuration for one test.
pub mod world;

/// The views for analysts, held against the truth.
mod analysts;
/// Result files in the archive: kept, pruned, loaded again.
mod archive;
/// Quota, and replicas that share it.
mod budget;
/// What people pause and resume.
mod by_hand;
/// A configuration that changes between two starts.
mod changes;
/// What the bookkeeping refuses.
mod constraints;
/// Files whose number of rows is doubtful.
mod counts;
/// Results that do not arrive whole.
mod downloads;
/// What hints that a job has ended may cost.
mod hints;
/// Superseded versions of rows.
mod history;
/// Results in JSON, and the switch between the formats.
mod json;
/// What reaches the ledger, and when charges are too old.
mod ledger;
/// Orders whose reply is lost, remote jobs that die, results that are gone.
mod orders;
/// What lands, persona by persona, and what restates it.
mod personas;
/// When and how remote jobs are looked at.
mod polling;
/// The questions that people may ask, as they are shipped.
mod questions;
/// The listing of actions against the report by day.
mod reconciliation;
/// 401, 403, 404 and 429.
mod refusals;
/// Which run of which remote job answers an order.
mod replies;
/// What re-reads teach: how often days change, and which are settled.
mod rereads;
/// How long rows are kept, and in which partitions.
mod retention;
/// Disks that are full.
mod room;
/// The open questions about the real API, one answer at a time.
mod switches;
/// What is believed only as long as it is true: a charge, a file read before, a promise, a bucket.
mod trust;
/// Loaded windows, compared with what impact.com gives now.
mod verify;
/// The views that people build on.
mod views;
/// Windows that are refused or cut for their length.
mod windows;
