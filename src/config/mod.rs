//! The configuration contract (design §6): typed sections, checked once.

mod accounts;
mod catalogue;
mod changes;
mod difference;
mod doubts;
pub mod duration;
mod environment;
mod exports;
mod keep;
mod keys;
mod load;
mod nearest;
mod own_entries;
mod reader;
mod receivers;
mod report_fields;
mod secret;
mod sections;
mod settings;

pub use catalogue::{Catalogue, Certainty, Changes, Entry, KnownColumn, catalogue};
pub use difference::Difference;
pub use environment::Environment;
pub use exports::{FIRST_CLICK_DAY, is_export_name};
pub use keys::Keys;
pub use load::{Error, check, check_with, find, load, load_with};
pub use nearest::similar;
pub use reader::Problem;
pub use settings::*;

/// A configuration with every key and what it is for, as `init` writes it.
pub const EXAMPLE: &str = include_str!("../../config/impact-mirror.example.toml");
