//! The text of every statement that names a mirrored table or its columns. Identifiers are quoted here and nowhere else.
//!
//! Statements on the mirrored table stay within what Citus runs (design §9); comparing is left to temporary tables.

use std::fmt::Write;

use chrono::{Months, NaiveDate};

use self::place::RowsBy;
use super::layout::{Layout, Origin, index_name};
use crate::column::ColumnKind;
use crate::export::ExportName;

pub(super) mod analysts;
pub(super) mod compare;
pub(super) mod history;
mod lookup;
pub(super) mod merge;
pub(super) mod place;
pub(super) mod publish;
pub(super) mod reconciliation;
pub(super) mod views;

/// The columns that every mirrored table has besides those of the file.
const LINEAGE_DEFINITIONS: &str = "_account text not null, _program text not null, _day date not null, \
    _row_hash uuid not null, _load_id bigint not null, _line bigint not null, _first_seen_at timestamptz not null, \
    _changed_at timestamptz not null";

/// The names of a mirrored table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    schema: String,
    name: String,
    qualified: String,
    /// What tells its rows apart.
    rows: RowsBy,
}

/// The zones of accounts by name: a day becomes a time in the zone of the account it belongs to.
pub(super) type Zones = Vec<(String, String)>;

impl Table {
    pub fn new(schema: &str, export: &ExportName) -> Self {
        let name = export.as_str().to_owned();
        let qualified = format!("{}.{}", identifier(schema), identifier(&name));
        Self { schema: schema.to_owned(), name, qualified, rows: RowsBy::Tuple }
    }

    /// The same table, distributed over a cluster by account; its statements are about the rows of this one.
    pub fn distributed(self, account: &str) -> Self {
        Self { rows: RowsBy::Lineage { account: account.to_owned() }, ..self }
    }

    pub fn is_distributed(&self) -> bool {
        matches!(self.rows, RowsBy::Lineage { .. })
    }

    /// How places of its rows travel.
    pub fn place_format(&self) -> place::PlaceFormat {
        self.rows.format()
    }

    /// Schema and name, quoted.
    pub fn qualified(&self) -> &str {
        &self.qualified
    }

