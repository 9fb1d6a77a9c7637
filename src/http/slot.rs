//! What the faces are given by the engine, and given anew when the configuration is reloaded.

use std::sync::{PoisonError, RwLock};

/// A place for one thing, empty at first.
#[derive(Debug)]
pub(super) struct Slot<T>(RwLock<Option<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<T: Clone> Slot<T> {
    /// What is there now.
    pub fn get(&self) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts something there, or takes it away.
    pub fn set(&self, thing: Option<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = thing;
    }
}
