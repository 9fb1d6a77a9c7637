//! The configuration contract (design §6): typed sections, checked once.

mod settings;

pub use settings::*;
