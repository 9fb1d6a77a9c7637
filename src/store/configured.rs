//! What is configured, written into tables so that views, people and other replicas can read it.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};

use super::{Error, failed, quota};
use crate::account::AccountName;
use crate::clock::day_in;
use crate::column::Partition;
use crate::config::{Account, Export, Settings};
use crate::export::{Bucket, ExportName, LockRule, Program, RefreshRule, Source};
use crate::failpoint;
use crate::plan::{self, Feed};

/// Writes the configuration into the database: accounts, buckets, exports and the feeds that need no discovery.
/// What is no longer configured becomes inactive and keeps its tables.
pub async fn sync(conn: &mut PgConnection, settings: &Settings) -> Result<(), Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('impact_mirror.configured', 0))")
        .execute(&mut *tx)
        .await
        .map_err(failed("lock the configuration"))?;
    quota::lock_all(&mut tx).await?; // before the jobs that are called off
    let zones = read_zones(&mut tx).await?;
    for account in settings.accounts.values() {
        write_account(&mut tx, account).await?;
    }
    for export in settings.exports.values() {
        write_export(&mut tx, export, settings, &zones).await?;
    }
    let accounts: Vec<String> = settings.accounts.keys().map(|name| name.as_str().to_owned()).collect();
    let exports: Vec<String> = settings.exports.keys().map(|name| name.as_str().to_owned()).collect();
    sqlx::query!("update impact_mirror.account set active = false where active and name <> all($1)", &accounts)
        .execute(&mut *tx)
        .await
        .map_err(failed("retire accounts"))?;
    sqlx::query!("update impact_mirror.export set active = false where active and name <> all($1)", &exports)
        .execute(&mut *tx)
        .await
        .map_err(failed("retire exports"))?;
    sqlx::query!(
        "update impact_mirror.feed set active = false where active and (account <> all($1) or export <> all($2))",
        &accounts,
        &exports
    )
    .execute(&mut *tx)
    .await
    .map_err(failed("retire feeds"))?;
    call_off_retired(&mut tx).await?;
    failpoint::reach("configuration-written");
    tx.commit().await.map_err(failed("commit the configuration"))
}

/// The zones that cells were worked out with, by account.
async fn read_zones(conn: &mut PgConnection) -> Result<HashMap<AccountName, String>, Error> {
    let rows = sqlx::query!(r#"select name as "name: AccountName", time_zone from impact_mirror.account"#)
        .fetch_all(conn)
        .await
        .map_err(failed("read time zones"))?;
    Ok(rows.into_iter().map(|row| (row.name, row.time_zone)).collect())
}

async fn write_account(conn: &mut PgConnection, account: &Account) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into impact_mirror.account (name, persona, time_zone, replay_cost, duplicate_cost, refused_cost)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (name) do update
        set persona = excluded.persona, time_zone = excluded.time_zone, active = true, replay_cost = excluded.replay_cost,
            duplicate_cost = excluded.duplicate_cost, refused_cost = excluded.refused_cost
        "#,
        account.name.as_str(),
        account.persona.as_str(),
        account.time_zone.name(),
        i32::from(account.quota.replay_cost > 0),
        i32::from(account.quota.duplicate_cost > 0),
        i32::from(account.quota.refused_cost > 0),
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("write an account"))?;
    for bucket in Bucket::ALL {
        sqlx::query!(
            r#"
            insert into impact_mirror.bucket (account, bucket, "limit", window_length, share)
            values ($1, $2, $3, make_interval(hours => $4), $5)
            on conflict (account, bucket) do update
            set "limit" = excluded."limit", window_length = excluded.window_length, share = excluded.share
            "#,
            account.name.as_str(),
            bucket.as_str(),
            i32::try_from(account.quota.ours(bucket)).unwrap_or(i32::MAX),
            i32::try_from(bucket.window().num_hours()).unwrap_or(24),
            account.quota.share,
        )
        .execute(&mut *conn)
        .await
        .map_err(failed("write a bucket"))?;
    }
    Ok(())
}

