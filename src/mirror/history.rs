//! Keeps the versions of rows that a load replaces or deletes, in its transaction and only these.
//!
//! A version stands from its `_changed_at` until the load that supersedes it. So that no key stands twice at any time, times of
//! a table never go back, whatever the clocks say, and loads that bring keys of an account take turns as `merge` says.

mod make;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

pub(super) use make::{begin, make, take_view_away};

use super::error::{Error, Place};
use super::layout::{History, Layout, Standing};
use super::load::Load;
use super::table::Table;
use super::table::history::FORGET_EQUAL;
use super::table::merge::Merge;
use super::{Report, Target, Writes, catalog, merge};
use crate::account::AccountName;
use crate::export::{ExportName, Program};

const STEP: &str = "keep superseded versions";

/// The time at which a load writes rows into a window that had none.
pub(super) async fn time_of_copy(
    load: &Load<'_>,
    conn: &mut PgConnection,
    layout: &Layout,
) -> Result<DateTime<Utc>, Error> {
    if !load.target.history {
        return Ok(load.now);
    }
    if !layout.key.is_empty() {
        merge::share_keys(load, conn).await?;
    }
    time_of_change(load, conn).await
}

async fn time_of_change(load: &Load<'_>, conn: &mut PgConnection) -> Result<DateTime<Utc>, Error> {
    sqlx::query_scalar(AssertSqlSafe(load.table.time_of_change()))
        .bind(load.now)
        .persistent(false)
        .fetch_one(conn)
        .await
        .map_err(load.place.database(STEP))
}

/// Keeps what a merge of a table with history replaces and deletes.
pub(super) struct Keeper<'a> {
    load: &'a Load<'a>,
    columns: Vec<&'a str>,
    /// When the merge writes.
    at: DateTime<Utc>,
}

impl<'a> Keeper<'a> {
    /// Keeps the versions that are to be replaced, before they are; `None` where the table keeps none. The changed records are
    /// staged with all their values. Of a reload, rows that come as they stood are taken out: they are no new versions.
    pub async fn begin(
        load: &'a Load<'a>,
        conn: &mut PgConnection,
        layout: &'a Layout,
        report: &mut Report,
    ) -> Result<Option<Self>, Error> {
        if !load.target.history {
            return Ok(None);
        }
        let file = layout.columns.iter().map(|column| column.name.as_str());
        let columns: Vec<&str> = file.chain(layout.others.iter().map(|(name, _)| name.as_str())).collect();
        let mut keeper = Self { load, columns, at: time_of_change(load, conn).await? };
        if load.writes == Writes::All {
            keeper.leave_equal(conn, report).await?;
        }
        if report.rows_updated > 0 {
            keeper.keep_replaced(conn).await?;
        }
        Ok(Some(keeper))
    }

    /// When the merge writes.
    pub fn time(&self) -> DateTime<Utc> {
        self.at
    }

    /// Deletes the rows that the window no longer has, and keeps them; says what `Merge::delete_gone` does.
    pub async fn delete_gone(
        &self,
        conn: &mut PgConnection,
        of: &Merge<'_>,
    ) -> Result<(i64, Vec<Option<String>>, Vec<i64>), Error> {
        let load = self.load;
        if load.table.is_distributed() {
            self.keep(conn, load.table.keep_gone_apart(&self.columns)).await?;
            let figures = merge::ask(conn, of.figures_of_gone(), &load.place).await?;
            merge::run(conn, of.delete_places(), &load.place).await?;
            return Ok(figures);
        }
        let kept = load.table.keep_gone(&self.columns);
        sqlx::query_as(AssertSqlSafe(of.delete_gone(Some(&kept))))
            .bind(self.at)
            .bind(self.load.id)
            .persistent(false)
            .fetch_one(conn)
            .await
            .map_err(self.load.place.database(STEP))
    }

    /// Keeps versions as superseded by this load, now.
    async fn keep(&self, conn: &mut PgConnection, statement: String) -> Result<(), Error> {
        let keep = sqlx::query(AssertSqlSafe(statement)).bind(self.at).bind(self.load.id).persistent(false);
        keep.execute(conn).await.map_err(self.load.place.database(STEP))?;
        Ok(())
    }

