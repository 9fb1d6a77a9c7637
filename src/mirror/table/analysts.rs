//! What the views for analysts are: their columns with what these mean, and the columns of files that they are filled from.
//!
//! Names, types and order stay as they are, whatever is mirrored: a view is replaced in place, so that grants on it and what people
//! built on it stay. New columns go to the end.

use crate::column::ColumnKind::{self, Bigint, Boolean, Date, Numeric, Text, Timestamptz};

/// A view, or what a function gives.
#[derive(Debug)]
pub(in crate::mirror) struct View {
    pub name: &'static str,
    /// What one row is, and what to know about it.
    pub says: &'static str,
    pub columns: &'static [Shown],
}

/// A column of a view.
#[derive(Debug)]
pub(in crate::mirror) struct Shown {
    pub name: &'static str,
    pub kind: ColumnKind,
    pub says: &'static str,
}

const fn shown(name: &'static str, kind: ColumnKind, says: &'static str) -> Shown {
    Shown { name, kind, says }
}

pub(in crate::mirror) static ACTIONS_CURRENT: View = View {
    name: "actions_current",
    says: "One row is an action of an action listing as it stands now, whichever account and export it came by; where a listing shows \
           the items of actions, one row is an item. Of several listings of an account only the one that tells most is in it.",
    columns: &[
        shown("account", Text, "The account that the action was read from."),
        shown("export", Text, "The export, and so the table, that the row is of."),
        shown("program_id", Text, "The id of the program; empty where the listing tells its name alone."),
        shown("program_name", Text, "The name of the program; empty where the listing does not tell it."),
        shown("day", Date, "The day of the action, in the zone of the account."),
        shown("action_id", Text, "The id of the action: numbers parted by dots."),
        shown("order_id", Text, "The brand's own order id."),
        shown("tracker", Text, "The event type that the action was tracked as."),
        shown(
            "status",
            Text,
            "PENDING: may still change or be reversed. APPROVED: locked, to be paid or paid. REVERSED: taken back, its amounts are 0.",
        ),
        shown("status_detail", Text, "More about the status, such as whether it is paid."),
        shown(
            "is_locked",
            Boolean,
            "Whether its amounts stay: it is approved or reversed. Until then it is reversible; where locks_at has passed, it is to be read again.",
        ),
        shown("partner_id", Text, "The id of the partner; empty where the listing does not tell it."),
        shown("partner_name", Text, "The name of the partner; empty for a partner's own account."),
        shown("action_at", Timestamptz, "When the action happened."),
        shown("referred_at", Timestamptz, "When the click happened that it is put down to."),
        shown("modified_at", Timestamptz, "When impact.com changed it last."),
        shown("locks_at", Timestamptz, "When it is or was locked."),
        shown("clears_at", Timestamptz, "When it is to be paid."),
        shown("sale_amount", Numeric, "What was sold, in the currency that the export was asked for."),
        shown("original_sale_amount", Numeric, "What was sold before any change."),
        shown("payout", Numeric, "What the partner gets."),
        shown("original_payout", Numeric, "What the partner was to get before any change."),
        shown(
            "original_currency",
            Text,
            "The currency that the sale was made in, which is not that of the amounts here.",
        ),
        shown("promo_code", Text, "The promotion code that was used."),
        shown("customer_status", Text, "Whether the customer is new to the brand."),
        shown("load_id", Bigint, "The load that last wrote the row: impact_mirror.load."),
        shown("line", Bigint, "The line of that load's file, or the number of its record."),
        shown("first_seen_at", Timestamptz, "When the row first came."),
        shown("changed_at", Timestamptz, "When the row last changed in the mirror."),
    ],
};

