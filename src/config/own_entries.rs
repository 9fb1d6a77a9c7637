//! `[catalogue.HANDLE]`: what a user adds to the catalogue, by the same schema.

use std::collections::BTreeMap;

use super::catalogue::Entry;
use super::reader::Section;
use crate::export::ReportHandle;

/// Reads all entries.
pub(super) fn read(root: &mut Section) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for (handle, found) in root.section("catalogue").entries() {
        if !ReportHandle::is_well_formed(&handle) {
            found.problem("is no handle of a report; allowed are letters, digits, `_`, `-` and `.`");
        }
        let key = found.key().to_owned();
        let problems = found.problems().clone();
        let Some(entry) = found.deserialize::<Entry>() else { continue };
        for (place, what) in entry.faults() {
            problems.add(format!("{key}.{place}"), what);
        }
        entries.insert(handle, entry);
    }
    entries
}
