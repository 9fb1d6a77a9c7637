//! What is counted of loads, and who is told of them.

use chrono::{DateTime, Utc};

use super::Context;
use crate::clock::Clock;
use crate::job::Job;
use crate::metrics;
use crate::spool::SpoolFile;
use crate::store::load::{Announce, Counts};

impl Context {
    /// Who is told of loads.
    pub(super) fn announce(&self) -> Announce {
        if self.settings.downstream.is_some() { Announce::Downstream } else { Announce::Listeners }
    }

    /// Counts what a load came to.
    pub(super) fn count(&self, job: &Job, file: &SpoolFile, counts: &Counts, began_at: DateTime<Utc>) {
        let (tally, export) = (&self.tally, [job.export.as_str()]);
        tally.took(&metrics::LOAD_SECONDS, &export, (Clock.now() - began_at).as_seconds_f64());
        tally.add(&metrics::LOADS, &export, 1);
        tally.add(&metrics::BYTES_LOADED, &export, file.bytes);
        tally.add(&metrics::ROWS_LOADED, &export, counts.read);
        tally.add(&metrics::ROWS_REJECTED, &export, counts.rejected);
        tally.add(&metrics::ROWS_RESTATED, &export, counts.updated + counts.deleted);
    }
}
