//! What stands in the database after a file was loaded.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use impact_mirror::account::AccountName;
use impact_mirror::column::{ColumnKind, OnTypeConflict, Partition};
use impact_mirror::config::Distribution;
use impact_mirror::error_chain::Chain;
use impact_mirror::export::{ExportName, LockRule, Program, ResultFormat, Window};
use impact_mirror::mirror::{self, Error, Report, Target, Widens, Writes};
use impact_mirror::retry::ErrorKind;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tempfile::TempDir;

use crate::support::cluster;
use crate::support::database::{TestDatabase, migrated};

mod columns;
mod faithful;
mod history;
mod json;
mod locks;
mod malformed;
mod merging;
mod partitions;
mod rubble;
mod types;
mod widening;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// An export of one account in a database of its own; the fields are the target of its next load.
struct Mirror {
    database: Arc<TestDatabase>,
    pool: PgPool,
    dir: TempDir,
    now: DateTime<Utc>,
    export: ExportName,
    account: AccountName,
    program: Program,
    window: Window,
    zone: Tz,
    key: Vec<String>,
    date_column: Option<String>,
    configured: BTreeMap<String, ColumnKind>,
    typed_by_user: BTreeSet<String>,
    metadata: BTreeMap<String, ColumnKind>,
    on_type_conflict: OnTypeConflict,
    partition: Partition,
    /// The format of the next file.
    format: ResultFormat,
    history: bool,
    /// The load whose file the next one reads again, as from the archive.
    reload_of: Option<i64>,
    /// Whether the next load writes all rows, as a reload does.
    reloads_all: bool,
    /// How the next load has columns widened.
    widens: Widens,
    distribution: Distribution,
    /// What tells that a row is locked.
    lock_rule: Option<LockRule>,
    /// The days that were locked after the last load.
    locked: BTreeSet<NaiveDate>,
}

impl Mirror {
    /// Rows without a key and without a date, on 2026-05-01.
    async fn unkeyed() -> Self {
        let database = migrated().await;
        let pool = database.pool().clone();
        sqlx::raw_sql(
            "insert into impact_mirror.account (name, persona, time_zone) values \
                 ('acme', 'brand', 'America/New_York'), ('other', 'brand', 'Europe/Berlin'); \
             insert into impact_mirror.export (name, bucket, table_name, freshness, refresh) \
                 values ('actions', 'report_export', 'actions', '1 day', '[]')",
        )
        .execute(&pool)
        .await
        .unwrap();
        Self {
            database: Arc::new(database),
            pool,
            dir: TempDir::new().unwrap(),
            now: "2026-06-01T00:00:00Z".parse().unwrap(),
            export: ExportName::new("actions"),
            account: AccountName::new("acme"),
            program: Program::new("1000"),
            window: Window::day(day("2026-05-01")),
            zone: chrono_tz::America::New_York,
            key: Vec::new(),
            date_column: None,
            configured: BTreeMap::new(),
            typed_by_user: BTreeSet::new(),
            metadata: BTreeMap::new(),
            on_type_conflict: OnTypeConflict::Widen,
            partition: Partition::None,
            format: ResultFormat::Csv,
            history: false,
            reload_of: None,
            reloads_all: false,
            widens: Widens::Within,
            distribution: cluster::distribution(),
            lock_rule: None,
            locked: BTreeSet::new(),
        }
    }

    /// Actions by `Id`, dated by `Day`, in the first three days of May 2026.
    async fn keyed() -> Self {
        Self {
            key: vec!["Id".to_owned()],
            date_column: Some("Day".to_owned()),
            window: Window::new(day("2026-05-01"), day("2026-05-03")).unwrap(),
            ..Self::unkeyed().await
        }
    }

    /// The same export and account for another program, with a clock and files of its own.
    fn beside(&self, program: Program) -> Self {
        Self {
            database: Arc::clone(&self.database),
            pool: self.pool.clone(),
            dir: TempDir::new().unwrap(),
            now: self.now,
            export: self.export.clone(),
            account: self.account.clone(),
            program,
            window: self.window,
            zone: self.zone,
            key: self.key.clone(),
            date_column: self.date_column.clone(),
            configured: self.configured.clone(),
            typed_by_user: self.typed_by_user.clone(),
            metadata: self.metadata.clone(),
            on_type_conflict: self.on_type_conflict,
            partition: self.partition,
            format: self.format,
            history: self.history,
            reload_of: None,
            reloads_all: false,
            widens: self.widens,
            distribution: self.distribution,
            lock_rule: self.lock_rule.clone(),
            locked: BTreeSet::new(),
        }
    }

    /// Loads and commits, and checks what must hold for every load.
    async fn load(&mut self, csv: impl AsRef<[u8]>) -> Report {
        self.try_load(csv).await.unwrap_or_else(|error| panic!("{}", Chain(&error)))
    }

