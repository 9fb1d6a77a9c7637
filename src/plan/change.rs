//! How often the rows of a day still change, by the day's age: learned from what earlier reads found.

use chrono::TimeDelta;

/// Ages are told apart in bands that double: under a day, 1 to 2, 3 to 6, 7 to 14, … and 255 days or more.
pub const BANDS: usize = 9;

/// What we believe before anything was read counts as much as this many days of reading.
const PRIOR_DAYS: f64 = 5.0;

/// What reads of days in one band have found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Band {
    /// Reads that found other rows than the read before.
    pub changes: f64,
    /// Days that lay between those reads and the ones before.
    pub days: f64,
}

/// The rate of change of an export on an account, by age.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ChangeRates(pub [Band; BANDS]);

/// The band of a day that has been over for `age`.
pub fn band(age: TimeDelta) -> usize {
    let days = u64::try_from(age.num_days()).unwrap_or(0);
    let doublings = (days + 1).ilog2();
    usize::try_from(doublings).unwrap_or(BANDS).min(BANDS - 1)
}

impl ChangeRates {
    /// How often a day the rows of a day change that has been over for `age`.
    pub fn per_day(&self, age: TimeDelta) -> f64 {
        let index = band(age);
        let Band { changes, days } = self.0[index];
        // Before anything is known: about daily while a day is young, half as often with each doubling of its age.
        let prior = 0.5_f64.powi(i32::try_from(index).expect("few bands"));
        (changes + prior * PRIOR_DAYS) / (days + PRIOR_DAYS)
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of some years are far below 2^52")]
pub(super) fn in_days(span: TimeDelta) -> f64 {
    span.num_seconds() as f64 / 86_400.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_double() {
        let bands: Vec<_> = [-1, 0, 1, 2, 3, 6, 7, 30, 127, 9999].map(|n| band(TimeDelta::days(n))).to_vec();
        assert_eq!(bands, [0, 0, 1, 1, 2, 2, 3, 4, 7, 8]);
    }

    #[test]
    fn what_never_changes_is_soon_believed_not_to() {
        let mut rates = ChangeRates::default();
        let age = TimeDelta::days(40);
        let before = rates.per_day(age);
        rates.0[band(age)] = Band { changes: 0.0, days: 300.0 };
        assert!(rates.per_day(age) < before / 20.0);
        rates.0[band(age)] = Band { changes: 300.0, days: 300.0 };
        assert!(rates.per_day(age) > 0.9);
    }

    #[test]
    fn before_anything_is_known_older_days_change_less() {
        let rates = ChangeRates::default();
        let by_age: Vec<f64> = [0, 1, 3, 7, 400].map(|age| rates.per_day(TimeDelta::days(age))).to_vec();
        assert!(by_age.is_sorted_by(|a, b| a > b), "{by_age:?}");
        assert!((by_age[0] - 1.0).abs() < f64::EPSILON);
    }
}
