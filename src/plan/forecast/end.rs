//! What is left at the end of a forecast: what waits and until when, which backfills are not done, which days are late.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{BackfillEnd, Late, Newest, World};
use crate::clock::{day_end, day_in};
use crate::export::{Bucket, ExportName, Reason};
use crate::plan::draft::Drafted;
use crate::plan::wanted::{Because, Wanted};

impl World<'_> {
    /// When the `turn`th of the calls that come before all others has room, where the charges say so: earlier charges end by then.
    fn first_room(&self, bucket: Bucket, turn: usize, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let budget = self.state.budgets.get(&bucket)?;
        if budget.closed_until.is_some() || budget.at_most.is_some() {
            return None;
        }
        let ends = budget.charges.iter().map(|spent| spent.at + budget.window).filter(|end| *end > until);
        let mut ends: Vec<_> = ends.collect();
        ends.sort_unstable();
        match (ends.len() + turn).saturating_sub(budget.limit as usize) {
            0 => Some(until),
            to_end => ends.get(to_end - 1).copied(),
        }
    }

    /// What waits at the end, most wanted first, each with its turn at the steady rate of its class; what comes before all others
    /// has it as soon as there is room.
    pub(super) fn rest(&mut self, until: DateTime<Utc>) -> Vec<Wanted> {
        let mut rest = std::mem::take(&mut self.paused);
        rest.append(&mut self.held);
        for (bucket, planned) in std::mem::take(&mut self.planned) {
            for (place, one) in planned {
                self.queues.entry((bucket, one.wanted.reason)).or_default().insert(place, one);
            }
        }
        let queues = std::mem::take(&mut self.queues);
        let by_hand = |bucket| queues.get(&(bucket, Reason::Manual)).map_or(0, BTreeMap::len);
        let by_hand: BTreeMap<_, _> = Bucket::ALL.into_iter().map(|bucket| (bucket, by_hand(bucket))).collect();
        for ((bucket, reason), queue) in queues {
            let steady = self.steady.get(&bucket).copied().unwrap_or_default();
            let window = bucket.window();
            let rate = match reason {
                Reason::Manual | Reason::Fresh => steady.any,
                Reason::Refresh => steady.refresh,
                Reason::Backfill if steady.missed >= steady.backfill => 0,
                Reason::Backfill => steady.backfill - steady.missed,
            };
            let because = queue.values().next().and_then(|one| one.wanted.because.clone()).unwrap_or(Because::Quota);
            for (before, Drafted { mut wanted, .. }) in queue.into_values().enumerate() {
                let turn = i32::try_from(before + 1).unwrap_or(i32::MAX);
                let seconds = window.num_seconds().saturating_mul(i64::from(turn));
                let steadily = (rate > 0).then(|| until + TimeDelta::seconds(seconds / i64::from(rate.max(1))));
                let ahead = match reason {
                    Reason::Manual => Some(before),
                    Reason::Fresh => Some(by_hand[&bucket] + before),
                    Reason::Refresh | Reason::Backfill => None,
                };
                let ahead = ahead.filter(|ahead| *ahead < rate as usize);
                let room = ahead.and_then(|ahead| self.first_room(bucket, ahead + 1, until));
                wanted.expected_at = room.into_iter().chain(steadily).min();
                wanted.because = Some(because.clone());
                wanted.replay_of = self.known.get(&wanted.request).cloned();
                rest.push(wanted);
            }
        }
        rest.sort_by(|a, b| a.rank().cmp(&b.rank()));
        rest
    }

    pub(super) fn backfill_ends(&self, rest: &[Wanted]) -> Vec<BackfillEnd> {
        let end = |(export, calls_left): (&ExportName, &usize)| {
            let feed = self.state.feeds.iter().find(|feed| feed.feed.export == *export)?;
            let bucket = feed.feed.source.bucket();
            let shares = |other: &&ExportName| {
                self.state.feeds.iter().any(|feed| feed.feed.export == **other && feed.feed.source.bucket() == bucket)
            };
            let is_ours = |one: &&Wanted| one.export == *export && one.reason == Reason::Backfill;
            let last_call = self.calls.iter().filter(is_ours).filter_map(|one| one.expected_at).max();
            let done_at = rest
                .iter()
                .filter(is_ours)
                .map(|one| one.expected_at)
                .try_fold(last_call, |last, at| at.map(|at| Some(last.map_or(at, |last| last.max(at)))))
                .flatten();
            Some(BackfillEnd {
                export: export.clone(),
                account: self.state.account.clone(),
                bucket,
                calls_left: *calls_left,
                calls_per_day: self.steady.get(&bucket).map_or(0, |steady| steady.backfill),
                shared_by: self.backfill.keys().filter(shares).count(),
                done_on: done_at.map(|at| day_in(feed.feed.time_zone, at)),
            })
        };
        self.backfill.iter().filter_map(end).collect()
    }

    pub(super) fn late(&self, rest: &[Wanted]) -> Vec<Late> {
        let of = |one: &Newest| {
            let feed = &self.state.feeds[one.feed].feed;
            let waits = |wanted: &&Wanted| {
                wanted.export == feed.export
                    && wanted.request.program == feed.program
                    && wanted.window.contains(one.day)
            };
            let expected_at = match one.read_at {
                Some(at) => Some(at),
                None => rest.iter().find(waits)?.expected_at,
            };
            let in_time = day_end(feed.time_zone, one.day) + TimeDelta::days(1);
            expected_at.is_none_or(|at| at > in_time).then(|| Late {
                export: feed.export.clone(),
                account: feed.account.clone(),
                program: feed.program.clone(),
                day: one.day,
                behind_since: self.feeds[one.feed].behind_since.unwrap_or(in_time),
                expected_at,
            })
        };
        self.newest.iter().filter_map(of).collect()
    }
}