    async fn try_load(&mut self, csv: impl AsRef<[u8]>) -> Result<Report, Error> {
        self.now += TimeDelta::hours(1);
        let file: PathBuf = self.dir.path().join("result.csv");
        std::fs::write(&file, csv).unwrap();
        let mut conn = self.pool.acquire().await.unwrap();
        let mut added = mirror::add_columns(&mut conn, &file, self.format, &self.target(), self.now).await?;
        drop(conn);
        let mut target = self.target();
        let mut writes = if self.reloads_all { Writes::All } else { Writes::Differing };
        let (mut tx, load_id, mut report) = loop {
            let mut tx = self.pool.begin().await.unwrap();
            let load_id = self.begin_load(&mut tx).await;
            match mirror::load(&mut tx, &file, self.format, &target, load_id, self.now, writes).await {
                Ok(report) => break (tx, load_id, report),
                Err(Error::Narrow { widening, .. }) => {
                    tx.rollback().await.unwrap();
                    let mut conn = self.pool.acquire().await.unwrap();
                    let widened = mirror::widen(&mut conn, &file, self.format, &target, &widening, self.now).await?;
                    added.extend(widened.table_changes);
                    writes = widened.writes;
                    target.widens = Widens::Within;
                }
                Err(error) => return Err(error),
            }
        };
        added.append(&mut report.table_changes);
        report.table_changes = added;
        let locked = match &self.lock_rule {
            Some(rule) => mirror::locked_days(&mut tx, &target, rule, self.now).await?,
            None => BTreeSet::new(),
        };
        self.locked = locked;
        sqlx::query(
            "update impact_mirror.load
             set rows_read = $2, rows_inserted = $3, rows_updated = $4, rows_unchanged = $5, rows_rejected = $6,
                 rows_deleted = $7
             where id = $1",
        )
        .bind(load_id)
        .bind(i64::try_from(report.rows_read).unwrap())
        .bind(i64::try_from(report.rows_inserted).unwrap())
        .bind(i64::try_from(report.rows_updated).unwrap())
        .bind(i64::try_from(report.rows_unchanged).unwrap())
        .bind(i64::try_from(report.rows_rejected).unwrap())
        .bind(i64::try_from(report.rows_deleted).unwrap())
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();

        let rejected: i64 = sqlx::query_scalar("select count(*) from impact_mirror.rejected_row where load_id = $1")
            .bind(load_id)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        assert_eq!(rejected.unsigned_abs(), report.rows_rejected);
        let left: Vec<_> = std::fs::read_dir(self.dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the file itself is left: {left:?}");
        Ok(report)
    }

    /// The row of the next load, with a job of its own.
    async fn begin_load(&self, conn: &mut PgConnection) -> i64 {
        sqlx::query_scalar(
            "with job as (
                 insert into impact_mirror.job (export, account, from_day, to_day, reason, state, priority, bucket,
                     request, wanted_after, run_at, created_at, finished_at, reload_of)
                 values ($1, $2, $4, $5, 'manual', 'cancelled', 0, 'report_export', '{}', $6, $6, $6, $6, $7)
                 returning id)
             insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256,
                 file_bytes, target_hash, started_at, committed_at)
             select id, $1, $2, $3, $4, $5, '', 0, gen_random_uuid(), $6, $6 from job
             returning id",
        )
        .bind(&self.export)
        .bind(&self.account)
        .bind(&self.program)
        .bind(self.window.from())
        .bind(self.window.to())
        .bind(self.now)
        .bind(self.reload_of)
        .fetch_one(conn)
        .await
        .unwrap()
    }

    fn target(&self) -> Target<'_> {
        Target {
            schema: "impact",
            export: &self.export,
            account: &self.account,
            program: &self.program,
            window: self.window,
            time_zone: self.zone,
            key: &self.key,
            date_column: self.date_column.as_deref(),
            configured: &self.configured,
            typed_by_user: &self.typed_by_user,
            metadata: &self.metadata,
            on_type_conflict: self.on_type_conflict,
            partition: self.partition,
            history: self.history,
            widens: self.widens,
            distribution: self.distribution,
        }
    }

    /// The rows of a query of one text column.
    async fn query(&self, statement: &str) -> Vec<String> {
        let rows: Vec<Option<String>> =
            sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(&self.pool).await.unwrap();
        rows.into_iter().map(|row| row.unwrap_or_else(|| "NULL".to_owned())).collect()
    }

    /// Columns of the mirrored table, joined by `|`, NULL as `-`, in order of the file's lines.
    async fn rows(&self, columns: &str) -> Vec<String> {
        let columns: Vec<_> = columns.split(' ').map(|column| format!("coalesce(\"{column}\"::text, '-')")).collect();
        self.query(&format!(
            "select concat_ws('|', {}) from impact.actions order by _load_id, _line",
            columns.join(", ")
        ))
        .await
    }

    /// The rejected rows of the last load: line, column and reason.
    async fn rejected(&self) -> Vec<String> {
        self.query(
            "select concat_ws('|', line, coalesce(column_name, '-'), reason) from impact_mirror.rejected_row \
             where load_id = (select max(id) from impact_mirror.load) order by line",
        )
        .await
    }

    /// The mirrored columns with their types, in the order of the table.
    async fn types(&self) -> Vec<String> {
        self.query(
            "select concat_ws(' ', a.attname, format_type(a.atttypid, -1), m.origin) from pg_attribute a \
             join impact_mirror.mirrored_column m on m.column_name = a.attname \
             where a.attrelid = 'impact.actions'::regclass order by a.attnum",
        )
        .await
    }
}

/// inserted, updated, deleted, unchanged, rejected
fn counts(report: &Report) -> [u64; 5] {
    [report.rows_inserted, report.rows_updated, report.rows_deleted, report.rows_unchanged, report.rows_rejected]
}
