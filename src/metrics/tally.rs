//! What this process has counted since it began: things that happened, and how long they took.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BUCKETS, Metric};

/// Counts, by metric and the values of its labels.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<Series, u64>>,
    durations: Mutex<BTreeMap<Series, Durations>>,
}

/// One line of a metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The name of the metric.
    pub name: &'static str,
    /// The values of its labels, in their order.
    pub values: Vec<String>,
}

/// How long things took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// How many took no longer than each of `BUCKETS`.
    pub counts: [u64; BUCKETS.len()],
    /// How many there were.
    pub count: u64,
    /// How many seconds they took together.
    pub sum: f64,
}

impl Tally {
    /// Something happened, or so many of it.
    pub fn add(&self, metric: &Metric, values: &[&str], count: u64) {
        *held(&self.counts).entry(series(metric, values)).or_default() += count;
    }

    /// Something took so many seconds.
    pub fn took(&self, metric: &Metric, values: &[&str], seconds: f64) {
        let seconds = seconds.max(0.0); // a clock may have been set back
        let mut durations = held(&self.durations);
        let one = durations.entry(series(metric, values)).or_default();
        one.count += 1;
        one.sum += seconds;
        for (count, end) in one.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= end);
        }
    }

    /// What was counted of a metric.
    pub fn counts(&self, metric: &Metric) -> Vec<(Series, u64)> {
        let counts = held(&self.counts);
        let of_metric = counts.iter().filter(|(series, _)| series.name == metric.name);
        of_metric.map(|(series, count)| (series.clone(), *count)).collect()
    }

    /// How long the things of a metric took.
    pub fn durations(&self, metric: &Metric) -> Vec<(Series, Durations)> {
        let durations = held(&self.durations);
        let of_metric = durations.iter().filter(|(series, _)| series.name == metric.name);
        of_metric.map(|(series, durations)| (series.clone(), durations.clone())).collect()
    }
}

fn series(metric: &Metric, values: &[&str]) -> Series {
    debug_assert_eq!(metric.labels.len(), values.len(), "{} has a value for each label", metric.name);
    Series { name: metric.name, values: values.iter().map(|value| (*value).to_owned()).collect() }
}

fn held<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;

    #[test]
    fn what_took_long_is_in_all_the_wider_counts_and_in_the_sum() {
        let tally = Tally::default();
        for seconds in [0.2, 40.0, 100_000.0] {
            tally.took(&metrics::LOAD_SECONDS, &["actions"], seconds);
        }
        let durations = tally.durations(&metrics::LOAD_SECONDS);
        let (series, durations) = &durations[0];
        assert_eq!(series.values, ["actions"]);
        assert_eq!(durations.counts, [0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
        assert_eq!((durations.count, durations.sum), (3, 100_040.2));
    }

    #[test]
    fn counts_go_by_their_labels() {
        let tally = Tally::default();
        tally.add(&metrics::RETRIES, &["transient"], 1);
        tally.add(&metrics::RETRIES, &["throttled"], 1);
        tally.add(&metrics::RETRIES, &["transient"], 2);
        let counts: Vec<u64> = tally.counts(&metrics::RETRIES).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 3]);
    }
}
