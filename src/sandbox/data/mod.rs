//! The made-up data: a pure function of the seed, the program, the day, the index and the time.

pub mod action;
pub mod changes;
pub mod click;
pub mod column;
pub mod dice;
pub mod listing;
pub mod money;
pub mod performance;
pub mod request;
pub mod table;
pub mod texts;
pub mod zone;

use std::io::{self, Write};

use chrono::{DateTime, Utc};

use self::action::Action;
use self::column::{Column, Kind};
use self::dice::Dice;
use self::performance::Summary;
use self::request::{DataRequest, Feed};
use self::table::{Dialect, Table};

/// Names and types of all columns that a feed can have.
pub fn attributes(feed: Feed) -> Vec<(&'static str, Kind)> {
    fn of<T>(columns: &[Column<T>]) -> Vec<(&'static str, Kind)> {
        columns.iter().map(|column| (column.name, column.kind)).collect()
    }
    match feed {
        Feed::BrandActions => of(listing::BRAND),
        Feed::BrandByDay => of(performance::BRAND_BY_DAY),
        Feed::BrandByMedia => of(performance::BRAND_BY_MEDIA),
        Feed::PartnerActionsSku => of(listing::PARTNER_SKU),
        Feed::PartnerActionsFast => of(listing::PARTNER_FAST),
        Feed::PartnerByDay => of(performance::PARTNER_BY_DAY),
        Feed::PartnerByProgram => of(performance::PARTNER_BY_PROGRAM),
        Feed::AgencyActions => of(listing::AGENCY),
        Feed::Clicks => of(click::CLICK),
    }
}

/// Writes the file that `request` asks for and counts its rows. One row is in memory at a time.
pub fn render<W: Write>(request: &DataRequest, dialect: Dialect, out: W) -> io::Result<(W, u64)> {
    match request.feed {
        Feed::BrandActions => write_rows(request, dialect, listing::BRAND, actions(request), out),
        Feed::PartnerActionsSku => write_rows(request, dialect, listing::PARTNER_SKU, actions(request), out),
        Feed::PartnerActionsFast => write_rows(request, dialect, listing::PARTNER_FAST, actions(request), out),
        Feed::AgencyActions => write_rows(request, dialect, listing::AGENCY, actions(request), out),
        Feed::BrandByDay => write_summaries(request, dialect, performance::BRAND_BY_DAY, performance::by_day, out),
        Feed::PartnerByDay => write_summaries(request, dialect, performance::PARTNER_BY_DAY, performance::by_day, out),
        Feed::BrandByMedia => {
            write_summaries(request, dialect, performance::BRAND_BY_MEDIA, performance::by_media, out)
        }
        Feed::PartnerByProgram => {
            write_summaries(request, dialect, performance::PARTNER_BY_PROGRAM, performance::by_program, out)
        }
        Feed::Clicks => write_rows(request, dialect, click::CLICK, clicks(request), out),
    }
}

fn write_summaries<W: Write>(
    request: &DataRequest,
    dialect: Dialect,
    columns: &'static [Column<Summary>],
    rows: fn(&DataRequest) -> Vec<Summary>,
    out: W,
) -> io::Result<(W, u64)> {
    let mut rows = rows(request);
    if request.random_order {
        rows = order(rows.len() as u64, Some(request.now))
            .filter_map(|index| rows.get(usize::try_from(index).ok()?).cloned())
            .collect();
    }
    write_rows(request, dialect, columns, rows.into_iter(), out)
}

fn write_rows<T, W: Write>(
    request: &DataRequest,
    dialect: Dialect,
    columns: &'static [Column<T>],
    rows: impl Iterator<Item = T>,
    out: W,
) -> io::Result<(W, u64)> {
    let columns: Vec<&Column<T>> = columns.iter().filter(|column| column.is_shown(&request.toggles)).collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let list = if request.feed == Feed::Clicks { "Clicks" } else { "Records" };
    let mut table = Table::new(out, dialect, &names, list);
    let mut value = String::new();
    for row in rows {
        for column in &columns {
            value.clear();
            (column.write)(&row, &mut value);
            table.field(&value);
        }
        table.end_row()?;
        if table.is_full() {
            break;
        }
    }
    table.finish()
}

fn actions(request: &DataRequest) -> impl Iterator<Item = Action> {
    request.window.days(request.zone, request.now).flat_map(move |day| {
        request.streams.iter().flat_map(move |stream| {
            let count = stream.action_count(day);
            order(count, request.random_order.then_some(request.now))
                .filter_map(move |index| stream.action(day, index, count, request.now))
                .filter(|action| request.window.contains(action.event_at))
                .filter(|action| request.statuses.show(action.status, request.reversed_by_default))
        })
    })
}

fn clicks(request: &DataRequest) -> impl Iterator<Item = click::Click> {
    request.window.days(request.zone, request.now).flat_map(move |day| {
        request.streams.iter().flat_map(move |stream| {
            let count = stream.click_count(day);
            order(count, request.random_order.then_some(request.now))
                .map(move |index| stream.click(day, index, count))
                .filter(|click| click.at <= request.now && request.window.contains(click.at))
        })
    })
}

/// The numbers below `count`: the last first, or all over the place, and in another order a second later.
fn order(count: u64, random_at: Option<DateTime<Utc>>) -> impl Iterator<Item = u64> {
    // Steps of a prime length visit every number below any count that it does not divide.
    const PRIMES: [u64; 8] = [1_000_003, 1_000_033, 1_000_037, 1_000_039, 1_000_081, 1_000_099, 1_000_117, 1_000_121];
    let (first, step) = random_at.map_or((0, count.saturating_sub(1)), |now| {
        let mut dice = Dice::new(&[now.timestamp().cast_unsigned()]);
        (dice.below(count), dice.pick(&PRIMES))
    });
    let step = if count.is_multiple_of(step.max(1)) { count.saturating_sub(1) } else { step };
    (0..count).map(move |at| (first + (at + 1) * step) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_order_visits_every_row_once() {
        let at = |second| DateTime::from_timestamp(second, 0);
        let all = |count, random_at| order(count, random_at).collect::<Vec<u64>>();
        assert_eq!(all(5, None), [4, 3, 2, 1, 0]);
        for (count, second) in (0..8).chain([1000, 1_000_003]).zip(1_800_000_000..) {
            let mut visited = all(count, at(second));
            visited.sort_unstable();
            assert_eq!(visited, (0..count).collect::<Vec<_>>());
        }
        assert_ne!(all(50, at(1_800_000_000)), all(50, None));
        assert_ne!(all(50, at(1_800_000_000)), all(50, at(1_800_000_001)), "nor is it that of the second before");
    }
}
