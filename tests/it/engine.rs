//! The engine, started in the test, between a simulated impact.com and a real Postgres.

/// A sandbox, a database and a configuration for one test.
mod world;
/// The mirrored tables held against what a perfect export would hold.
mod truth;

/// What lands, persona by persona, and what restates it.
mod personas;
/// The open questions about the real API, one answer at a time.
mod switches;
