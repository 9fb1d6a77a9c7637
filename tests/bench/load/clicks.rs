//! A click file of 40 columns: its columns, their types, its rows.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use chrono::TimeDelta;
use impact_mirror::column::ColumnKind;

/// Its header.
pub const COLUMNS: [&str; 40] = [
    "Id",
    "ProgramId",
    "ProgramName",
    "ProfileId",
    "IpAddress",
    "EventDate",
    "MediaId",
    "MediaName",
    "AdId",
    "AdName",
    "AdType",
    "ProductSku",
    "AdCampaign",
    "AdGroup",
    "Keyword",
    "MatchType",
    "Channel",
    "DealName",
    "DealType",
    "DealScope",
    "CustomerArea",
    "CustomerCity",
    "CustomerRegion",
    "CustomerCountry",
    "DeviceType",
    "DeviceFamily",
    "Browser",
    "Os",
    "ReferringUrl",
    "ReferringDomain",
    "LandingPageUrl",
    "SharedId",
    "UniqueClick",
    "CpcBid",
    "SubId1",
    "SubId2",
    "SubId3",
    "Payout",
    "TrafficCategory",
    "TrafficSource",
];

/// The part of the columns that are not text.
pub fn configured() -> BTreeMap<String, ColumnKind> {
    let mut kinds: BTreeMap<_, _> = COLUMNS.iter().map(|name| ((*name).to_owned(), ColumnKind::Text)).collect();
    for (name, kind) in [
        ("ProgramId", ColumnKind::Bigint),
        ("MediaId", ColumnKind::Bigint),
        ("AdId", ColumnKind::Bigint),
        ("EventDate", ColumnKind::Timestamptz),
        ("UniqueClick", ColumnKind::Boolean),
        ("CpcBid", ColumnKind::Numeric),
        ("Payout", ColumnKind::Numeric),
    ] {
        kinds.insert(name.to_owned(), kind);
    }
    kinds
}

/// The name of a column in the mirrored table.
pub fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// The same clicks every time, but for the payout of some of them.
pub fn write(path: &Path, rows: u64, changed_percent: u64) {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    writeln!(out, "{}", COLUMNS.join(",")).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let midnight = "2026-05-29T00:00:00".parse::<chrono::NaiveDateTime>().unwrap();
    let cities = ["Boston", "New York", "\"Portland, OR\"", "n/a", "São Paulo", ""];
    let browsers = ["CHROME", "CHROME_MOBILE", "SAFARI", "FIREFOX", "EDGE", "null"];
    for row in 0..rows {
        let (a, b, c) = (random(), random(), random());
        let second = i64::try_from(row * 86_400 / rows).unwrap();
        writeln!(
            out,
            "{a:016x}{b:08x},1000,Acme Campaign,{b:016x}-{c:08x},{c:016x}{a:016x},{at}-04:00,{media},Partner {media},{ad},\
             \"Spring sale, {ad}\",TEXT_LINK,SKU-{sku},summer_2026,group {group},,broad,Search,,,,n/a,{city},Massachusetts,US,\
             {device},{family},{browser},WINDOWS_10,https://www.example-partner-{media}.com/reviews/{c:x}?utm_source=partner&utm_campaign={ad},\
             www.example-partner-{media}.com,https://www.acme.example/products/{sku}?irclickid={a:016x}{b:08x},shared-{group},\
             {unique},0.{bid},newsletter-{group},{c:x},,{payout}.{cents:02}0000,CONTENT,organic",
            at = (midnight + TimeDelta::seconds(second)).format("%Y-%m-%dT%H:%M:%S"),
            media = 100_000 + a % 500,
            ad = 20_000 + b % 90,
            sku = c % 10_000,
            group = a % 40,
            city = cities[usize::try_from(b % 6).unwrap()],
            device = if a % 3 == 0 { "PHONE" } else { "DESKTOP" },
            family = if a % 3 == 0 { "IPHONE" } else { "WINDOWS_MACHINE" },
            browser = browsers[usize::try_from(c % 6).unwrap()],
            unique = c % 4 != 0,
            bid = b % 100,
            payout = if row % 100 < changed_percent { 20 + c % 20 } else { c % 20 },
            cents = a % 100,
        )
        .unwrap();
    }
    out.flush().unwrap();
}
