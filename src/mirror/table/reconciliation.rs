//! The text of the view that holds a listing of actions against the report by day.

use std::fmt::Write as _;

use super::{identifier, literal};

/// The two tables of an account, and the columns of theirs that can be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::mirror) struct Tables {
    pub account: String,
    pub listing: String,
    pub by_day: String,
    /// Of the listing: the status, what was sold, what it cost.
    pub status: Option<String>,
    pub sale: Option<String>,
    pub cost: Option<String>,
    /// Of the report: how many actions, what was sold, what they cost.
    pub actions: Option<String>,
    pub revenue: Option<String>,
    pub action_cost: Option<String>,
}

/// What the view is, in short; docs/verification.md has the whole.
const COMMENT: &str = "The listing of actions against the report by day: one row is a day of an account and program that both have. \
    Both count actions that are not reversed. Rounding is allowed half a cent for each action. More than that is told by verdict: agrees; \
    drifted: within 2 % or two actions, as two reads at different times are; differs; incomplete: the day was not over when one of them was read. NULL: a column is missing.";

pub(in crate::mirror) fn create(schema: &str, view: &str, tables: &[Tables]) -> String {
    let parts: Vec<String> = tables.iter().map(|one| part(schema, one)).collect();
    format!(
        "create view {0}.{1} as \
         select account, program, day, listing_actions, report_actions, listing_actions - report_actions as actions_difference, \
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
         from ({2}) both_sides; \
         comment on view {0}.{1} is {3}",
        identifier(schema),
        identifier(view),
        parts.join(" union all "),
        literal(COMMENT),
    )
}

pub(in crate::mirror) fn drop(schema: &str, view: &str) -> String {
    format!("drop view if exists {}.{}", identifier(schema), identifier(view))
}

fn part(schema: &str, tables: &Tables) -> String {
    let stands = match &tables.status {
        Some(status) => format!("upper({}) is distinct from 'REVERSED'", identifier(status)),
        None => "true".to_owned(),
    };
    let sum = |column: &Option<String>, filter: &str| match column {
        Some(column) => format!("coalesce(sum({}){filter}, 0)::numeric", identifier(column)),
        None => "null::numeric".to_owned(),
    };
    let highest = |column: &Option<String>| match column {
        Some(column) => format!("coalesce(max({}) filter (where {stands}), 0)::numeric", identifier(column)),
        None => "null::numeric".to_owned(),
    };
    let filter = format!(" filter (where {stands})");
    let (listing_name, by_day_name, account) =
        (literal(&tables.listing), literal(&tables.by_day), literal(&tables.account));
    let mut text = String::new();
    let _ = write!(
        text,
        "select l.account, l.program, l.day, coalesce(a.actions, 0) as listing_actions, r.actions as report_actions, \
                case when a.day is null then {no_sale} else a.sale end as listing_sale, r.sale as report_sale, \
                case when a.day is null then {no_cost} else a.cost end as listing_cost, r.cost as report_cost, \
                l.as_of as listing_as_of, d.as_of as report_as_of, l.complete and d.complete as is_complete, \
                0.005 * greatest(coalesce(a.actions, 0), r.actions, 1) as allowed, \
                coalesce(a.highest_sale, 0) as highest_sale, coalesce(a.highest_cost, 0) as highest_cost \
         from impact_mirror.cell l \
         join impact_mirror.cell d on d.export = {by_day_name} and d.account = l.account and d.program = l.program \
             and d.day = l.day and d.loaded_at is not null \
         left join (select _program as program, _day as day, count(*) filter (where {stands}) as actions, \
                        {sale} as sale, {cost} as cost, {highest_sale} as highest_sale, {highest_cost} as highest_cost \
                    from {schema}.{listing} where _account = {account} group by _program, _day) a \
             on a.program = l.program and a.day = l.day \
         left join (select _program as program, _day as day, {actions}::bigint as actions, {revenue} as sale, {action_cost} as cost \
                    from {schema}.{by_day} where _account = {account} group by _program, _day) r \
             on r.program = l.program and r.day = l.day \
         where l.export = {listing_name} and l.account = {account} and l.loaded_at is not null and r.day is not null",
        no_sale = if tables.sale.is_some() { "0" } else { "null" },
        no_cost = if tables.cost.is_some() { "0" } else { "null" },
        sale = sum(&tables.sale, &filter),
        cost = sum(&tables.cost, &filter),
        highest_sale = highest(&tables.sale),
        highest_cost = highest(&tables.cost),
        actions = sum(&tables.actions, ""),
        revenue = sum(&tables.revenue, ""),
        action_cost = sum(&tables.action_cost, ""),
        schema = identifier(schema),
        listing = identifier(&tables.listing),
        by_day = identifier(&tables.by_day),
    );
    text
}
