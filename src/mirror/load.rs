//! The course of a load: fit the table to the file, try the short way, and go back for the longer one where it fails.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::copy::{self, Copied, Order};
use super::ddl::Indexes;
use super::error::{Error, Place};
use super::header::folded;
use super::layout::{Change, Layout, MAX_COLUMNS, Standing, Surveyed};
use super::merge::{Compared, Staged};
use super::pass::{Counts, OnConflict};
use super::records::{Item, Shape};
use super::rejects::Rejects;
use super::rows::{Destination, Rows, Rules};
use super::sides::{Read, Reading};
use super::survey::{Extent, survey};
use super::table::{Freeze, LockColumns, Table};
use super::widen::{self, Widening};
use super::{
    Report, Target, Widens, Writes, catalog, columns, csv, ddl, emptied, history, json, merge, publication, restated,
};
use crate::column::OnTypeConflict;
use crate::config::Distribution;
use crate::export::{LockRule, ResultFormat};
use crate::failpoint;
use crate::thread::finished;

/// How often we go back to the beginning; each reason to do so comes once, but for others who change the table.
const MAX_ROUNDS: usize = 8;

/// One file on its way into its table.
#[derive(Clone)]
pub(super) struct Load<'a> {
    pub target: &'a Target<'a>,
    pub table: Table,
    pub place: Place,
    pub id: i64,
    pub now: DateTime<Utc>,
    /// How the file is cut into records.
    pub shape: Shape,
    pub writes: Writes,
}

/// What was learned in earlier rounds.
#[derive(Default)]
pub(super) struct Learned {
    surveyed: Surveyed,
    extent: Option<Extent>,
    /// A key of the file stands elsewhere, or twice in the file.
    key_taken: bool,
}

impl Learned {
    /// What a survey of the whole file found.
    pub fn of(surveyed: Surveyed) -> Self {
        Self { surveyed, extent: Some(Extent::Whole), key_taken: false }
    }
}

enum Round {
    Done(Report),
    /// Go back to the savepoint and begin again with what is known now.
    Again(Learned),
}

impl<'a> Load<'a> {
    pub fn new(file: &Path, format: ResultFormat, target: &'a Target<'a>, id: i64, now: DateTime<Utc>) -> Self {
        let table = Table::new(target.schema, target.export);
        let table = match target.distribution {
            Distribution::None => table,
            Distribution::Citus => table.distributed(target.account.as_str()),
        };
        Self {
            target,
            table,
            place: Place { export: target.export.clone(), file: file.to_owned() },
            id,
            now,
            shape: Shape::unknown(format),
            writes: Writes::Differing,
        }
    }

