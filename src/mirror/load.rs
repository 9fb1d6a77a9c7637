//! The course of a load: fit the table to the file, try the short way, and go back for the longer one where it fails.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::copy::{self, Copied, Counts, OnConflict};
use super::csv::{Item, Reader};
use super::error::{Error, Place};
use super::header::folded;
use super::layout::{Layout, MAX_COLUMNS, Standing, Surveyed};
use super::rejects::Rejects;
use super::rows::{Destination, Rows, Rules};
use super::survey::{Extent, survey};
use super::table::{LockColumns, Table};
use super::{Report, Target, catalog, ddl, merge};
use crate::column::OnTypeConflict;
use crate::export::LockRule;

/// How often we go back to the beginning; each reason to do so comes once, but for others who change the table.
const MAX_ROUNDS: usize = 8;

/// One file on its way into its table.
pub(super) struct Load<'a> {
    pub target: &'a Target<'a>,
    pub table: Table,
    pub place: Place,
    pub id: i64,
    pub now: DateTime<Utc>,
}

/// What was learned in earlier rounds.
#[derive(Default)]
struct Learned {
    surveyed: Surveyed,
    extent: Option<Extent>,
    /// A key of the file stands elsewhere, or twice in the file.
    key_taken: bool,
}

enum Round {
    Done(Report),
    /// Go back to the savepoint and begin again with what is known now.
    Again(Learned),
}

impl<'a> Load<'a> {
    pub fn new(file: &Path, target: &'a Target<'a>, id: i64, now: DateTime<Utc>) -> Self {
        Self {
            target,
            table: Table::new(target.schema, target.export),
            place: Place { export: target.export.clone(), file: file.to_owned() },
            id,
            now,
        }
    }

    pub async fn run(&self, conn: &mut PgConnection) -> Result<Report, Error> {
        let Some(sources) = self.header().await? else { return self.empty_file(conn).await };
        let mut learned = Learned::default();
        for _ in 0..MAX_ROUNDS {
            self.savepoint(conn, "savepoint impact_mirror_load").await?;
            match self.round(conn, &sources, learned).await? {
                Round::Done(report) => {
                    self.savepoint(conn, "release savepoint impact_mirror_load").await?;
                    return Ok(report);
                }
                Round::Again(more) => {
                    learned = more;
                    self.savepoint(conn, "rollback to savepoint impact_mirror_load").await?;
                    self.savepoint(conn, "release savepoint impact_mirror_load").await?;
                }
            }
        }
        Err(Error::Unsettled { export: self.place.export.clone(), file: self.place.file.clone() })
    }

    async fn round(&self, conn: &mut PgConnection, sources: &[String], mut learned: Learned) -> Result<Round, Error> {
        let mut standing = catalog::read(conn, &self.table, &self.place).await?;
        let mut layout = self.fit(sources, &standing, &learned)?;
        if layout.needs_survey && learned.extent.is_none() {
            // A type guessed too narrow is found out while copying, but only where it may then be changed.
            let extent = match self.target.on_type_conflict {
                OnTypeConflict::Widen => Extent::Sample,
                OnTypeConflict::Quarantine => Extent::Whole,
            };
            learned = self.survey(&layout, learned, extent).await?;
            layout = self.fit(sources, &standing, &learned)?;
        }

        let mut table_changes = Vec::new();
        if !layout.changes.is_empty() {
            ddl::lock(conn, &self.table, &self.place).await?;
            standing = catalog::read(conn, &self.table, &self.place).await?;
            layout = self.fit(sources, &standing, &learned)?;
            table_changes = ddl::apply(conn, &self.table, &layout, self.now, &self.place).await?;
            standing = catalog::read(conn, &self.table, &self.place).await?;
            layout = self.fit(sources, &standing, &learned)?;
        }

        let had_rows: bool = self.ask_window(conn, self.table.window_has_rows()).await?;
        // From here on nobody can change the table; somebody may have, until here.
        if !layout.changes.is_empty() || catalog::read(conn, &self.table, &self.place).await? != standing {
            return Ok(Round::Again(learned));
        }

        let looked_through = learned.extent == Some(Extent::Whole);
        let on_conflict = if !looked_through && self.wants_survey_on_conflict(&layout) {
            OnConflict::Stop
        } else {
            OnConflict::Reject
        };
        let merges = had_rows || learned.key_taken;
        let copied = if merges {
            merge::stage(self, conn, &layout, on_conflict).await?
        } else {
            let destination = Destination::Mirrored {
                account: self.target.account.as_str().to_owned(),
                program: self.target.program.as_str().to_owned(),
                load_id: self.id,
                now: self.now,
            };
            self.copy(conn, &self.table.copy(&layout), &layout, destination, on_conflict).await?
        };
        let mut counts = match copied {
            Copied::Whole(counts) => counts,
            Copied::TypeConflict => {
                return Ok(Round::Again(self.survey(&layout, learned, Extent::Whole).await?));
            }
            Copied::KeyTaken => return Ok(Round::Again(Learned { key_taken: true, ..learned })),
        };

        let mut report = Report {
            rows_read: counts.read,
            rows_inserted: counts.copied,
            rows_rejected: counts.rejects.count,
            rows_outside: counts.outside,
            table_changes,
            ..Report::default()
        };
        self.keep_rejected(conn, &mut counts).await?;
        if merges {
            merge::merge(self, conn, &layout, &mut counts, had_rows, &mut report).await?;
        }
        self.count_days(conn, &mut report).await?;
        Ok(Round::Done(report))
    }

