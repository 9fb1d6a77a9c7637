//! The statements of a merge. What differs is found out outside Postgres, so that the mirrored table is read by window, key and
//! place only, and nothing that stays as it is comes near a temporary table.
//!
//! What a place is says `place`.

use std::fmt::Write;

use super::{Table, identifier, list, literal};
use crate::column::ColumnKind;
use crate::export::Window;
use crate::mirror::Writes;
use crate::mirror::layout::Layout;

pub(super) const CHANGED: &str = "pg_temp.impact_mirror_changed";
pub(super) const GONE: &str = "pg_temp.impact_mirror_gone";

/// What is done with rows while they are deleted.
pub(in crate::mirror) struct KeptOfGone {
    /// The columns of the row `m` that it takes.
    pub returning: String,
    /// A part of a WITH clause that reads them from `gone`.
    pub kept: String,
}

/// What stands behind the columns of the file in the table of changed rows.
pub(in crate::mirror) const CHANGED_LINEAGE: [&str; 6] =
    ["_day", "_row_hash", "_line", "_old_table", "_old_tid", "_old_day"];

/// Removes the temporary tables of an earlier load in the same transaction.
pub(in crate::mirror) const DROP_TEMPORARY: &str =
    "drop table if exists pg_temp.impact_mirror_changed, pg_temp.impact_mirror_gone";

pub(in crate::mirror) const COPY_GONE: &str =
    "copy pg_temp.impact_mirror_gone (_table, _tid, _day) from stdin (format binary)";

/// The statements for one table and one file.
pub(in crate::mirror) struct Merge<'a> {
    table: &'a Table,
    layout: &'a Layout,
    key: Vec<&'a str>,
    /// Numeric columns besides the key: what can be restated.
    numbers: Vec<(&'a str, ColumnKind)>,
}

impl<'a> Merge<'a> {
    pub fn new(table: &'a Table, layout: &'a Layout) -> Self {
        let key: Vec<_> = layout.key_names().collect();
        let file = layout.columns.iter().map(|column| (column.name.as_str(), column.kind()));
        let others = layout.others.iter().map(|(name, kind)| (name.as_str(), *kind));
        let numbers = file
            .chain(others)
            .filter(|(name, kind)| matches!(kind, ColumnKind::Bigint | ColumnKind::Numeric) && !key.contains(name))
            .collect();
        Self { table, layout, key, numbers }
    }

