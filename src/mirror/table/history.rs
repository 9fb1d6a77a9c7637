//! The statements about superseded versions of rows: `<table>_history`, the view `<table>_versions` over these and the rows
//! that stand, and the function `<table>_as_known`, which gives the rows of a time.

use std::fmt::Write as _;

use super::merge::{CHANGED, GONE, KeptOfGone, qualified_list};
use super::{LINEAGE_DEFINITIONS, Table, WINDOW, identifier, list, literal};
use crate::export::Window;
use crate::mirror::header::LINEAGE;
use crate::mirror::layout::index_name;

/// The columns that say from when to when a version stood, and which load put an end to it.
pub(in crate::mirror) const VALIDITY: [&str; 3] = ["_valid_from", "_valid_to", "_superseded_by"];

/// Rows of a reload's window that came as they stood: line in the new file, and their place.
const EQUAL: &str = "pg_temp.impact_mirror_equal";

/// Takes what came as it stood out of what the merge writes.
pub(in crate::mirror) const FORGET_EQUAL: &str = "delete from pg_temp.impact_mirror_changed \
    where _line in (select _line from pg_temp.impact_mirror_equal)";

/// A column of the mirrored table, as the answers show it.
pub(in crate::mirror) struct Answered {
    pub name: String,
    /// Its type in the mirrored table, as Postgres writes it.
    pub type_name: String,
    /// Whether the history has it, with that type.
    pub is_kept: bool,
}

impl Table {
    /// The table of superseded versions.
    pub fn history(&self) -> Self {
        self.named("history")
    }

    /// The view of all versions.
    pub fn versions(&self) -> Self {
        self.named("versions")
    }

    fn named(&self, suffix: &str) -> Self {
        let name = format!("{}_{suffix}", self.name);
        let qualified = format!("{}.{}", identifier(&self.schema), identifier(&name));
        Self { schema: self.schema.clone(), name, qualified, rows: self.rows.clone() }
    }

    /// The name of the function that gives the rows of a time.
    pub fn as_known_name(&self) -> String {
        format!("{}_as_known", self.name)
    }

    /// The function with its argument, quoted.
    pub fn as_known(&self) -> String {
        format!("{}.{}(timestamptz)", identifier(&self.schema), identifier(&self.as_known_name()))
    }

    /// Creates the table of superseded versions, without the columns of files.
    pub fn create_history(&self) -> String {
        let history = self.history();
        format!(
            "create table {} ({LINEAGE_DEFINITIONS}, _valid_from timestamptz not null, _valid_to timestamptz not null, \
             _superseded_by bigint not null, constraint {} check (_valid_from < _valid_to))",
            history.qualified,
            identifier(&index_name(&history.name, "valid"))
        )
    }

    /// The indexes of the table of superseded versions: their names and columns.
    pub fn history_indexes(&self, key: &[&str]) -> Vec<(String, Vec<String>)> {
        let name = self.history().name;
        let index = |purpose: &str, columns: &[&str]| {
            (index_name(&name, purpose), columns.iter().map(|column| (*column).to_owned()).collect())
        };
        let mut indexes = vec![index("day", &["_account", "_day"]), index("valid_to", &["_valid_to"])];
        if !key.is_empty() {
            indexes.push(index("key", &[&["_account"], key].concat()));
        }
        indexes
    }

    /// Creates an index that keeps nothing from standing twice.
    pub fn create_index(&self, name: &str, columns: &[String]) -> String {
        let columns = list(columns.iter().map(String::as_str));
        format!("create index {} on {} ({columns})", identifier(name), self.qualified)
    }

    /// Creates the view of all versions, with the columns of the mirrored table behind the validity.
    pub fn create_versions(&self, columns: &[Answered]) -> String {
        format!(
            "create or replace view {} as select t._changed_at as _valid_from, null::timestamptz as _valid_to, \
             null::bigint as _superseded_by, {} from {} t union all select {}, {} from {} h",
            self.versions().qualified,
            standing(columns),
            self.qualified,
            list(VALIDITY),
            superseded(columns),
            self.history().qualified
        )
    }

