//! What is known of the cells: the planner's inputs, and what people asked for by hand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt as _;
use sqlx::PgConnection;

use super::{Error, change_rate, failed, quota};
use crate::account::AccountName;
use crate::export::{ExportName, Program, Window};
use crate::plan::{AccountState, Cell, Feed, FeedState, ManualRequest};

/// Lets one process plan at a time, until the transaction ends.
pub async fn lock_planning(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('impact_mirror.plan', 0))")
        .execute(conn)
        .await
        .map_err(failed("lock the planning"))?;
    Ok(())
}

/// The clock that leases, charges and plans go by.
pub async fn database_now(conn: &mut PgConnection) -> Result<DateTime<Utc>, Error> {
    sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(conn).await.map_err(failed("read the clock"))
}

/// Everything the planner needs to know of some accounts, whose feeds these are.
pub async fn accounts(
    conn: &mut PgConnection,
    feeds: Vec<Feed>,
    now: DateTime<Utc>,
) -> Result<Vec<AccountState>, Error> {
    let scope = Scope::of(&feeds);
    let mut days = read_days(conn, &feeds).await?;
    let mut manual = read_manual(conn, &scope).await?;
    let switches = read_switches(conn, &scope).await?;
    let learned = change_rate::read(conn, &scope.accounts).await?;
    let mut accounts: BTreeMap<AccountName, AccountState> = BTreeMap::new();
    for (index, feed) in feeds.into_iter().enumerate() {
        let key = (feed.export.clone(), feed.account.clone(), feed.program.clone());
        let Days { cells, open } = std::mem::take(&mut days[index]);
        let switch = switches.get(&(feed.export.clone(), feed.account.clone()));
        let account = accounts.entry(feed.account.clone()).or_insert_with(|| AccountState {
            account: feed.account.clone(),
            feeds: Vec::new(),
            budgets: BTreeMap::new(),
        });
        account.feeds.push(FeedState {
            tick_at: switch.and_then(|switch| switch.tick_at),
            paused: switch.and_then(|switch| switch.paused.clone()),
            cells,
            open,
            manual: manual.remove(&key).unwrap_or_default(),
            rates: learned.rates(&feed.export, &feed.account, &feed.program),
            feed,
        });
    }
    for ((name, bucket), budget) in quota::budgets(conn, &scope.accounts, now).await? {
        if let Some(account) = accounts.get_mut(&name) {
            account.budgets.insert(bucket, budget);
        }
    }
    Ok(accounts.into_values().collect())
}

type FeedKey = (ExportName, AccountName, Program);

/// The exports and accounts of some feeds.
struct Scope {
    exports: Vec<String>,
    accounts: Vec<String>,
}

impl Scope {
    fn of(feeds: &[Feed]) -> Self {
        let exports: BTreeSet<&str> = feeds.iter().map(|feed| feed.export.as_str()).collect();
        let accounts: BTreeSet<&str> = feeds.iter().map(|feed| feed.account.as_str()).collect();
        let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
        Self { exports: owned(exports), accounts: owned(accounts) }
    }
}

/// What is known of the days of a feed.
#[derive(Debug, Clone, Default)]
struct Days {
    /// Cells that were tried, in order of their days.
    cells: Vec<(NaiveDate, Cell)>,
    /// Days of open jobs.
    open: BTreeSet<NaiveDate>,
}

/// The days of each feed: one row of arrays a feed, all from one snapshot, so that no job is missed that ends meanwhile. The
/// primary keys' indexes hold all that is read.
async fn read_days(conn: &mut PgConnection, feeds: &[Feed]) -> Result<Vec<Days>, Error> {
    let exports: Vec<String> = feeds.iter().map(|feed| feed.export.as_str().to_owned()).collect();
    let accounts: Vec<String> = feeds.iter().map(|feed| feed.account.as_str().to_owned()).collect();
    let programs: Vec<String> = feeds.iter().map(|feed| feed.program.as_str().to_owned()).collect();
    let mut rows = sqlx::query!(
        r#"
        select f.position as "position!", c.days as "days!", c.as_of as "as_of!: Vec<Option<DateTime<Utc>>>",
               c.next_refresh_at as "next_refresh_at!: Vec<Option<DateTime<Utc>>>",
               c.failed_at as "failed_at!: Vec<Option<DateTime<Utc>>>", o.days as "open!"
        from unnest($1::text[], $2::text[], $3::text[]) with ordinality as f (export, account, program, position)
        cross join lateral (
            select coalesce(array_agg(day), '{}') as days, coalesce(array_agg(as_of), '{}') as as_of,
                   coalesce(array_agg(next_refresh_at), '{}') as next_refresh_at,
                   coalesce(array_agg(failed_at), '{}') as failed_at
            from (
                select day, as_of, next_refresh_at, failed_at
                from impact_mirror.cell
                where export = f.export and account = f.account and program = f.program
                order by day
            ) ordered
        ) c
        cross join lateral (
            select coalesce(array_agg(day), '{}') as days
            from impact_mirror.open_cell
            where export = f.export and account = f.account and program = f.program
        ) o
        "#,
        &exports,
        &accounts,
        &programs,
    )
    .fetch(conn);
    let mut days = vec![Days::default(); feeds.len()];
    while let Some(row) = rows.try_next().await.map_err(failed("read cells"))? {
        let known = row.as_of.into_iter().zip(row.next_refresh_at).zip(row.failed_at);
        let known = known.map(|((as_of, next_refresh_at), failed_at)| Cell { as_of, next_refresh_at, failed_at });
        let index = usize::try_from(row.position - 1).expect("positions begin at 1");
        days[index] = Days { cells: row.days.into_iter().zip(known).collect(), open: row.open.into_iter().collect() };
    }
    Ok(days)
}

