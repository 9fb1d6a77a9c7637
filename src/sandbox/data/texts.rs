//! The made-up names, and the texts that are awkward on purpose.

use super::dice::Dice;

/// A media partner, an ad and so on: an id and what people call it.
pub type Named = (u32, &'static str);

/// The media partners of every program.
pub const PARTNERS: &[Named] = &[
    (20101, "Bargain Harbour"),
    (20102, "Kühn & Söhne, GmbH"),
    (20103, "The \"Deal\" Desk"),
    (20104, "お得ナビ"),
    (20105, "null"),
    (20106, "Coupon Corner"),
    (20107, "Review, Compare & Save"),
    (20108, "O'Hara's Picks"),
];

/// The ads of every program.
pub const ADS: &[Named] = &[
    (501, "Homepage"),
    (502, "Spring Sale 20% off, \"today only\""),
    (503, "Free shipping"),
    (504, "Banner 300x250"),
    (505, "Été – soldes"),
];

/// The action trackers of every program.
pub const TRACKERS: &[Named] = &[(4636, "Online Sale"), (4637, "Mobile App Install"), (4638, "Lead Form")];

/// Towns with their region and country; the last is what an unknown address gives.
pub const PLACES: &[[&str; 3]] = &[
    ["New York", "New York", "US"],
    ["Austin", "Texas", "US"],
    ["München", "Bayern", "DE"],
    ["São Paulo", "São Paulo", "BR"],
    ["東京", "東京都", "JP"],
    ["n/a", "n/a", "n/a"],
];

/// Promotion codes; most sales have none.
pub const PROMO_CODES: &[&str] = &["", "", "", "", "SAVE10", "WELCOME", "NULL", "10%OFF"];

/// What is bought.
pub const ITEMS: &[(&str, &str, &str)] = &[
    ("SKU-1001", "Rain jacket, blue", "Outdoor"),
    ("SKU-1002", "27\" monitor", "Electronics"),
    ("SKU-1003", "Café table", "Home & Garden"),
    ("00042", "Mystery box\n(limited edition)", "Gifts"),
];

const AWKWARD: &[&str] = &[
    "He said \"great\", then left",
    "first line\nsecond line",
    "first line\r\nsecond line",
    "naïve café ☕ 東京",
    "n/a",
    "NA",
    "null",
    " blanks around ",
    "'); drop table actions; --",
    "tab\there",
    "=1+1",
    "\"",
    ",",
    "\\N",
    "back\\slash",
    "party 🎉",
];

/// Mostly nothing, sometimes something plain, now and then something awkward.
pub fn free_text(dice: &mut Dice, plain: &[&'static str]) -> &'static str {
    match dice.below(10) {
        0 => dice.pick(AWKWARD),
        1..=3 => dice.pick(plain),
        _ => "",
    }
}
