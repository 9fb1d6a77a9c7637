-- Why: everything the daemon knows lives here, so that a restart resumes what was in flight and people can see with
-- plain SQL what was asked, what was paid, what landed and what waits. Mirrored tables live in a schema of their own.

create schema if not exists impact_mirror;
comment on schema impact_mirror is 'Bookkeeping of impact-mirror: jobs, coverage, quota. The views are stable; the tables may change.';

-- What is configured. Written at every start from the configuration file, so that views and people can read it.

create table impact_mirror.account (
    name          text        not null,
    persona       text        not null,
    time_zone     text        not null,
    active        boolean     not null default true,
    paused_since  timestamptz,
    paused_kind   text,
    paused_reason text,
    probe_at      timestamptz,
    constraint account_pkey primary key (name),
    constraint account_persona_known check (persona in ('brand', 'partner', 'agency')),
    constraint account_paused_says_why check (
        (paused_since is null) = (paused_reason is null) and (paused_since is null) = (paused_kind is null))
);
comment on table impact_mirror.account is 'One row per configured account. A paused account makes no calls until it is probed or resumed.';
comment on column impact_mirror.account.probe_at is 'When a paused account is tried once more.';

create table impact_mirror.export (
    name        text     not null,
    bucket      text     not null,
    table_name  text     not null,
    freshness   interval not null,
    refresh     jsonb    not null,
    active      boolean  not null default true,
    constraint export_pkey primary key (name),
    constraint export_bucket_known check (bucket in ('report_export', 'click_export'))
);
comment on table impact_mirror.export is 'One row per configured export; exports no longer configured stay, inactive.';
comment on column impact_mirror.export.refresh is 'The refresh rules that cell.next_refresh_at was computed with.';
comment on column impact_mirror.export.freshness is 'The promise: how old the newest complete day may get.';

create table impact_mirror.export_account (
    export        text        not null references impact_mirror.export (name),
    account       text        not null references impact_mirror.account (name),
    last_tick_at  timestamptz,
    paused_since  timestamptz,
    paused_reason text,
    probe_at      timestamptz,
    constraint export_account_pkey primary key (export, account),
    constraint export_account_paused_says_why check ((paused_since is null) = (paused_reason is null))
);
comment on table impact_mirror.export_account is 'An export on an account: when its schedule last fired, and whether impact.com refuses it there.';

create table impact_mirror.feed (
    export        text    not null references impact_mirror.export (name),
    account       text    not null references impact_mirror.account (name),
    program       text    not null,
    since         date    not null,
    include_today boolean not null,
    active        boolean not null default true,
    constraint feed_pkey primary key (export, account, program)
);
comment on table impact_mirror.feed is 'An export of one account and program: a row of cells, one per day from since on.';

-- What was ordered.