    /// Creates the function. Its body is one plain query, so that Postgres puts it in the place of the call, and conditions on
    /// the call use the indexes.
    pub fn create_as_known(&self, columns: &[Answered]) -> String {
        // The table before its history, as the view has it: readers lock them in the order of those who change them.
        let body = format!(
            "select {} from {} t where t._changed_at <= $1 \
             union all select {} from {} h where h._valid_from <= $1 and h._valid_to > $1",
            standing(columns),
            self.qualified,
            superseded(columns),
            self.history().qualified
        );
        format!(
            "create or replace function {}.{}(\"at\" timestamptz) returns setof {} language sql stable parallel safe as {}",
            identifier(&self.schema),
            identifier(&self.as_known_name()),
            self.qualified,
            literal(&body)
        )
    }

    pub fn drop_versions(&self) -> String {
        format!("drop view if exists {}", self.versions().qualified)
    }

    pub fn comment_versions(&self, comment: &str) -> String {
        format!("comment on view {} is {}", self.versions().qualified, literal(comment))
    }

    pub fn comment_as_known(&self, comment: &str) -> String {
        format!("comment on function {} is {}", self.as_known(), literal(comment))
    }

    /// Takes the table for a change.
    pub fn lock(&self) -> String {
        format!("lock table {}{} in access exclusive mode", self.only(), self.qualified)
    }

    /// Takes the table for a change, its view first: whoever reads that wants the table behind it, and the reverse order would
    /// end in a deadlock.
    pub fn lock_with_versions(&self) -> String {
        format!("lock table {}, {}{} in access exclusive mode", self.versions().qualified, self.only(), self.qualified)
    }

