//! Everything that needs more than one module: one binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// The client of impact.com against servers that answer precise bytes.
mod impact;
/// The spool: whole files only, and nothing left behind.
mod spool;