async fn write_export(
    conn: &mut PgConnection,
    export: &Export,
    settings: &Settings,
    old_zones: &HashMap<AccountName, String>,
) -> Result<(), Error> {
    let old = sqlx::query!(
        r#"
        select refresh as "refresh: Json<Vec<RefreshRule>>", locked as "locked: Json<LockRule>"
        from impact_mirror.export
        where name = $1
        "#,
        export.name.as_str(),
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed("read an export"))?;
    sqlx::query!(
        r#"
        insert into impact_mirror.export as e (name, bucket, table_name, freshness, refresh, locked, keep_days, keep_changed_at,
            by_month, history_since, report)
        values ($1, $2, $3, make_interval(secs => $4), $5, $6, $7, now(), $8, case when $9 then now() end, $10)
        on conflict (name) do update
        set bucket = excluded.bucket, report = excluded.report, table_name = excluded.table_name, freshness = excluded.freshness,
            refresh = excluded.refresh, locked = excluded.locked, active = true, keep_days = excluded.keep_days,
            keep_changed_at = case when e.keep_days is distinct from excluded.keep_days or e.by_month <> excluded.by_month
                                   then now() else e.keep_changed_at end,
            by_month = excluded.by_month,
            history_since = case when $9 then coalesce(e.history_since, excluded.history_since) end
        "#,
        export.name.as_str(),
        export.source.bucket().as_str(),
        format!("{}.{}", settings.database.schema, export.name),
        export.freshness.as_secs_f64(),
        Json(&export.refresh) as _,
        export.locked.as_ref().map(Json) as _,
        export.keep_days.map(|days| i32::try_from(days).unwrap_or(i32::MAX)),
        export.partition == Partition::Month,
        export.history,
        match &export.source {
            Source::Report(handle) => Some(handle.as_str()),
            Source::Clicks => None,
        },
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("write an export"))?;

    for name in &export.accounts {
        sqlx::query!(
            "insert into impact_mirror.export_account (export, account) values ($1, $2) on conflict do nothing",
            export.name.as_str(),
            name.as_str(),
        )
        .execute(&mut *conn)
        .await
        .map_err(failed("write an export's account"))?;
        let account = &settings.accounts[name];
        if let Some(programs) = export.programs_on(account) {
            write_feeds(conn, export, name, &programs).await?;
        }
        let has_new_rules = old.as_ref().is_some_and(|old| old.refresh.0 != export.refresh);
        let old_lock = old.as_ref().and_then(|old| old.locked.as_ref()).map(|locked| &locked.0);
        let has_new_lock = old_lock.is_some() && old_lock != export.locked.as_ref();
        let has_new_zone = old_zones.get(name).is_some_and(|zone| zone != account.time_zone.name());
        if has_new_lock {
            unlock(conn, export, name).await?;
        }
        if has_new_rules || has_new_lock || has_new_zone {
            apply_rules(conn, export, account).await?;
        }
    }
    let accounts: Vec<String> = export.accounts.iter().map(|name| name.as_str().to_owned()).collect();
    sqlx::query!(
        "update impact_mirror.feed set active = false where active and export = $1 and account <> all($2)",
        export.name.as_str(),
        &accounts,
    )
    .execute(conn)
    .await
    .map_err(failed("retire feeds"))?;
    Ok(())
}

/// Makes the feeds of an export on an account those of `programs`.
pub async fn write_feeds(
    conn: &mut PgConnection,
    export: &Export,
    account: &AccountName,
    programs: &[Program],
) -> Result<(), Error> {
    let programs: Vec<String> = programs.iter().map(|program| program.as_str().to_owned()).collect();
    sqlx::query!(
        r#"
        insert into impact_mirror.feed (export, account, program, since, include_today)
        select $1, $2, program, $4, $5 from unnest($3::text[]) as program
        on conflict (export, account, program) do update
        set since = excluded.since, include_today = excluded.include_today, active = true
        "#,
        export.name.as_str(),
        account.as_str(),
        &programs,
        export.since,
        export.include_today,
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("write feeds"))?;
    sqlx::query!(
        "update impact_mirror.feed set active = false where active and export = $1 and account = $2 and program <> all($3)",
        export.name.as_str(),
        account.as_str(),
        &programs,
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("retire feeds"))?;
    call_off_retired(conn).await
}

/// Calls off the open jobs of feeds that are not active: nobody would bring them to an end, and they would stand in the
/// way of others for ever.
async fn call_off_retired(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!(
        r#"
        with cancelled as (
            update impact_mirror.job j
            set state = 'cancelled', finished_at = now(), lease_holder = null, lease_token = null, lease_expires_at = null
            from impact_mirror.job old
            where j.finished_at is null and old.id = j.id
              and not exists (
                  select 1 from impact_mirror.feed f
                  where f.export = j.export and f.account = j.account and f.program = j.program and f.active)
            returning j.id, old.state as old_state
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), old_state, 'cancelled', 'configuration', 'no longer configured' from cancelled
        "#,
    )
    .execute(conn)
    .await
    .map_err(failed("call off jobs that are no longer configured"))?;
    Ok(())
}

/// Lets the locked cells of an export follow the rules again: what locked them is not what tells now.
async fn unlock(conn: &mut PgConnection, export: &Export, account: &AccountName) -> Result<(), Error> {
    sqlx::query!(
        "update impact_mirror.cell set locked = false where locked and export = $1 and account = $2",
        export.name.as_str(),
        account.as_str(),
    )
    .execute(conn)
    .await
    .map_err(failed("unlock cells"))?;
    Ok(())
}

