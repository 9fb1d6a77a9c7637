//! The statements of the views for analysts, and of what adds clicks up for them. Whatever types the columns of files have got,
//! and whether they are there at all, those of a view stay as `analysts` names them.

use std::fmt::Write as _;

use super::analysts::{
    ACTIONS_CURRENT, CLICKS_DAILY, PAYOUTS_MONTHLY, PERFORMANCE_DAILY, View, sources_of_action, sources_of_click,
};
use super::{Table, WINDOW, identifier, literal};
use crate::account::Persona;
use crate::column::ColumnKind;

/// A mirrored table that views are made of.
#[derive(Debug, Clone)]
pub(in crate::mirror) struct Feeding {
    pub table: Table,
    pub persona: Persona,
    /// Its accounts, where rows of others are not to be shown; empty for all rows.
    pub only: Vec<String>,
    /// Source name in lower case, name and type.
    pub columns: Vec<(String, String, ColumnKind)>,
    /// Whether a row is an action: the table has a key.
    pub keyed: bool,
    /// Whether it answers how it was known.
    pub answers: bool,
}

/// As what a view reads the rows of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mirror) enum As {
    TheyStand,
    /// At the time that is the first argument of a function.
    Known,
}

impl Feeding {
    pub(super) fn column(&self, sources: &[&str]) -> Option<(&str, ColumnKind)> {
        let find = |wanted: &&str| self.columns.iter().find(|(source, ..)| source == wanted);
        sources.iter().find_map(find).map(|(_, name, kind)| (name.as_str(), *kind))
    }

    /// Whether the rows name what a column of `actions_current` shows.
    pub fn tells(&self, shown: &str) -> bool {
        self.column(sources_of_action(shown)).is_some()
    }

    pub(super) fn read(&self, sources: &[&str], kind: ColumnKind) -> String {
        self.column(sources).map_or_else(
            || format!("null::{kind}"),
            |(name, from)| read(&format!("t.{}", identifier(name)), from, kind),
        )
    }

    /// What the views group actions by, as a list for `create statistics`.
    pub fn groups(&self, actions: &[Self]) -> String {
        let Keys { program, partner } = keys(self.persona, actions);
        let text = |shown: &str| {
            let (name, from) = self.column(sources_of_action(shown))?;
            Some(read(&identifier(name), from, ColumnKind::Text))
        };
        let program = match program {
            "program_id" => {
                let told = text(program).unwrap_or_else(|| "null::text".to_owned());
                Some(format!("coalesce(nullif(_program, ''), {told})"))
            }
            _ => text(program),
        };
        let keys: Vec<_> = [program, text(partner)].into_iter().flatten().map(|key| format!(", ({key})")).collect();
        format!("_account{}, _day, ({})", keys.concat(), MONTH.replace("day", "_day"))
    }

    /// The rows as `actions_current` shows them.
    fn actions(&self, read_as: As) -> String {
        let rows = match read_as {
            As::TheyStand => self.table.qualified().to_owned(),
            As::Known => format!("{}($1)", self.table.as_known_bare()),
        };
        let value = |shown: &str, kind| self.read(sources_of_action(shown), kind);
        let status = format!("upper(nullif(btrim({}), ''))", value("status", ColumnKind::Text));
        let mut text = String::from("select ");
        for (index, column) in ACTIONS_CURRENT.columns.iter().enumerate() {
            let expression = match column.name {
                "account" => "t._account".to_owned(),
                "export" => format!("{}::text", literal(self.table.name())),
                "program_id" => format!("coalesce(nullif(t._program, ''), {})", value("program_id", ColumnKind::Text)),
                "day" => "t._day".to_owned(),
                "status" => status.clone(),
                "is_locked" => format!("coalesce({status} in ('APPROVED', 'REVERSED'), false)"),
                "load_id" => "t._load_id".to_owned(),
                "line" => "t._line".to_owned(),
                "first_seen_at" => "t._first_seen_at".to_owned(),
                "changed_at" => "t._changed_at".to_owned(),
                name => value(name, column.kind),
            };
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{expression} as {}", column.name);
        }
        let _ = write!(text, " from {rows} t{}", self.condition("t._account"));
        text
    }

    fn condition(&self, account: &str) -> String {
        self.only_in(" where", account)
    }

    /// That a row is of an account whose rows are shown, behind other conditions.
    pub(super) fn and_only(&self, account: &str) -> String {
        self.only_in(" and", account)
    }

    fn only_in(&self, word: &str, account: &str) -> String {
        if self.only.is_empty() {
            return String::new();
        }
        let names: Vec<_> = self.only.iter().map(|name| literal(name)).collect();
        format!("{word} {account} in ({})", names.join(", "))
    }
}

