-- Why: what people build on. The views are stable like an API while the tables behind them may change.

create view impact_mirror.coverage as
select f.export,
       f.account,
       f.program,
       d.day,
       case
           when o.state = 'planned' then 'planned'
           when o.state is not null then 'in_flight'
           when c.failed_at is not null then 'failed'
           when c.loaded_at is null then 'missing'
           when c.next_refresh_at is null then 'settled'
           when c.next_refresh_at <= now() then 'stale'
           else 'loaded'
       end as state,
       c.rows,
       c.loaded_at,
       coalesce(o.job_id, c.failed_job_id, c.job_id) as job_id,
       c.next_refresh_at
from impact_mirror.feed f
join impact_mirror.account a on a.name = f.account
cross join lateral (
    select s::date as day
    from generate_series(
        f.since::timestamp,
        (now() at time zone a.time_zone)::date - case when f.include_today then interval '0 days' else interval '1 day' end,
        interval '1 day') as s
) d
left join impact_mirror.cell c
    on c.export = f.export and c.account = f.account and c.program = f.program and c.day = d.day
left join lateral (
    select j.state, j.id as job_id
    from impact_mirror.open_cell oc
    join impact_mirror.job j on j.id = oc.job_id
    where oc.export = f.export and oc.account = f.account and oc.program = f.program and oc.day = d.day
) o on true
where f.active;
comment on view impact_mirror.coverage is 'A row for every export, account, program and day: loaded or not, by which job, how many rows, and when it is read again.';
comment on column impact_mirror.coverage.export is 'The export, as in the configuration.';
comment on column impact_mirror.coverage.account is 'The account, as in the configuration.';
comment on column impact_mirror.coverage.program is 'The program, or empty where a request covers all of them.';
comment on column impact_mirror.coverage.state is 'missing, planned, in_flight, loaded, stale (due to be read again), settled (never again) or failed.';
comment on column impact_mirror.coverage.day is 'A calendar day in the account''s time zone.';
comment on column impact_mirror.coverage.rows is 'Rows of that day when it was last loaded.';
comment on column impact_mirror.coverage.loaded_at is 'When it was last loaded.';
comment on column impact_mirror.coverage.job_id is 'The job at work on the cell, else the one that failed, else the one that loaded it.';
comment on column impact_mirror.coverage.next_refresh_at is 'When the cell should be read again; null where it is settled or was never loaded.';

create view impact_mirror.freshness as
with newest as (
    select f.export, f.account, f.program, n.day, n.as_of, n.loaded_at,
           -- When the day after the newest complete one was over: from then on a newer one could be here.
           (n.day + 2)::timestamp at time zone a.time_zone as next_day_over_at
    from impact_mirror.feed f
    join impact_mirror.account a on a.name = f.account
    left join lateral (
        select complete.day, max(c.as_of) as as_of, max(c.loaded_at) as loaded_at
        from (select max(day) as day
              from impact_mirror.cell
              where export = f.export and account = f.account and program = f.program and complete) complete
        join impact_mirror.cell c
            on c.export = f.export and c.account = f.account and c.program = f.program and c.day >= complete.day
        group by complete.day
    ) n on true
    where f.active
), counted as (
    select export,
           count(*) filter (where state in ('missing', 'planned') or (state = 'in_flight' and loaded_at is null)) as missing_cells,
           count(*) filter (where state = 'failed') as failed_cells
    from impact_mirror.coverage
    group by export
)
select e.name as export,
       case when bool_and(n.day is not null) then min(n.day) end as latest_day,
       max(n.loaded_at) as loaded_at,
       case when bool_and(n.as_of is not null) then date_trunc('second', now() - min(n.as_of)) end as age,
       e.freshness as promised,
       coalesce(
           bool_or(n.as_of is null)
               or now() - min(n.as_of) > e.freshness
               or now() - min(n.next_day_over_at) > e.freshness,
           true) as is_stale,
       coalesce(min(k.missing_cells), 0) as missing_cells,
       coalesce(min(k.failed_cells), 0) as failed_cells
