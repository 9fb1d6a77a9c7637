//! The performance reports: sums of the same actions and clicks that the listings show.

use std::fmt::Write as _;
use std::sync::Arc;

use chrono::NaiveDate;

use super::action::{Status, Stream};
use super::column::{Column, Kind};
use super::money::Cents;
use super::request::DataRequest;
use super::texts;

/// One row of a performance report: what it is about, and its sums.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The day, where the report is by day.
    pub day: NaiveDate,
    /// The partner or program, where the report is by one.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Bit by bit, the partners that had an action or a click.
    media: u64,
    clicks: u64,
    actions: u64,
    sale: Cents,
    cost: Cents,
}

impl Summary {
    fn is_empty(&self) -> bool {
        self.clicks == 0 && self.actions == 0
    }
}

/// One row per day with data, the latest first.
pub fn by_day(request: &DataRequest) -> Vec<Summary> {
    let mut rows = Vec::new();
    for day in request.window.days(request.zone, request.now) {
        let mut row = Summary { day, ..Summary::default() };
        for stream in request.streams.iter().filter(|stream| stream.data_start <= day) {
            row.clicks += clicks(request, stream, day);
            add_actions(request, stream, day, |partner, sale, cost| {
                row.media |= 1 << (partner % 64);
                row.actions += 1;
                row.sale += sale;
                row.cost += cost;
            });
        }
        if request.streams.iter().any(|stream| stream.data_start <= day) {
            rows.push(row);
        }
    }
    rows
}

/// One row per program with anything in the window.
pub fn by_program(request: &DataRequest) -> Vec<Summary> {
    let mut rows: Vec<Summary> = Vec::new();
    for stream in &request.streams {
        let mut row = Summary { id: stream.program, name: stream.program_name.clone(), ..Summary::default() };
        for day in request.window.days(request.zone, request.now) {
            row.clicks += clicks(request, stream, day);
            add_actions(request, stream, day, |_, sale, cost| {
                row.actions += 1;
                row.sale += sale;
                row.cost += cost;
            });
        }
        rows.push(row);
    }
    rows.retain(|row| !row.is_empty());
    rows
}

/// One row per media partner with anything in the window.
pub fn by_media(request: &DataRequest) -> Vec<Summary> {
    let mut rows: Vec<Summary> = texts::PARTNERS
        .iter()
        .map(|(id, name)| Summary { id: u64::from(*id), name: (*name).to_owned(), ..Summary::default() })
        .collect();
    for stream in &request.streams {
        for day in request.window.days(request.zone, request.now) {
            add_actions(request, stream, day, |partner, sale, cost| {
                for row in rows.iter_mut().filter(|row| row.id == u64::from(partner)) {
                    row.actions += 1;
                    row.sale += sale;
                    row.cost += cost;
                }
            });
            let count = stream.click_count(day);
            let clicks = (0..count).map(|index| stream.click(day, index, count));
            for click in clicks.filter(|click| click.at <= request.now && request.window.contains(click.at)) {
                for row in rows.iter_mut().filter(|row| row.id == u64::from(click.partner.0)) {
                    row.clicks += 1;
                }
            }
        }
    }
    rows.retain(|row| !row.is_empty());
    rows
}

/// The clicks of a day that lie in the window; a whole day is counted without making the clicks.
fn clicks(request: &DataRequest, stream: &Arc<Stream>, day: NaiveDate) -> u64 {
    if request.window.covers(stream.zone, day) {
        return stream.clicks_until(day, request.now);
    }
    let count = stream.click_count(day);
    (0..count)
        .map(|index| stream.click(day, index, count).at)
        .filter(|at| *at <= request.now && request.window.contains(*at))
        .count() as u64
}

/// Calls `add` with partner, sale and cost of every action of a day that counts: those that are not reversed.
fn add_actions(request: &DataRequest, stream: &Arc<Stream>, day: NaiveDate, mut add: impl FnMut(u32, Cents, Cents)) {
    let count = stream.action_count(day);
    (0..count)
        .filter_map(|index| stream.action(day, index, count, request.now))
        .filter(|action| request.window.contains(action.event_at) && action.status != Status::Reversed)
        .for_each(|action| add(action.partner.0, action.sale, action.payout));
}

type SummaryColumn = Column<Summary>;

const fn number(name: &'static str, write: fn(&Summary, &mut String)) -> SummaryColumn {
    Column::new(name, Kind::Integer, write)
}

const fn amount(name: &'static str, write: fn(&Summary, &mut String)) -> SummaryColumn {
    Column::new(name, Kind::Decimal, write)
}

fn put(out: &mut String, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}");
}

fn display_day(row: &Summary, out: &mut String) {
    put(out, row.day.format("%b %-d, %Y"));
}

const CLICKS: SummaryColumn = number("Clicks", |row, out| put(out, row.clicks));
const ACTIONS: SummaryColumn = number("Actions", |row, out| put(out, row.actions));

/// `att_adv_performance_by_day_pm_only`.
pub static BRAND_BY_DAY: &[SummaryColumn] = &[
    Column::new("date_display", Kind::Date, display_day),
    Column::new("date_sort", Kind::Date, |row, out| put(out, row.day)),
    number("media_count", |row, out| put(out, row.media.count_ones())),
    number("Impressions", |_, out| put(out, 0)),
    CLICKS,
    ACTIONS,
    number("Calls", |_, out| put(out, 0)),
    amount("Revenue", |row, out| row.sale.write(false, out)),
    amount("ActionCost", |row, out| row.cost.write(false, out)),
    amount("CPC_Cost", |_, out| put(out, "0.0")),
    amount("ClickCost", |_, out| put(out, "0.0")),
    amount("OtherCost", |_, out| put(out, "0.0")),
    amount("TotalCost", |row, out| row.cost.write(true, out)),
    amount("CPC", |_, _| {}),
];

/// `att_adv_performance_by_media_pm_only`.
pub static BRAND_BY_MEDIA: &[SummaryColumn] = &[
    Column::new("Media", Kind::Text, |row, out| put(out, &row.name)),
    number("mp_id", |row, out| put(out, row.id)),
    CLICKS,
    ACTIONS,
    amount("Revenue", |row, out| row.sale.write(false, out)),
    amount("ActionCost", |row, out| row.cost.write(false, out)),
    amount("TotalCost", |row, out| row.cost.write(true, out)),
];

/// `partner_performance_by_day`.
pub static PARTNER_BY_DAY: &[SummaryColumn] = &[
    Column::new("date_display", Kind::Date, display_day),
    CLICKS,
    ACTIONS,
    amount("Sale_zzzAmount", |row, out| row.sale.write(false, out)),
    amount("Action_Cost", |row, out| row.cost.write(false, out)),
    amount("Total_Cost", |row, out| row.cost.write(true, out)),
];

/// `partner_performance_by_program`.
pub static PARTNER_BY_PROGRAM: &[SummaryColumn] = &[
    number("campaign_id", |row, out| put(out, row.id)),
    Column::new("Campaign", Kind::Text, |row, out| put(out, &row.name)),
    CLICKS,
    ACTIONS,
    amount("Sale_Amount", |row, out| row.sale.write(false, out)),
    amount("Total_Cost", |row, out| row.cost.write(true, out)),
];
