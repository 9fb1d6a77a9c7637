//! The configuration contract (design §6): typed sections, checked once.

mod accounts;
mod catalogue;
mod changes;
mod difference;
mod doubts;
mod duration;
mod environment;
mod exports;
mod keep;
mod keys;
mod load;
mod reader;
mod receivers;
mod secret;
mod sections;
mod settings;

pub use catalogue::{Catalogue, Certainty, Entry, KnownColumn, catalogue};
pub use difference::Difference;
pub use environment::Environment;
pub use keys::Keys;
pub use load::{Error, check, check_with, load, load_with, place};
pub use reader::Problem;
pub use settings::*;

/// A configuration with every key and what it is for, as `init` writes it.
pub const EXAMPLE: &str = include_str!("../../config/impact-mirror.example.toml");
