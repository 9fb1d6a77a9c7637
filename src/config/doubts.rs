//! `exports.NAME.on_…`: what to do about files whose number of rows is doubtful.

use super::reader::Section;
use crate::doubt::{Doubt, OnDoubt, OnDoubts};

const CHOICES: [(&str, OnDoubt); 3] =
    [("ignore", OnDoubt::Ignore), ("warn", OnDoubt::Warn), ("refuse", OnDoubt::Refuse)];

/// Reads the three settings. A doubt is told of by default: a file refused costs an order every hour until somebody looks.
pub(super) fn read(section: &mut Section) -> Option<OnDoubts> {
    let mut about = |doubt: Doubt| {
        let found = doubt.setting().and_then(|setting| section.take(setting));
        found.map_or(Some(OnDoubt::Warn), |found| found.choice(&CHOICES))
    };
    let (count_mismatch, unexpected_zero, truncation) =
        (about(Doubt::CountMismatch), about(Doubt::UnexpectedZero), about(Doubt::Truncated));
    Some(OnDoubts { count_mismatch: count_mismatch?, unexpected_zero: unexpected_zero?, truncation: truncation? })
}