    pub async fn run(mut self, conn: &mut PgConnection) -> Result<Report, Error> {
        ddl::enter(conn, &self.table, &self.place).await?;
        let Some((sources, shape)) = self.columns().await? else { return emptied::empty_window(&self, conn).await };
        self.shape = shape;
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
        let mut staged = None;
        let mut is_new = false;
        let mut becomes_text = false;
        // A partitioned table has no index that would find a key under another day.
        let finds_keys = layout.by_month && !layout.key.is_empty();
        if !layout.changes.is_empty() {
            ddl::lock(conn, &self.table, &self.place).await?;
            standing = catalog::read(conn, &self.table, &self.place).await?;
            layout = self.fit(sources, &standing, &learned)?;
            if standing.exists && layout.keeps_readers_out() {
                if self.target.widens == Widens::Before && widen::is_possible(self, conn, &layout, &standing).await? {
                    let widening = Widening(learned.surveyed);
                    return Err(Error::Narrow { export: self.place.export.clone(), widening });
                }
                // Readers shall wait for the change alone, so the file is read before.
                let read = self.reading(&layout, self.on_conflict(&layout, &learned)).end(&self.place).await?;
                if matches!(read, Read::TypeConflict) {
                    return Ok(Round::Again(self.survey(&layout, learned, Extent::Whole).await?));
                }
                if layout.retypes() {
                    ddl::keep_readers_out_to_retype(conn, &self.table, &self.place).await?;
                } else {
                    ddl::keep_readers_out(conn, &self.table, &self.place).await?;
                }
                staged = Some((read, layout.columns.clone()));
            }
            // A merge needs the indexes to find keys with.
            becomes_text = layout.makes_text();
            is_new = layout.changes.contains(&Change::Create) && !learned.key_taken && !finds_keys;
            let indexes = if is_new { Indexes::Later } else { Indexes::Now };
            table_changes = ddl::apply(conn, &self.table, &layout, indexes, self.id, self.now, &self.place).await?;
            // Before a row is written: Postgres takes no update of a published table whose rows it cannot name.
            let published = publication::keep_in_step(conn, self.target.schema).await;
            table_changes.extend(published.map_err(self.place.database("keep the publication in step"))?);
            failpoint::reach("table-changed");
            standing = catalog::read(conn, &self.table, &self.place).await?;
            layout = self.fit(sources, &standing, &learned)?;
            staged = staged.filter(|(_, columns)| *columns == layout.columns);
            if is_new {
                // The key that is built later is no change to a history that was just made.
                let later =
                    |change: &Change| matches!(change, Change::KeyIndex | Change::WindowIndex | Change::History);
                layout.changes.retain(|change| !later(change));
            }
        }

        // Texts that were made of values are not those of the file: all rows are written, to have these.
        let writes = if becomes_text { Writes::All } else { self.writes };
        let load = &Self { writes, ..self.clone() };

        let had_rows: bool = self.ask_window(conn, self.table.window_has_rows()).await?;
        // From here on nobody can change the table; somebody may have, until here.
        if !layout.changes.is_empty() || catalog::read(conn, &self.table, &self.place).await? != standing {
            return Ok(Round::Again(learned));
        }

        let on_conflict = self.on_conflict(&layout, &learned);
        let mut report;
        if had_rows || learned.key_taken || staged.is_some() || finds_keys {
            let file = match staged {
                Some((read, _)) => Staged::Read(Box::new(read)),
                None => Staged::Reading(self.reading(&layout, on_conflict)),
            };
            let compared = merge::compare(load, conn, &layout, file, had_rows).await?;
            let Compared::Whole(counts, mut rejects, differences) = compared else {
                return Ok(Round::Again(self.survey(&layout, learned, Extent::Whole).await?));
            };
            report = self.report(conn, &counts, &mut rejects, table_changes).await?;
            merge::merge(load, conn, &layout, *differences, rejects.without_key > 0, had_rows, &mut report).await?;
        } else {
            let freeze =
                if is_new && !layout.by_month && !self.table.is_distributed() { Freeze::Frozen } else { Freeze::Plain };
            // An index that is built later wants no order.
            let order = if is_new || layout.key.is_empty() { Order::AsInFile } else { Order::ByKey };
            let (mut counts, mut rejects) = match self.copy(conn, &layout, freeze, order, on_conflict).await? {
                Copied::Whole(counts, rejects) => (counts, rejects),
                Copied::TypeConflict => {
                    return Ok(Round::Again(self.survey(&layout, learned, Extent::Whole).await?));
                }
                Copied::KeyTaken => return Ok(Round::Again(Learned { key_taken: true, ..learned })),
            };
            if is_new && !ddl::build_indexes(conn, &self.table, &layout, &self.place).await? {
                return Ok(Round::Again(Learned { key_taken: true, ..learned }));
            }
            report = self.report(conn, &counts, &mut rejects, table_changes).await?;
            // The window was empty: what was copied is all that stands there.
            report.rows_inserted = counts.taken;
            report.rows_per_day = self.target.window.days().map(|day| (day, 0)).collect();
            report.days_written = counts.days.keys().copied().collect();
            report.rows_per_day.append(&mut counts.days);
            if !is_new && report.rows_inserted > 0 {
                restated::keep_refilled(self, conn, &layout).await?;
            }
        }
        columns::record(self, conn, &layout).await?;
        Ok(Round::Done(report))
    }

    pub fn fit(&self, sources: &[String], standing: &Standing, learned: &Learned) -> Result<Layout, Error> {
        Layout::fit(sources, standing, self.target, &learned.surveyed, &self.place)
    }

    /// Stops where a survey could help with a value that does not fit.
    fn on_conflict(&self, layout: &Layout, learned: &Learned) -> OnConflict {
        let could_help = self.target.on_type_conflict == OnTypeConflict::Widen
            || layout.columns.iter().any(|column| column.format.kind.is_none());
        if could_help && learned.extent != Some(Extent::Whole) { OnConflict::Stop } else { OnConflict::Reject }
    }