    fn fit(&self, sources: &[String], standing: &Standing, learned: &Learned) -> Result<Layout, Error> {
        Layout::fit(sources, standing, self.target, &learned.surveyed, &self.place)
    }

    /// Whether a survey could help with a value that does not fit.
    fn wants_survey_on_conflict(&self, layout: &Layout) -> bool {
        self.target.on_type_conflict == OnTypeConflict::Widen
            || layout.columns.iter().any(|column| column.format.kind.is_none())
    }

    /// Copies the file with one statement.
    pub async fn copy(
        &self,
        conn: &mut PgConnection,
        statement: &str,
        layout: &Layout,
        destination: Destination,
        on_conflict: OnConflict,
    ) -> Result<Copied, Error> {
        let rows = Rows::new(Rules::new(layout, self.target), destination);
        let rejects = Rejects::new(&self.place.file, self.id);
        copy::file(conn, statement, rows, rejects, on_conflict, &self.place).await
    }

    async fn survey(&self, layout: &Layout, learned: Learned, extent: Extent) -> Result<Learned, Error> {
        let rules = Rules::new(layout, self.target);
        let (path, on_type_conflict) = (self.place.file.clone(), self.target.on_type_conflict);
        let found = tokio::task::spawn_blocking(move || survey(&path, &rules, on_type_conflict, extent)).await;
        let mut surveyed = learned.surveyed;
        surveyed.extend(copy::finished(found).map_err(self.place.file())?);
        Ok(Learned { surveyed, extent: Some(extent), key_taken: learned.key_taken })
    }

    async fn keep_rejected(&self, conn: &mut PgConnection, counts: &mut Counts) -> Result<(), Error> {
        const STATEMENT: &str = "copy impact_mirror.rejected_row (load_id, line, column_name, value, reason, raw) \
                                 from stdin (format binary)";
        if counts.rejects.count > 0 {
            copy::spill(conn, STATEMENT, &mut counts.rejects.rows, &self.place).await?;
        }
        Ok(())
    }

