insert into impact_mirror.account (name, persona, time_zone, paused_since, paused_kind, paused_reason)
values ('acme', 'brand', 'Etc/UTC', null, null, null),
       ('blog', 'partner', 'Etc/UTC', '2026-01-02T03:04:05Z', 'credentials', 'Authentication failed: token revoked');
insert into impact_mirror.bucket (account, bucket, "limit", window_length)
values ('acme', 'report_export', 100, '24 hours'), ('acme', 'click_export', 10, '24 hours'),
       ('blog', 'report_export', 100, '24 hours');
insert into impact_mirror.charge (account, bucket, at, cost, call)
select 'acme', 'click_export', now(), 1, 'submit' from generate_series(1, 10);
insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
values ('actions', 'report_export', 'impact.actions', '26 hours', '[]'),
       ('payouts', 'report_export', 'impact.payouts', '26 hours', '[]');
insert into impact_mirror.feed (export, account, program, since, include_today)
values ('actions', 'acme', '1000', (now() at time zone 'utc')::date - 1, false),
       ('payouts', 'blog', '', (now() at time zone 'utc')::date - 1, false);

insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request,
    wanted_after, run_at, created_at, submitted_at, finished_at, remote_job_id, error_kind, error_message)
values ('payouts', 'blog', '', '2026-01-01', '2026-01-01', 'fresh', 'failed', 1, 'report_export', '{}',
    now(), now(), now(), now(), '2026-01-02T03:04:05Z', null, 'remote', 'impact.com refused: <report> & "reason"');
insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request,
    wanted_after, run_at, created_at, submitted_at, remote_job_id, remote_status, remote_percent)
values ('actions', 'acme', '1000', '2026-01-01', '2026-01-31', 'backfill', 'waiting', 1, 'report_export', '{}',
    now(), now(), now(), now(), 'r-1', 'RUNNING', 42.4);
insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, complete, job_id)
values ('actions', 'acme', '1000', (now() at time zone 'utc')::date - 1, 1234, now(), now(), true, 2);
insert into impact_mirror.cell (export, account, program, day, failed_at, failed_job_id)
values ('payouts', 'blog', '', (now() at time zone 'utc')::date - 1, now(), 1);
