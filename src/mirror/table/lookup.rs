//! The statements of lookups.

use std::fmt::Write as _;

use super::{Table, identifier};
use crate::column::ColumnKind;

impl Table {
    /// The first rows whose columns have the values $1, $2 and so on: number of the row, column, value.
    pub fn find_rows(&self, columns: &[(&str, ColumnKind)], limit: usize) -> String {
        let mut conditions = String::from("true");
        for (index, (name, kind)) in columns.iter().enumerate() {
            let _ = write!(conditions, " and t.{} = ${}::text::{kind}", identifier(name), index + 1);
        }
        format!(
            "select r.number, v.key, v.value from \
             (select row_number() over (order by t._load_id, t._line) as number, row_to_json(t) as line from {} t \
              where {conditions} order by 1 limit {limit}) r \
             cross join lateral json_each_text(r.line) with ordinality as v (key, value, place) order by r.number, v.place",
            self.qualified
        )
    }
}