pub(in crate::mirror) static CLICKS_DAILY: View = View {
    name: "clicks_daily",
    says: "One row is an account, program, partner and day with clicks or actions. A partner's own account has no partners: one row \
           is a program and day there.",
    columns: &[
        shown("account", Text, "The account."),
        shown("program_id", Text, "The id of the program."),
        shown("program_name", Text, "The name of the program, where clicks or actions tell it."),
        shown("partner_id", Text, "The id of the partner."),
        shown("partner_name", Text, "The name of the partner."),
        shown("day", Date, "The day, in the zone of the account."),
        shown("clicks", Bigint, "Clicks; empty where none are mirrored for the day."),
        shown("unique_clicks", Bigint, "Those that impact.com counts as unique."),
        shown("actions", Bigint, "Actions of that day that are not reversed; empty where there is no row of any."),
        shown("sale_amount", Numeric, "What they sold."),
        shown("payout", Numeric, "What the partner gets for them."),
        shown("click_payout", Numeric, "What the clicks themselves pay."),
        shown(
            "conversion_rate",
            Numeric,
            "Actions of the day for each click of the day: 0.0250 is one in 40. Actions may follow clicks of earlier days.",
        ),
    ],
};

pub(in crate::mirror) static PERFORMANCE_DAILY: View = View {
    name: "performance_daily",
    says: "One row is an account, program and day with clicks or actions, added up from the single rows and not from a report of \
           impact.com.",
    columns: &[
        shown("account", Text, "The account."),
        shown("program_id", Text, "The id of the program."),
        shown("program_name", Text, "The name of the program, where clicks or actions tell it."),
        shown("day", Date, "The day, in the zone of the account."),
        shown("clicks", Bigint, "Clicks; empty where none are mirrored for the day."),
        shown("unique_clicks", Bigint, "Those that impact.com counts as unique."),
        shown("actions", Bigint, "Actions of that day that are not reversed; empty where there is no row of any."),
        shown("reversed_actions", Bigint, "Actions of that day that are reversed."),
        shown("sale_amount", Numeric, "What was sold."),
        shown("payout", Numeric, "What partners get for the actions."),
        shown("locked_payout", Numeric, "The part of payout that stays."),
        shown("reversible_payout", Numeric, "The part of payout that may still change."),
        shown("click_payout", Numeric, "What the clicks themselves pay."),
        shown(
            "conversion_rate",
            Numeric,
            "Actions of the day for each click of the day: 0.0250 is one in 40. Actions may follow clicks of earlier days.",
        ),
    ],
};

pub(in crate::mirror) static PAYOUTS_MONTHLY: View = View {
    name: "payouts_monthly",
    says: "One row is an account, program, partner and month of the action; a partner's own account has no partners, and one row is a \
           program and month there.",
    columns: &[
        shown("account", Text, "The account."),
        shown("program_id", Text, "The id of the program."),
        shown("program_name", Text, "The name of the program, where the listing tells it."),
        shown("partner_id", Text, "The id of the partner."),
        shown("partner_name", Text, "The name of the partner."),
        shown("month", Date, "The first day of the month in which the actions happened, in the zone of the account."),
        shown("actions", Bigint, "Actions that are not reversed."),
        shown("reversed_actions", Bigint, "Actions that are reversed."),
        shown("sale_amount", Numeric, "What was sold."),
        shown("payout", Numeric, "What the partner gets."),
        shown("locked_payout", Numeric, "The part of payout that stays."),
        shown("reversible_payout", Numeric, "The part of payout that may still change."),
    ],
};

