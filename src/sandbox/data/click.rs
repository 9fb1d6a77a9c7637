//! The clicks of a program. A click is there from its own second on and never changes; some rows are exact duplicates of the row
//! before, and ids repeat.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use super::action::Stream;
use super::column::{Column, Kind};
use super::dice::Dice;
use super::money::Cents;
use super::texts::{self, Named};
use super::zone::{day_end, day_number, write_time};

const CLICKS: u64 = 3;
const CLICK_COUNT: u64 = 4;

/// One click.
#[derive(Debug, Clone)]
pub struct Click {
    /// Whose click it is.
    pub stream: Arc<Stream>,
    /// When.
    pub at: DateTime<Utc>,
    dice: Dice,
    id: u64,
    /// Who sent it.
    pub partner: Named,
    ad: Named,
    place: [&'static str; 3],
    device: [&'static str; 4],
}

impl Stream {
    /// How many clicks `day` will have in the end.
    pub fn click_count(&self, day: NaiveDate) -> u64 {
        self.daily_count(CLICK_COUNT, self.clicks_per_day, day)
    }

    /// How many clicks of `day` there are at `now`, without making more of them than a day in progress needs.
    pub fn clicks_until(self: &Arc<Self>, day: NaiveDate, now: DateTime<Utc>) -> u64 {
        let count = self.click_count(day);
        if day_end(self.zone, day) <= now {
            return count;
        }
        (0..count).take_while(|index| self.click(day, *index, count).at <= now).count() as u64
    }

    /// The click with `index` of the `count` on `day`.
    pub fn click(self: &Arc<Self>, day: NaiveDate, index: u64, count: u64) -> Click {
        let number = day_number(day);
        let repeats = |index: u64| index > 0 && Dice::new(&[self.key, CLICKS, number, index, 1]).chance(5);
        let mut index = index;
        while repeats(index) {
            index -= 1;
        }
        let mut dice = Dice::new(&[self.key, CLICKS, number, index]);
        let at = self.moment(day, index, count, &mut dice);
        let id = if dice.chance(20) { index.saturating_sub(1) } else { index };
        Click {
            stream: Arc::clone(self),
            at,
            id: Dice::new(&[self.key, CLICKS, number, id, 2]).next(),
            partner: dice.pick(texts::PARTNERS),
            ad: dice.pick(texts::ADS),
            place: dice.pick(texts::PLACES),
            device: dice.pick(DEVICES),
            dice,
        }
    }
}

/// Type, family, browser and system that go together.
const DEVICES: &[[&str; 4]] = &[
    ["DESKTOP", "WINDOWS_MACHINE", "CHROME", "WINDOWS_10"],
    ["PHONE", "IPHONE", "SAFARI", "IOS"],
    ["PHONE", "null", "CHROME_MOBILE", "ANDROID"],
    ["ROBOT", "UNKNOWN", "null", "null"],
];

type ClickColumn = Column<Click>;

const fn text(name: &'static str, write: fn(&Click, &mut String)) -> ClickColumn {
    Column::new(name, Kind::Text, write)
}

fn put(out: &mut String, value: &str) {
    out.push_str(value);
}

/// A throw that belongs to one column of one click, so that columns do not depend on each other.
fn throw(click: &Click, column: u64) -> Dice {
    let mut dice = click.dice.clone();
    Dice::new(&[dice.next(), column])
}

fn free(click: &Click, column: u64, plain: &[&'static str]) -> &'static str {
    texts::free_text(&mut throw(click, column), plain)
}

fn domain(click: &Click) -> &'static str {
    throw(click, 8).pick(&["blog.example", "deals.example", "NA"])
}

/// The 40 columns of a click export.
pub static CLICK: &[ClickColumn] = &[
    text("Id", |click, out| put(out, &format!("{:016x}", click.id))),
    Column::new("ProgramId", Kind::Integer, |click, out| put(out, &click.stream.program.to_string())),
    text("ProgramName", |click, out| put(out, &click.stream.program_name)),
    text("ProfileId", |click, out| put(out, &format!("{:012x}", throw(click, 1).next() >> 16))),
    text("IpAddress", |click, out| {
        let mut dice = throw(click, 2);
        if !dice.chance(50) {
            put(out, &format!("{:016x}", dice.next()));
        }
    }),
    Column::new("EventDate", Kind::Date, |click, out| write_time(click.stream.zone, click.at, out)),
    Column::new("MediaId", Kind::Integer, |click, out| put(out, &click.partner.0.to_string())),
    text("MediaName", |click, out| put(out, click.partner.1)),
    Column::new("AdId", Kind::Integer, |click, out| put(out, &click.ad.0.to_string())),
    text("AdName", |click, out| put(out, click.ad.1)),
    text("AdType", |click, out| put(out, throw(click, 3).pick(&["BANNER", "TEXT_LINK", "COUPON"]))),
    text("ProductSku", |click, out| put(out, throw(click, 4).pick(&["", "", "SKU-1001", "00042"]))),
    text("AdCampaign", |click, out| put(out, free(click, 5, &["spring", "always on"]))),
    text("AdGroup", |_, _| {}),
    text("Keyword", |click, out| put(out, free(click, 6, &["rain jacket", "monitor 27"]))),
    text("MatchType", |_, _| {}),
    text("Channel", |click, out| put(out, throw(click, 7).pick(&["", "Content", "Loyalty"]))),
    text("DealName", |_, _| {}),
    text("DealType", |click, out| put(out, throw(click, 9).pick(&["", "", "FREE_SHIPPING"]))),
    text("DealScope", |click, out| put(out, throw(click, 9).pick(&["", "", "ENTIRE_STORE"]))),
    text("CustomerCity", |click, out| put(out, click.place[0])),
    text("CustomerRegion", |click, out| put(out, click.place[1])),
    text("CustomerCountry", |click, out| put(out, click.place[2])),
    text("DeviceType", |click, out| put(out, click.device[0])),
    text("DeviceFamily", |click, out| put(out, click.device[1])),
    text("Browser", |click, out| put(out, click.device[2])),
    text("Os", |click, out| put(out, click.device[3])),
    text("ReferringUrl", |click, out| {
        if domain(click) != "NA" {
            put(out, &format!("https://{}/post?tags=a,b", domain(click)));
        }
    }),
    text("ReferringDomain", |click, out| put(out, domain(click))),
    text("LandingPageUrl", |click, out| put(out, &format!("https://shop.example/?ad={}", click.ad.0))),
    text("SharedId", |click, out| put(out, free(click, 10, &["shared-1"]))),
    Column::new("UniqueClick", Kind::Boolean, |click, out| {
        put(out, if throw(click, 11).chance(800) { "true" } else { "false" });
    }),
    Column::new("CpcBid", Kind::Decimal, |click, out| put(out, throw(click, 12).pick(&["", "0.0"]))),
    text("SubId1", |click, out| put(out, free(click, 13, &["newsletter", "app"]))),
    text("SubId2", |_, _| {}),
    text("SubId3", |click, out| put(out, free(click, 14, &["x"]))),
    Column::new("Payout", Kind::Decimal, |click, out| {
        let mut dice = throw(click, 15);
        if dice.chance(50) {
            Cents(i64::try_from(dice.below(50)).unwrap_or_default()).write(true, out);
        } else {
            put(out, "0.00");
        }
    }),
    text("TrafficCategory", |click, out| put(out, throw(click, 16).pick(&["", "CONTENT"]))),
    text("TrafficSource", |_, _| {}),
    text("SearchText", |click, out| put(out, free(click, 17, &["cheap jackets"]))),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::action::tests::stream;
    use super::*;

    #[test]
    fn a_click_export_has_forty_columns() {
        assert_eq!(CLICK.len(), 40);
        assert_eq!(CLICK.iter().map(|column| column.name).collect::<HashSet<_>>().len(), 40);
    }

    #[test]
    fn some_rows_are_exact_duplicates_and_some_ids_repeat() {
        let stream = stream();
        let day = "2026-05-04".parse().unwrap();
        let count = stream.click_count(day) * 20;
        let rows: Vec<String> = (0..count)
            .map(|index| {
                let mut row = String::new();
                let click = stream.click(day, index, count);
                for column in CLICK {
                    (column.write)(&click, &mut row);
                    row.push('|');
                }
                row
            })
            .collect();
        let ids = |row: &String| row.split('|').next().unwrap().to_owned();
        let distinct_rows = rows.iter().collect::<HashSet<_>>().len();
        let distinct_ids = rows.iter().map(ids).collect::<HashSet<_>>().len();
        assert!(distinct_rows < rows.len());
        assert!(distinct_ids < distinct_rows);
    }

    #[test]
    fn a_day_in_progress_has_the_clicks_so_far() {
        let (stream, day) = (stream(), "2026-05-04".parse().unwrap());
        let at = |now: &str| stream.clicks_until(day, now.parse().unwrap());
        assert_eq!(at("2026-05-04T00:00:00Z"), 0);
        assert!(at("2026-05-04T16:00:00Z") > 0);
        assert!(at("2026-05-04T16:00:00Z") < stream.click_count(day));
        assert_eq!(at("2026-05-05T04:00:00Z"), stream.click_count(day));
    }
}
