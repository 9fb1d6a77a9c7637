//! What the tests stand on.

pub mod black_hole;
pub mod daemon;
pub mod database;
pub mod proxy;
pub mod small_disk;
pub mod state_dir;
pub mod truth;
