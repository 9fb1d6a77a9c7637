//! The client of impact.com against servers that answer precise bytes.

/// What is read from answers.
mod answers;
/// Results: redirects, first bytes, lengths.
mod download;
/// What failures become.
mod failures;
/// A server that says what it is told and remembers what it was asked.
mod fake;
/// What is sent.
mod requests;
/// Who is on the other side.
mod tls;
