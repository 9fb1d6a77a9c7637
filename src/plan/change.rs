//! How often the rows of a day still change, by the day's age: learned from what earlier reads found.

use chrono::TimeDelta;

/// Ages are told apart by the day up to ten days, by three days up to ninety, and by thirty from there on; the last
/// band has no end. What happens to many rows at one age, as locking and paying does, stays sharp that way.
pub const BANDS: usize = 48;

const DAILY: usize = 10;
const BY_THREE: usize = 37;

/// What is believed before anything was read counts as much as this many days of reading.
const PRIOR_DAYS: f64 = 5.0;

/// No age is believed to be without any change.
const LEAST: f64 = 1e-4;

/// For how many days a read can stay right; a day that stays as it is longer is no more worth.
const HORIZON_DAYS: u32 = 6;

/// What reads have found, by the age at which it happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// Reads that found other rows than the read before.
    pub changes: [f64; BANDS],
    /// Days that lay between those reads and the ones before.
    pub days: [f64; BANDS],
}

impl Default for Observed {
    fn default() -> Self {
        Self { changes: [0.0; BANDS], days: [0.0; BANDS] }
    }
}

impl Observed {
    /// Adds a read of a day that had been over for `age`, `waited` after the read before. A change that was found lies
    /// somewhere between the two.
    pub fn add(&mut self, age: TimeDelta, waited: TimeDelta, changed: bool) {
        let (to, waited) = (in_days(age), in_days(waited));
        if waited <= 0.0 {
            return;
        }
        let from = (to - waited).max(0.0);
        let mut band = band(from);
        let mut at = from;
        while at < to {
            let end = to.min(first_day(band + 1));
            self.days[band] += end - at;
            self.changes[band] += if changed { (end - at) / (to - from) } else { 0.0 };
            at = end;
            band += 1;
        }
    }

    /// Adds what was found elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for band in 0..BANDS {
            self.changes[band] += other.changes[band];
            self.days[band] += other.days[band];
        }
    }
}

/// The rate of change of a feed, by age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangeRates {
    per_day: [f64; BANDS],
    /// Changes that are expected from the end of a day to the beginning of a band.
    before: [f64; BANDS],
}

impl Default for ChangeRates {
    fn default() -> Self {
        Self::learned(&Observed::default(), &Observed::default())
    }
}

impl ChangeRates {
    /// What `own` reads of a feed say, and where they are few, those of all programs of the `export`.
    pub fn learned(own: &Observed, export: &Observed) -> Self {
        let mut rates = Self { per_day: [0.0; BANDS], before: [0.0; BANDS] };
        let mut before = 0.0;
        for band in 0..BANDS {
            let shared = believed(export, band, at_first(first_day(band)));
            rates.per_day[band] = believed(own, band, shared).max(LEAST);
            rates.before[band] = before;
            before += rates.per_day[band] * (first_day(band + 1) - first_day(band));
        }
        rates
    }

    /// How often a day the rows of a day change that has been over for so many days.
    pub fn per_day(&self, age: f64) -> f64 {
        self.per_day[band(age)]
    }

    /// How likely the rows are others now, `age` days after the end of the day, than they were at the age `read_at`.
    pub fn chance_of_change(&self, read_at: f64, age: f64) -> f64 {
        1.0 - (self.up_to(read_at) - self.up_to(age)).exp()
    }

    /// For how many days, of a week or so, a read at this age is expected to stay right.
    pub fn days_right(&self, age: f64) -> f64 {
        let now = self.up_to(age);
        (0..HORIZON_DAYS).map(|day| (now - self.up_to(age + f64::from(day) + 0.5)).exp()).sum()
    }

    fn up_to(&self, age: f64) -> f64 {
        let band = band(age);
        self.before[band] + self.per_day[band] * (age - first_day(band)).max(0.0)
    }
}

fn believed(observed: &Observed, band: usize, prior: f64) -> f64 {
    (observed.changes[band] + prior * PRIOR_DAYS) / (observed.days[band] + PRIOR_DAYS)
}

