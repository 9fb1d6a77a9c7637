//! What a planning pass reads, held against the rows of the tables one by one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::config::{self, Programs, Settings};
use impact_mirror::export::{Bucket, ExportName, Program};
use impact_mirror::plan::Cell;
use impact_mirror::pulse::Pulse;
use impact_mirror::scheduler::{self, Cron};
use impact_mirror::store::configured::{self, Ticks};
use impact_mirror::store::quota::{self, Charge, Charged, Purpose};
use impact_mirror::store::{coverage, current};
use impact_mirror::wake::Wakes;
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::support::daemon::eventually;
use crate::support::database::migrated;

/// Three accounts with two exports of two programs each.
fn settings() -> Settings {
    let mut text = "[database]\nurl = \"embedded\"\n\
         [exports.actions]\naccounts = \"all\"\nreport = \"adv_action_listing_pm_only\"\nsince = \"2026-01-01\"\n\
         [exports.clicks]\naccounts = \"all\"\nclicks = true\nsince = \"2026-01-01\"\n"
        .to_owned();
    for name in ["one", "two", "three"] {
        write!(
            text,
            "[accounts.{name}]\npersona = \"brand\"\naccount_sid = \"IR{name}\"\nauth_token = {{ env = \"TOKEN\" }}\n\
             time_zone = \"America/New_York\"\nprograms = [1000, 2000]\n"
        )
        .unwrap();
    }
    let environment = [("TOKEN", "secret"), ("STATE_DIRECTORY", "/tmp")].into();
    config::check(&text, Path::new("test.toml"), &environment).unwrap()
}

/// Days of all kinds in no order: never tried, failed, settled, to be read again, open. One feed has none at all.
const WORLD: &str = "
    select setseed(0.5);
    insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket, request,
        wanted_after, run_at, created_at)
    select f.export, f.account, f.program, d::date, d::date + 2, (array['fresh', 'refresh', 'backfill'])[1 + floor(random() * 3)],
           1, e.bucket, '{}', now(), now(), now()
    from impact_mirror.feed f
    join impact_mirror.export e on e.name = f.export
    cross join generate_series(timestamp '2026-01-05', '2026-03-20', interval '15 days') d
    where (f.account, f.program) <> ('three', '2000')
    order by random();
    update impact_mirror.job set state = 'cancelled', finished_at = now() where random() < 0.4;
    insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, job_id, next_refresh_at,
        failed_at, failed_job_id)
    select f.export, f.account, f.program, d::date,
           case when loaded then 1 end, case when loaded then now() end,
           case when loaded then now() - random() * interval '9 days' end, case when loaded then 1 end,
           case when loaded and random() < 0.5 then now() + (random() - 0.5) * interval '9 days' end,
           case when failed then now() - random() * interval '9 days' end, case when failed then 1 end
    from impact_mirror.feed f
    cross join generate_series(timestamp '2026-01-01', '2026-03-31', interval '1 day') d
    cross join lateral (select random() < 0.8 and d is not null as loaded) l
    cross join lateral (select not loaded or random() < 0.2 as failed) r
    where random() < 0.7 and (f.account, f.program) <> ('three', '2000')
    order by random();
    insert into impact_mirror.charge (account, bucket, at, cost, call, job_id)
    select account, bucket, now() - random() * interval '20 hours', 1, 'submit', id from impact_mirror.job where random() < 0.5;
";

async fn cells(conn: &mut PgConnection, key: [&str; 3]) -> Vec<(NaiveDate, Cell)> {
    type Row = (NaiveDate, Option<DateTime<Utc>>, Option<DateTime<Utc>>, Option<DateTime<Utc>>);
    let rows: Vec<Row> = sqlx::query_as(
        "select day, as_of, next_refresh_at, failed_at from impact_mirror.cell
         where export = $1 and account = $2 and program = $3 order by day",
    )
    .bind(key[0])
    .bind(key[1])
    .bind(key[2])
    .fetch_all(conn)
    .await
    .unwrap();
    let cell = |(day, as_of, next_refresh_at, failed_at)| (day, Cell { as_of, next_refresh_at, failed_at });
    rows.into_iter().map(cell).collect()
}

