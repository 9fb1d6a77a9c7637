-- Why: with fifty exports of twenty-five programs over three years the page and the metrics waited seconds for two counts. A cell that is
-- there was loaded or has failed, so that missing days are counted by what is there, and none is made up to be looked for.

create or replace view impact_mirror.freshness as
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
), span as materialized (
    -- The days that a feed has, as the view `coverage` has them.
    select f.export, f.account, f.program,
           impact_mirror.first_kept_day(f.since, e.keep_days, e.by_month, (now() at time zone a.time_zone)::date) as first_day,
           (now() at time zone a.time_zone)::date - case when f.include_today then 0 else 1 end as last_day
    from impact_mirror.feed f
    join impact_mirror.account a on a.name = f.account
    join impact_mirror.export e on e.name = f.export
    where f.active
), open as (
    -- Of the cells of open jobs, those that `counted` takes for standing or failed and that are neither.
    select s.export,
           count(*) filter (where c.export is not null and (j.state = 'planned' or c.loaded_at is null)) as missing,
           count(*) filter (where c.failed_at is not null) as failed
    from impact_mirror.open_cell o
    join impact_mirror.job j on j.id = o.job_id
    join span s
        on s.export = o.export and s.account = o.account and s.program = o.program and o.day between s.first_day and s.last_day
    left join impact_mirror.cell c
        on c.export = o.export and c.account = o.account and c.program = o.program and c.day = o.day
    group by s.export
), counted as (
    select s.export,
           (sum(greatest(s.last_day - s.first_day + 1, 0) - c.days) + coalesce(min(o.missing), 0))::bigint as missing_cells,
           (sum(c.failed) - coalesce(min(o.failed), 0))::bigint as failed_cells
    from span s
    cross join lateral (
        select count(*) as days, count(*) filter (where c.failed_at is not null) as failed
        from impact_mirror.cell c
        where c.export = s.export and c.account = s.account and c.program = s.program
          and c.day between s.first_day and s.last_day
    ) c
    left join open o on o.export = s.export
    group by s.export
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

create index cell_failed on impact_mirror.cell (failed_job_id) where failed_job_id is not null;