from impact_mirror.export e
left join newest n on n.export = e.name
left join counted k on k.export = e.name
where e.active
group by e.name, e.freshness;
comment on view impact_mirror.freshness is 'A row per export: how new its data is against what was promised.';
comment on column impact_mirror.freshness.export is 'The export, as in the configuration.';
comment on column impact_mirror.freshness.latest_day is 'The newest complete day that every program of the export has; null where one has none.';
comment on column impact_mirror.freshness.loaded_at is 'When one of the newest days was last loaded.';
comment on column impact_mirror.freshness.age is 'How long ago the newest days were ordered, of the program that is furthest behind.';
comment on column impact_mirror.freshness.promised is 'The export''s freshness setting.';
comment on column impact_mirror.freshness.is_stale is 'The promise is broken: the newest complete day was read too long ago, or a newer one could have been here for too long.';
comment on column impact_mirror.freshness.missing_cells is 'Days of programs that were never loaded.';
comment on column impact_mirror.freshness.failed_cells is 'Days of programs whose last job failed.';

create view impact_mirror.quota as
select b.account,
       b.bucket,
       b."limit",
       c.used,
       case when b.closed_until > now() then 0 else greatest(b."limit" - c.used, 0) end as remaining,
       greatest(c.first_at + b.window_length, case when b.closed_until > now() then b.closed_until end) as resets_at,
       (select count(*)::integer from impact_mirror.job j
        where j.account = b.account and j.bucket = b.bucket and j.state = 'planned') as reserved
from impact_mirror.bucket b
join impact_mirror.account a on a.name = b.account and a.active
cross join lateral (
    select coalesce(sum(ch.cost), 0)::integer as used, min(ch.at) filter (where ch.cost > 0) as first_at
    from impact_mirror.charge ch
    where ch.account = b.account and ch.bucket = b.bucket and ch.at > now() - b.window_length
) c;
comment on view impact_mirror.quota is 'The budget of each account: report_export and click_export in rolling 24 hours, requests in a rolling hour.';
comment on column impact_mirror.quota.account is 'The account, as in the configuration.';
comment on column impact_mirror.quota.bucket is 'report_export, click_export or requests.';
comment on column impact_mirror.quota."limit" is 'Our share of what impact.com grants.';
comment on column impact_mirror.quota.used is 'Charged in the window that rolls.';
comment on column impact_mirror.quota.remaining is 'What may still be called; none while the bucket is closed.';
comment on column impact_mirror.quota.resets_at is 'When the oldest charge stops counting, or a throttled bucket opens again.';
comment on column impact_mirror.quota.reserved is 'Planned jobs that will be charged to it.';

create view impact_mirror.restatement as
select r.load_id, l.export, l.account, l.program, l.from_day, l.to_day, r.column_name, r.rows_changed, r.sum_before, r.sum_after
from impact_mirror.restated_column r
join impact_mirror.load l on l.id = r.load_id;
comment on view impact_mirror.restatement is 'What each re-read changed: a row per load and numeric column, sums over the whole window.';
comment on column impact_mirror.restatement.load_id is 'The load.';
comment on column impact_mirror.restatement.export is 'The export, as in the configuration.';
comment on column impact_mirror.restatement.account is 'The account, as in the configuration.';
comment on column impact_mirror.restatement.program is 'The program, or empty where a request covers all of them.';
comment on column impact_mirror.restatement.from_day is 'The first day of the window.';
comment on column impact_mirror.restatement.to_day is 'The last day of the window.';
comment on column impact_mirror.restatement.column_name is 'The numeric column.';
comment on column impact_mirror.restatement.rows_changed is 'Rows in which it changed.';
comment on column impact_mirror.restatement.sum_before is 'Its sum over the window before the load.';
comment on column impact_mirror.restatement.sum_after is 'Its sum over the window after the load.';
