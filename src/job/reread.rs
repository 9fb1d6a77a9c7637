//! What a read of a day says against the read before it. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// A day as the read before left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// When its rows were ordered.
    pub as_of: DateTime<Utc>,
    /// Whether the day was over then.
    pub complete: bool,
    /// How many rows it had.
    pub rows: u64,
    /// Reads in a row that found nothing new.
    pub unchanged_reads: u32,
}

/// A day as this read leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// When its rows were ordered.
    pub as_of: DateTime<Utc>,
    /// Whether the day was over then.
    pub complete: bool,
    /// How many rows it has; `None` where the file was the same as before.
    pub rows: Option<u64>,
    /// Whether the load wrote one of them.
    pub is_written: bool,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether the rows are other ones than before.
    pub changed: bool,
    /// Reads in a row that found nothing new, this one included.
    pub unchanged_reads: u32,
    /// The time between the two reads, where both found the day over: only those tell how often such days change.
    pub waited: Option<TimeDelta>,
}

/// Compares a read with the one before it. A first read finds no change, and a result no newer than the rows that stand
/// there tells nothing about how the day goes on.
pub fn compare(before: Option<Before>, after: After) -> Found {
    let Some(before) = before else { return Found::default() };
    // Rows that went without others in their place show in the number alone.
    let changed = after.rows.is_some_and(|rows| after.is_written || rows != before.rows);
    let waited = (before.complete && after.complete && after.as_of > before.as_of).then(|| after.as_of - before.as_of);
    let unchanged_reads = match (changed, waited) {
        (true, _) => 0,
        (false, Some(_)) => before.unchanged_reads.saturating_add(1),
        (false, None) => before.unchanged_reads,
    };
    Found { changed, unchanged_reads, waited }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn before() -> Before {
        Before { as_of: at(0), complete: true, rows: 3, unchanged_reads: 2 }
    }

    fn after(rows: Option<u64>, is_written: bool) -> After {
        After { as_of: at(6), complete: true, rows, is_written }
    }

    #[test]
    fn a_first_read_is_no_change() {
        assert_eq!(compare(None, after(Some(3), true)), Found::default());
    }

    #[test]
    fn reads_that_find_nothing_new_are_counted_until_one_does() {
        let waited = Some(TimeDelta::hours(6));
        let unchanged = Found { changed: false, unchanged_reads: 3, waited };
        assert_eq!(compare(Some(before()), after(Some(3), false)), unchanged);
        assert_eq!(compare(Some(before()), after(None, false)), unchanged, "the same file");
        let changed = Found { changed: true, unchanged_reads: 0, waited };
        assert_eq!(compare(Some(before()), after(Some(3), true)), changed);
        assert_eq!(compare(Some(before()), after(Some(2), false)), changed, "a row went");
    }

    #[test]
    fn a_read_that_is_no_newer_or_of_a_day_not_over_tells_nothing_of_the_rate() {
        let unchanged = Found { changed: false, unchanged_reads: 2, waited: None };
        assert_eq!(compare(Some(before()), After { as_of: at(0), ..after(None, false) }), unchanged);
        let young = Before { complete: false, ..before() };
        assert_eq!(compare(Some(young), after(Some(3), false)), unchanged);
        assert!(compare(Some(young), after(Some(4), true)).changed);
    }
}