    /// The names in the first line; `None` for a file of no bytes.
    async fn header(&self) -> Result<Option<Vec<String>>, Error> {
        let path = self.place.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = Reader::new(File::open(path)?);
            Ok(match reader.next()? {
                None => None,
                Some(Item::Malformed { line, reason, .. }) => Some(Err((line, reason.to_string()))),
                Some(Item::Record(record)) => Some(
                    record
                        .fields()
                        .map(|name| std::str::from_utf8(name).map(|name| name.replace('\0', "\u{fffd}")))
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(|_| (record.line, "it is not UTF-8".to_owned())),
                ),
            })
        });
        let names = match copy::finished(read.await).map_err(self.place.file())? {
            None => return Ok(None),
            Some(Err((line, problem))) => return Err(self.place.header(line, problem)),
            Some(Ok(names)) => names,
        };
        if names.len() > MAX_COLUMNS {
            return Err(self.place.header(1, format!("{} columns are more than a table can hold", names.len())));
        }
        if names.iter().any(|name| name.contains('\r')) {
            // Lines that end with a carriage return alone: all rows would be taken for one header, and the window for empty.
            return Err(self.place.header(1, "it holds a carriage return"));
        }
        Ok(Some(names))
    }

    /// A file of no bytes is an empty window. No table is made of it: nobody knows its columns.
    async fn empty_file(&self, conn: &mut PgConnection) -> Result<Report, Error> {
        let mut report = Report::default();
        if catalog::read(conn, &self.table, &self.place).await?.exists {
            report.rows_deleted = self
                .bind_window(self.table.delete_window())
                .execute(&mut *conn)
                .await
                .map_err(self.place.database("empty the window"))?
                .rows_affected();
            self.count_days(conn, &mut report).await?;
        } else {
            report.rows_per_day = self.target.window.days().map(|day| (day, 0)).collect();
        }
        Ok(report)
    }

    /// The rows of the window; `None` where there is no table.
    pub async fn standing_rows(&self, conn: &mut PgConnection) -> Result<Option<u64>, Error> {
        if !catalog::read(conn, &self.table, &self.place).await?.exists {
            return Ok(None);
        }
        let row = self
            .bind_window(self.table.count_window())
            .fetch_one(conn)
            .await
            .map_err(self.place.database("count the rows of the window"))?;
        let count: i64 = sqlx::Row::try_get(&row, 0).map_err(self.place.database("count the rows of the window"))?;
        Ok(Some(count.unsigned_abs()))
    }

    /// The days of the window whose rows are all locked at `as_of`; none where the table cannot tell.
    pub async fn locked_days(
        &self,
        conn: &mut PgConnection,
        rule: &LockRule,
        as_of: DateTime<Utc>,
    ) -> Result<BTreeSet<NaiveDate>, Error> {
        let standing = catalog::read(conn, &self.table, &self.place).await?;
        let column = |source: &str| {
            standing.columns.iter().find(|column| column.in_table && folded(&column.source) == folded(source))
        };
        let Some(status) = column(&rule.status_column) else { return Ok(BTreeSet::new()) };
        let columns = LockColumns {
            status: &status.name,
            open: &rule.open,
            detail: rule
                .detail_column
                .as_deref()
                .and_then(column)
                .map(|column| (column.name.as_str(), rule.open_details.as_slice())),
            date: rule.date_column.as_deref().and_then(column).map(|column| (column.name.as_str(), column.kind)),
        };
        let statement = self.table.locked_days(&columns, self.target.time_zone.name());
        let days: Vec<(NaiveDate,)> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(self.target.account)
            .bind(self.target.program)
            .bind(self.target.window.from())
            .bind(self.target.window.to())
            .bind(as_of)
            .persistent(false)
            .fetch_all(conn)
            .await
            .map_err(self.place.database("look for locked days"))?;
        Ok(days.into_iter().map(|(day,)| day).collect())
    }

    async fn count_days(&self, conn: &mut PgConnection, report: &mut Report) -> Result<(), Error> {
        report.rows_per_day = self.target.window.days().map(|day| (day, 0)).collect();
        let statement = self.table.rows_per_day();
        let counted: Vec<(NaiveDate, i64, bool)> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(self.target.account)
            .bind(self.target.program)
            .bind(self.target.window.from())
            .bind(self.target.window.to())
            .bind(self.id)
            .persistent(false)
            .fetch_all(conn)
            .await
            .map_err(self.place.database("count the rows of the window"))?;
        report.days_written = counted.iter().filter(|(_, _, is_written)| *is_written).map(|(day, ..)| *day).collect();
        report.rows_per_day.extend(counted.into_iter().map(|(day, rows, _)| (day, rows.unsigned_abs())));
        Ok(())
    }

    /// A statement with the window as $1 to $4.
    pub fn bind_window(
        &self,
        statement: String,
    ) -> sqlx::query::Query<'a, sqlx::Postgres, sqlx::postgres::PgArguments> {
        sqlx::query(AssertSqlSafe(statement))
            .bind(self.target.account)
            .bind(self.target.program)
            .bind(self.target.window.from())
            .bind(self.target.window.to())
            .persistent(false)
    }

    async fn ask_window(&self, conn: &mut PgConnection, statement: String) -> Result<bool, Error> {
        let row =
            self.bind_window(statement).fetch_one(conn).await.map_err(self.place.database("look at the window"))?;
        sqlx::Row::try_get(&row, 0).map_err(self.place.database("look at the window"))
    }

    async fn savepoint(&self, conn: &mut PgConnection, statement: &'static str) -> Result<(), Error> {
        sqlx::raw_sql(statement).execute(conn).await.map_err(self.place.database("set a savepoint"))?;
        Ok(())
    }
}