    /// Leaves the partitions alone; a distributed table is taken with its shards, or not at all.
    fn only(&self) -> &'static str {
        if self.is_distributed() { "" } else { "only " }
    }

    /// $1, or just after the end of the last version, whichever is later: clocks go back, and differ from replica to replica.
    pub fn time_of_change(&self) -> String {
        format!(
            "select greatest($1::timestamptz, (select max(_valid_to) from {}) + interval '1 microsecond')",
            self.history().qualified
        )
    }

    /// Finds the rows that come as they stood, under the same program.
    pub fn find_equal(&self, columns: &[&str], program: &str) -> [String; 2] {
        let texts = |alias: &str| format!("row({})::text", qualified_list(alias, columns));
        let [table, tid] = self.place_format().types();
        [
            format!(
                "drop table if exists pg_temp.impact_mirror_equal; create temporary table impact_mirror_equal \
                 (_line bigint, _table {table}, _tid {tid}, _day date) on commit drop"
            ),
            format!(
                "insert into {EQUAL} select s._line, s._old_table, s._old_tid, s._old_day \
                 from {CHANGED} s join {} m on {} \
                 where m._row_hash = s._row_hash and m._day = s._day and m._program = {} and {} = {}",
                self.read_from(),
                self.at_old_place(),
                literal(program),
                texts("s"),
                texts("m"),
            ),
        ]
    }

    /// Gives such rows the lineage of load $1. They did not change.
    pub fn keep_equal(&self) -> String {
        format!(
            "update {} m set _load_id = $1, _line = e._line from {EQUAL} e where {}",
            self.qualified,
            self.at("e._table", "e._tid", "e._day"),
        )
    }

    /// Keeps the versions that changed rows are about to replace, as superseded at $1 by load $2. Gives the time: $1, or just
    /// after the newest of these versions, where a clock went back.
    pub fn keep_replaced(&self, columns: &[&str]) -> String {
        let columns: Vec<_> = columns.iter().copied().chain(LINEAGE).collect();
        format!(
            "with old as materialized (select {qualified} from {CHANGED} s join {table} m on {at_old_place}), \
             written as materialized (select greatest($1::timestamptz, max(_changed_at) + interval '1 microsecond') as at from old), \
             kept as (insert into {history} ({names}, {validity}) \
                 select {names}, _changed_at, (select at from written), $2::bigint from old) \
             select at from written",
            qualified = qualified_list("m", &columns),
            names = list(columns.iter().copied()),
            table = self.qualified,
            at_old_place = self.at_old_place(),
            history = self.history().qualified,
            validity = list(VALIDITY),
        )
    }

    /// What `keep_replaced` does, for a distributed table: the time, and then the versions, superseded at $1 by load $2.
    pub fn keep_replaced_apart(&self, columns: &[&str]) -> [String; 2] {
        let old = format!("{CHANGED} s join {} m on {}", self.read_from(), self.at_old_place());
        [
            format!("select greatest($1::timestamptz, max(m._changed_at) + interval '1 microsecond') from {old}"),
            self.keep_from(columns, "$1::timestamptz", &old),
        ]
    }

    /// Keeps the rows that a merge is about to delete from a distributed table, as superseded at $1 by load $2.
    pub fn keep_gone_apart(&self, columns: &[&str]) -> String {
        let old = format!("{GONE} g join {} m on {}", self.read_from(), self.at_gone_place());
        self.keep_from(columns, "greatest($1::timestamptz, m._changed_at + interval '1 microsecond')", &old)
    }

    /// Keeps all rows of the window of a distributed table, as superseded at $1 by load $2.
    pub fn keep_window_apart(&self, columns: &[&str], account: &str, program: &str, window: Window) -> String {
        let old = format!(
            "{} m where m._account = {} and m._program = {} and m._day between '{}' and '{}'",
            self.qualified,
            literal(account),
            literal(program),
            window.from(),
            window.to()
        );
        self.keep_from(columns, "greatest($1::timestamptz, m._changed_at + interval '1 microsecond')", &old)
    }

    fn keep_from(&self, columns: &[&str], at: &str, old: &str) -> String {
        let names: Vec<_> = columns.iter().copied().chain(LINEAGE).collect();
        format!(
            "insert into {} ({}, {}) select {}, m._changed_at, {at}, $2::bigint from {old}",
            self.history().qualified,
            list(names.iter().copied()),
            list(VALIDITY),
            qualified_list("m", &names),
        )
    }

    /// What keeps the rows that a merge deletes, as superseded at $1 by load $2.
    pub fn keep_gone(&self, columns: &[&str]) -> KeptOfGone {
        let names: Vec<_> = columns.iter().copied().chain(LINEAGE).collect();
        KeptOfGone { returning: qualified_list("m", &names), kept: self.kept(columns, "$1", "$2") }
    }

    /// Deletes all rows of the window ($1 to $4), and keeps them as superseded at $5 by load $6. Says how many.
    pub fn keep_window(&self, columns: &[&str]) -> String {
        format!(
            "with gone as (delete from {} where {WINDOW} returning {}), {} select count(*) from gone",
            self.qualified,
            versioned(columns),
            self.kept(columns, "$5", "$6")
        )
    }

    fn kept(&self, columns: &[&str], at: &str, load_id: &str) -> String {
        let names = versioned(columns);
        format!(
            "kept as (insert into {} ({names}, {}) select {names}, _changed_at, \
             greatest({at}::timestamptz, _changed_at + interval '1 microsecond'), {load_id}::bigint from gone)",
            self.history().qualified,
            list(VALIDITY),
        )
    }

    /// Deletes versions of account $1 and program $2 up to day $3.
    pub fn delete_until(&self) -> String {
        format!("delete from {} where _account = $1 and _program = $2 and _day <= $3", self.history().qualified)
    }

    /// Deletes versions of the days before $1 of all accounts; through their names, for the index begins with the account.
    pub fn delete_before(&self) -> String {
        format!(
            "delete from {} where _account in (select name from impact_mirror.account) and _day < $1",
            self.history().qualified
        )
    }

    /// How many versions account $1 has of days from $2 on, if given, and before $3.
    pub fn count_versions(&self) -> String {
        format!(
            "select count(*) from {} where _account = $1 and ($2::date is null or _day >= $2) and _day < $3",
            self.history().qualified
        )
    }
}

/// All columns that a version has of its row.
fn versioned(columns: &[&str]) -> String {
    list(columns.iter().copied().chain(LINEAGE))
}

fn standing(columns: &[Answered]) -> String {
    let names: Vec<_> = columns.iter().map(|column| format!("t.{}", identifier(&column.name))).collect();
    names.join(", ")
}

fn superseded(columns: &[Answered]) -> String {
    let mut text = String::new();
    for Answered { name, type_name, is_kept } in columns {
        let comma = if text.is_empty() { "" } else { ", " };
        let name = identifier(name);
        let _ =
            if *is_kept { write!(text, "{comma}h.{name}") } else { write!(text, "{comma}null::{type_name} as {name}") };
    }
    text
}
