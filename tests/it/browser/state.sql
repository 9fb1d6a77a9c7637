-- A mirror in the middle of its life: one account, two exports of three programs over two years, one of which is late.
insert into impact_mirror.account (name, persona, time_zone) values ('acme', 'brand', 'Etc/UTC');
insert into impact_mirror.bucket (account, bucket, "limit", window_length)
values ('acme', 'report_export', 100, '24 hours'), ('acme', 'click_export', 10, '24 hours'), ('acme', 'requests', 1000, '1 hour');
insert into impact_mirror.charge (account, bucket, at, cost, call)
select 'acme', 'click_export', now() - interval '2 hours', 1, 'submit' from generate_series(1, 10)
union all
select 'acme', 'report_export', now() - interval '1 hour', 1, 'submit' from generate_series(1, 34);
insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
values ('actions', 'report_export', 'impact.actions', '26 hours', '[]'),
       ('clicks', 'click_export', 'impact.clicks', '26 hours', '[]');
insert into impact_mirror.export_account (export, account, last_tick_at)
values ('actions', 'acme', now() - interval '5 minutes'), ('clicks', 'acme', now() - interval '5 minutes');
insert into impact_mirror.feed (export, account, program, since, include_today)
select export, 'acme', program, current_date - 500, false
from unnest(array['actions', 'clicks']) as export, unnest(array['1000', '2000', '3000']) as program;

-- Job 1 loaded everything; 2 failed; 3 is in flight; 4 waits for quota.
insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request,
    wanted_after, run_at, created_at, submitted_at, finished_at, remote_job_id, remote_status, error_kind, error_message)
values ('actions', 'acme', '1000', current_date - 30, current_date - 1, 'fresh', 'failed', 1, 'report_export', '{}',
        now(), now(), now() - interval '3 hours', now() - interval '3 hours', now() - interval '2 hours', 'r-1', 'COMPLETED', 'remote', 'to be loaded'),
       ('clicks', 'acme', '2000', current_date - 2, current_date - 2, 'fresh', 'failed', 1, 'click_export', '{"clicks": true, "program": "2000"}',
        now(), now(), now() - interval '3 hours', now() - interval '3 hours', now() - interval '2 hours', null, null, 'remote', 'impact.com refused: the <export> is too "large"');
insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256, file_bytes, target_hash,
    rows_read, rows_inserted, rows_updated, rows_unchanged, rows_rejected, records_processed, started_at, committed_at)
values (1, 'actions', 'acme', '1000', current_date - 30, current_date - 1, '\x00ff', 123456, gen_random_uuid(),
    1000, 100, 50, 848, 2, 1000, now() - interval '2 hours', now() - interval '119 minutes');
insert into impact_mirror.restated_column (load_id, column_name, rows_changed, sum_before, sum_after) values (1, 'payout', 12, 100.50, 98.25);
insert into impact_mirror.rejected_row (load_id, line, column_name, value, reason, raw)
values (1, 17, 'payout', 'x', 'not a number', 'a,b,x'), (1, 18, 'payout', 'y', 'not a number', 'a,b,y');
update impact_mirror.job set state = 'loaded', load_id = 1, error_kind = null, error_message = null where id = 1;
insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request,
    wanted_after, run_at, created_at, submitted_at, remote_job_id, remote_status, remote_percent)
values ('actions', 'acme', '2000', current_date - 60, current_date - 40, 'refresh', 'waiting', 1, 'report_export', '{"report": "adv_action_listing_pm_only"}',
        now(), now() + interval '1 hour', now() - interval '9 minutes', now() - interval '8 minutes', 'r-3', 'RUNNING', 42.4);
insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request, wanted_after, run_at, created_at)
values ('clicks', 'acme', '1000', current_date - 1, current_date - 1, 'fresh', 'planned', 1, 'click_export', '{"clicks": true}',
        now(), now(), now() - interval '50 minutes');
insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
values (3, now() - interval '9 minutes', null, 'planned', 'host-1', ''),
       (3, now() - interval '8 minutes', 'planned', 'submitting', 'host-1', ''),
       (3, now() - interval '470 seconds', 'submitting', 'waiting', 'host-1', 'impact.com took the order');
insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, complete, job_id, next_refresh_at)
select f.export, f.account, f.program, d::date, 10, now() - interval '1 hour', now() - interval '1 hour', true, 1,
       case when d < current_date - 200 then null when d < current_date - 180 then now() - interval '1 hour' else now() + interval '5 hours' end
from impact_mirror.feed f, generate_series(current_date - 490, current_date - 1, interval '1 day') d
where not (f.export = 'clicks' and f.program <> '3000' and d >= current_date - 3);
insert into impact_mirror.cell (export, account, program, day, failed_at, failed_job_id)
values ('clicks', 'acme', '2000', current_date - 2, now() - interval '2 hours', 2);