async fn read_manual(conn: &mut PgConnection, scope: &Scope) -> Result<HashMap<FeedKey, Vec<ManualRequest>>, Error> {
    let rows = sqlx::query!(
        r#"
        select export as "export: ExportName", account as "account: AccountName", program as "program: Program",
               from_day, to_day, kind = 'refresh' as "rereads!", requested_at
        from impact_mirror.manual_request
        where export = any($1) and account = any($2)
        "#,
        &scope.exports,
        &scope.accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read manual requests"))?;
    let mut manual: HashMap<FeedKey, Vec<ManualRequest>> = HashMap::new();
    for row in rows {
        let window = Window::new(row.from_day, row.to_day).ok_or_else(|| Error::Corrupt {
            table: "manual_request",
            problem: format!("a window from {} to {}", row.from_day, row.to_day),
        })?;
        let request = ManualRequest { window, requested_at: row.requested_at, rereads: row.rereads };
        manual.entry((row.export, row.account, row.program)).or_default().push(request);
    }
    Ok(manual)
}

struct Switch {
    tick_at: Option<DateTime<Utc>>,
    paused: Option<String>,
}

async fn read_switches(
    conn: &mut PgConnection,
    scope: &Scope,
) -> Result<HashMap<(ExportName, AccountName), Switch>, Error> {
    let rows = sqlx::query!(
        r#"
        select ea.export as "export: ExportName", ea.account as "account: AccountName", ea.last_tick_at,
               coalesce(
                   a.paused_reason, ea.paused_reason,
                   'by hand, by ' || coalesce(a.ordering_paused_by, e.ordering_paused_by)
                       || '; impact-mirror ' || case when a.ordering_paused_by is null then 'exports resume ' || e.name
                                                     else 'accounts resume ' || a.name end) as paused
        from impact_mirror.export_account ea
        join impact_mirror.account a on a.name = ea.account
        join impact_mirror.export e on e.name = ea.export
        where ea.export = any($1) and ea.account = any($2)
        "#,
        &scope.exports,
        &scope.accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read ticks and pauses"))?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.export, row.account), Switch { tick_at: row.last_tick_at, paused: row.paused }))
        .collect())
}

/// What a person asks for by hand.
#[derive(Debug, Clone)]
pub struct NewRequest<'a> {
    /// The export.
    pub export: &'a ExportName,
    /// The days.
    pub window: Window,
    /// `true`: days that are loaded are read again; `false`: only missing ones are read.
    pub rereads: bool,
}

/// Writes a manual request for every feed of the export. Says how many feeds it has.
pub async fn request(conn: &mut PgConnection, new: &NewRequest<'_>) -> Result<u64, Error> {
    let written = sqlx::query!(
        r#"
        insert into impact_mirror.manual_request (export, account, program, from_day, to_day, kind, requested_at)
        select export, account, program, $2, $3, $4, now()
        from impact_mirror.feed
        where active and export = $1
        "#,
        new.export.as_str(),
        new.window.from(),
        new.window.to(),
        if new.rereads { "refresh" } else { "backfill" },
    )
    .execute(conn)
    .await
    .map_err(failed("write a manual request"))?;
    Ok(written.rows_affected())
}

