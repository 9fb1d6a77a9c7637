//! Tests that need more than one module, or a server.

/// The simulator of impact.com, spoken to by a plain HTTP client.
mod sandbox;
