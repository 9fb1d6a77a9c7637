//! `exports.NAME.keep`: how long rows are kept, and what follows for a day; and the names of partitions.

use std::time::Duration;

use chrono::{Datelike, Days, Months, NaiveDate};

use super::reader::Found;
use super::settings::Export;
use crate::column::Partition;

const DAY: Duration = Duration::from_hours(24);
/// Shorter than this is rather a slip than a wish.
const LEAST: Duration = Duration::from_hours(24 * 7);

/// Reads it as days.
pub(super) fn days(found: &Found) -> Option<u32> {
    let duration = found.duration(LEAST..=DAY * 36_500)?;
    let days = u32::try_from(duration.as_secs() / DAY.as_secs()).expect("at most 36500");
    if DAY * days != duration {
        found.refuse("whole days as in 1095d");
        return None;
    }
    Some(days)
}

/// The table that a name such as `actions_p2026_05` would be a partition of.
pub(super) fn partition_of(name: &str) -> Option<&str> {
    let (base, month) = name.rsplit_once("_p")?;
    let (year, month) = month.split_once('_')?;
    let is_number = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(year, 4) && is_number(month, 2)).then_some(base)
}

impl Export {
    /// The first day that is kept where it is `today`, the same as `impact_mirror.first_kept_day` says; `None` for all. Of a table
    /// partitioned by month whole months are kept.
    pub fn kept_from(&self, today: NaiveDate) -> Option<NaiveDate> {
        let day = today - Days::new(u64::from(self.keep_days?));
        Some(match self.partition {
            Partition::None => day,
            Partition::Month => first_of_month(day),
        })
    }

    /// The first day that is mirrored where it is `today`.
    pub fn first_day(&self, today: NaiveDate) -> NaiveDate {
        self.kept_from(today).map_or(self.since, |kept| kept.max(self.since))
    }

    /// On which day the rows of a day are kept no longer; `None` for never.
    pub fn goes_on(&self, day: NaiveDate) -> Option<NaiveDate> {
        let last = match self.partition {
            Partition::None => day + Days::new(1),
            Partition::Month => first_of_month(day) + Months::new(1),
        };
        Some(last + Days::new(u64::from(self.keep_days?)))
    }
}

fn first_of_month(day: NaiveDate) -> NaiveDate {
    day - Days::new(u64::from(day.day0()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::{Days, NaiveDate};

    use crate::config::Export;

    fn export(lines: &str) -> Export {
        let text = format!(
            "[database]\nurl = \"embedded\"\n[accounts.a]\npersona = \"brand\"\naccount_sid = \"IR1\"\nauth_token = {{ env = \"T\" }}\ntime_zone = \"UTC\"\n\
             [exports.e]\nreport = \"r\"\nsince = \"2026-01-01\"\n{lines}\n"
        );
        let settings = crate::config::check(&text, Path::new("x.toml"), &[("T", "t")].into()).expect("settings");
        settings.exports.into_values().next().expect("an export")
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    #[test]
    fn everything_is_kept_by_default() {
        assert_eq!(export("").kept_from(day("2026-05-15")), None);
        assert_eq!(export("").first_day(day("2036-05-15")), day("2026-01-01"));
    }

    #[test]
    fn a_day_goes_on_the_first_day_that_does_not_keep_it() {
        for (lines, kept_from) in
            [("keep = \"40d\"", "2026-04-05"), ("keep = \"40d\"\npartition = \"month\"", "2026-04-01")]
        {
            let export = export(lines);
            assert_eq!(export.kept_from(day("2026-05-15")), Some(day(kept_from)), "{lines}");
            assert_eq!(export.first_day(day("2026-01-20")), day("2026-01-01"), "{lines}");
            for one in day("2026-01-01").iter_days().take(120) {
                let goes = export.goes_on(one).expect("it goes");
                assert!(export.kept_from(goes).is_some_and(|kept| kept > one), "{one} {lines}");
                assert!(export.kept_from(goes - Days::new(1)).is_some_and(|kept| kept <= one), "{one} {lines}");
            }
        }
    }
}