/// Drops manual requests that are answered: every day of theirs was loaded, or failed, after they were made, or is kept no longer.
pub async fn drop_answered(conn: &mut PgConnection) -> Result<u64, Error> {
    let dropped = sqlx::query!(
        r#"
        delete from impact_mirror.manual_request m
        using impact_mirror.export e, impact_mirror.account a
        where e.name = m.export and a.name = m.account and not exists (
            select 1
            from generate_series(
                impact_mirror.first_kept_day(m.from_day, e.keep_days, e.by_month, (now() at time zone a.time_zone)::date)::timestamp,
                m.to_day::timestamp, interval '1 day') as asked (at)
            left join impact_mirror.cell c
                on c.export = m.export and c.account = m.account and c.program = m.program and c.day = asked.at::date
            where not coalesce(
                c.as_of >= m.requested_at or (m.kind = 'backfill' and c.as_of is not null) or c.failed_at >= m.requested_at,
                false)
        )
        "#,
    )
    .execute(conn)
    .await
    .map_err(failed("drop answered requests"))?;
    Ok(dropped.rows_affected())
}

/// Where a run to the end stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Jobs that are not at their end.
    pub open: i64,
    /// Of those, jobs that nobody can go on with now: paused, planned on a bucket without room, planned behind an order of a
    /// paused export, whose end is unknown, or kept waiting by a full disk.
    pub blocked: i64,
    /// Of those, the ones kept waiting by a full disk.
    pub without_room: i64,
    /// Of those, the paused ones.
    pub paused: i64,
    /// Jobs loaded since it began.
    pub loaded: i64,
    /// Jobs failed since it began.
    pub failed: i64,
    /// Rows in the files loaded since it began.
    pub rows: i64,
}

/// Counts the jobs of `exports`, open and ended since `began_at`.
pub async fn progress(conn: &mut PgConnection, exports: &[String], began_at: DateTime<Utc>) -> Result<Progress, Error> {
    sqlx::query_as!(
        Progress,
        r#"
        with room as materialized (
            select b.account, b.bucket,
                   r.room > 0
                       or (r.clock_may_tell
                           and (a.clock_asked_at is null or a.clock_asked_at <= now() - interval '5 minutes'))
                       as has_room
            from impact_mirror.account a
            join impact_mirror.bucket b on b.account = a.name
            cross join lateral impact_mirror.bucket_room(b.account, b.bucket, now()) r
            where a.name in (select account from impact_mirror.export_account where export = any($1))
        )
        select count(*) filter (where j.finished_at is null) as "open!",
               count(*) filter (where j.finished_at is null and (
                   p.is_paused
                   or (j.state = 'planned' and p.is_paused_by_hand)
                   or (j.state = 'planned'
                       and (d.is_full or not (r.has_room and (j.replay_of is null or h.has_room))))
                   or (j.state = 'planned' and exists (
                       select 1
                       from impact_mirror.job s
                       join impact_mirror.export_account e
                           on e.export = s.export and e.account = s.account and e.paused_since is not null
                       where s.state = 'submitting' and s.account = j.account and s.bucket = j.bucket
                         and s.program = j.program and (s.lease_expires_at is null or s.lease_expires_at <= now())))
                   or (j.error_kind in ('throttled', 'no_room') and j.lease_token is null
                       and j.run_at > now() + interval '30 seconds')))
                   as "blocked!",
               count(*) filter (where j.finished_at is null and (
                   (j.state = 'planned' and d.is_full) or j.error_kind = 'no_room')) as "without_room!",
               count(*) filter (where j.finished_at is null and (
                   p.is_paused or (j.state = 'planned' and p.is_paused_by_hand))) as "paused!",
               count(*) filter (where j.state = 'loaded') as "loaded!",
               count(*) filter (where j.state = 'failed') as "failed!",
               coalesce(sum(l.rows_read), 0)::bigint as "rows!"
        from impact_mirror.job j
        join (
            select ea.export, ea.account, a.paused_since is not null or ea.paused_since is not null as is_paused,
                   a.ordering_paused_since is not null or e.ordering_paused_since is not null as is_paused_by_hand
            from impact_mirror.export_account ea
            join impact_mirror.account a on a.name = ea.account
            join impact_mirror.export e on e.name = ea.export
        ) p on p.export = j.export and p.account = j.account
        join room r on r.account = j.account and r.bucket = j.bucket
        join room h on h.account = j.account and h.bucket = 'requests'
        cross join (select impact_mirror.waits_for_room() as is_full) d
        left join impact_mirror.load l on l.id = j.load_id
        where j.export = any($1) and (j.finished_at is null or j.finished_at >= $2)
        "#,
        exports,
        began_at,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("count jobs"))
}

/// How many cells of `exports` say that their last job failed.
pub async fn failed_cells(conn: &mut PgConnection, exports: &[String]) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from impact_mirror.cell c
        join impact_mirror.feed f on f.export = c.export and f.account = c.account and f.program = c.program and f.active
        where c.export = any($1) and c.failed_at is not null
        "#,
        exports,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("count failed cells"))
}
