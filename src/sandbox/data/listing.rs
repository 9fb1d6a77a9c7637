//! The action listings: one row per action, as brand, partner and agency see it.

use super::action::Action;
use super::column::{Column, Kind};
use super::zone::write_time;

/// A column of an action listing.
pub type ActionColumn = Column<Action>;

const fn text(name: &'static str, write: fn(&Action, &mut String)) -> ActionColumn {
    Column::new(name, Kind::Text, write)
}

const fn date(name: &'static str, write: fn(&Action, &mut String)) -> ActionColumn {
    Column::new(name, Kind::Date, write)
}

const fn amount(name: &'static str, write: fn(&Action, &mut String)) -> ActionColumn {
    Column::new(name, Kind::Decimal, write)
}

const fn integer(name: &'static str, write: fn(&Action, &mut String)) -> ActionColumn {
    Column::new(name, Kind::Integer, write)
}

fn put(out: &mut String, value: &str) {
    out.push_str(value);
}

fn put_number(out: &mut String, value: impl Into<u64>) {
    put(out, &value.into().to_string());
}

fn event_time(action: &Action, out: &mut String) {
    write_time(action.stream.zone, action.event_at, out);
}

fn referral_time(action: &Action, out: &mut String) {
    write_time(action.stream.zone, action.referred_at, out);
}

fn modified_time(action: &Action, out: &mut String) {
    write_time(action.stream.zone, action.modified_at, out);
}

fn locking_time(action: &Action, out: &mut String) {
    write_time(action.stream.zone, action.locking_at, out);
}

fn clearing_time(action: &Action, out: &mut String) {
    write_time(action.stream.zone, action.clearing_at, out);
}

fn actual_clearing_time(action: &Action, out: &mut String) {
    if action.cleared {
        clearing_time(action, out);
    }
}

fn customer_status(action: &Action, out: &mut String) {
    put(out, if action.new_customer { "New" } else { "Existing" });
}

fn exchange_rate(action: &Action, out: &mut String) {
    put(out, &format!("0.{:018}", action.exchange_rate));
}

/// `adv_action_listing_pm_only`.
pub static BRAND: &[ActionColumn] = &[
    date("Action_Date", event_time),
    text("Action_Id", |action, out| put(out, &action.id)),
    text("OID", |action, out| put(out, &action.order)),
    text("Status", |action, out| put(out, action.status.word())),
    text("Status_Detail", |action, out| put(out, action.status_detail())),
    text("Media_Partner", |action, out| put(out, action.partner.1)),
    integer("mp_id", |action, out| put_number(out, action.partner.0)),
    text("Action_Tracker", |action, out| put(out, action.tracker.1)),
    integer("AT_Id", |action, out| put_number(out, action.tracker.0)),
    text("Customer_Status", customer_status),
    text("Promo_Code", |action, out| put(out, action.promo_code)),
    amount("original_sale_amount", |action, out| action.original_sale.write(action.long_amounts, out)),
    amount("Sale_Amount", |action, out| action.sale.write(action.long_amounts, out)),
    amount("original_payout", |action, out| action.original_payout.write(false, out)),
    amount("Payout", |action, out| action.payout.write(action.long_amounts, out)),
    date("Adj_Date", modified_time),
    date("locking_date", locking_time),
    date("Referral_Date", referral_time).shown_by("SHOW_REFERRAL_DATE"),
    date("date_", |action, out| put(out, &action.day.to_string())).shown_by("SHOW_DATE"),
    date("scheduled_clearing_date", clearing_time).shown_by("SHOW_CLEARING_DATE"),
    date("actual_clearing_date", actual_clearing_time).shown_by("SHOW_CLEARING_DATE"),
    date("action_batch_date", modified_time).shown_by("SHOW_ACTION_BATCH_DATE"),
    text("Ad", |action, out| put(out, action.ad.1)).shown_by("SHOW_AD"),
    integer("ad_id", |action, out| put_number(out, action.ad.0)).shown_by("SHOW_AD"),
    text("partner_group", |action, out| put(out, if action.partner.0 % 2 == 0 { "Top" } else { "" }))
        .shown_by("SHOW_GROUP"),
    text("ref_landingpage_url", |action, out| put(out, &format!("https://shop.example/{}?a=1,2", action.item.0)))
        .shown_by("SHOW_LANDING_PAGE"),
    amount("Client_Cost", |action, out| action.payout.share(120).write(false, out)).shown_by("SHOW_CLIENT_COST"),
    text("Channel", |action, out| put(out, if action.partner.0 % 3 == 0 { "Loyalty" } else { "Content" }))
        .shown_by("SHOW_CHANNEL"),
    text("Geo_Location", |action, out| put(out, &action.place.join(", "))).shown_by("SHOW_GEO_LOCATION"),
    text("Notes", |action, out| put(out, action.note)),
    text("SubId1", |action, out| put(out, action.sub_id)),
    text("Category", |action, out| put(out, action.item.2)).shown_by("SHOW_CATEGORY"),
    text("Original_Currency", |action, out| put(out, &action.stream.currency)).shown_by("SHOW_CURRENCY_CONV"),
    amount("original_currency_sale_amount", |action, out| action.sale.write(true, out)).shown_by("SHOW_CURRENCY_CONV"),
    amount("currency_exch_rate", exchange_rate).shown_by("SHOW_CURRENCY_CONV"),
];