/// Works out anew when loaded cells are to be read again, after the rules or the zone have changed. Locked ones stay settled.
async fn apply_rules(conn: &mut PgConnection, export: &Export, account: &Account) -> Result<(), Error> {
    let cells = sqlx::query!(
        r#"
        select program, day, as_of as "as_of!", unchanged_reads from impact_mirror.cell
        where export = $1 and account = $2 and as_of is not null and not locked
        "#,
        export.name.as_str(),
        account.name.as_str(),
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(failed("read cells"))?;
    let programs: Vec<String> = cells.iter().map(|cell| cell.program.clone()).collect();
    let days: Vec<NaiveDate> = cells.iter().map(|cell| cell.day).collect();
    let refresh: Vec<Option<DateTime<Utc>>> = cells
        .iter()
        .map(|cell| {
            let unchanged_reads = cell.unchanged_reads.unsigned_abs();
            plan::next_refresh_at(account.time_zone, cell.day, cell.as_of, &export.refresh, unchanged_reads)
        })
        .collect();
    let complete: Vec<bool> =
        cells.iter().map(|cell| plan::is_complete(account.time_zone, cell.day, cell.as_of)).collect();
    sqlx::query!(
        r#"
        update impact_mirror.cell c
        set next_refresh_at = new.next_refresh_at, complete = new.complete
        from unnest($3::text[], $4::date[], $5::timestamptz[], $6::boolean[])
            as new (program, day, next_refresh_at, complete)
        where c.export = $1 and c.account = $2 and c.program = new.program and c.day = new.day
        "#,
        export.name.as_str(),
        account.name.as_str(),
        &programs,
        &days,
        &refresh as &[Option<DateTime<Utc>>],
        &complete,
    )
    .execute(conn)
    .await
    .map_err(failed("apply refresh rules"))?;
    Ok(())
}

/// The time, and the coming ticks of each schedule in each zone that it runs in: many accounts share them.
#[derive(Debug, Clone)]
pub struct Ticks {
    now: DateTime<Utc>,
    ticks: HashMap<(ExportName, Tz), Arc<[DateTime<Utc>]>>,
}

impl Ticks {
    /// The ticks of the next 24 hours.
    pub fn after(settings: &Settings, exports: &[ExportName], now: DateTime<Utc>) -> Self {
        let mut ticks = HashMap::new();
        for export in exports.iter().filter_map(|name| settings.exports.get(name)) {
            for account in export.accounts.iter().filter_map(|name| settings.accounts.get(name)) {
                let zone = account.time_zone;
                ticks.entry((export.name.clone(), zone)).or_insert_with(|| export.ticks(zone, now));
            }
        }
        Self { now, ticks }
    }
}

/// The active feeds of the given exports on some accounts, with their settings, in order of account, export and program.
/// A learned limit of windows is put to the test again after 90 days, for it may have come from a bad day at impact.com.
pub async fn feeds(
    conn: &mut PgConnection,
    settings: &Settings,
    exports: &[ExportName],
    accounts: &[AccountName],
    ticks: &Ticks,
) -> Result<Vec<Feed>, Error> {
    let exports: Vec<String> = exports.iter().map(|name| name.as_str().to_owned()).collect();
    let accounts: Vec<String> = accounts.iter().map(|name| name.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        r#"
        select f.export as "export: ExportName", f.account as "account: AccountName", f.program as "program: Program",
               ea.max_window_days as "max_window_days?"
        from impact_mirror.feed f
        left join impact_mirror.export_account ea on ea.export = f.export and ea.account = f.account
            and (ea.max_window_learned_at is null or ea.max_window_learned_at > now() - interval '90 days')
        where f.active and f.export = any($1) and f.account = any($2)
        order by f.account, f.export, f.program
        "#,
        &exports,
        &accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read feeds"))?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let export = settings.exports.get(&row.export)?;
            let account = settings.accounts.get(&row.account)?;
            let first_day = export.first_day(day_in(account.time_zone, ticks.now));
            let ticks = ticks.ticks.get(&(row.export.clone(), account.time_zone))?;
            Some(Feed {
                export: row.export,
                account: row.account,
                program: row.program,
                source: export.source.clone(),
                params: export.params.clone(),
                format: export.result_format,
                time_zone: account.time_zone,
                since: first_day,
                include_today: export.include_today,
                max_window_days: row
                    .max_window_days
                    .map_or(export.max_window_days, |learned| export.max_window_days.min(learned.unsigned_abs())),
                rules: export.refresh.clone(),
                freshness: export.freshness,
                ticks: Arc::clone(ticks),
            })
        })
        .collect())
}

/// Which of the given exports have no feed, because the programs of their accounts are not known yet.
pub async fn without_feeds(conn: &mut PgConnection, exports: &[ExportName]) -> Result<Vec<ExportName>, Error> {
    let names: Vec<String> = exports.iter().map(|name| name.as_str().to_owned()).collect();
    sqlx::query_scalar!(
        r#"
        select name as "name!: ExportName"
        from unnest($1::text[]) as name
        where not exists (select 1 from impact_mirror.feed where active and export = name)
        "#,
        &names,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for exports without feeds"))
}