create table impact_mirror.job (
    id                bigint      generated always as identity,
    export            text        not null references impact_mirror.export (name),
    account           text        not null references impact_mirror.account (name),
    program           text        not null default '',
    from_day          date        not null,
    to_day            date        not null,
    reason            text        not null,
    state             text        not null default 'planned',
    priority          integer     not null,
    bucket            text        not null,
    request           jsonb       not null,
    wanted_after      timestamptz not null,
    replay_of         text,
    remote_job_id     text,
    remote_status     text,
    remote_percent    real,
    remote_done_at    timestamptz,
    records_processed bigint,
    replays           integer     not null default 0,
    resubmits         integer     not null default 0,
    polls             integer     not null default 0,
    attempts          integer     not null default 0,
    run_at            timestamptz not null,
    lease_holder      text,
    lease_token       uuid,
    lease_expires_at  timestamptz,
    load_id           bigint,
    error_kind        text,
    error_message     text,
    created_at        timestamptz not null,
    submitted_at      timestamptz,
    submitted_remote_at timestamptz,
    as_of             timestamptz,
    completed_at      timestamptz,
    finished_at       timestamptz,
    constraint job_pkey primary key (id),
    constraint job_state_known check (
        state in ('planned', 'submitting', 'waiting', 'ready', 'loading', 'loaded', 'failed', 'cancelled')),
    constraint job_reason_known check (reason in ('manual', 'fresh', 'refresh', 'backfill')),
    constraint job_bucket_known check (bucket in ('report_export', 'click_export')),
    constraint job_window_in_order check (from_day <= to_day),
    constraint job_final_iff_finished check ((state in ('loaded', 'failed', 'cancelled')) = (finished_at is not null)),
    constraint job_ordered_has_time check (
        state not in ('submitting', 'waiting', 'ready', 'loading', 'loaded') or submitted_at is not null),
    constraint job_waiting_has_remote_id check (
        state not in ('waiting', 'ready', 'loading', 'loaded') or remote_job_id is not null),
    constraint job_loaded_iff_load check ((state = 'loaded') = (load_id is not null)),
    constraint job_failed_says_why check (state <> 'failed' or (error_kind is not null and error_message is not null)),
    constraint job_lease_whole check (
        (lease_holder is null) = (lease_token is null) and (lease_holder is null) = (lease_expires_at is null)),
    constraint job_final_has_no_lease check (finished_at is null or lease_token is null)
);
comment on table impact_mirror.job is 'One request for one window, from planned to loaded.';
comment on column impact_mirror.job.request is 'The canonical request; equal requests are one remote job to impact.com.';
comment on column impact_mirror.job.wanted_after is 'A result that impact.com made before this is too old to be loaded.';
comment on column impact_mirror.job.replay_of is 'The remote job to replay; null where the window is ordered anew.';
comment on column impact_mirror.job.remote_done_at is 'The completion read before a replay: done means that it has changed.';
comment on column impact_mirror.job.submitted_at is 'When the order went out, by this database''s clock.';
comment on column impact_mirror.job.submitted_remote_at is 'When the order went out, by impact.com''s clock.';
comment on column impact_mirror.job.as_of is 'When the run that made the result began: the rows are at least this new.';
comment on column impact_mirror.job.run_at is 'Not to be worked on before.';
comment on column impact_mirror.job.attempts is 'Tries at the current state; a shutdown is not one.';

-- A lost reply is matched by type and program, so only one such order may be out at a time.
create unique index job_one_submission_under_way on impact_mirror.job (account, bucket, program) where state = 'submitting';
create index job_due on impact_mirror.job (state, priority, run_at) where finished_at is null;
create index job_by_export on impact_mirror.job (export, account, program, from_day);
create index job_finished on impact_mirror.job (finished_at) where finished_at is not null;

create table impact_mirror.job_event (
    id         bigint      generated always as identity,
    job_id     bigint      not null references impact_mirror.job (id) on delete cascade,
    at         timestamptz not null,
    from_state text,
    to_state   text        not null,
    holder     text        not null,
    note       text        not null default '',
    constraint job_event_pkey primary key (id)
);
comment on table impact_mirror.job_event is 'The history of each job: every change of state, and every try that failed.';
create index job_event_by_job on impact_mirror.job_event (job_id, id);

create table impact_mirror.open_cell (
    export  text   not null,
    account text   not null,
    program text   not null,
    day     date   not null,
    job_id  bigint not null references impact_mirror.job (id) on delete cascade,
    constraint open_cell_pkey primary key (export, account, program, day)
);
comment on table impact_mirror.open_cell is 'The cells of open jobs, kept by triggers: its primary key is what allows one open job per cell.';
create index open_cell_by_job on impact_mirror.open_cell (job_id);

create function impact_mirror.job_opens_cells() returns trigger language plpgsql as $$
begin
    insert into impact_mirror.open_cell (export, account, program, day, job_id)
    select new.export, new.account, new.program, day::date, new.id
    from generate_series(new.from_day::timestamp, new.to_day::timestamp, interval '1 day') as day;
    return null;
end
$$;