/// The value of a column in another type; none where it cannot be had without fail.
fn read(column: &str, from: ColumnKind, to: ColumnKind) -> String {
    match (from, to) {
        _ if from == to => column.to_owned(),
        (_, ColumnKind::Text) => format!("{column}::text"),
        (ColumnKind::Bigint, ColumnKind::Numeric) => format!("{column}::numeric"),
        (ColumnKind::Text, ColumnKind::Numeric) => {
            format!("case when {column} ~ '^\\s*[-+]?[0-9]{{1,60}}(\\.[0-9]{{1,60}})?\\s*$' then {column}::numeric end")
        }
        (ColumnKind::Text, ColumnKind::Boolean) => format!(
            "case when lower({column}) in ('true', 't', 'yes', '1') then true when lower({column}) in ('false', 'f', 'no', '0') then false end"
        ),
        (ColumnKind::Bigint, ColumnKind::Boolean) => format!("({column} <> 0)"),
        (ColumnKind::Date, ColumnKind::Timestamptz) => format!(
            "({column}::timestamp at time zone (select a.time_zone from impact_mirror.account a where a.name = t._account))"
        ),
        _ => format!("null::{to}"),
    }
}

/// What tells programs and partners of a persona apart.
struct Keys {
    program: &'static str,
    partner: &'static str,
}

/// By which columns clicks and actions are brought together. A partner's listing names programs alone, and his clicks have no
/// partner but himself.
fn keys(persona: Persona, actions: &[Feeding]) -> Keys {
    let tells_id =
        actions.iter().filter(|feeding| feeding.persona == persona).all(|feeding| feeding.tells("partner_id"));
    match persona {
        Persona::Partner => Keys { program: "program_name", partner: "null::text" },
        Persona::Brand | Persona::Agency if tells_id => Keys { program: "program_id", partner: "partner_id" },
        Persona::Brand | Persona::Agency => Keys { program: "program_id", partner: "partner_name" },
    }
}

/// The names of the partner, which a partner's own account has not.
const fn partner_of(persona: Persona) -> [&'static str; 2] {
    match persona {
        Persona::Partner => ["null::text", "null::text"],
        Persona::Brand | Persona::Agency => ["partner_id", "partner_name"],
    }
}

/// A view without rows, whatever there is.
pub(in crate::mirror) fn empty(view: &View) -> String {
    let columns: Vec<_> =
        view.columns.iter().map(|column| format!("null::{} as {}", column.kind, column.name)).collect();
    format!("select {} where false", columns.join(", "))
}

/// The query of `actions_current`.
pub(in crate::mirror) fn actions_current(actions: &[Feeding], read_as: As) -> String {
    let parts = actions.iter().filter(|feeding| read_as == As::TheyStand || feeding.answers);
    let parts: Vec<_> = parts.map(|feeding| feeding.actions(read_as)).collect();
    if parts.is_empty() { empty(&ACTIONS_CURRENT) } else { parts.join(" union all ") }
}

/// What actions and clicks are added up to, by account, program, partner and day, before both are brought together.
fn daily(schema: &str, actions: &[Feeding], clicks: &[Feeding]) -> String {
    let mut parts = Vec::new();
    for feeding in actions {
        let Keys { program, partner } = keys(feeding.persona, actions);
        let [partner_id, partner_name] = partner_of(feeding.persona);
        let count = if feeding.keyed { "count(*)" } else { "count(distinct action_id)" };
        parts.push(format!(
            "select account, {program} as program_key, {partner} as partner_key, max(program_id) as program_id, \
             max(program_name) as program_name, max({partner_id}) as partner_id, max({partner_name}) as partner_name, day, \
             null::bigint as clicks, null::bigint as unique_clicks, null::numeric as click_payout, \
             {count} filter (where status is distinct from 'REVERSED') as actions, \
             {count} filter (where status = 'REVERSED') as reversed_actions, sum(sale_amount) as sale_amount, \
             sum(payout) as payout, coalesce(sum(payout) filter (where is_locked), 0) as locked_payout, \
             coalesce(sum(payout) filter (where not is_locked), 0) as reversible_payout \
             from {} where export = {} group by 1, 2, 3, day",
            qualified(schema, ACTIONS_CURRENT.name),
            literal(feeding.table.name()),
        ));
    }
    for feeding in clicks {
        let Keys { program, partner } = keys(feeding.persona, actions);
        let [partner_id, partner_name] = partner_of(feeding.persona);
        parts.push(format!(
            "select account, {program} as program_key, {partner} as partner_key, max(program_id) as program_id, \
             max(program_name) as program_name, max({partner_id}) as partner_id, max({partner_name}) as partner_name, day, \
             sum(clicks)::bigint as clicks, sum(unique_clicks)::bigint as unique_clicks, sum(payout) as click_payout, \
             null::bigint as actions, null::bigint as reversed_actions, null::numeric as sale_amount, null::numeric as payout, \
             null::numeric as locked_payout, null::numeric as reversible_payout \
             from impact_mirror.click_day where export = {} group by 1, 2, 3, day",
            literal(feeding.table.name()),
        ));
    }
    parts.join(" union all ")
}