    pub fn numbers(&self) -> Vec<&'a str> {
        self.numbers.iter().map(|(name, _)| *name).collect()
    }

    /// All mirrored columns with their types: those the file lacks become NULL.
    fn columns(&self) -> impl Iterator<Item = (&'a str, ColumnKind)> {
        let file = self.layout.columns.iter().map(|column| (column.name.as_str(), column.kind()));
        file.chain(self.layout.others.iter().map(|(name, kind)| (name.as_str(), *kind)))
    }

    /// The types of the key's columns, in their order.
    pub fn key_kinds(&self) -> Vec<ColumnKind> {
        self.layout.key.iter().map(|index| self.layout.columns[*index].kind()).collect()
    }

    /// Gives the key, hash and place of each row of the window.
    pub fn copy_window(&self, account: &str, program: &str, window: Window) -> String {
        let key = self.key.iter().fold(String::new(), |text, name| text + &identifier(name) + ", ");
        let [table, tid] = self.table.place_format().columns();
        format!(
            "copy (select {key}_row_hash, _day, {table}, {tid} from {} where _account = {} and _program = {} \
             and _day between '{}' and '{}') to stdout (format binary)",
            self.table.qualified,
            literal(account),
            literal(program),
            window.from(),
            window.to(),
        )
    }

    /// Creates the temporary table of changed rows.
    pub fn create_changed(&self) -> String {
        let columns = self
            .columns()
            .fold(String::new(), |text, (name, kind)| text + &identifier(name) + " " + kind.as_str() + ", ");
        let [table, tid] = self.table.place_format().types();
        format!(
            "create temporary table impact_mirror_changed ({columns}_day date, _row_hash uuid, _line bigint, _old_table {table}, \
             _old_tid {tid}, _old_day date, _has_moved boolean not null default false) on commit drop"
        )
    }

    /// Creates the temporary table of places of rows that go.
    pub fn create_gone(&self) -> String {
        let [table, tid] = self.table.place_format().types();
        format!("create temporary table impact_mirror_gone (_table {table}, _tid {tid}, _day date) on commit drop")
    }

    pub fn copy_changed(&self) -> String {
        let columns = self.layout.columns.iter().map(|column| column.name.as_str()).chain(CHANGED_LINEAGE);
        format!("copy {CHANGED} ({}) from stdin (format binary)", list(columns))
    }

    /// Lets the planner know how many new keys it looks for.
    pub fn analyze_changed(&self) -> String {
        format!("analyze {CHANGED} ({}, _old_tid)", list(self.key.iter().copied()))
    }

    /// Notes which new records have a key that stands in another window of the account. The last statement says how many. Citus
    /// joins with a distributed table where it reads, and not where it changes a temporary one.
    pub fn note_moved(&self, account: &str) -> Vec<String> {
        let [table, tid] = self.table.place_format().columns();
        let moved = format!("s._old_tid is null and m._account = {} and {}", literal(account), self.same_key("m", "s"));
        if !self.table.is_distributed() {
            return vec![format!(
                "update {CHANGED} s set _old_table = m.{table}, _old_tid = m.{tid}, _old_day = m._day, _has_moved = true \
                 from {} m where {moved}",
                self.table.qualified,
            )];
        }
        vec![
            "drop table if exists pg_temp.impact_mirror_moved".to_owned(),
            format!(
                "create temporary table impact_mirror_moved on commit drop as \
                 select s._line, m.{table} as _table, m.{tid} as _tid, m._day from {CHANGED} s join {} m on {moved}",
                self.table.read_from(),
            ),
            format!(
                "update {CHANGED} s set _old_table = m._table, _old_tid = m._tid, _old_day = m._day, _has_moved = true \
                 from pg_temp.impact_mirror_moved m where m._line = s._line"
            ),
        ]
    }

    /// For each number: in how many written rows it differs; sum and count of the values that they replace in the window; and
    /// of those they bring.
    pub fn figures_of_changed(&self) -> String {
        format!(
            "select {}, {}, {}, {}, {} from {CHANGED} s left join {} m on {}",
            self.each("bigint", |n| format!("count(*) filter (where s.{n} is distinct from m.{n})")),
            self.each("text", |n| format!("(sum(m.{n}) filter (where not s._has_moved))::text")),
            self.each("bigint", |n| format!("count(m.{n}) filter (where not s._has_moved)")),
            self.each("text", |n| format!("sum(s.{n})::text")),
            self.each("bigint", |n| format!("count(s.{n})")),
            self.table.read_from(),
            self.table.at_old_place(),
        )
    }

    /// Deletes what is gone; says how many rows, and for each number the sum and the count of the values that went. `kept` is what
    /// has to be done with the columns `returning` of the rows `gone`.
    pub fn delete_gone(&self, kept: Option<&KeptOfGone>) -> String {
        let numbers = || self.numbers.iter().map(|(name, _)| *name);
        let (returning, kept) = match kept {
            Some(KeptOfGone { returning, kept }) => (returning.clone(), format!(", {kept}")),
            None if self.numbers.is_empty() => ("null".to_owned(), String::new()),
            None => (qualified_list("m", &numbers().collect::<Vec<_>>()), String::new()),
        };
        format!(
            "with gone as (delete from {} m using {GONE} g where {} returning {returning}){kept} \
             select count(*), {}, {} from gone m",
            self.table.qualified,
            self.table.at_gone_place(),
            self.each("text", |n| format!("sum(m.{n})::text")),
            self.each("bigint", |n| format!("count(m.{n})")),
        )
    }

    /// What `delete_gone` says, before it is done.
    pub fn figures_of_gone(&self) -> String {
        format!(
            "select count(*), {}, {} from {GONE} g join {} m on {}",
            self.each("text", |n| format!("sum(m.{n})::text")),
            self.each("bigint", |n| format!("count(m.{n})")),
            self.table.read_from(),
            self.table.at_gone_place(),
        )
    }

    /// Deletes what is gone, and says nothing.
    pub fn delete_places(&self) -> String {
        format!("delete from {} m using {GONE} g where {}", self.table.qualified, self.table.at_gone_place())
    }

    /// Moves the rows that stand under another day to the day of the file, to be written there: where the table is partitioned, no
    /// index knows a key of another day. The hash of none makes sure that they differ.
    pub fn move_known(&self) -> String {
        format!(
            "update {} m set _day = s._day, _row_hash = '00000000-0000-0000-0000-000000000000' \
             from {CHANGED} s where {} and s._old_day <> s._day",
            self.table.qualified,
            self.table.at_old_place(),
        )
    }

    /// Writes the rows that take another's place, where no key would find it, as load $1 at time $2.
    pub fn write_known(&self) -> String {
        let set: Vec<_> = self
            .columns()
            .map(|(name, _)| name)
            .chain(["_row_hash", "_line"])
            .map(|name| format!("{0} = s.{0}", identifier(name)))
            .collect();
        format!(
            "update {} m set {}, _load_id = $1, _changed_at = $2 from {CHANGED} s where {}",
            self.table.qualified,
            set.join(", "),
            self.table.at_old_place(),
        )
    }

    /// Writes new and changed rows as account $1, program $2, load $3 at time $4.
    pub fn write_changed(&self, writes: Writes) -> String {
        let names: Vec<_> = self.columns().map(|(name, _)| name).collect();
        let mut text = format!(
            "insert into {} as m ({}, _account, _program, _day, _row_hash, _load_id, _line, _first_seen_at, _changed_at) \
             select {}, $1::text, $2::text, s._day, s._row_hash, $3::bigint, s._line, $4::timestamptz, $4::timestamptz \
             from {CHANGED} s",
            self.table.qualified,
            list(names.iter().copied()),
            qualified_list("s", &names),
        );
        if self.key.is_empty() {
            text.push_str(" where s._old_tid is null");
        } else {
            let set: Vec<_> = names
                .iter()
                .copied()
                .filter(|name| !self.key.contains(name))
                .chain(["_program", "_day", "_row_hash", "_load_id", "_line", "_changed_at"])
                .map(|name| format!("{0} = excluded.{0}", identifier(name)))
                .collect();
            let _ = write!(
                text,
                " on conflict (_account, {}{}) do update set {}",
                list(self.key.iter().copied()),
                if self.layout.by_month { ", _day" } else { "" },
                set.join(", ")
            );
            if writes == Writes::Differing {
                text.push_str(
                    " where (m._row_hash, m._day, m._program) \
                     is distinct from (excluded._row_hash, excluded._day, excluded._program)",
                );
            }
        }
        text
    }

    fn same_key(&self, one: &str, other: &str) -> String {
        let same: Vec<_> = self.key.iter().map(|name| format!("{one}.{0} = {other}.{0}", identifier(name))).collect();
        same.join(" and ")
    }

    /// An array of an expression over each number.
    fn each(&self, kind: &str, expression: impl Fn(String) -> String) -> String {
        let expressions: Vec<_> = self.numbers.iter().map(|(name, _)| expression(identifier(name))).collect();
        format!("array[{}]::{kind}[]", expressions.join(", "))
    }
}

pub(super) fn qualified_list(alias: &str, names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("{alias}.{}", identifier(name))).collect();
    names.join(", ")
}
