//! Mirrors the exports of an impact.com account into PostgreSQL.
//!
//! Modules stand on floors and arrows point down only; `tests/it/floors.rs` holds the map.

pub mod account;
pub mod alert;
pub mod app;
pub mod archive;
pub mod cli;
pub mod clock;
pub mod column;
pub mod config;
pub mod doubt;
pub mod embedded;
pub mod error_chain;
pub mod export;
pub mod failpoint;
pub mod figures;
pub mod http;
pub mod impact;
pub mod job;
pub mod json;
pub mod memory;
pub mod metrics;
pub mod mirror;
pub mod plan;
pub mod pulse;
pub mod retry;
pub mod sandbox;
pub mod scheduler;
pub mod spool;
pub mod store;
pub mod systemd;
pub mod telemetry;
pub mod thread;
pub mod wake;
pub mod webhook;
pub mod worker;