const CONVERSION: &str = "round(sum(actions) / nullif(sum(clicks), 0), 4)";

/// The query of `clicks_daily`.
pub(in crate::mirror) fn clicks_daily(schema: &str, actions: &[Feeding], clicks: &[Feeding]) -> String {
    if actions.is_empty() && clicks.is_empty() {
        return empty(&CLICKS_DAILY);
    }
    format!(
        "select account, max(program_id) as program_id, max(program_name) as program_name, max(partner_id) as partner_id, \
         max(partner_name) as partner_name, day, sum(clicks)::bigint as clicks, sum(unique_clicks)::bigint as unique_clicks, \
         sum(actions)::bigint as actions, sum(sale_amount) as sale_amount, sum(payout) as payout, \
         sum(click_payout) as click_payout, {CONVERSION} as conversion_rate \
         from ({}) d group by account, program_key, partner_key, day",
        daily(schema, actions, clicks)
    )
}

/// The query of `performance_daily`.
pub(in crate::mirror) fn performance_daily(schema: &str, actions: &[Feeding], clicks: &[Feeding]) -> String {
    if actions.is_empty() && clicks.is_empty() {
        return empty(&PERFORMANCE_DAILY);
    }
    format!(
        "select account, max(program_id) as program_id, max(program_name) as program_name, day, \
         sum(clicks)::bigint as clicks, sum(unique_clicks)::bigint as unique_clicks, sum(actions)::bigint as actions, \
         sum(reversed_actions)::bigint as reversed_actions, sum(sale_amount) as sale_amount, sum(payout) as payout, \
         sum(locked_payout) as locked_payout, sum(reversible_payout) as reversible_payout, sum(click_payout) as click_payout, \
         {CONVERSION} as conversion_rate from ({}) d group by account, program_key, day",
        daily(schema, actions, clicks)
    )
}

/// The query of `payouts_monthly`.
pub(in crate::mirror) fn payouts_monthly(schema: &str, actions: &[Feeding], read_as: As) -> String {
    let rows = match read_as {
        As::TheyStand => qualified(schema, ACTIONS_CURRENT.name),
        As::Known => format!("{}($1)", qualified(schema, &as_known_name(&ACTIONS_CURRENT))),
    };
    let mut parts = Vec::new();
    for feeding in actions.iter().filter(|feeding| read_as == As::TheyStand || feeding.answers) {
        let Keys { program, partner } = keys(feeding.persona, actions);
        let count = if feeding.keyed { "count(*)" } else { "count(distinct action_id)" };
        parts.push(format!(
            "select account, {program} as program_key, {partner} as partner_key, max(program_id) as program_id, \
             max(program_name) as program_name, max(partner_id) as partner_id, max(partner_name) as partner_name, {MONTH} as month, \
             {count} filter (where status is distinct from 'REVERSED') as actions, \
             {count} filter (where status = 'REVERSED') as reversed_actions, sum(sale_amount) as sale_amount, \
             sum(payout) as payout, coalesce(sum(payout) filter (where is_locked), 0) as locked_payout, \
             coalesce(sum(payout) filter (where not is_locked), 0) as reversible_payout \
             from {rows} where export = {} group by 1, 2, 3, {MONTH}",
            literal(feeding.table.name()),
        ));
    }
    if parts.is_empty() {
        return empty(&PAYOUTS_MONTHLY);
    }
    format!(
        "select account, max(program_id) as program_id, max(program_name) as program_name, max(partner_id) as partner_id, \
         max(partner_name) as partner_name, month, sum(actions)::bigint as actions, \
         sum(reversed_actions)::bigint as reversed_actions, sum(sale_amount) as sale_amount, sum(payout) as payout, \
         sum(locked_payout) as locked_payout, sum(reversible_payout) as reversible_payout \
         from ({}) m group by account, program_key, partner_key, month",
        parts.join(" union all ")
    )
}

/// The month of `day`; immutable, so that an index can have it.
const MONTH: &str = "date_trunc('month', day::timestamp)::date";