/// Before anything is known: about daily while a day is young, half as often with each doubling of its age.
fn at_first(age: f64) -> f64 {
    0.5_f64.powf((age + 1.0).log2().floor())
}

/// The band of an age in days.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ages are positive and of some years")]
fn band(age: f64) -> usize {
    let days = age.max(0.0) as usize;
    match days {
        0..10 => days,
        10..90 => DAILY + (days - 10) / 3,
        _ => (BY_THREE + (days - 90) / 30).min(BANDS - 1),
    }
}

/// The age in days at which a band begins.
fn first_day(band: usize) -> f64 {
    let days = match band {
        0..DAILY => band,
        DAILY..BY_THREE => 10 + (band - DAILY) * 3,
        BY_THREE..BANDS => 90 + (band - BY_THREE) * 30,
        _ => return f64::INFINITY,
    };
    f64::from(u32::try_from(days).expect("few bands"))
}

#[expect(clippy::cast_precision_loss, reason = "seconds of some years are far below 2^52")]
pub(super) fn in_days(span: TimeDelta) -> f64 {
    span.num_seconds() as f64 / 86_400.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(age: i64, waited: i64, changed: bool, times: usize) -> Observed {
        let mut observed = Observed::default();
        for _ in 0..times {
            observed.add(TimeDelta::days(age), TimeDelta::days(waited), changed);
        }
        observed
    }

    fn rates(observed: &Observed) -> ChangeRates {
        ChangeRates::learned(&Observed::default(), observed)
    }

    #[test]
    fn bands_begin_where_the_ones_before_end() {
        for index in 0..BANDS {
            assert_eq!(band(first_day(index)), index);
            assert!(index == 0 || band(first_day(index) - 0.01) == index - 1);
        }
        assert_eq!([-1.0, 9.9, 10.0, 89.9, 90.0, 9999.0].map(band), [0, 9, 10, 36, 37, 47]);
    }

    #[test]
    fn a_change_is_spread_over_the_ages_between_two_reads() {
        let seen = observed(12, 4, true, 1);
        assert_eq!(seen.days[8..12], [1.0, 1.0, 2.0, 0.0]);
        assert_eq!(seen.changes[8..12], [0.25, 0.25, 0.5, 0.0]);
        // The day was not over at the read before: its age begins with its end.
        assert!((observed(1, 3, true, 1).days.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_never_changes_is_soon_believed_not_to() {
        let before = ChangeRates::default().per_day(40.0);
        assert!(rates(&observed(41, 1, false, 300)).per_day(40.0) < before / 20.0);
        assert!(rates(&observed(41, 1, true, 300)).per_day(40.0) > 0.9);
    }

    #[test]
    fn a_program_that_differs_from_the_others_is_known_by_its_own_reads() {
        let (others, own) = (observed(41, 1, true, 300), observed(41, 1, false, 300));
        let rates = ChangeRates::learned(&own, &others);
        assert!(rates.per_day(40.0) < 0.1);
        // Where it has none of its own, the others are believed.
        assert!((ChangeRates::learned(&Observed::default(), &others).per_day(40.0) - 0.98).abs() < 0.01);
    }

    #[test]
    fn before_anything_is_known_older_days_change_less() {
        let rates = ChangeRates::default();
        let by_age: Vec<f64> = [0.0, 1.0, 3.0, 7.0, 400.0].map(|age| rates.per_day(age)).to_vec();
        assert!(by_age.is_sorted_by(|a, b| a > b), "{by_age:?}");
        assert!((by_age[0] - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_day_that_is_about_to_be_locked_does_not_stay_right() {
        let mut seen = observed(45, 1, true, 200);
        seen.merge(&observed(30, 1, false, 200));
        for age in [31, 34, 37, 40, 43, 47, 50] {
            seen.merge(&observed(age, 1, false, 200));
        }
        let rates = rates(&seen);
        assert!(rates.chance_of_change(40.0, 46.0) > 0.8 && rates.chance_of_change(31.0, 37.0) < 0.2);
        assert!(rates.days_right(42.0) < rates.days_right(30.0) / 2.0);
        assert!(rates.days_right(30.0) <= f64::from(HORIZON_DAYS));
    }
}
