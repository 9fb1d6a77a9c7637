-- Why: a number can be traced only where the file proves complete and each column says where its type comes from. So a load
-- keeps what about its file is doubtful, a column who saw it first and whether files still have it, and a change of its type the
-- load that asked for it. And a table may be kept for so long only: then days before that are neither missing nor read again.

-- The proof of the count. Loads from before stand without a doubt and without what impact.com said.
alter table impact_mirror.load
    add column records_processed bigint,
    add column warnings          text[] not null default '{}',
    add constraint load_warnings_known check (warnings <@ array['count_mismatch', 'unexpected_zero', 'truncated']);
comment on column impact_mirror.load.records_processed is 'How many rows impact.com said that it wrote into the file; null where it did not say.';
comment on column impact_mirror.load.warnings is 'What about the file is doubtful: count_mismatch, unexpected_zero, truncated. See the view load_warning.';
create index load_with_warnings on impact_mirror.load (id) where warnings <> '{}';

create view impact_mirror.load_warning as
select l.id as load_id,
       l.job_id,
       l.export,
       l.account,
       l.program,
       l.from_day,
       l.to_day,
       w.kind,
       l.rows_read,
       l.records_processed,
       l.rows_deleted,
       l.committed_at,
       exists (
           select 1 from impact_mirror.cell c
           where c.export = l.export and c.account = l.account and c.program = l.program
             and c.day between l.from_day and l.to_day and c.job_id = l.job_id) as is_current
from impact_mirror.load l
cross join lateral unnest(l.warnings) as w (kind)
where l.warnings <> '{}';
comment on view impact_mirror.load_warning is 'A row for each doubt about a file that was loaded all the same.';
comment on column impact_mirror.load_warning.load_id is 'The load.';
comment on column impact_mirror.load_warning.job_id is 'Its job.';
comment on column impact_mirror.load_warning.export is 'The export, as in the configuration.';
comment on column impact_mirror.load_warning.account is 'The account, as in the configuration.';
comment on column impact_mirror.load_warning.program is 'The program, or empty where a request covers all of them.';
comment on column impact_mirror.load_warning.from_day is 'The first day of the window.';
comment on column impact_mirror.load_warning.to_day is 'The last day of the window.';
comment on column impact_mirror.load_warning.kind is 'count_mismatch: the file has another number of rows than impact.com said; unexpected_zero: it has none, and the window had some; truncated: it has just as many as a file may hold.';
comment on column impact_mirror.load_warning.rows_read is 'Rows in the file.';
comment on column impact_mirror.load_warning.records_processed is 'Rows that impact.com said it wrote.';
comment on column impact_mirror.load_warning.rows_deleted is 'Rows that the load took away.';
comment on column impact_mirror.load_warning.committed_at is 'When it was loaded.';
comment on column impact_mirror.load_warning.is_current is 'Whether a day of the window still stands as this load left it; false once all were read again.';

-- Columns. Filled by the first load of an account after this; origin stays as it is for what reads it.
alter table impact_mirror.mirrored_column
    add column type_origin    text,
    add column first_load_id  bigint references impact_mirror.load (id) on delete set null,
    add column accounts       text[] not null default '{}',
    add column vanished_since timestamptz,
    add constraint mirrored_column_type_origin_known check (
        type_origin in ('user', 'catalogue', 'metadata', 'data', 'widened', 'empty')),
    add constraint mirrored_column_vanished_is_nowhere check (vanished_since is null or accounts = '{}');
comment on column impact_mirror.mirrored_column.source_name is 'The name in the header of the file, as it was first seen.';
comment on column impact_mirror.mirrored_column.origin is 'Where the type comes from, in four words; type_origin says more.';
comment on column impact_mirror.mirrored_column.type_origin is 'Where the type comes from: user (exports.NAME.types), catalogue, metadata, data (inferred from values), widened (a value did not fit the type before) or empty (no value was ever seen). Null until a load after the upgrade.';
comment on column impact_mirror.mirrored_column.first_seen_at is 'When a file first had it.';
comment on column impact_mirror.mirrored_column.first_load_id is 'The load of that file; null where it can no longer be told.';
comment on column impact_mirror.mirrored_column.accounts is 'The accounts whose newest file has it.';
comment on column impact_mirror.mirrored_column.vanished_since is 'Since when no account''s newest file has it: it stays, and is NULL in new rows.';

create table impact_mirror.retyped_column (
    load_id     bigint      not null references impact_mirror.load (id) on delete cascade,
    column_name text        not null,
    from_kind   text        not null,
    to_kind     text        not null,
    retyped_at  timestamptz not null,
    constraint retyped_column_pkey primary key (load_id, column_name),
    constraint retyped_column_kinds_known check (
        from_kind in ('boolean', 'bigint', 'numeric', 'date', 'timestamptz', 'text')
        and to_kind in ('boolean', 'bigint', 'numeric', 'date', 'timestamptz', 'text')),
    constraint retyped_column_changes check (from_kind <> to_kind)
);
comment on table impact_mirror.retyped_column is 'Columns that a load gave another type: a wider one, or the first one where no value had been seen before (from text).';

-- Retention.
alter table impact_mirror.export
    add column keep_days       integer,
    add column keep_changed_at timestamptz,
    add column by_month        boolean not null default false,
    add constraint export_keep_positive check (keep_days >= 1);
comment on column impact_mirror.export.keep_days is 'How many days are kept; null for all.';
comment on column impact_mirror.export.keep_changed_at is 'When keep_days was last set or changed: nothing is dropped for a day after.';
comment on column impact_mirror.export.by_month is 'The table is partitioned by month, so that whole months are kept.';

create function impact_mirror.first_kept_day(since date, keep_days integer, by_month boolean, today date) returns date
language sql immutable parallel safe as $$
    select greatest(since, case when by_month then date_trunc('month', (today - keep_days)::timestamp)::date else today - keep_days end)
$$;
comment on function impact_mirror.first_kept_day(date, integer, boolean, date) is
    'The first day that is mirrored: since, or the first that is kept if that is later; of a table partitioned by month, the first of its month.';

create or replace view impact_mirror.coverage as
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
join impact_mirror.export e on e.name = f.export
cross join lateral (
    select s::date as day
    from generate_series(
        impact_mirror.first_kept_day(f.since, e.keep_days, e.by_month, (now() at time zone a.time_zone)::date)::timestamp,
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
comment on view impact_mirror.coverage is 'A row for every export, account, program and day that is mirrored: loaded or not, by which job, how many rows, and when it is read again. Days that are kept no longer have none.';