    /// The bare name of the schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub fn create_schema(&self) -> String {
        format!("create schema if not exists {}", identifier(&self.schema))
    }

    pub fn create(&self, columns: &[(&str, ColumnKind)], by_month: bool) -> String {
        let mut text = format!("create table {} (", self.qualified);
        for (name, kind) in columns {
            let _ = write!(text, "{} {kind}, ", identifier(name));
        }
        text.push_str(LINEAGE_DEFINITIONS);
        text.push(')');
        if by_month {
            text.push_str(" partition by range (_day)");
        }
        text
    }

    /// The name of the partition that begins on the first of a month.
    pub fn partition_name(&self, month: NaiveDate) -> String {
        format!("{}_p{}", self.name, month.format("%Y_%m"))
    }

    /// Makes a partition beside the table and attaches it, which keeps neither readers nor writers out.
    pub fn create_partition(&self, month: NaiveDate) -> String {
        let name = format!("{}.{}", identifier(&self.schema), identifier(&self.partition_name(month)));
        format!(
            "create table {name} (like {0} including defaults including constraints including storage); \
             alter table {0} attach partition {name} for values from ('{month}') to ('{1}'); comment on table {name} is {2}",
            self.qualified,
            month + Months::new(1),
            literal(&self.about_partition()),
        )
    }

    /// What is said of a partition.
    pub fn about_partition(&self) -> String {
        format!("Mirror of the export {} of impact.com: one month of it.", self.name)
    }

    pub fn drop_partition(&self, name: &str) -> String {
        format!("drop table {}.{}", identifier(&self.schema), identifier(name))
    }

    pub fn comment(&self, comment: &str) -> String {
        format!("comment on table {} is {}", self.qualified, literal(comment))
    }

    pub fn comment_column(&self, column: &str, comment: &str) -> String {
        format!("comment on column {}.{} is {}", self.qualified, identifier(column), literal(comment))
    }

    pub fn add_column(&self, column: &str, kind: ColumnKind) -> String {
        format!("alter table {} add column {} {kind}", self.qualified, identifier(column))
    }

    pub fn drop_column(&self, column: &str) -> String {
        format!("alter table {} drop column if exists {}", self.qualified, identifier(column))
    }

    pub fn rename_column(&self, column: &str, to: &str) -> String {
        format!("alter table {} rename column {} to {}", self.qualified, identifier(column), identifier(to))
    }

    /// Keeps everybody from writing to the table, and nobody from reading it.
    pub fn lock_writers(&self) -> String {
        format!("lock table {} in share row exclusive mode", self.qualified)
    }

    /// Writes the values of columns, as they are in their new types, into columns beside them.
    pub fn fill_beside(&self, columns: &[(String, Retype<'_>)], zones: &Zones) -> String {
        let values = columns.iter().map(|(beside, retype)| {
            let value = conversion(&identifier(retype.name), retype.from, retype.to, zones);
            format!("{} = {value}", identifier(beside))
        });
        format!("update {} set {}", self.qualified, values.collect::<Vec<_>>().join(", "))
    }

    /// A part of `retype_columns`.
    pub fn retype_column(column: &str, from: ColumnKind, to: ColumnKind, zones: &Zones) -> String {
        let name = identifier(column);
        let value = conversion(&name, from, to, zones);
        format!("alter column {name} type {to} using {value}")
    }

    pub fn retype_columns(&self, parts: &[String]) -> String {
        format!("alter table {} {}", self.qualified, parts.join(", "))
    }

    pub fn has_values(&self, column: &str) -> String {
        format!("select exists (select 1 from {} where {} is not null)", self.qualified, identifier(column))
    }

    pub fn create_key_index(&self, layout: &Layout) -> String {
        let name = identifier(&index_name(&self.name, "key"));
        let day = layout.by_month.then_some("_day");
        format!("create unique index {name} on {} (_account, {})", self.qualified, list(layout.key_names().chain(day)))
    }

    pub fn create_window_index(&self) -> String {
        let name = identifier(&index_name(&self.name, "window"));
        format!("create index {name} on {} (_account, _program, _day)", self.qualified)
    }

    pub fn drop_index(&self, name: &str) -> String {
        format!("drop index {}.{}", identifier(&self.schema), identifier(name))
    }

    /// Copies rows of `layout` into the table. Where this transaction made it, nobody can miss the rows as they were
    /// before, and they are written frozen: no later vacuum has to touch them.
    pub fn copy(&self, layout: &Layout, rows: Freeze) -> String {
        let columns = layout.columns.iter().map(|column| column.name.as_str()).chain(super::header::LINEAGE);
        let freeze = match rows {
            Freeze::Frozen => ", freeze",
            Freeze::Plain => "",
        };
        format!("copy {} ({}) from stdin (format binary{freeze})", self.qualified, list(columns))
    }

    /// Whether the window ($1 account, $2 program, $3 and $4 days) has rows.
    pub fn window_has_rows(&self) -> String {
        format!("select exists (select 1 from {} where {WINDOW})", self.qualified)
    }

    pub fn delete_window(&self) -> String {
        format!("delete from {} where {WINDOW}", self.qualified)
    }

    pub fn count_window(&self) -> String {
        format!("select count(*) from {} where {WINDOW}", self.qualified)
    }

    /// The days of the window whose rows are all locked at $5.
    pub fn locked_days(&self, locked: &LockColumns<'_>, time_zone: &str) -> String {
        let is_none_of = |column: &str, words: &[String], if_empty: bool| {
            let words: Vec<_> = words.iter().map(|word| format!("upper({})", literal(word))).collect();
            format!("coalesce(upper({}::text) not in ({}), {if_empty})", identifier(column), words.join(", "))
        };
        let mut row = is_none_of(locked.status, locked.open, false);
        if let Some((detail, words)) = locked.detail {
            let _ = write!(row, " and {}", is_none_of(detail, words, true));
        }
        if let Some((date, kind)) = locked.date {
            let date = identifier(date);
            let is_past = match kind {
                ColumnKind::Timestamptz => format!("{date} <= $5"),
                ColumnKind::Date => format!("{date} <= ($5 at time zone {})::date", literal(time_zone)),
                ColumnKind::Boolean | ColumnKind::Bigint | ColumnKind::Numeric | ColumnKind::Text => "false".to_owned(),
            };
            let _ = write!(row, " and ({date} is null or {is_past})");
        }
        format!(
            "select _day from {} where {WINDOW} and $5::timestamptz is not null group by _day having bool_and({row})",
            self.qualified
        )
    }

    /// How many rows of the window have a value in each of some columns, and the sums of these as text.
    pub fn window_figures(&self, columns: &[&str]) -> String {
        let each = |text: &dyn Fn(String) -> String| {
            columns.iter().map(|column| text(identifier(column))).collect::<Vec<_>>().join(", ")
        };
        format!(
            "select array[{}], array[{}] from {} where {WINDOW}",
            each(&|column| format!("count({column})")),
            each(&|column| format!("sum({column})::text")),
            self.qualified
        )
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freeze {
    /// Only into a plain table that the current subtransaction made.
    Frozen,
    Plain,
}

/// A column that gets another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retype<'a> {
    pub name: &'a str,
    pub source: &'a str,
    pub from: ColumnKind,
    pub to: ColumnKind,
    pub origin: Origin,
}

/// The columns of a mirrored table that tell whether a row is locked.
pub(super) struct LockColumns<'a> {
    pub status: &'a str,
    pub open: &'a [String],
    pub detail: Option<(&'a str, &'a [String])>,
    pub date: Option<(&'a str, ColumnKind)>,
}

/// The rows of a window.
const WINDOW: &str = "_account = $1 and _program = $2 and _day between $3 and $4";

/// A quoted identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\"").replace('\0', ""))
}

/// A quoted text. A backslash means itself, as Postgres has it by default and as `E''` makes sure.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''").replace('\0', ""))
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(identifier).collect::<Vec<_>>().join(", ")
}

/// The expression that turns a column of one type into another.
fn conversion(name: &str, from: ColumnKind, to: ColumnKind, zones: &Zones) -> String {
    match (from, to) {
        (ColumnKind::Date, ColumnKind::Timestamptz) => {
            let mut zone = String::from("case _account");
            for (account, name) in zones {
                let _ = write!(zone, " when {} then {}", literal(account), literal(name));
            }
            format!("{name}::timestamp at time zone ({zone} else 'UTC' end)")
        }
        (ColumnKind::Date, ColumnKind::Text) => format!("to_char({name}, 'YYYY-MM-DD')"),
        (ColumnKind::Timestamptz, ColumnKind::Text) => {
            format!("replace(to_char({name} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), '.000000Z', 'Z')")
        }
        _ if from == ColumnKind::Text => format!("null::{to}"),
        _ => format!("{name}::{to}"),
    }
}
