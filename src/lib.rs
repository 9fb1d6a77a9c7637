//! Mirrors the exports of an impact.com account into PostgreSQL.
//!
//! Modules stand on floors and arrows point down only; `tests/it/floors.rs` holds the map.

pub mod account;
pub mod clock;
pub mod column;
pub mod config;
pub mod error_chain;
pub mod export;
pub mod mirror;
pub mod retry;