create function impact_mirror.job_closes_cells() returns trigger language plpgsql as $$
begin
    delete from impact_mirror.open_cell where job_id = new.id;
    return null;
end
$$;

create trigger job_opens_cells after insert on impact_mirror.job
    for each row when (new.finished_at is null) execute function impact_mirror.job_opens_cells();
create trigger job_closes_cells after update of state on impact_mirror.job
    for each row when (old.finished_at is null and new.finished_at is not null) execute function impact_mirror.job_closes_cells();

create table impact_mirror.remote_job (
    account      text        not null references impact_mirror.account (name),
    id           text        not null,
    request      jsonb       not null,
    created_at   timestamptz not null,
    completed_at timestamptz,
    gone_at      timestamptz,
    constraint remote_job_pkey primary key (account, id)
);
comment on table impact_mirror.remote_job is 'The jobs of impact.com that we know, with the request each answers: what can be read again by Replay.';
comment on column impact_mirror.remote_job.gone_at is 'When Replay was refused or its result could not be had any more.';
create index remote_job_by_request on impact_mirror.remote_job using hash (request);

create table impact_mirror.manual_request (
    id           bigint      generated always as identity,
    export       text        not null references impact_mirror.export (name),
    account      text        not null references impact_mirror.account (name),
    program      text        not null,
    from_day     date        not null,
    to_day       date        not null,
    kind         text        not null,
    requested_at timestamptz not null,
    constraint manual_request_pkey primary key (id),
    constraint manual_request_kind_known check (kind in ('refresh', 'backfill')),
    constraint manual_request_window_in_order check (from_day <= to_day)
);
comment on table impact_mirror.manual_request is 'What people asked for by hand; a row goes once all its cells are newer than the request.';

-- What landed.

create table impact_mirror.load (
    id             bigint      generated always as identity,
    job_id         bigint      not null references impact_mirror.job (id),
    export         text        not null references impact_mirror.export (name),
    account        text        not null references impact_mirror.account (name),
    program        text        not null,
    from_day       date        not null,
    to_day         date        not null,
    file_sha256    bytea       not null,
    file_bytes     bigint      not null,
    target_hash    uuid        not null,
    rows_read      bigint      not null default 0,
    rows_inserted  bigint      not null default 0,
    rows_updated   bigint      not null default 0,
    rows_deleted   bigint      not null default 0,
    rows_unchanged bigint      not null default 0,
    rows_rejected  bigint      not null default 0,
    rows_outside   bigint      not null default 0,
    kept_deletions boolean     not null default false,
    started_at     timestamptz not null,
    committed_at   timestamptz not null,
    archive_key    text,
    constraint load_pkey primary key (id),
    constraint load_every_row_accounted_for check (
        rows_read = rows_inserted + rows_updated + rows_unchanged + rows_rejected)
);
comment on table impact_mirror.load is 'One ingestion of one result file. committed_at is the clock just before the commit.';
comment on column impact_mirror.load.target_hash is 'A hash over the settings that decide how a file is read: the same file under other settings is loaded again.';
comment on column impact_mirror.load.rows_outside is 'Rows dated outside the window, kept under its nearest day.';
comment on column impact_mirror.load.kept_deletions is 'A rejected row had no readable key, so nothing was deleted in this window.';
create index load_by_window on impact_mirror.load (export, account, program, from_day, to_day, id desc);
create index load_by_job on impact_mirror.load (job_id);

alter table impact_mirror.job add constraint job_load_fkey foreign key (load_id) references impact_mirror.load (id);

create table impact_mirror.rejected_row (
    load_id     bigint not null references impact_mirror.load (id) on delete cascade,
    line        bigint not null,
    column_name text,
    value       text,
    reason      text   not null,
    raw         text   not null,
    constraint rejected_row_pkey primary key (load_id, line)
);
comment on table impact_mirror.rejected_row is 'Rows that could not be loaded: where, what and why. Line 1 is the header.';
comment on column impact_mirror.rejected_row.raw is 'The record as it stood in the file; bytes that are not UTF-8 are replaced, long ones cut.';