/// `mp_action_listing_sku`.
pub static PARTNER_SKU: &[ActionColumn] = &[
    date("Referral_Date", referral_time),
    date("Action_Date", event_time),
    date("Locking_Date", locking_time),
    date("Adj_Date", modified_time),
    date("Scheduled_Clearing_Date", clearing_time),
    text("Action_Id", |action, out| put(out, &action.id)),
    text("Oid", |action, out| put(out, &action.order)),
    text("Campaign", |action, out| put(out, &action.stream.program_name)),
    text("Event_Type", |action, out| put(out, action.tracker.1)),
    text("Status", |action, out| put(out, action.status.word())),
    text("status_detail", |action, out| put(out, action.status_detail())),
    text("adv_cust_status", customer_status),
    text("SKU", |action, out| put(out, action.item.0)).shown_by("SHOW_SKU"),
    text("Item_Name", |action, out| put(out, action.item.1)).shown_by("SHOW_SKU"),
    text("Category", |action, out| put(out, action.item.2)),
    integer("Quantity", |action, out| put_number(out, action.quantity)),
    amount("Sale_Amount", |action, out| action.sale.write(action.long_amounts, out)),
    amount("Original_Sale_Amount", |action, out| action.original_sale.write(action.long_amounts, out)),
    amount("Payout", |action, out| action.payout.write(action.long_amounts, out)),
    amount("Original_Payout", |action, out| action.original_payout.write(false, out)),
    text("Promo_Code", |action, out| put(out, action.promo_code)),
    text("Ad", |action, out| put(out, action.ad.1)).shown_by("SHOW_AD"),
    text("Referring_URL", |_, out| put(out, "https://blog.example/top-10?x=1,2")),
    text("Geo_Location", |action, out| put(out, &action.place.join(", "))).shown_by("SHOW_GEO_LOCATION"),
    text("SubId1", |action, out| put(out, action.sub_id)),
    text("SubId2", |_, _| {}),
    text("Notes", |action, out| put(out, action.note)),
    text("original_currency", |action, out| put(out, &action.stream.currency)).shown_by("SHOW_CURRENCY_CONV"),
    amount("original_currency_sale_amount", |action, out| action.sale.write(true, out)).shown_by("SHOW_CURRENCY_CONV"),
];

/// `mp_action_listing_fast`.
pub static PARTNER_FAST: &[ActionColumn] = &[
    text("action_id", |action, out| put(out, &action.id)),
    date("Action_Date", event_time),
    text("Campaign", |action, out| put(out, &action.stream.program_name)),
    text("Action_Tracker", |action, out| put(out, action.tracker.1)),
    text("Status", |action, out| put(out, action.status.word())),
    amount("Sale_Amount", |action, out| action.sale.write(action.long_amounts, out)),
    amount("Payout", |action, out| action.payout.write(action.long_amounts, out)),
    text("Subid1", |action, out| put(out, action.sub_id)),
    text("Subid2", |_, _| {}),
    text("Subid3", |_, _| {}),
];

/// `agency_action_listing`.
pub static AGENCY: &[ActionColumn] = &[
    text("ActionId", |action, out| put(out, &action.id)),
    date("ActionDate", event_time),
    text("Program", |action, out| put(out, &action.stream.program_name)),
    integer("ProgramId", |action, out| put_number(out, action.stream.program)),
    text("MediaPartner", |action, out| put(out, action.partner.1)),
    text("Status", |action, out| put(out, action.status.word())),
    amount("SaleAmount", |action, out| action.sale.write(action.long_amounts, out)),
    amount("ActionCost", |action, out| action.payout.write(action.long_amounts, out)),
    text("Notes", |action, out| put(out, action.note)),
];