pub(in crate::mirror) static RECONCILIATION: View = View {
    name: "reconciliation",
    says: "One row is a day of an account and program that has both its listing of actions and its report by day: both count actions \
           that are not reversed. docs/verification.md explains the tolerance of verdict.",
    columns: &[
        shown("account", Text, "The account."),
        shown(
            "program",
            Text,
            "The program that both were asked for; empty where they are not asked program by program.",
        ),
        shown("day", Date, "The day, in the zone of the account."),
        shown("listing", Text, "The export of the listing of actions."),
        shown("report", Text, "The export of the report by day."),
        shown("listing_actions", Bigint, "Actions of the listing that are not reversed."),
        shown("report_actions", Bigint, "Actions of the report; empty where it does not tell them."),
        shown("actions_difference", Bigint, "The listing's less the report's."),
        shown("listing_sale", Numeric, "What was sold by the listing."),
        shown("report_sale", Numeric, "What was sold by the report."),
        shown("sale_difference", Numeric, "The listing's less the report's."),
        shown("listing_cost", Numeric, "The payout by the listing."),
        shown("report_cost", Numeric, "What the actions cost by the report."),
        shown("cost_difference", Numeric, "The listing's less the report's."),
        shown("listing_as_of", Timestamptz, "When the listing's day was asked for: its rows are at least this new."),
        shown("report_as_of", Timestamptz, "When the report's day was asked for: its rows are at least this new."),
        shown(
            "verdict",
            Text,
            "agrees: to half a cent for each action. drifted: within two actions or 2 %, as two reads at different times are. differs: more \
             than that. incomplete: the day was not over when one of them was read.",
        ),
    ],
};

/// All of them; what stands on others behind these.
pub(in crate::mirror) static VIEWS: [&View; 5] =
    [&ACTIONS_CURRENT, &CLICKS_DAILY, &PERFORMANCE_DAILY, &PAYOUTS_MONTHLY, &RECONCILIATION];

/// Those that read mirrored tables, and so hold the types of their columns.
pub(in crate::mirror) static ON_TABLES: [&View; 2] = [&ACTIONS_CURRENT, &RECONCILIATION];

/// The columns of files, in lower case, that a column of `actions_current` is filled from: the first that is there.
pub(in crate::mirror) fn sources_of_action(shown: &str) -> &'static [&'static str] {
    match shown {
        "program_id" => &["programid", "program_id", "campaignid", "campaign_id", "brand_id"],
        "program_name" => &["campaign", "program", "programname", "program_name", "campaignname"],
        "action_id" => &["action_id", "actionid"],
        "order_id" => &["oid", "order_id", "orderid"],
        "tracker" => &["action_tracker", "event_type", "actiontracker", "eventtype"],
        "status" => &["status", "state"],
        "status_detail" => &["status_detail", "statusdetail"],
        "partner_id" => &["mp_id", "mpid", "mediapartnerid", "media_partner_id"],
        "partner_name" => &["media_partner", "mediapartner", "media"],
        "action_at" => &["action_date", "actiondate", "event_date", "eventdate"],
        "referred_at" => &["referral_date", "referraldate"],
        "modified_at" => &["adj_date", "modification_date", "updatedate"],
        "locks_at" => &["locking_date", "lockingdate"],
        "clears_at" => &["scheduled_clearing_date", "clearingdate"],
        "sale_amount" => &["sale_amount", "saleamount", "sale_zzzamount", "amount", "revenue"],
        "original_sale_amount" => &["original_sale_amount", "originalsaleamount"],
        "payout" => &["payout", "action_cost", "actioncost", "earnings"],
        "original_payout" => &["original_payout", "originalpayout"],
        "original_currency" => &["original_currency", "originalcurrency"],
        "promo_code" => &["promo_code", "promocode"],
        "customer_status" => &["customer_status", "adv_cust_status", "customerstatus"],
        _ => &[],
    }
}

/// The same for clicks.
pub(in crate::mirror) fn sources_of_click(shown: &str) -> &'static [&'static str] {
    match shown {
        "program_id" => &["programid", "campaignid"],
        "program_name" => &["programname", "campaignname"],
        "partner_id" => &["mediaid", "media_id"],
        "partner_name" => &["medianame", "media_name"],
        "unique_clicks" => &["uniqueclick", "unique_click"],
        "payout" => &["payout"],
        _ => &[],
    }
}

/// The same for the columns of a report by day that `reconciliation` holds against a listing.
pub(in crate::mirror) fn sources_of_report(shown: &str) -> &'static [&'static str] {
    match shown {
        "report_actions" => &["actions"],
        "report_sale" => &["revenue", "sale_zzzamount", "sale_amount"],
        "report_cost" => &["actioncost", "action_cost", "payout"],
        _ => &[],
    }
}
