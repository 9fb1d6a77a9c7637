//! Whether the database holds the configuration already, so that who only looks need not write it, which takes the ledger of
//! every account.

use chrono::NaiveDate;
use sqlx::PgConnection;

use super::{Error, configured, failed};
use crate::account::AccountName;
use crate::column::Partition;
use crate::config::{Account, Export, Settings};
use crate::export::{Bucket, Program};

/// Writes the configuration where the database holds another one. Takes no lock where it holds this one.
pub async fn sync_if_other(conn: &mut PgConnection, settings: &Settings) -> Result<(), Error> {
    let is_current = holds_accounts(conn, settings).await?
        && holds_buckets(conn, settings).await?
        && holds_exports(conn, settings).await?
        && holds_feeds(conn, settings).await?;
    if is_current { Ok(()) } else { configured::sync(conn, settings).await }
}

async fn holds_accounts(conn: &mut PgConnection, settings: &Settings) -> Result<bool, Error> {
    let accounts: Vec<&Account> = settings.accounts.values().collect();
    let text = |of: fn(&Account) -> &str| accounts.iter().map(|one| of(one).to_owned()).collect::<Vec<String>>();
    let cost = |of: fn(&Account) -> u32| accounts.iter().map(|one| i32::from(of(one) > 0)).collect::<Vec<i32>>();
    sqlx::query_scalar!(
        r#"
        select not exists (
            select * from unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[], $6::integer[])
            except
            select name, persona, time_zone, replay_cost, duplicate_cost, refused_cost
            from impact_mirror.account
            where active
        ) and not exists (select 1 from impact_mirror.account where active and name <> all($1)) as "holds!"
        "#,
        &text(|one| one.name.as_str()),
        &text(|one| one.persona.as_str()),
        &text(|one| one.time_zone.name()),
        &cost(|one| one.quota.replay_cost),
        &cost(|one| one.quota.duplicate_cost),
        &cost(|one| one.quota.refused_cost),
    )
    .fetch_one(conn)
    .await
    .map_err(failed("compare accounts"))
}

async fn holds_buckets(conn: &mut PgConnection, settings: &Settings) -> Result<bool, Error> {
    let accounts = settings.accounts.values();
    let buckets: Vec<(&Account, Bucket)> =
        accounts.flat_map(|account| Bucket::ALL.into_iter().map(move |bucket| (account, bucket))).collect();
    let names: Vec<String> = buckets.iter().map(|(account, _)| account.name.as_str().to_owned()).collect();
    let kinds: Vec<String> = buckets.iter().map(|(_, bucket)| bucket.as_str().to_owned()).collect();
    let limits: Vec<i32> = buckets
        .iter()
        .map(|(account, bucket)| i32::try_from(account.quota.ours(*bucket)).unwrap_or(i32::MAX))
        .collect();
    let shares: Vec<f64> = buckets.iter().map(|(account, _)| account.quota.share).collect();
    sqlx::query_scalar!(
        r#"
        select not exists (
            select * from unnest($1::text[], $2::text[], $3::integer[], $4::double precision[])
            except
            select account, bucket, "limit", share from impact_mirror.bucket
        ) as "holds!"
        "#,
        &names,
        &kinds,
        &limits,
        &shares,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("compare buckets"))
}

