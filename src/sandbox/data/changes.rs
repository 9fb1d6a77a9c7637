//! When the rows of a feed become others: what happens to its actions and clicks, as far as its file shows it.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use super::action::{Action, Status, Stream};
use super::column::Column;
use super::listing;
use super::request::{DataRequest, Feed};

/// The times at which the file of `request`, whose `now` is left alone, becomes another one, soonest first.
pub fn of(request: &DataRequest) -> Vec<DateTime<Utc>> {
    let mut times = match request.feed {
        Feed::BrandActions => listed(request, listing::BRAND),
        Feed::PartnerActionsSku => listed(request, listing::PARTNER_SKU),
        Feed::PartnerActionsFast => listed(request, listing::PARTNER_FAST),
        Feed::AgencyActions => listed(request, listing::AGENCY),
        Feed::Clicks => clicked(request),
        Feed::BrandByDay | Feed::BrandByMedia | Feed::PartnerByDay | Feed::PartnerByProgram => {
            let mut times = clicked(request);
            times.extend(of_actions(request, counted));
            times
        }
    };
    times.sort_unstable();
    times.dedup();
    times
}

fn days_and_streams(request: &DataRequest) -> impl Iterator<Item = (NaiveDate, &Arc<Stream>)> {
    let days = request.window.days(request.zone, request.now);
    days.flat_map(|day| request.streams.iter().map(move |stream| (day, stream)))
}

fn clicked(request: &DataRequest) -> Vec<DateTime<Utc>> {
    days_and_streams(request)
        .flat_map(|(day, stream)| {
            let count = stream.click_count(day);
            (0..count).map(move |index| stream.click(day, index, count).at)
        })
        .filter(|at| request.window.contains(*at))
        .collect()
}

fn listed(request: &DataRequest, columns: &'static [Column<Action>]) -> Vec<DateTime<Utc>> {
    let columns: Vec<_> = columns.iter().filter(|column| column.is_shown(&request.toggles)).collect();
    of_actions(request, |action| {
        request.statuses.show(action.status, request.reversed_by_default).then(|| {
            let mut row = String::new();
            for column in &columns {
                (column.write)(action, &mut row);
                row.push('\n');
            }
            row
        })
    })
}

/// What a sum takes from an action.
fn counted(action: &Action) -> Option<(u32, i64, i64)> {
    (action.status != Status::Reversed).then_some((action.partner.0, action.sale.0, action.payout.0))
}

/// When what `seen` makes of an action changes.
fn of_actions<T: PartialEq>(request: &DataRequest, seen: impl Fn(&Action) -> Option<T>) -> Vec<DateTime<Utc>> {
    let mut times = Vec::new();
    for (day, stream) in days_and_streams(request) {
        let count = stream.action_count(day);
        for index in 0..count {
            let mut before = None;
            for at in stream.moments(day, index, count) {
                let action = stream.action(day, index, count, at).filter(|one| request.window.contains(one.event_at));
                let after = action.as_ref().and_then(&seen);
                if after != before {
                    times.push(at);
                }
                before = after;
            }
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::super::action::tests::stream;
    use super::super::request::{Bound, Reading, Statuses, Toggles, Window};
    use super::super::table::Dialect;
    use super::*;

    fn request(feed: Feed, statuses: &[&str]) -> DataRequest {
        let zone = chrono_tz::America::New_York;
        let day = Bound::Day("2026-05-04".parse().unwrap());
        let now = "2027-01-01T00:00:00Z".parse().unwrap();
        let mut stream = Stream::clone(&stream());
        (stream.actions_per_day, stream.clicks_per_day) = (20, 30);
        DataRequest {
            feed,
            streams: vec![Arc::new(stream)],
            zone,
            window: Window::read(day, Some(day), Reading { zone, end_inclusive: true, truncate_times: false }, now),
            now,
            statuses: Statuses(statuses.iter().map(|status| (*status).to_owned()).collect()),
            reversed_by_default: false,
            toggles: Toggles::default(),
            random_order: false,
        }
    }

    fn file(request: &DataRequest, now: DateTime<Utc>) -> Vec<u8> {
        super::super::render(&DataRequest { now, ..request.clone() }, Dialect::plain(), Vec::new()).unwrap().0
    }

    #[test]
    fn a_file_changes_at_these_times_and_at_no_other() {
        let all = ["PENDING", "APPROVED", "REVERSED"];
        for (feed, statuses) in [
            (Feed::BrandActions, &all[..]),
            (Feed::BrandActions, &["REVERSED"]),
            (Feed::BrandByDay, &[]),
            (Feed::BrandByMedia, &[]),
            (Feed::Clicks, &[]),
        ] {
            let request = request(feed, statuses);
            let second = chrono::TimeDelta::seconds(1);
            let times: Vec<_> = of(&request).into_iter().chain([request.now + second]).collect();
            assert!(times.len() > 1);
            for pair in times.windows(2) {
                assert_ne!(file(&request, pair[0] - second), file(&request, pair[0]), "{feed:?} at {}", pair[0]);
                assert_eq!(file(&request, pair[0]), file(&request, pair[1] - second), "{feed:?} from {}", pair[0]);
            }
        }
    }
}
