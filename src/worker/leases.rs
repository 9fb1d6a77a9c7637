//! The leases of steps under way. A step that is over, however it ended, is not renewed: where its outcome could not be
//! written, its lease runs out although the process lives on, and the step is repeated.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// The leases of a process.
#[derive(Debug, Default)]
pub struct Leases(Mutex<HashSet<Uuid>>);

impl Leases {
    /// Counts a lease as in use until the value is dropped.
    pub(super) fn hold(&self, lease: Uuid) -> Held<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(lease);
        Held { leases: self, lease }
    }

    /// The leases in use.
    pub(super) fn held(&self) -> Vec<Uuid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// A lease in use.
#[derive(Debug)]
pub(super) struct Held<'a> {
    leases: &'a Leases,
    lease: Uuid,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.leases.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.lease);
    }
}
