//! The statements of a merge. All comparing happens among temporary tables; the mirrored table is only read by window and
//! key, inserted into and deleted from.

use std::fmt::Write;

use super::{STAGING, Table, WINDOW, identifier, list, sums};
use crate::column::ColumnKind;
use crate::mirror::layout::Layout;

const STAGED: &str = "pg_temp.impact_mirror_staged";
const STANDING: &str = "pg_temp.impact_mirror_standing";
const KEPT: &str = "pg_temp.impact_mirror_kept";
const DUPLICATE: &str = "pg_temp.impact_mirror_duplicate";
const TODO: &str = "pg_temp.impact_mirror_todo";
const GONE: &str = "pg_temp.impact_mirror_gone";

/// Removes the temporary tables of an earlier load in the same transaction.
pub(in crate::mirror) const DROP_TEMPORARY: &str = "drop table if exists pg_temp.impact_mirror_staged, \
    pg_temp.impact_mirror_standing, pg_temp.impact_mirror_kept, pg_temp.impact_mirror_duplicate, \
    pg_temp.impact_mirror_todo, pg_temp.impact_mirror_gone";

/// Lets the planner know how many rows it deals with.
pub(in crate::mirror) const ANALYZE: &str =
    "analyze pg_temp.impact_mirror_staged, pg_temp.impact_mirror_standing, pg_temp.impact_mirror_kept";

/// The rest of duplicate records behind line $1: line, the line that stands, offset and length.
pub(in crate::mirror) const NEXT_DUPLICATES: &str = "select _line, _first_line, _offset, _length \
    from pg_temp.impact_mirror_duplicate where _line > $1 order by _line limit 500";

pub(in crate::mirror) const DELETE_DUPLICATES: &str = "delete from pg_temp.impact_mirror_staged \
    where _line in (select _line from pg_temp.impact_mirror_duplicate)";

