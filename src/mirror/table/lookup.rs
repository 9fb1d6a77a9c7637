//! The statements of lookups.

use std::fmt::Write as _;

use super::{Table, identifier};
use crate::column::ColumnKind;
use crate::export::Window;

impl Table {
    /// The first rows whose columns have the values $1, $2 and so on, within some days where given: number of the row, column,
    /// value. Our indexes begin with the account, so that it is always named.
    pub fn find_rows(&self, columns: &[(&str, ColumnKind)], days: Option<Window>, limit: usize) -> String {
        let mut conditions = String::from("t._account = any(array(select name from impact_mirror.account))");
        if let Some(days) = days {
            let _ = write!(conditions, " and t._day between '{}' and '{}'", days.from(), days.to());
        }
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
