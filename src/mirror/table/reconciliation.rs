//! The query of the view that holds listings of actions against reports by day.

use super::analysts::{RECONCILIATION, sources_of_action, sources_of_report};
use super::literal;
use super::views::{Feeding, empty};
use crate::column::ColumnKind::Numeric;

/// The query of `reconciliation`: each listing against each report by day of the same persona, where an account has both.
pub(in crate::mirror) fn reconciliation(listings: &[Feeding], by_day: &[Feeding]) -> String {
    let pairs = listings.iter().flat_map(|listing| {
        by_day.iter().filter(|report| report.persona == listing.persona).map(move |report| part(listing, report))
    });
    let parts: Vec<String> = pairs.collect();
    if parts.is_empty() {
        return empty(&RECONCILIATION);
    }
    format!(
        "select account, program, day, listing, report, \
                listing_actions, report_actions, listing_actions - report_actions as actions_difference, \
                listing_sale, report_sale, listing_sale - report_sale as sale_difference, \
                listing_cost, report_cost, listing_cost - report_cost as cost_difference, \
                listing_as_of, report_as_of, \
                case when not is_complete then 'incomplete' \
                     when coalesce(listing_actions = report_actions, true) \
                          and coalesce(abs(listing_sale - report_sale) <= allowed, true) \
                          and coalesce(abs(listing_cost - report_cost) <= allowed, true) then 'agrees' \
                     when coalesce(abs(listing_actions - report_actions) <= greatest(2, 0.02 * report_actions), true) \
                          and coalesce(abs(listing_sale - report_sale) <= allowed + 0.02 * abs(report_sale) + 2 * highest_sale, true) \
                          and coalesce(abs(listing_cost - report_cost) <= allowed + 0.02 * abs(report_cost) + 2 * highest_cost, true) \
                     then 'drifted' else 'differs' end as verdict \
         from ({}) both_sides",
        parts.join(" union all "),
    )
}

/// One listing against one report, day by day, so that a question about some days reads these alone. A day without a row of the listing has sold nothing; one without a row of the report is not shown.
fn part(listing: &Feeding, report: &Feeding) -> String {
    let of_listing = |shown: &str| listing.read(sources_of_action(shown), Numeric);
    let of_report = |shown: &str| report.read(sources_of_report(shown), Numeric);
    let status = listing.read(sources_of_action("status"), crate::column::ColumnKind::Text);
    let stands = format!("(where upper(btrim({status})) is distinct from 'REVERSED')");
    let nothing = |shown: &str| if listing.tells(shown) { "0" } else { "null" };
    format!(
        "select l.account, l.program, l.day, l.export as listing, d.export as report, \
                a.actions as listing_actions, r.actions as report_actions, \
                coalesce(a.sale, {no_sale})::numeric as listing_sale, r.sale as report_sale, \
                coalesce(a.cost, {no_cost})::numeric as listing_cost, r.cost as report_cost, \
                l.as_of as listing_as_of, d.as_of as report_as_of, l.complete and d.complete as is_complete, \
                0.005 * greatest(a.actions, r.actions, 1) as allowed, \
                coalesce(a.highest_sale, 0) as highest_sale, coalesce(a.highest_cost, 0) as highest_cost \
         from impact_mirror.cell l \
         join impact_mirror.cell d on d.export = {report_name} and d.account = l.account and d.program = l.program \
             and d.day = l.day and d.loaded_at is not null \
         cross join lateral ( \
             select count(*) filter {stands} as actions, sum({sale}) filter {stands} as sale, sum({cost}) filter {stands} as cost, \
                    max({sale}) filter {stands} as highest_sale, max({cost}) filter {stands} as highest_cost \
             from {listing_table} t where t._account = l.account and t._program = l.program and t._day = l.day) a \
         cross join lateral ( \
             select count(*) as rows, sum({actions})::bigint as actions, sum({revenue}) as sale, sum({action_cost}) as cost \
             from {report_table} t where t._account = l.account and t._program = l.program and t._day = l.day) r \
         where r.rows > 0 and l.export = {listing_name} and l.loaded_at is not null{only}",
        no_sale = nothing("sale_amount"),
        no_cost = nothing("payout"),
        sale = of_listing("sale_amount"),
        cost = of_listing("payout"),
        actions = of_report("report_actions"),
        revenue = of_report("report_sale"),
        action_cost = of_report("report_cost"),
        listing_table = listing.table.qualified(),
        report_table = report.table.qualified(),
        listing_name = literal(listing.table.name()),
        report_name = literal(report.table.name()),
        only = listing.and_only("l.account"),
    )
}