/// How many rows are new, changed and gone.
pub(in crate::mirror) const COUNT: &str = "select \
    (select count(*) from pg_temp.impact_mirror_todo where not _known), \
    (select count(*) from pg_temp.impact_mirror_todo where _known), \
    (select count(*) from pg_temp.impact_mirror_gone)";

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

    /// All mirrored columns with their types: those the file lacks are staged as NULL.
    fn columns(&self) -> impl Iterator<Item = (&'a str, ColumnKind)> {
        let file = self.layout.columns.iter().map(|column| (column.name.as_str(), column.kind()));
        file.chain(self.layout.others.iter().map(|(name, kind)| (name.as_str(), *kind)))
    }

    fn key_columns(&self) -> impl Iterator<Item = (&'a str, ColumnKind)> {
        self.layout.key.iter().map(|index| {
            let column = &self.layout.columns[*index];
            (column.name.as_str(), column.kind())
        })
    }

    /// Creates the temporary tables.
    pub fn create_temporary(&self) -> [String; 6] {
        let staged = definitions(self.columns());
        let standing = definitions(self.key_columns().chain(self.numbers.iter().copied()));
        let kept = definitions(self.key_columns());
        [
            format!(
                "create temporary table impact_mirror_staged ({staged}_day date, _row_hash uuid, _line bigint, \
                 _offset bigint, _length bigint) on commit drop"
            ),
            format!(
                "create temporary table impact_mirror_standing ({standing}_day date, _row_hash uuid, \
                 _load_id bigint, _line bigint, _in_window boolean) on commit drop"
            ),
            format!("create temporary table impact_mirror_kept ({kept}_kept boolean default true) on commit drop"),
            "create temporary table impact_mirror_duplicate (_line bigint, _first_line bigint, _offset bigint, \
             _length bigint) on commit drop"
                .to_owned(),
            "create temporary table impact_mirror_todo (_line bigint, _known boolean) on commit drop".to_owned(),
            "create temporary table impact_mirror_gone (_load_id bigint, _line bigint) on commit drop".to_owned(),
        ]
    }

    pub fn copy_staged(&self) -> String {
        let columns = self.layout.columns.iter().map(|column| column.name.as_str()).chain(STAGING);
        format!("copy {STAGED} ({}) from stdin (format binary)", list(columns))
    }

    pub fn copy_kept(&self) -> String {
        format!("copy {KEPT} ({}) from stdin (format binary)", list(self.key.iter().copied()))
    }

    /// Finds the records whose key stands in the file before.
    pub fn find_duplicates(&self) -> String {
        let key = list(self.key.iter().copied());
        format!(
            "insert into {DUPLICATE} \
             select s._line, f._first_line, s._offset, s._length from {STAGED} s \
             join (select {key}, min(_line) as _first_line from {STAGED} group by {key} having count(*) > 1) f \
             using ({key}) where s._line > f._first_line"
        )
    }

    /// Takes down the rows of the window.
    pub fn note_standing(&self) -> String {
        let columns = self.standing_columns();
        format!(
            "insert into {STANDING} ({columns}_day, _row_hash, _load_id, _line, _in_window) \
             select {columns}_day, _row_hash, _load_id, _line, true from {} where {WINDOW}",
            self.table.qualified
        )
    }

    /// Takes down the rows of other windows of account $1 that have a key of the file.
    pub fn note_moved(&self) -> String {
        let columns = self.standing_columns();
        let key = list(self.key.iter().copied());
        let staged_key = qualified_list("s", &self.key);
        format!(
            "with k as (select {staged_key} from {STAGED} s left join {STANDING} p on {same} where p._line is null) \
             insert into {STANDING} ({columns}_day, _row_hash, _load_id, _line, _in_window) \
             select {columns}_day, _row_hash, _load_id, _line, false from {} \
             where _account = $1 and ({key}) in (select {key} from k)",
            self.table.qualified,
            same = self.same_key("s", "p"),
        )
    }

    /// Finds the rows to write: new ones and changed ones.
    pub fn find_todo(&self) -> String {
        if self.key.is_empty() {
            return format!(
                "insert into {TODO} select s._line, false from {} s left join {} p using (_row_hash, _day, _ordinal) \
                 where p._line is null",
                ordinals(STAGED, "_line"),
                ordinals(STANDING, "_load_id, _line")
            );
        }
        format!(
            "insert into {TODO} select s._line, p._line is not null from {STAGED} s left join {STANDING} p on {} \
             where p._line is null or p._row_hash <> s._row_hash or p._day <> s._day or not p._in_window",
            self.same_key("s", "p")
        )
    }

    /// Finds the rows that the window no longer has.
    pub fn find_gone(&self) -> String {
        if self.key.is_empty() {
            return format!(
                "insert into {GONE} select p._load_id, p._line from {} p left join {} s \
                 using (_row_hash, _day, _ordinal) where s._line is null",
                ordinals(STANDING, "_load_id, _line"),
                ordinals(STAGED, "_line")
            );
        }
        format!(
            "insert into {GONE} select p._load_id, p._line from {STANDING} p left join {STAGED} s on {} \
             left join {KEPT} k on {} where s._line is null and k._kept is null and p._in_window",
            self.same_key("s", "p"),
            self.same_key("k", "p")
        )
    }

    /// For each number: in how many written rows it differs, and its sum over the window before.
    pub fn restated(&self) -> String {
        let same = if self.key.is_empty() { "false".to_owned() } else { self.same_key("s", "p") };
        let changed: Vec<_> = self
            .numbers
            .iter()
            .map(|(name, _)| {
                let name = identifier(name);
                format!("count(*) filter (where s.{name} is distinct from p.{name})")
            })
            .collect();
        let gone: Vec<_> = self.numbers.iter().map(|(name, _)| format!("count(p.{})", identifier(name))).collect();
        format!(
            "select (select array[{}] from {TODO} d join {STAGED} s on s._line = d._line left join {STANDING} p on {same}), \
             (select array[{}] from {GONE} g join {STANDING} p on p._load_id = g._load_id and p._line = g._line), \
             (select array[{}] from {STANDING} where _in_window)",
            changed.join(", "),
            gone.join(", "),
            sums(&self.numbers()),
        )
    }

    pub fn delete_gone(&self) -> String {
        format!(
            "with g as (select _load_id, _line from {GONE}) delete from {} where {WINDOW} \
             and (_load_id, _line) in (select _load_id, _line from g)",
            self.table.qualified
        )
    }

    /// Writes new and changed rows as account $1, program $2, load $3 at time $4.
    pub fn write_todo(&self) -> String {
        let names: Vec<_> = self.columns().map(|(name, _)| name).collect();
        let mut text = format!(
            "insert into {} as m ({}, _account, _program, _day, _row_hash, _load_id, _line, _first_seen_at, _changed_at) \
             select {}, $1::text, $2::text, s._day, s._row_hash, $3::bigint, s._line, $4::timestamptz, $4::timestamptz \
             from {TODO} d join {STAGED} s on s._line = d._line order by s._line",
            self.table.qualified,
            list(names.iter().copied()),
            qualified_list("s", &names),
        );
        if !self.key.is_empty() {
            let set: Vec<_> = names
                .iter()
                .copied()
                .filter(|name| !self.key.contains(name))
                .chain(["_program", "_day", "_row_hash", "_load_id", "_line", "_changed_at"])
                .map(|name| format!("{0} = excluded.{0}", identifier(name)))
                .collect();
            let _ = write!(
                text,
                " on conflict (_account, {}) do update set {} where (m._row_hash, m._day, m._program) \
                 is distinct from (excluded._row_hash, excluded._day, excluded._program)",
                list(self.key.iter().copied()),
                set.join(", ")
            );
        }
        text
    }

    fn standing_columns(&self) -> String {
        let names = self.key.iter().copied().chain(self.numbers());
        names.fold(String::new(), |text, name| text + &identifier(name) + ", ")
    }

    fn same_key(&self, one: &str, other: &str) -> String {
        let same: Vec<_> = self.key.iter().map(|name| format!("{one}.{0} = {other}.{0}", identifier(name))).collect();
        same.join(" and ")
    }
}

/// A table with a number for each of several rows that are alike.
fn ordinals(table: &str, order: &str) -> String {
    format!("(select *, row_number() over (partition by _row_hash, _day order by {order}) as _ordinal from {table})")
}

fn definitions<'a>(columns: impl Iterator<Item = (&'a str, ColumnKind)>) -> String {
    columns.fold(String::new(), |text, (name, kind)| text + &identifier(name) + " " + kind.as_str() + ", ")
}

fn qualified_list(alias: &str, names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("{alias}.{}", identifier(name))).collect();
    names.join(", ")
}
