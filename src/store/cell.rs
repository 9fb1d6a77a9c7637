//! The cells that a load fills: how many rows, whether they changed, and when they are read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use sqlx::PgConnection;

use super::change_rate;
use super::{Error, failed};
use crate::clock::day_end;
use crate::export::RefreshRule;
use crate::job::Job;
use crate::job::reread::{After, Before, Found, compare};
use crate::plan::{Observed, is_complete, next_refresh_at};

/// So long after a day new rows of it may still be recorded (impact-api §7.2), so that locked ones do not settle it.
const LATE_ROWS: TimeDelta = TimeDelta::days(7);

/// What a load leaves in the days of its window.
#[derive(Debug)]
pub struct Filled {
    /// The rows of each day; `None` where the file was the same as before.
    pub rows_per_day: Option<BTreeMap<NaiveDate, u64>>,
    /// Days with rows that it wrote.
    pub written: BTreeSet<NaiveDate>,
    /// Days whose rows are all locked.
    pub locked: BTreeSet<NaiveDate>,
    /// The rows are at least this new.
    pub as_of: DateTime<Utc>,
}

/// Marks the cells of a job's window as loaded, and learns from what the read found against the one before.
pub async fn fill(
    conn: &mut PgConnection,
    job: &Job,
    filled: &Filled,
    time_zone: Tz,
    rules: &[RefreshRule],
) -> Result<(), Error> {
    let before = read(conn, job).await?;
    let mut new = New::default();
    let mut seen = Observed::default();
    for day in job.window.days() {
        let rows = filled.rows_per_day.as_ref().map(|rows| rows.get(&day).copied().unwrap_or(0));
        let complete = is_complete(time_zone, day, filled.as_of);
        let after = After { as_of: filled.as_of, complete, rows, is_written: filled.written.contains(&day) };
        let found = match before.get(&day).copied() {
            // A reload reads nothing at impact.com, so that it teaches nothing.
            Some(before) if job.reload_of.is_some() => {
                Found { unchanged_reads: before.unchanged_reads, ..Found::default() }
            }
            before => compare(before, after),
        };
        if let Some(waited) = found.waited {
            let age = filled.as_of - day_end(time_zone, day);
            seen.add(age, waited, found.changed);
        }
        let is_young = filled.as_of - day_end(time_zone, day) < LATE_ROWS;
        let is_locked = complete && !is_young && filled.locked.contains(&day);
        let by_rules = next_refresh_at(time_zone, day, filled.as_of, rules, found.unchanged_reads);
        new.days.push(day);
        new.rows.push(rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)));
        new.complete.push(complete);
        new.locked.push(is_locked);
        new.refresh.push(by_rules.filter(|_| !is_locked));
        new.unchanged_reads.push(i32::try_from(found.unchanged_reads).unwrap_or(i32::MAX));
        new.changed.push(found.changed);
    }
    write(conn, job, filled.as_of, &new).await?;
    change_rate::learn(conn, job, &seen, filled.as_of).await
}

/// The loaded cells of the window.
async fn read(conn: &mut PgConnection, job: &Job) -> Result<HashMap<NaiveDate, Before>, Error> {
    let cells = sqlx::query!(
        r#"
        select day, as_of as "as_of!", complete, rows as "rows!", unchanged_reads
        from impact_mirror.cell
        where export = $1 and account = $2 and program = $3 and day between $4 and $5 and as_of is not null
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the cells of a window"))?;
    let before = cells.into_iter().map(|cell| {
        let before = Before {
            as_of: cell.as_of,
            complete: cell.complete,
            rows: cell.rows.unsigned_abs(),
            unchanged_reads: cell.unchanged_reads.unsigned_abs(),
        };
        (cell.day, before)
    });
    Ok(before.collect())
}

/// The new contents of cells, column by column.
#[derive(Default)]
struct New {
    days: Vec<NaiveDate>,
    rows: Vec<Option<i64>>,
    complete: Vec<bool>,
    locked: Vec<bool>,
    refresh: Vec<Option<DateTime<Utc>>>,
    unchanged_reads: Vec<i32>,
    changed: Vec<bool>,
}

async fn write(conn: &mut PgConnection, job: &Job, as_of: DateTime<Utc>, new: &New) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into impact_mirror.cell as c (export, account, program, day, rows, loaded_at, as_of, complete, locked,
            next_refresh_at, unchanged_reads, changed_at, job_id)
        select $1, $2, $3, new.day, coalesce(new.rows, 0), clock_timestamp(), $4, new.complete, new.locked,
               new.next_refresh_at, new.unchanged_reads, case when new.changed then clock_timestamp() end, $5
        from unnest($6::date[], $7::bigint[], $8::boolean[], $9::boolean[], $10::timestamptz[], $11::integer[], $12::boolean[])
            as new (day, rows, complete, locked, next_refresh_at, unchanged_reads, changed)
        on conflict (export, account, program, day) do update
        set rows = case when $13 then excluded.rows else c.rows end,
            loaded_at = excluded.loaded_at, as_of = excluded.as_of, complete = excluded.complete, locked = excluded.locked,
            next_refresh_at = excluded.next_refresh_at, unchanged_reads = excluded.unchanged_reads,
            changed_at = coalesce(excluded.changed_at, c.changed_at), job_id = excluded.job_id,
            failed_at = null, failed_job_id = null
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        as_of,
        job.id.0,
        &new.days,
        &new.rows as &[Option<i64>],
        &new.complete,
        &new.locked,
        &new.refresh as &[Option<DateTime<Utc>>],
        &new.unchanged_reads,
        &new.changed,
        new.rows.iter().all(Option::is_some),
    )
    .execute(conn)
    .await
    .map_err(failed("fill cells"))?;
    Ok(())
}