    async fn keep_replaced(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        if self.load.table.is_distributed() {
            let [time, versions] = self.load.table.keep_replaced_apart(&self.columns);
            let time = sqlx::query_scalar(AssertSqlSafe(time)).bind(self.at).persistent(false);
            self.at = time.fetch_one(&mut *conn).await.map_err(self.load.place.database(STEP))?;
            return self.keep(conn, versions).await;
        }
        self.at = sqlx::query_scalar(AssertSqlSafe(self.load.table.keep_replaced(&self.columns)))
            .bind(self.at)
            .bind(self.load.id)
            .persistent(false)
            .fetch_one(&mut *conn)
            .await
            .map_err(self.load.place.database(STEP))?;
        Ok(())
    }

    async fn leave_equal(&self, conn: &mut PgConnection, report: &mut Report) -> Result<(), Error> {
        let load = self.load;
        for statement in load.table.find_equal(&self.columns, load.target.program.as_str()) {
            run(load, conn, statement).await?;
        }
        let keep = sqlx::query(AssertSqlSafe(load.table.keep_equal())).bind(load.id).persistent(false);
        let kept = keep.execute(&mut *conn).await.map_err(load.place.database(STEP))?.rows_affected();
        run(load, conn, FORGET_EQUAL.to_owned()).await?;
        report.rows_unchanged += kept;
        report.rows_updated -= kept;
        Ok(())
    }
}

/// Deletes all rows of the window and keeps them.
pub(super) async fn empty_window(load: &Load<'_>, conn: &mut PgConnection, standing: &Standing) -> Result<u64, Error> {
    if !load.target.key.is_empty() {
        merge::own_keys(load, conn).await?;
    }
    let at = time_of_change(load, conn).await?;
    let columns = standing.columns.iter().filter(|column| column.in_table).map(|column| column.name.as_str());
    let columns: Vec<_> = columns.collect();
    if load.table.is_distributed() {
        let Target { account, program, window, .. } = load.target;
        let kept = load.table.keep_window_apart(&columns, account.as_str(), program.as_str(), *window);
        let kept = sqlx::query(AssertSqlSafe(kept)).bind(at).bind(load.id).persistent(false);
        kept.execute(&mut *conn).await.map_err(load.place.database(STEP))?;
        let deleted = load.bind_window(load.table.delete_window()).execute(conn).await;
        return Ok(deleted.map_err(load.place.database(STEP))?.rows_affected());
    }
    let statement = load.table.keep_window(&columns);
    let row =
        load.bind_window(statement).bind(at).bind(load.id).fetch_one(conn).await.map_err(load.place.database(STEP))?;
    let count: i64 = sqlx::Row::try_get(&row, 0).map_err(load.place.database(STEP))?;
    Ok(count.unsigned_abs())
}

async fn run(load: &Load<'_>, conn: &mut PgConnection, statement: String) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map_err(load.place.database(STEP))?;
    Ok(())
}

/// Deletes the versions of an account's program up to a day, that day included.
pub(super) async fn delete_until(
    conn: &mut PgConnection,
    table: &Table,
    account: &AccountName,
    program: &Program,
    day: NaiveDate,
    place: &Place,
) -> Result<(), Error> {
    sqlx::query(AssertSqlSafe(table.delete_until()))
        .bind(account)
        .bind(program)
        .bind(day)
        .persistent(false)
        .execute(conn)
        .await
        .map_err(place.database("delete the versions of days that are kept no longer"))?;
    Ok(())
}

/// Deletes the versions of all days before one.
pub(super) async fn delete_before(
    conn: &mut PgConnection,
    table: &Table,
    day: NaiveDate,
    place: &Place,
) -> Result<(), Error> {
    sqlx::query(AssertSqlSafe(table.delete_before()))
        .bind(day)
        .persistent(false)
        .execute(conn)
        .await
        .map_err(place.database("delete the versions of days that are kept no longer"))?;
    Ok(())
}

/// How many superseded versions there are of an account's days from one on, where given, and before another.
pub async fn count_versions(
    conn: &mut PgConnection,
    schema: &str,
    export: &ExportName,
    account: &AccountName,
    from: Option<NaiveDate>,
    before: NaiveDate,
) -> Result<i64, Error> {
    let (table, place) = (Table::new(schema, export), Place::without_file(export));
    if catalog::read(conn, &table, &place).await?.history == History::None {
        return Ok(0);
    }
    sqlx::query_scalar(AssertSqlSafe(table.count_versions()))
        .bind(account)
        .bind(from)
        .bind(before)
        .persistent(false)
        .fetch_one(conn)
        .await
        .map_err(place.database("count superseded versions"))
}
