//! The configuration contract (design §6): typed sections, checked once.

mod settings;

pub use settings::*;

impl Settings {
    /// x
    pub fn not_yet(&self) -> Vec<String> {
        Vec::new()
    }
}
