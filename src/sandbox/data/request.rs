//! What is asked of the data: which feed, which programs, which window, which columns.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::action::{Status, Stream};
use super::zone::{day_end, day_of, day_start};

/// The toggles (`SHOW_…`) that a request has set, in capitals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toggles(pub BTreeSet<String>);

impl Toggles {
    /// Whether a toggle is set.
    pub fn contains(&self, toggle: &str) -> bool {
        self.0.contains(toggle)
    }
}

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// `adv_action_listing_pm_only`.
    BrandActions,
    /// `att_adv_performance_by_day_pm_only`.
    BrandByDay,
    /// `att_adv_performance_by_media_pm_only`.
    BrandByMedia,
    /// `mp_action_listing_sku`.
    PartnerActionsSku,
    /// `mp_action_listing_fast`.
    PartnerActionsFast,
    /// `partner_performance_by_day`.
    PartnerByDay,
    /// `partner_performance_by_program`.
    PartnerByProgram,
    /// `agency_action_listing`.
    AgencyActions,
    /// The click export of brands and partners.
    Clicks,
}

/// One end of a window, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A day of the account.
    Day(NaiveDate),
    /// A date and a time.
    Instant(DateTime<Utc>),
}

/// How the ends of a window are understood: three open questions about the real API.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The zone of days: the account's, or UTC.
    pub zone: Tz,
    /// Whether the end day belongs to the window.
    pub end_inclusive: bool,
    /// Whether times of day are cut off.
    pub truncate_times: bool,
}

/// The instants of a window: from the first, up to but without the second.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub until: DateTime<Utc>,
}

impl Window {
    /// Reads the two bounds; without an end the window lasts until `now`.
    pub fn read(from: Bound, to: Option<Bound>, reading: Reading, now: DateTime<Utc>) -> Self {
        let cut = |bound| match bound {
            Bound::Instant(at) if reading.truncate_times => Bound::Day(day_of(reading.zone, at)),
            Bound::Instant(_) | Bound::Day(_) => bound,
        };
        let from = match cut(from) {
            Bound::Day(day) => day_start(reading.zone, day),
            Bound::Instant(at) => at,
        };
        let until = match to.map(cut) {
            None => now + TimeDelta::seconds(1),
            Some(Bound::Day(day)) if reading.end_inclusive => day_end(reading.zone, day),
            Some(Bound::Day(day)) => day_start(reading.zone, day),
            Some(Bound::Instant(at)) => at + TimeDelta::seconds(1),
        };
        Self { from, until }
    }

    /// Whether something that happened at `at` belongs to the window.
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        self.from <= at && at < self.until
    }

    /// Whether all of a day belongs to the window.
    pub fn covers(&self, zone: Tz, day: NaiveDate) -> bool {
        self.from <= day_start(zone, day) && day_end(zone, day) <= self.until
    }

    /// The days in `zone` that have a part in the window, the latest first, none after `now`.
    pub fn days(&self, zone: Tz, now: DateTime<Utc>) -> impl Iterator<Item = NaiveDate> + use<> {
        let first = day_of(zone, self.from);
        let last = day_of(zone, (self.until - TimeDelta::seconds(1)).min(now));
        std::iter::successors(Some(last), NaiveDate::pred_opt).take_while(move |day| *day >= first)
    }
}

/// Which actions a listing shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statuses(pub Vec<String>);

impl Statuses {
    /// Whether actions of `status` are shown: the ones that were asked for, or by default all but reversed ones.
    pub fn show(&self, status: Status, reversed_by_default: bool) -> bool {
        if self.0.is_empty() {
            return reversed_by_default || status != Status::Reversed;
        }
        self.0.iter().any(|asked| asked == "0" || asked.eq_ignore_ascii_case(status.word()))
    }
}

/// Extra columns, and changed names, that a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// The columns as they always were.
    None,
    /// One column more than before.
    ExtraColumn,
    /// The same columns in lower case.
    LowerCase,
}

/// Everything that decides what is in a file.
#[derive(Debug, Clone)]
pub struct DataRequest {
    /// What is exported.
    pub feed: Feed,
    /// The programs, each as the account sees it.
    pub streams: Vec<Arc<Stream>>,
    /// The zone of the account.
    pub zone: Tz,
    /// The window.
    pub window: Window,
    /// The time at which the data is looked at.
    pub now: DateTime<Utc>,
    /// The statuses of a listing.
    pub statuses: Statuses,
    /// Whether reversed actions are in a listing that names no status.
    pub reversed_by_default: bool,
    /// The columns that were switched on.
    pub toggles: Toggles,
    /// Whether rows come in no order at all.
    pub random_order: bool,
}
