//! What the tests stand on.

pub mod daemon;
pub mod database;
pub mod state_dir;
pub mod truth;