/// Creates a view, or puts another query into it; its columns have to be the same.
pub(in crate::mirror) fn replace(schema: &str, view: &View, query: &str) -> String {
    format!("create or replace view {} as {query}", qualified(schema, view.name))
}

/// Takes the tables out of a view, so that their columns can be changed, and leaves it standing.
pub(in crate::mirror) fn replace_by_nothing(schema: &str, view: &View) -> String {
    replace(schema, view, &empty(view))
}

/// Creates the function that gives what a view would have shown at a time, or puts another query into it.
pub(in crate::mirror) fn replace_function(schema: &str, view: &View, query: &str) -> String {
    format!(
        "create or replace function {}(\"at\" timestamptz) returns setof {} language sql stable parallel safe as {}",
        qualified(schema, &as_known_name(view)),
        qualified(schema, view.name),
        literal(query)
    )
}

pub(in crate::mirror) fn as_known_name(view: &View) -> String {
    format!("{}_as_known", view.name)
}

pub(in crate::mirror) fn comment_view(schema: &str, view: &View, comment: &str) -> String {
    let name = qualified(schema, view.name);
    let mut text = format!("comment on view {name} is {}", literal(comment));
    for column in view.columns {
        let _ = write!(text, "; comment on column {name}.{} is {}", column.name, literal(column.says));
    }
    text
}

pub(in crate::mirror) fn comment_function(schema: &str, view: &View, comment: &str) -> String {
    let name = qualified(schema, &as_known_name(view));
    format!("comment on function {name}(timestamptz) is {}", literal(comment))
}

/// Comments the column of a table or a view.
pub(in crate::mirror) fn comment_column(schema: &str, relation: &str, column: &str, comment: &str) -> String {
    format!("comment on column {}.{} is {}", qualified(schema, relation), identifier(column), literal(comment))
}

/// Comments a table.
pub(in crate::mirror) fn comment_table(schema: &str, table: &str, comment: &str) -> String {
    format!("comment on table {} is {}", qualified(schema, table), literal(comment))
}

fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

impl Feeding {
    /// Adds up the clicks of all days.
    pub fn add_up(&self) -> String {
        self.adding_up("")
    }

    /// Adds up those of a window ($1 to $4).
    pub fn add_up_window(&self) -> String {
        self.adding_up(&format!(" where {WINDOW}"))
    }

    fn adding_up(&self, condition: &str) -> String {
        let value = |shown: &str, kind| self.read(sources_of_click(shown), kind);
        // Of two names of one id, one is shown.
        let named = |id: &str, name: &str| match self.column(sources_of_click(id)) {
            Some(_) => [value(id, ColumnKind::Text), value(name, ColumnKind::Text), "null::text".to_owned()],
            None => [value(id, ColumnKind::Text), value(name, ColumnKind::Text), value(name, ColumnKind::Text)],
        };
        let [program_id, program_name, program_key] = named("program_id", "program_name");
        let [partner_id, partner_name, partner_key] = named("partner_id", "partner_name");
        format!(
            "insert into impact_mirror.click_day (export, account, program, day, program_id, program_name, partner_id, \
             partner_name, clicks, unique_clicks, payout) \
             select {}, t._account, t._program, t._day, coalesce({program_id}, nullif(t._program, '')), max({program_name}), \
             {partner_id}, max({partner_name}), count(*), count(*) filter (where {}), sum({}) \
             from {} t{condition} \
             group by t._account, t._program, t._day, {program_id}, {program_key}, {partner_id}, {partner_key}",
            literal(self.table.name()),
            value("unique_clicks", ColumnKind::Boolean),
            value("payout", ColumnKind::Numeric),
            self.table.qualified(),
        )
    }
}

impl Table {
    /// Tells Postgres how many groups there are; it would guess far too many, and sort them on disk.
    pub fn create_statistics(&self, name: &str, groups: &str) -> String {
        let (name, table) = (qualified(&self.schema, name), &self.qualified);
        format!("create statistics if not exists {name} (ndistinct) on {groups} from {table}; analyze {table}")
    }

    /// Takes such away, so that columns can get other types.
    pub fn drop_statistics(&self, names: &[String]) -> String {
        let names: Vec<_> = names.iter().map(|name| qualified(&self.schema, name)).collect();
        format!("drop statistics if exists {}", names.join(", "))
    }

    /// The index by which months of actions are found.
    pub fn create_month_index(&self, name: &str) -> String {
        format!(
            "create index if not exists {} on {} ((date_trunc('month', _day::timestamp)::date))",
            identifier(name),
            self.qualified
        )
    }

    fn as_known_bare(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.as_known_name()))
    }
}
