//! What tells a row of a mirrored table from all others, while the transaction lasts that has seen it.
//!
//! In a plain table that is its place: table or partition, and `ctid`. Across the shards of a Citus cluster there is no `ctid`; there it
//! is the lineage of the row, the load and the line it came with, within its account. Either way a row that others change has another
//! place. The day leads to the partition.

use super::{Table, literal};

/// The rows of which table are told apart by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mirror) enum RowsBy {
    /// Their place on disk.
    Tuple,
    /// The load and line that wrote them, in a table distributed by account: no statement asks for rows of another one.
    Lineage { account: String },
}

/// How the two parts of a place travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mirror) enum PlaceFormat {
    /// `oid` and `tid`.
    Tuple,
    /// Two of `bigint`.
    Lineage,
}

impl RowsBy {
    pub fn format(&self) -> PlaceFormat {
        match self {
            Self::Tuple => PlaceFormat::Tuple,
            Self::Lineage { .. } => PlaceFormat::Lineage,
        }
    }
}

impl PlaceFormat {
    /// The columns of the mirrored table that are the two parts.
    pub const fn columns(self) -> [&'static str; 2] {
        match self {
            Self::Tuple => ["tableoid", "ctid"],
            Self::Lineage => ["_load_id", "_line"],
        }
    }

    /// Their types.
    pub const fn types(self) -> [&'static str; 2] {
        match self {
            Self::Tuple => ["oid", "tid"],
            Self::Lineage => ["bigint", "bigint"],
        }
    }
}

impl Table {
    /// The row `m` whose place the changed row `s` takes.
    pub fn at_old_place(&self) -> String {
        self.at("s._old_table", "s._old_tid", "s._old_day")
    }

    /// The row `m` that goes from its place `g`.
    pub fn at_gone_place(&self) -> String {
        self.at("g._table", "g._tid", "g._day")
    }

    /// The row `m` at a place.
    pub fn at(&self, table: &str, tid: &str, day: &str) -> String {
        let [first, second] = self.rows.format().columns();
        let place = format!("m.{first} = {table} and m.{second} = {tid} and m._day = {day}");
        match &self.rows {
            RowsBy::Tuple => place,
            RowsBy::Lineage { account } => format!("m._account = {} and {place}", literal(account)),
        }
    }

    /// What rows are read from where they are joined with others: of a distributed table the account's, so that no other shard
    /// is asked.
    pub fn read_from(&self) -> String {
        match &self.rows {
            RowsBy::Tuple => self.qualified.clone(),
            RowsBy::Lineage { account } => {
                format!("(select * from {} where _account = {})", self.qualified, literal(account))
            }
        }
    }

    /// Whether Citus has the table among the distributed ones.
    pub fn is_listed_as_distributed(&self) -> String {
        format!(
            "select exists (select 1 from pg_catalog.pg_dist_partition where logicalrelid = {}::regclass)",
            literal(&self.qualified)
        )
    }

    /// Distributes the table by account. What is read and written together lies together.
    pub fn distribute(&self, beside: Option<&Self>) -> String {
        let with = beside.map_or_else(String::new, |table| format!(", colocate_with => {}", literal(&table.qualified)));
        format!("select create_distributed_table({}, '_account'{with})", literal(&self.qualified))
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::Compare;
    use super::super::merge::Merge;
    use super::super::{Freeze, Table};
    use crate::column::ColumnKind;
    use crate::export::{ExportName, Window};
    use crate::mirror::Writes;
    use crate::mirror::layout::{Column, Layout, Origin};
    use crate::mirror::value::Format;

    fn layout(keyed: bool) -> Layout {
        let column = |name: &str, kind| Column {
            source: name.to_owned(),
            name: name.to_owned(),
            format: Format { kind: Some(kind), takes_months: false },
            origin: Origin::Data,
        };
        Layout {
            columns: vec![column("id", ColumnKind::Text), column("amount", ColumnKind::Numeric)],
            others: Vec::new(),
            key: if keyed { vec![0] } else { Vec::new() },
            date: None,
            by_month: false,
            changes: Vec::new(),
            needs_survey: false,
        }
    }

    /// All that a load, a comparison and a history send about the rows of a distributed table.
    fn statements(keyed: bool) -> Vec<String> {
        let table = Table::new("impact", &ExportName::new("actions")).distributed("acme");
        let layout = layout(keyed);
        let merge = Merge::new(&table, &layout);
        let window = Window::day("2026-05-01".parse().unwrap());
        let columns = ["id", "amount"];
        let compare = Compare { table: &table, columns: columns.to_vec(), key: layout.key_names().collect() };
        let mut all = vec![
            table.copy(&layout, Freeze::Plain),
            table.window_has_rows(),
            table.count_window(),
            table.delete_window(),
            table.window_figures(&columns),
            merge.copy_window("acme", "1000", window),
            merge.figures_of_changed(),
            merge.figures_of_gone(),
            merge.delete_places(),
            merge.move_known(),
            merge.write_known(),
            merge.write_changed(Writes::Differing),
            table.keep_equal(),
            table.keep_gone_apart(&columns),
            table.keep_window_apart(&columns, "acme", "1000", window),
            compare.count(),
            compare.samples(),
        ];
        all.extend(table.find_equal(&columns, "1000"));
        all.extend(table.keep_replaced_apart(&columns));
        if keyed {
            all.extend(merge.note_moved("acme"));
        }
        all
    }

    /// Design §9: there is no place on disk across shards; MERGE, a correlated NOT EXISTS and a frozen COPY are refused; nothing
    /// but the distributed table is changed by a statement that changes it, and it is changed for one account.
    #[test]
    fn the_statements_about_a_distributed_table_are_such_as_citus_runs() {
        for statement in [true, false].into_iter().flat_map(statements) {
            for refused in ["ctid", "tableoid", "freeze", "merge into", "not exists", "with gone", "with old"] {
                assert!(!statement.contains(refused), "{refused}: {statement}");
            }
            let changes = statement.starts_with("update \"impact\"") || statement.starts_with("delete from \"impact\"");
            assert!(!changes || statement.contains("_account = "), "{statement}");
            let changes_temporary =
                statement.starts_with("update pg_temp") || statement.starts_with("delete from pg_temp");
            assert!(!changes_temporary || !statement.contains("\"impact\"."), "{statement}");
        }
    }

    #[test]
    fn a_plain_table_is_asked_by_place() {
        let table = Table::new("impact", &ExportName::new("actions"));
        let window = Window::day("2026-05-01".parse().unwrap());
        let layout = layout(true);
        assert!(Merge::new(&table, &layout).copy_window("acme", "1000", window).contains(", tableoid, ctid from"));
    }
}