    /// Copies the file straight into the mirrored table.
    async fn copy(
        &self,
        conn: &mut PgConnection,
        layout: &Layout,
        freeze: Freeze,
        order: Order,
        on_conflict: OnConflict,
    ) -> Result<Copied, Error> {
        let destination = Destination::Mirrored {
            account: self.target.account.as_str().to_owned(),
            program: self.target.program.as_str().to_owned(),
            load_id: self.id,
            now: history::time_of_copy(self, conn, layout).await?,
        };
        let rows = Rows::new(Rules::new(layout, self.target), destination);
        let rejects = Rejects::new(&self.place.file, self.id);
        let statement = self.table.copy(layout, freeze);
        copy::file(self, conn, &statement, rows, order, rejects, on_conflict).await
    }

    /// Begins to read the file, to be compared.
    pub fn reading(&self, layout: &Layout, on_conflict: OnConflict) -> Reading {
        let rules = Rules::new(layout, self.target);
        Reading::start(self.place.file.clone(), self.shape.clone(), rules, self.id, on_conflict)
    }

    pub async fn survey(&self, layout: &Layout, learned: Learned, extent: Extent) -> Result<Learned, Error> {
        let rules = Rules::new(layout, self.target);
        let (path, shape, on_type_conflict) =
            (self.place.file.clone(), self.shape.clone(), self.target.on_type_conflict);
        let found = tokio::task::spawn_blocking(move || survey(&path, &shape, &rules, on_type_conflict, extent));
        let mut surveyed = learned.surveyed;
        surveyed.extend(finished(found).await.map_err(self.place.file())?);
        Ok(Learned { surveyed, extent: Some(extent), key_taken: learned.key_taken })
    }

    /// Keeps what was rejected, and begins the report.
    async fn report(
        &self,
        conn: &mut PgConnection,
        counts: &Counts,
        rejects: &mut Rejects,
        table_changes: Vec<String>,
    ) -> Result<Report, Error> {
        const STATEMENT: &str = "copy impact_mirror.rejected_row (load_id, line, column_name, value, reason, raw) \
                                 from stdin (format binary)";
        if rejects.count > 0 {
            copy::spill(conn, STATEMENT, &mut rejects.rows, &self.place).await?;
        }
        Ok(Report {
            rows_read: counts.read,
            rows_rejected: rejects.count,
            rows_outside: counts.outside,
            table_changes,
            ..Report::default()
        })
    }

    /// The names of the columns, and how records give them; `None` for a file without either.
    pub async fn columns(&self) -> Result<Option<(Vec<String>, Shape)>, Error> {
        match self.shape.format() {
            ResultFormat::Csv => {
                let names = self.header().await?;
                Ok(names.map(|names| (names.clone(), Shape::Csv { width: names.len() })))
            }
            ResultFormat::Json => self.names().await,
        }
    }

    /// The names in the records, in order of first sight.
    async fn names(&self) -> Result<Option<(Vec<String>, Shape)>, Error> {
        let path = self.place.file.clone();
        let read = tokio::task::spawn_blocking(move || json::Names::read(File::open(path)?));
        match finished(read).await {
            Ok(None) => Ok(None),
            Ok(Some(names)) => Ok(Some((names.sources(), Shape::Json(Arc::new(names))))),
            Err(error) => Err(match error.downcast::<json::NotAResult>() {
                Ok(problem) => self.place.no_result(problem),
                Err(error) => self.place.file()(error),
            }),
        }
    }

    /// The names in the first line; `None` for a file of no bytes.
    async fn header(&self) -> Result<Option<Vec<String>>, Error> {
        let path = self.place.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = csv::Reader::new(File::open(path)?);
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
        let names = match finished(read).await.map_err(self.place.file())? {
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

    /// The rows of the window; `None` where there is no table.
    pub async fn standing_rows(&self, conn: &mut PgConnection) -> Result<Option<u64>, Error> {
        ddl::enter(conn, &self.table, &self.place).await?;
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

    /// Tells of each day how many rows stand there, and whether this load wrote one of them; of the others, that none does.
    pub fn count_days(&self, counted: Vec<(NaiveDate, i64, bool)>, report: &mut Report) {
        report.rows_per_day = self.target.window.days().map(|day| (day, 0)).collect();
        report.days_written = counted.iter().filter(|(_, _, is_written)| *is_written).map(|(day, ..)| *day).collect();
        report.rows_per_day.extend(counted.into_iter().map(|(day, rows, _)| (day, rows.unsigned_abs())));
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