async fn open(conn: &mut PgConnection, key: [&str; 3]) -> BTreeSet<NaiveDate> {
    let days: Vec<NaiveDate> = sqlx::query_scalar(
        "select d::date from impact_mirror.job, generate_series(from_day::timestamp, to_day::timestamp, interval '1 day') d
         where finished_at is null and export = $1 and account = $2 and program = $3",
    )
    .bind(key[0])
    .bind(key[1])
    .bind(key[2])
    .fetch_all(conn)
    .await
    .unwrap();
    days.into_iter().collect()
}

#[tokio::test]
async fn a_pass_reads_of_every_feed_what_the_tables_say() {
    let (database, settings) = (migrated().await, settings());
    let mut conn = database.pool().acquire().await.unwrap();
    configured::sync(&mut conn, &settings).await.unwrap();
    sqlx::raw_sql(WORLD).execute(&mut *conn).await.unwrap();

    let now = coverage::database_now(&mut conn).await.unwrap();
    let exports: Vec<ExportName> = settings.exports.keys().cloned().collect();
    let accounts: Vec<AccountName> = settings.accounts.keys().cloned().collect();
    let ticks = Ticks::after(&settings, &exports, now);
    let feeds = configured::feeds(&mut conn, &settings, &exports, &accounts, &ticks).await.unwrap();
    let states = coverage::accounts(&mut conn, feeds, now).await.unwrap();

    assert_eq!(states.len(), 3);
    let mut found = (0, 0);
    for state in states {
        assert_eq!(state.feeds.len(), 4);
        for feed in &state.feeds {
            let key = [feed.feed.export.as_str(), feed.feed.account.as_str(), feed.feed.program.as_str()];
            assert_eq!(feed.cells, cells(&mut conn, key).await, "{key:?}");
            assert_eq!(feed.open, open(&mut conn, key).await, "{key:?}");
            found = (found.0 + feed.cells.len(), found.1 + feed.open.len());
        }
        for bucket in [Bucket::ReportExport, Bucket::ClickExport] {
            let counting: i64 = sqlx::query_scalar(
                "select (select count(*) from impact_mirror.charge where account = $1 and bucket = $2)
                      + (select count(*) from impact_mirror.job where account = $1 and bucket = $2 and state = 'planned')",
            )
            .bind(state.account.as_str())
            .bind(bucket.as_str())
            .fetch_one(&mut *conn)
            .await
            .unwrap();
            let budget = &state.budgets[&bucket];
            let counted = budget.charges.len() + budget.planned.len();
            assert_eq!(i64::try_from(counted).unwrap(), counting, "{bucket:?}");
        }
    }
    assert!(found.0 > 400 && found.1 > 50, "{found:?}");
}

/// Whether a call of the account `one` can be charged while others are at work, or has to wait for them.
async fn can_be_charged(pool: &PgPool) -> bool {
    let mut conn = pool.acquire().await.unwrap();
    let now = coverage::database_now(&mut conn).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let account = AccountName::new("one");
    let call = Charge { account: &account, bucket: Bucket::Requests, call: "test", job: None, purpose: Purpose::Call };
    let charging = quota::charge(&mut tx, call, Some(now));
    match tokio::time::timeout(Duration::from_secs(2), charging).await {
        Ok(charged) => matches!(charged.unwrap(), Charged::Yes(_)),
        Err(_elapsed) => false,
    }
}

#[tokio::test]
async fn who_looks_ahead_with_the_settings_that_are_in_force_keeps_nobody_from_the_ledger() {
    let (database, settings) = (migrated().await, settings());
    let mut conn = database.pool().acquire().await.unwrap();
    configured::sync(&mut conn, &settings).await.unwrap();

    let mut looking = conn.begin().await.unwrap();
    current::sync_if_other(&mut looking, &settings).await.unwrap();
    assert!(can_be_charged(database.pool()).await);
    looking.rollback().await.unwrap();
}