async fn holds_exports(conn: &mut PgConnection, settings: &Settings) -> Result<bool, Error> {
    let exports: Vec<&Export> = settings.exports.values().collect();
    let names: Vec<String> = exports.iter().map(|export| export.name.as_str().to_owned()).collect();
    let buckets: Vec<String> = exports.iter().map(|export| export.source.bucket().as_str().to_owned()).collect();
    let tables: Vec<String> = names.iter().map(|name| format!("{}.{name}", settings.database.schema)).collect();
    let promises: Vec<f64> = exports.iter().map(|export| export.freshness.as_secs_f64()).collect();
    let json = |value| serde_json::to_value(value).expect("rules are plain data");
    let rules: Vec<serde_json::Value> = exports.iter().map(|export| json(&export.refresh)).collect();
    let locks: Vec<Option<serde_json::Value>> = exports
        .iter()
        .map(|export| export.locked.as_ref().map(|locked| serde_json::to_value(locked).expect("a lock is plain data")))
        .collect();
    let keep_days: Vec<Option<i32>> =
        exports.iter().map(|export| export.keep_days.map(|days| i32::try_from(days).unwrap_or(i32::MAX))).collect();
    let by_month: Vec<bool> = exports.iter().map(|export| export.partition == Partition::Month).collect();
    let with_history: Vec<bool> = exports.iter().map(|export| export.history).collect();
    sqlx::query_scalar!(
        r#"
        select not exists (
            select name, bucket, table_name, make_interval(secs => promise), refresh, locked, keep_days, by_month, has_history
            from unnest($1::text[], $2::text[], $3::text[], $4::double precision[], $5::jsonb[], $6::jsonb[],
                    $7::integer[], $8::boolean[], $9::boolean[])
                as w (name, bucket, table_name, promise, refresh, locked, keep_days, by_month, has_history)
            except
            select name, bucket, table_name, freshness, refresh, locked, keep_days, by_month, history_since is not null
            from impact_mirror.export
            where active
        ) and not exists (select 1 from impact_mirror.export where active and name <> all($1)) as "holds!"
        "#,
        &names,
        &buckets,
        &tables,
        &promises,
        &rules,
        &locks as &[Option<serde_json::Value>],
        &keep_days as &[Option<i32>],
        &by_month,
        &with_history,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("compare exports"))
}

/// Feeds of programs that are discovered are as they were found.
async fn holds_feeds(conn: &mut PgConnection, settings: &Settings) -> Result<bool, Error> {
    let pairs: Vec<(&Export, &AccountName)> = settings
        .exports
        .values()
        .flat_map(|export| export.accounts.iter().map(move |account| (export, account)))
        .collect();
    let exports: Vec<String> = pairs.iter().map(|(export, _)| export.name.as_str().to_owned()).collect();
    let accounts: Vec<String> = pairs.iter().map(|(_, account)| account.as_str().to_owned()).collect();
    let since: Vec<NaiveDate> = pairs.iter().map(|(export, _)| export.since).collect();
    let include_today: Vec<bool> = pairs.iter().map(|(export, _)| export.include_today).collect();
    // One text for the programs of each pair: an array of arrays would have to be a rectangle.
    let programs: Vec<Option<serde_json::Value>> = pairs
        .iter()
        .map(|(export, account)| export.programs_on(&settings.accounts[*account]))
        .map(|programs| programs.map(|programs| programs.iter().map(Program::as_str).collect()))
        .collect();
    sqlx::query_scalar!(
        r#"
        with pair as materialized (
            select * from unnest($1::text[], $2::text[], $3::date[], $4::boolean[], $5::jsonb[])
                as p (export, account, since, include_today, programs)
        ), wanted as materialized (
            select p.export, p.account, program, p.since, p.include_today
            from pair p
            cross join lateral jsonb_array_elements_text(p.programs) as program
        )
        select not exists (
            select export, account from pair except select export, account from impact_mirror.export_account
        ) and not exists (
            select * from wanted
            except
            select export, account, program, since, include_today from impact_mirror.feed where active
        ) and not exists (
            select 1
            from impact_mirror.feed f
            left join pair p on p.export = f.export and p.account = f.account
            left join wanted w on w.export = f.export and w.account = f.account and w.program = f.program
            where f.active and (p.export is null or (p.programs is not null and w.program is null))
        ) as "holds!"
        "#,
        &exports,
        &accounts,
        &since,
        &include_today,
        &programs as &[Option<serde_json::Value>],
    )
    .fetch_one(conn)
    .await
    .map_err(failed("compare feeds"))
}