create table impact_mirror.restated_column (
    load_id      bigint  not null references impact_mirror.load (id) on delete cascade,
    column_name  text    not null,
    rows_changed bigint  not null,
    sum_before   numeric,
    sum_after    numeric,
    constraint restated_column_pkey primary key (load_id, column_name)
);
comment on table impact_mirror.restated_column is 'What a load changed in a numeric column, over its whole window.';

create table impact_mirror.mirrored_column (
    export        text        not null references impact_mirror.export (name),
    column_name   text        not null,
    source_name   text        not null,
    kind          text        not null,
    origin        text        not null,
    first_seen_at timestamptz not null,
    constraint mirrored_column_pkey primary key (export, column_name),
    constraint mirrored_column_source_once unique (export, source_name),
    constraint mirrored_column_kind_known check (kind in ('boolean', 'bigint', 'numeric', 'date', 'timestamptz', 'text')),
    constraint mirrored_column_origin_known check (origin in ('configured', 'metadata', 'data', 'empty'))
);
comment on table impact_mirror.mirrored_column is 'Which column of a file stands in which column of the mirrored table, and where its type comes from.';

create table impact_mirror.cell (
    export          text        not null references impact_mirror.export (name),
    account         text        not null references impact_mirror.account (name),
    program         text        not null,
    day             date        not null,
    rows            bigint,
    loaded_at       timestamptz,
    as_of           timestamptz,
    complete        boolean     not null default false,
    next_refresh_at timestamptz,
    job_id          bigint      references impact_mirror.job (id),
    failed_at       timestamptz,
    failed_job_id   bigint      references impact_mirror.job (id),
    constraint cell_pkey primary key (export, account, program, day),
    constraint cell_loaded_whole check (
        (loaded_at is null) = (rows is null) and (loaded_at is null) = (as_of is null) and (loaded_at is null) = (job_id is null)),
    constraint cell_failed_whole check ((failed_at is null) = (failed_job_id is null)),
    constraint cell_says_something check (loaded_at is not null or failed_at is not null)
);
comment on table impact_mirror.cell is 'What is loaded, or failed, for each day. Days never tried have no row; see the view coverage for all.';
comment on column impact_mirror.cell.as_of is 'When the order went out: the rows are at least this new.';
comment on column impact_mirror.cell.complete is 'The day was over when the order went out.';
comment on column impact_mirror.cell.next_refresh_at is 'When it should be read again; null for settled.';

-- What it cost.

create table impact_mirror.bucket (
    account        text        not null references impact_mirror.account (name),
    bucket         text        not null,
    "limit"        integer     not null,
    window_length  interval    not null,
    closed_until   timestamptz,
    throttles      integer     not null default 0,
    seen_limit     integer,
    seen_remaining integer,
    seen_at        timestamptz,
    constraint bucket_pkey primary key (account, bucket),
    constraint bucket_known check (bucket in ('report_export', 'click_export', 'requests')),
    constraint bucket_limit_not_negative check ("limit" >= 0)
);
comment on table impact_mirror.bucket is 'The budget of each account: our share of the limit, and what the response headers said.';
comment on column impact_mirror.bucket.closed_until is 'After a 429: nothing is charged to the bucket before.';

create table impact_mirror.charge (
    id      bigint      generated always as identity,
    account text        not null,
    bucket  text        not null,
    at      timestamptz not null,
    cost    integer     not null,
    call    text        not null,
    job_id  bigint      references impact_mirror.job (id) on delete set null,
    constraint charge_pkey primary key (id),
    constraint charge_bucket_fkey foreign key (account, bucket) references impact_mirror.bucket (account, bucket)
);
comment on table impact_mirror.charge is 'The ledger: every call, written before it is made. Rows older than their bucket''s window are pruned.';
create index charge_in_window on impact_mirror.charge (account, bucket, at);
