//! Reads a file, or its beginning, to see which types its columns want. Rows that would be rejected anyway have no say;
//! only a duplicate key is not found out here, since that would take memory for every key.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::header::folded;
use super::layout::Surveyed;
use super::records::{Item, Reader, Shape};
use super::rows::Rules;
use super::value::{Format, is_missing, join};
use crate::column::{ColumnKind, OnTypeConflict};

/// How much of a file is read for a first guess, where a wrong guess can be mended.
pub(super) const SAMPLE: u64 = 4 << 20;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Sample,
    Whole,
}

/// What a survey knows of one column.
struct Candidate {
    format: Format,
    /// Whether the type may become wider.
    open: bool,
    /// `n/a` and its like were seen: no value in most types, but a value in a text.
    missing_word: bool,
}

/// The types of the columns that want one. Blocks while it reads.
pub(super) fn survey(
    path: &Path,
    shape: &Shape,
    rules: &Rules,
    on_type_conflict: OnTypeConflict,
    extent: Extent,
) -> io::Result<Surveyed> {
    let limit = match extent {
        Extent::Sample => SAMPLE,
        Extent::Whole => u64::MAX,
    };
    let mut reader = Reader::new(File::open(path)?.take(limit), shape)?.looking_ahead_in(File::open(path)?);

    let mut candidates: Vec<_> = rules
        .columns
        .iter()
        .map(|column| Candidate {
            format: column.format,
            open: match column.format.kind {
                None => true,
                Some(ColumnKind::Text) => false,
                Some(_) => on_type_conflict == OnTypeConflict::Widen,
            },
            missing_word: false,
        })
        .collect();

    while let Some(item) = reader.next()? {
        let Item::Record(record) = item else { continue };
        if record.offset + record.raw.len() as u64 >= limit {
            break; // the sample ends within it
        }
        if rules.check(&record).is_err() {
            continue;
        }
        let rejected = record
            .fields()
            .zip(&candidates)
            .any(|(text, candidate)| !candidate.open && !candidate.format.takes(text, rules.zone));
        if rejected {
            continue;
        }
        for (text, candidate) in record.fields().zip(&mut candidates) {
            if candidate.open {
                candidate.see(text, rules);
            }
        }
    }

    Ok(rules
        .columns
        .iter()
        .zip(candidates)
        .filter(|(column, candidate)| candidate.format.kind != column.format.kind || candidate.missing_word)
        .filter_map(|(column, candidate)| {
            // A word for missing alone is a text, but its column may be half read.
            let words_only = extent == Extent::Whole && candidate.missing_word;
            let kind = candidate.format.kind.or(words_only.then_some(ColumnKind::Text))?;
            Some((folded(&column.source), kind))
        })
        .collect())
}

impl Candidate {
    fn see(&mut self, text: &[u8], rules: &Rules) {
        if is_missing(text) {
            self.missing_word |= !text.is_empty();
        } else if !self.format.takes(text, rules.zone) {
            let wanted = self.format.narrowest(text, rules.zone);
            self.format.kind = Some(self.format.kind.map_or(wanted, |kind| join(kind, wanted)));
            self.open = self.format.kind != Some(ColumnKind::Text);
        }
    }
}
