//! The statements that hold a file against its window. The file stands in the table of changed rows, each record beside the place of
//! the row that it matches; the mirrored table is read and never written.

use super::merge::{CHANGED, GONE};
use super::{Table, identifier, literal};

/// The statements for one table.
pub(in crate::mirror) struct Compare<'a> {
    pub table: &'a Table,
    /// The columns that the table has, and that are compared.
    pub columns: Vec<&'a str>,
    pub key: Vec<&'a str>,
}

impl Compare<'_> {
    /// How many matched rows are equal, how many differ by their hashes, and how many in their values alone; and how many records
    /// match none.
    pub fn count(&self) -> String {
        format!(
            "select count(*) filter (where m._day is not null and m._row_hash = s._row_hash and not ({differs})), \
                    count(*) filter (where m._row_hash <> s._row_hash), \
                    count(*) filter (where m._row_hash = s._row_hash and ({differs})), \
                    count(*) filter (where m._day is null) \
             from {CHANGED} s left join {} m on {}",
            self.table.read_from(),
            self.table.at_old_place(),
            differs = self.differs(),
        )
    }

    /// Some rows that are not equal, at most $1 of each kind.
    pub fn samples(&self) -> String {
        let (table, at_old_place, at_gone_place) =
            (self.table.read_from(), self.table.at_old_place(), self.table.at_gone_place());
        let values: Vec<_> = self
            .columns
            .iter()
            .copied()
            .chain(["_day"])
            .map(|name| format!("({}, to_jsonb(m.{1}), to_jsonb(s.{1}))", literal(name), identifier(name)))
            .collect();
        format!(
            "(select jsonb_build_object('kind', case when m._row_hash = s._row_hash then 'altered' else 'differing' end, \
                 'key', {key_of_table}, 'line', s._line, 'load_id', m._load_id, 'loaded_line', m._line, 'columns', \
                 (select coalesce(jsonb_object_agg(name, jsonb_build_object('table', t, 'file', f)), '{{}}') \
                  from (values {values}) as v (name, t, f) where t is distinct from f)) \
              from {CHANGED} s join {table} m on {at_old_place} \
              where m._row_hash <> s._row_hash or ({differs}) \
              order by m._row_hash <> s._row_hash, s._line limit $1) \
             union all \
             (select jsonb_build_object('kind', 'only_in_file', 'key', {key_of_file}, 'line', s._line) \
              from {CHANGED} s where s._old_tid is null order by s._line limit $1) \
             union all \
             (select jsonb_build_object('kind', 'only_in_table', 'key', {key_of_table}, 'load_id', m._load_id, 'loaded_line', m._line) \
              from {GONE} g join {table} m on {at_gone_place} order by m._load_id, m._line limit $1)",
            key_of_table = self.key_of("m"),
            key_of_file = self.key_of("s"),
            values = values.join(", "),
            differs = self.differs(),
        )
    }

    fn differs(&self) -> String {
        let columns = self.columns.iter().copied().chain(["_day"]);
        let differs: Vec<_> = columns.map(|name| format!("s.{0} is distinct from m.{0}", identifier(name))).collect();
        differs.join(" or ")
    }

    fn key_of(&self, alias: &str) -> String {
        let key: Vec<_> =
            self.key.iter().map(|name| format!("{}, {alias}.{}", literal(name), identifier(name))).collect();
        format!("jsonb_build_object({})", key.join(", "))
    }
}
