//! The rate limits: 100 report exports and 10 click exports a day, 1,000 other calls an hour.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

/// A group of calls that share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Report exports, per day.
    ReportExport,
    /// Click exports, per day.
    ClickExport,
    /// Everything else, per hour.
    Requests,
}

/// The span a limit is for.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    /// Calls before this instant no longer count.
    pub began: DateTime<Utc>,
    /// When the count starts afresh; nothing where each call is forgotten on its own, `length` after it was made.
    pub ends: Option<DateTime<Utc>>,
    /// How long a call counts where the period rolls.
    pub length: TimeDelta,
}

impl Period {
    /// A span that ends now and moves with the time.
    pub fn rolling(length: TimeDelta, now: DateTime<Utc>) -> Self {
        Self { began: now - length, ends: None, length }
    }
}

/// Where a bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Calls allowed in a period.
    pub limit: u32,
    /// Calls left.
    pub remaining: u32,
    /// When there will be more.
    pub resets_at: DateTime<Utc>,
}

/// The calls that count, by owner and bucket.
#[derive(Debug, Default)]
pub struct Quota(HashMap<(String, Bucket), VecDeque<DateTime<Utc>>>);

impl Quota {
    /// Where a bucket stands now.
    pub fn standing(
        &mut self,
        owner: &str,
        bucket: Bucket,
        limit: u32,
        period: Period,
        now: DateTime<Utc>,
    ) -> Standing {
        let calls = self.0.entry((owner.to_owned(), bucket)).or_default();
        while calls.front().is_some_and(|call| *call <= period.began) {
            calls.pop_front();
        }
        let used = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        let oldest = calls.front().copied().unwrap_or(now);
        let resets_at = period.ends.unwrap_or(oldest + period.length);
        Standing { limit, remaining: limit.saturating_sub(used), resets_at }
    }

    /// Counts a call.
    pub fn charge(&mut self, owner: &str, bucket: Bucket, now: DateTime<Utc>) {
        self.0.entry((owner.to_owned(), bucket)).or_default().push_back(now);
    }

    /// Takes back the last charge.
    pub fn refund(&mut self, owner: &str, bucket: Bucket) {
        if let Some(calls) = self.0.get_mut(&(owner.to_owned(), bucket)) {
            calls.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rolling_quota_gives_calls_back_one_by_one() {
        let now: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
        let day = TimeDelta::hours(24);
        let mut quota = Quota::default();
        quota.charge("a", Bucket::ClickExport, now);
        quota.charge("a", Bucket::ClickExport, now + TimeDelta::hours(2));
        let mut at = |hours| {
            let now = now + TimeDelta::hours(hours);
            quota.standing("a", Bucket::ClickExport, 2, Period::rolling(day, now), now)
        };
        assert_eq!((at(3).remaining, at(3).resets_at), (0, now + day));
        assert_eq!(at(24).remaining, 1);
        assert_eq!(at(26).remaining, 2);
    }

    #[test]
    fn a_quota_of_the_calendar_day_is_whole_again_at_midnight() {
        let midnight: DateTime<Utc> = "2026-01-02T00:00:00Z".parse().unwrap();
        let mut quota = Quota::default();
        quota.charge("a", Bucket::ReportExport, midnight - TimeDelta::hours(1));
        let period = |began| Period { began, ends: Some(began + TimeDelta::days(1)), length: TimeDelta::days(1) };
        let before = quota.standing("a", Bucket::ReportExport, 1, period(midnight - TimeDelta::days(1)), midnight);
        let after = quota.standing("a", Bucket::ReportExport, 1, period(midnight), midnight);
        assert_eq!((before.remaining, after.remaining), (0, 1));
    }
}
