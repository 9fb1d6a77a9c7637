//! How long rows are kept, and the partitions they will need: what is past its `keep` goes, and next month's place is made.

use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use sqlx::{Connection, PgConnection, PgPool};

use crate::clock::{day_in, day_start};
use crate::column::Partition;
use crate::config::{Export, Settings};
use crate::export::{ExportName, Window};
use crate::failpoint;
use crate::mirror::{self, history, partitions};
use crate::{account::AccountName, store};

/// Days that are deleted in one transaction.
const CHUNK_DAYS: u32 = 31;
/// How far ahead `plan` tells of drops.
const FORESEEN: Days = Days::new(31);

/// Fails where a table is not partitioned as its export's settings say.
pub async fn check(conn: &mut PgConnection, settings: &Settings, export: &Export) -> anyhow::Result<()> {
    Ok(partitions::check(conn, &settings.database.schema, &export.name, export.partition).await?)
}

/// Makes the partitions of this month and the next, and drops what is kept no longer, of these exports.
pub async fn keep_tables(pool: &PgPool, settings: &Settings, exports: &[ExportName]) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    for export in exports.iter().filter_map(|name| settings.exports.get(name)) {
        let now = store::coverage::database_now(&mut conn).await?;
        if export.partition == Partition::Month {
            make_ahead(&mut conn, settings, export, now).await?;
        }
        if export.keep_days.is_none()
            || store::retention::drops_from(&mut conn, &export.name).await?.is_none_or(|at| at > now)
        {
            continue;
        }
        match export.partition {
            Partition::Month => drop_months(&mut conn, settings, export, now).await?,
            Partition::None => delete_days(&mut conn, settings, export, now).await?,
        }
    }
    Ok(())
}

/// Brings the views for analysts up to date with the configuration. That it cannot be done now stops nothing.
pub(super) async fn keep_views(pool: &PgPool, settings: &Settings) {
    let kept = async {
        let mut conn = pool.acquire().await?;
        anyhow::Ok(mirror::views::keep(&mut conn, &settings.database.schema, &settings.catalogue).await?)
    };
    match kept.await {
        Ok(said) => said.iter().for_each(|line| tracing::info!("{line}")),
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "the views for analysts cannot be kept now; a later round does it"
            );
        }
    }
}

async fn make_ahead(
    conn: &mut PgConnection,
    settings: &Settings,
    export: &Export,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let today = now.date_naive();
    // Some zone may be a day behind or ahead.
    let Some(window) = Window::new(today - Days::new(1), today + Days::new(1) + Months::new(1)) else { return Ok(()) };
    let mut tx = conn.begin().await?;
    let made = partitions::make_ahead(&mut tx, &settings.database.schema, &export.name, window).await?;
    failpoint::reach("partitions-ahead-written");
    tx.commit().await?;
    failpoint::reach("partitions-ahead-committed");
    for name in made {
        tracing::info!(export = %export.name, "made partition {name} ahead of need");
    }
    Ok(())
}

/// Drops the months that no account keeps.
async fn drop_months(
    conn: &mut PgConnection,
    settings: &Settings,
    export: &Export,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let horizons = export.accounts.iter().filter_map(|name| kept_from(settings, export, name, now));
    let Some(horizon) = horizons.min() else { return Ok(()) };
    let mut tx = conn.begin().await?;
    if !store::retention::lock(&mut tx, &export.name).await? {
        return Ok(());
    }
    let dropped = partitions::drop_before(&mut tx, &settings.database.schema, &export.name, horizon).await?;
    store::retention::forget(&mut tx, &export.name, None, horizon).await?;
    failpoint::reach("months-drop-written");
    tx.commit().await?;
    failpoint::reach("months-drop-committed");
    for name in dropped {
        tracing::info!(export = %export.name, "dropped partition {name}: days before {horizon} are kept no longer");
    }
    Ok(())
}

/// Deletes the days that an account keeps no longer, some at a time.
async fn delete_days(
    conn: &mut PgConnection,
    settings: &Settings,
    export: &Export,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    for account in &export.accounts {
        let Some(horizon) = kept_from(settings, export, account, now) else { continue };
        for past in store::retention::past(conn, &export.name, account, None, horizon).await? {
            let Some(window) = Window::new(past.from_day, past.to_day) else { continue };
            let mut deleted = 0;
            for part in window.split(CHUNK_DAYS) {
                let mut tx = conn.begin().await?;
                if !store::retention::lock(&mut tx, &export.name).await? {
                    return Ok(());
                }
                let (schema, program) = (&settings.database.schema, &past.program);
                deleted += partitions::delete_days(&mut tx, schema, &export.name, account, program, part).await?;
                let before = part.to() + Days::new(1);
                store::retention::forget(&mut tx, &export.name, Some((account, program)), before).await?;
                failpoint::reach("days-drop-written");
                tx.commit().await?;
                failpoint::reach("days-drop-committed");
            }
            let (export, program) = (&export.name, &past.program);
            tracing::info!(%export, %account, %program, deleted, "deleted {deleted} rows before {horizon}, kept no longer");
        }
    }
    Ok(())
}

/// The first day of an account that is kept; `None` for all.
pub(super) fn kept_from(
    settings: &Settings,
    export: &Export,
    account: &AccountName,
    now: DateTime<Utc>,
) -> Option<NaiveDate> {
    export.kept_from(day_in(settings.accounts.get(account)?.time_zone, now))
}

/// Days whose rows will go.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Drop {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// The first day.
    pub from_day: NaiveDate,
    /// The last day.
    pub to_day: NaiveDate,
    /// Rows in them, over all programs.
    pub rows: i64,
    /// Superseded versions that go with them.
    pub versions: i64,
    /// When the first of them go, at the earliest.
    pub dropped_from: DateTime<Utc>,
    /// When the last of them go, at the earliest.
    pub dropped_by: DateTime<Utc>,
}

/// What is past its `keep` already, and what will be within the next 31 days.
pub async fn foresee(
    conn: &mut PgConnection,
    settings: &Settings,
    exports: &[ExportName],
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<Drop>> {
    let mut drops = Vec::new();
    for export in exports.iter().filter_map(|name| settings.exports.get(name)) {
        let Some(begins) = store::retention::drops_from(conn, &export.name).await? else { continue };
        for account in &export.accounts {
            let Some(zone) = settings.accounts.get(account).map(|account| account.time_zone) else { continue };
            let today = day_in(zone, now);
            let Some((due, coming)) = export.kept_from(today).zip(export.kept_from(today + FORESEEN)) else { continue };
            for (from, before) in [(None, due), (Some(due), coming)] {
                let found = store::retention::past(conn, &export.name, account, from, before).await?;
                let (Some(first), Some(last)) =
                    (found.iter().map(|past| past.from_day).min(), found.iter().map(|past| past.to_day).max())
                else {
                    continue;
                };
                let schema = &settings.database.schema;
                let versions = history::count_versions(conn, schema, &export.name, account, from, before).await?;
                let goes = |day| export.goes_on(day).map_or(now, |on| day_start(zone, on)).max(begins).max(now);
                drops.push(Drop {
                    export: export.name.clone(),
                    account: account.clone(),
                    from_day: first,
                    to_day: last,
                    rows: found.iter().map(|past| past.rows).sum(),
                    versions,
                    dropped_from: goes(first),
                    dropped_by: goes(last),
                });
            }
        }
    }
    Ok(drops)
}