#[tokio::test]
async fn whoever_looks_ahead_sees_every_setting_that_is_not_in_force_yet() {
    let (database, settings) = (migrated().await, settings());
    let mut conn = database.pool().acquire().await.unwrap();
    let other = |change: fn(&mut Settings)| {
        let mut other = settings.clone();
        change(&mut other);
        other
    };
    let others = [
        other(|settings| settings.accounts.values_mut().for_each(|one| one.quota.share = 0.5)),
        other(|settings| settings.accounts.values_mut().for_each(|one| one.quota.click_export_per_day = 7)),
        other(|settings| settings.accounts.values_mut().for_each(|one| one.quota.replay_cost = 0)),
        other(|settings| settings.accounts.values_mut().for_each(|one| one.time_zone = chrono_tz::UTC)),
        other(|settings| settings.exports.values_mut().for_each(|one| one.since = one.since.succ_opt().unwrap())),
        other(|settings| settings.exports.values_mut().for_each(|one| one.include_today = !one.include_today)),
        other(|settings| settings.exports.values_mut().for_each(|one| one.keep_days = Some(1000))),
        other(|settings| settings.exports.values_mut().for_each(|one| one.history = true)),
        other(|settings| settings.exports.values_mut().for_each(|one| one.freshness = Duration::from_hours(1))),
        other(|settings| settings.exports.values_mut().for_each(|one| one.refresh.truncate(1))),
        other(|settings| settings.exports.values_mut().for_each(|one| drop(one.accounts.pop()))),
        other(|settings| drop(settings.exports.pop_last())),
        other(|settings| {
            let listed = Programs::Listed(vec![Program::new("1000")]);
            settings.accounts.values_mut().for_each(|one| one.programs = listed.clone());
        }),
        other(|settings| {
            let listed = Programs::Listed(["1000", "2000", "3000"].map(Program::new).to_vec());
            settings.accounts.values_mut().for_each(|one| one.programs = listed.clone());
        }),
    ];
    configured::sync(&mut conn, &settings).await.unwrap();
    let before = contents(&mut conn).await;
    for (index, other) in others.iter().enumerate() {
        let mut looking = conn.begin().await.unwrap();
        current::sync_if_other(&mut looking, other).await.unwrap();
        let seen = contents(&mut looking).await;
        looking.rollback().await.unwrap();
        assert_ne!(seen, before, "{index}");
        configured::sync(&mut conn, other).await.unwrap();
        assert_eq!(seen, contents(&mut conn).await, "{index}");
        configured::sync(&mut conn, &settings).await.unwrap();
    }
}

/// What the configuration is in the tables.
async fn contents(conn: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select concat_ws(' ', name, persona, time_zone, replay_cost, active) from impact_mirror.account
         union all select concat_ws(' ', account, bucket, \"limit\", share) from impact_mirror.bucket
         union all select concat_ws(' ', name, freshness, refresh, keep_days, by_month, history_since is null, active)
             from impact_mirror.export
         union all select concat_ws(' ', export, account, program, since, include_today, active) from impact_mirror.feed
         order by 1",
    )
    .fetch_all(conn)
    .await
    .unwrap()
}

/// More than the scheduler below has room for at one moment.
#[tokio::test]
async fn schedules_of_hundreds_of_accounts_that_are_due_at_one_moment_all_fire() {
    let database = migrated().await;
    let accounts: Vec<AccountName> = (0..600).map(|number| AccountName::new(format!("a{number}"))).collect();
    sqlx::raw_sql(
        "insert into impact_mirror.account (name, persona, time_zone)
             select 'a' || number, 'brand', 'UTC' from generate_series(0, 599) as number;
         insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
             values ('actions', 'report_export', 'actions', '1 day', '[]');
         insert into impact_mirror.export_account (export, account, last_tick_at)
             select 'actions', name, now() - interval '1 hour' from impact_mirror.account",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let cron = |account: &AccountName| Cron {
        export: ExportName::new("actions"),
        account: account.clone(),
        schedule: "* * * * * *".to_owned(),
        time_zone: chrono_tz::America::New_York,
    };
    let (wakes, pulse, stop) = (Arc::new(Wakes::default()), Arc::new(Pulse::default()), CancellationToken::new());
    let crons = accounts.iter().map(cron).collect();
    let pool = database.pool().clone();
    let running = {
        let (wakes, stop) = (Arc::clone(&wakes), stop.clone());
        tokio::spawn(async move { scheduler::run(pool, crons, wakes, &pulse, stop).await })
    };
    let slowest = "select min(last_tick_at) from impact_mirror.export_account";
    let (mut seen, mut last) = (0, Utc::now());
    eventually("each fires again and again", async || {
        let tick: DateTime<Utc> = sqlx::query_scalar(slowest).fetch_one(database.pool()).await.unwrap();
        if tick > last {
            (seen, last) = (seen + 1, tick);
        }
        seen == 3
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}
