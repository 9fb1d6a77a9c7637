-- Why: a mirror is trusted more where it can be held against impact.com at any time. A job may now compare what it brings with the table
-- instead of loading it; what that came to is kept, so that a comparison whose command was cut short is found all the same.
--
-- An older version beside this one does not know the column: it loads what such a job brings, as a refresh by hand would.

alter table impact_mirror.job add column compares boolean not null default false;
comment on column impact_mirror.job.compares is 'Its result is compared with the table and never loaded; it ends cancelled, with its outcome in comparison.';
create index job_comparing on impact_mirror.job (export) where compares and finished_at is null;

create table impact_mirror.comparison (
    job_id             bigint      not null references impact_mirror.job (id) on delete cascade,
    export             text        not null references impact_mirror.export (name),
    account            text        not null references impact_mirror.account (name),
    program            text        not null,
    from_day           date        not null,
    to_day             date        not null,
    rows_in_file       bigint      not null,
    rows_in_table      bigint      not null,
    rows_equal         bigint      not null,
    rows_differing     bigint      not null,
    rows_altered       bigint      not null,
    rows_only_in_file  bigint      not null,
    rows_only_in_table bigint      not null,
    rows_rejected      bigint      not null,
    rows_loaded        bigint,
    verdict            text        not null,
    note               text        not null default '',
    samples            jsonb       not null default '[]',
    at                 timestamptz not null default now(),
    constraint comparison_pkey primary key (job_id),
    constraint comparison_verdict_known check (verdict in ('equal', 'restated', 'altered')),
    constraint comparison_every_record_accounted_for check (
        rows_in_file = rows_equal + rows_differing + rows_altered + rows_only_in_file + rows_rejected),
    constraint comparison_equal_says_so check (
        verdict <> 'equal' or (rows_differing = 0 and rows_altered = 0 and rows_only_in_file = 0 and rows_only_in_table = 0)),
    constraint comparison_samples_are_a_list check (jsonb_typeof(samples) = 'array')
);
comment on table impact_mirror.comparison is 'What `verify` found: a window as impact.com gives it now, held against the table row by row. One row for each job that compared.';
comment on column impact_mirror.comparison.rows_differing is 'Rows that impact.com gives otherwise now than when they were loaded: their hashes differ.';
comment on column impact_mirror.comparison.rows_altered is 'Rows that impact.com gives as when they were loaded, but whose values in the table are others: somebody changed them there.';
comment on column impact_mirror.comparison.rows_only_in_file is 'Rows that the table lacks.';
comment on column impact_mirror.comparison.rows_only_in_table is 'Rows that impact.com does not give for the window any more.';
comment on column impact_mirror.comparison.rows_rejected is 'Records that a load would put into rejected_row.';
comment on column impact_mirror.comparison.rows_loaded is 'How many rows the loads left in the window, by the cells; another number in the table was not made by a load.';
comment on column impact_mirror.comparison.verdict is 'equal; restated: impact.com has changed rows since the load; altered: the table is not as it was loaded.';
comment on column impact_mirror.comparison.samples is 'Some of the rows that are not equal: kind, key, line and values on both sides.';
create index comparison_by_window on impact_mirror.comparison (export, account, program, from_day);

comment on column impact_mirror.audit.action is 'refresh, backfill, verify, retry, cancel, pause or resume.';
