//! Doubts about files that were loaded all the same, while rows of theirs stand.

use chrono::NaiveDate;
use sqlx::PgConnection;

use super::{Error, failed};
use crate::doubt::{Doubt, Figures};

/// The loads of an export that one doubt is about; the details are those of the newest.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LoadWarning {
    /// The export.
    pub export: String,
    /// What is doubtful.
    pub kind: Doubt,
    /// How many loads it is about.
    pub loads: i64,
    /// The newest of them.
    pub load_id: i64,
    /// Its job.
    pub job_id: i64,
    /// The account.
    pub account: String,
    /// The program, or empty.
    pub program: String,
    /// The first day.
    pub from_day: NaiveDate,
    /// The last day.
    pub to_day: NaiveDate,
    /// Rows in the file.
    pub rows_read: i64,
    /// Rows that impact.com said it wrote.
    pub records_processed: Option<i64>,
    /// Rows that the load took away.
    pub rows_deleted: i64,
    /// Rows of the file that were rejected.
    pub rows_rejected: i64,
}

impl LoadWarning {
    /// What is doubtful, for people.
    pub fn words(&self) -> String {
        let words = self.kind.words(Figures {
            rows: self.rows_read.unsigned_abs(),
            told: self.records_processed.map(i64::unsigned_abs),
            deleted: self.rows_deleted.unsigned_abs(),
            rejected: self.rows_rejected.unsigned_abs(),
            stale: 0, // no words go by it
        });
        match self.loads {
            1 => words,
            more => format!("{words}; and {} more loads like it", more - 1),
        }
    }

    /// The command that reads the days again: a load without the doubt ends it.
    pub fn mend(&self) -> String {
        format!("impact-mirror refresh {} --from {} --to {}", self.export, self.from_day, self.to_day)
    }
}

/// What is doubtful of what stands in the tables of the active exports, a line for each export and doubt.
pub async fn current(conn: &mut PgConnection) -> Result<Vec<LoadWarning>, Error> {
    sqlx::query_as!(
        LoadWarning,
        r#"
        select distinct on (w.export, w.kind) w.export as "export!", w.kind as "kind!: Doubt",
               count(*) over (partition by w.export, w.kind) as "loads!", w.load_id as "load_id!", w.job_id as "job_id!",
               w.account as "account!", w.program as "program!", w.from_day as "from_day!", w.to_day as "to_day!",
               w.rows_read as "rows_read!", w.records_processed, w.rows_deleted as "rows_deleted!",
               w.rows_rejected as "rows_rejected!"
        from impact_mirror.load_warning w
        join impact_mirror.export e on e.name = w.export and e.active
        where w.is_current
        order by w.export, w.kind, w.load_id desc
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the warnings of loads"))
}
