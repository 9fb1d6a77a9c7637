//! Every named constraint of the bookkeeping, and what it refuses.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgPool};

use crate::support::database::migrated;

const SEED: &str = "
    insert into impact_mirror.account (name, persona, time_zone) values ('a', 'brand', 'UTC');
    insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
        values ('e', 'report_export', 'impact.e', '1 day', '[]');
    insert into impact_mirror.export_account (export, account) values ('e', 'a');
    insert into impact_mirror.feed (export, account, program, since, include_today) values ('e', 'a', '1', '2026-01-01', true);
    insert into impact_mirror.bucket (account, bucket, \"limit\", window_length) values ('a', 'requests', 10, '1 hour');
    insert into impact_mirror.charge (account, bucket, at, cost, call) values ('a', 'requests', now(), 1, 'job');
    insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket, request,
        wanted_after, run_at, created_at)
        values ('e', 'a', '1', '2026-01-01', '2026-01-03', 'fresh', 0, 'report_export', '{}', now(), now(), now());
    insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket, request, state,
        submitted_at, wanted_after, run_at, created_at)
        values ('e', 'a', '1', '2026-02-01', '2026-02-01', 'fresh', 0, 'report_export', '{}', 'submitting', now(), now(), now(), now());
    insert into impact_mirror.job_event (job_id, at, to_state, holder) values (1, now(), 'planned', 'me');
    insert into impact_mirror.remote_job (account, id, request, created_at) values ('a', 'r', '{}', now());
    insert into impact_mirror.manual_request (export, account, program, from_day, to_day, kind, requested_at)
        values ('e', 'a', '1', '2026-01-01', '2026-01-01', 'refresh', now());
    insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256, file_bytes, target_hash,
        started_at, committed_at) values (1, 'e', 'a', '1', '2026-01-01', '2026-01-01', '', 0, gen_random_uuid(), now(), now());
    insert into impact_mirror.rejected_row (load_id, line, reason, raw) values (1, 2, 'bad', 'x');
    insert into impact_mirror.restated_column (load_id, column_name, rows_changed) values (1, 'c', 1);
    insert into impact_mirror.mirrored_column (export, column_name, source_name, kind, origin, first_seen_at)
        values ('e', 'c', 'C', 'text', 'data', now());
    insert into impact_mirror.click_rollup (export, definition, filled_at, missing) values ('e', 'd', now(), 0);
    insert into impact_mirror.columns_seen (export, account) values ('e', 'a');
    insert into impact_mirror.retyped_column (load_id, column_name, from_kind, to_kind, retyped_at)
        values (1, 'c', 'bigint', 'text', now());
    insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, job_id)
        values ('e', 'a', '1', '2026-01-01', 0, now(), now(), 1);
    insert into impact_mirror.change_rate (export, account, band, changes, days, updated_at) values ('e', 'a', 0, 1, 2, now());
    insert into impact_mirror.feed_change_rate (export, account, program, changes, days, updated_at) values ('e', 'a', 'p', '{1}', '{2}', now());
    insert into impact_mirror.archived_file (key, job_id, export, account, program, from_day, to_day, file_sha256, file_bytes,
        created_at, used_at) values ('k', 1, 'e', 'a', '1', '2026-01-01', '2026-01-01', '', 0, now(), now());
    insert into impact_mirror.reload (export, account, program, from_day, to_day, since_load_id, started_at)
        values ('e', 'a', '1', '2026-01-01', '2026-01-01', 0, now());
    insert into impact_mirror.audit (actor, action, target, result) values ('me', 'pause', 'export e', 'paused');
    insert into impact_mirror.outbox (receiver, body) values ('alerts', '{}');
    insert into impact_mirror.alert (kind, subject, summary, mend) values ('k', 's', 'late', 'wait');
    insert into impact_mirror.comparison (job_id, export, account, program, from_day, to_day, rows_in_file, rows_in_table, rows_equal,
        rows_differing, rows_altered, rows_only_in_file, rows_only_in_table, rows_rejected, verdict)
        values (1, 'e', 'a', '1', '2026-01-01', '2026-01-03', 2, 2, 2, 0, 0, 0, 0, 0, 'equal');
";

/// A constraint, and a statement that it refuses.
const REFUSED: &[(&str, &str)] = &[
    ("account_pkey", "insert into impact_mirror.account (name, persona, time_zone) values ('a', 'brand', 'UTC')"),
    ("account_costs_are_one_or_none", "update impact_mirror.account set replay_cost = 2"),
    ("bucket_seen_whole", "update impact_mirror.bucket set seen_remaining = 1"),
    ("bucket_share_is_a_part", "update impact_mirror.bucket set share = 0"),
    ("account_persona_known", "update impact_mirror.account set persona = 'merchant'"),
    ("account_paused_says_why", "update impact_mirror.account set paused_since = now(), paused_reason = 'because'"),
    ("export_pkey", "insert into impact_mirror.export select * from impact_mirror.export"),
    ("export_bucket_known", "update impact_mirror.export set bucket = 'requests'"),
    ("account_ordering_paused_says_who", "update impact_mirror.account set ordering_paused_since = now()"),
    ("export_ordering_paused_says_who", "update impact_mirror.export set ordering_paused_by = 'me'"),
    (
        "audit_pkey",
        "insert into impact_mirror.audit (id, actor, action, target, result) overriding system value values (1, 'me', 'pause', 'export e', 'x')",
    ),
    ("comparison_pkey", "insert into impact_mirror.comparison select * from impact_mirror.comparison"),
    ("comparison_verdict_known", "update impact_mirror.comparison set verdict = 'fine'"),
    ("comparison_every_record_accounted_for", "update impact_mirror.comparison set rows_in_file = 3"),
    ("comparison_equal_says_so", "update impact_mirror.comparison set rows_only_in_table = 1"),
    ("comparison_samples_are_a_list", "update impact_mirror.comparison set samples = '{}'"),
    ("outbox_pkey", "insert into impact_mirror.outbox (id, receiver, body) values (1, 'alerts', '{}')"),
    ("outbox_receiver_known", "insert into impact_mirror.outbox (receiver, body) values ('nobody', '{}')"),
    ("outbox_body_is_an_object", "insert into impact_mirror.outbox (receiver, body) values ('alerts', '[]')"),
    ("alert_pkey", "insert into impact_mirror.alert (kind, subject, summary, mend) values ('k', 's', 'late', 'wait')"),
    ("export_account_pkey", "insert into impact_mirror.export_account select * from impact_mirror.export_account"),
    ("export_account_paused_says_why", "update impact_mirror.export_account set paused_since = now()"),
    (
        "export_account_max_window_positive",
        "update impact_mirror.export_account set max_window_days = 0, max_window_why = 'x'",
    ),
    ("export_account_max_window_says_why", "update impact_mirror.export_account set max_window_days = 7"),
    (
        "export_account_max_window_learned_says_why",
        "update impact_mirror.export_account set max_window_learned_at = now()",
    ),
    ("change_rate_pkey", "insert into impact_mirror.change_rate select * from impact_mirror.change_rate"),
    ("change_rate_band_known", "update impact_mirror.change_rate set band = 9"),
    (
        "feed_change_rate_pkey",
        "insert into impact_mirror.feed_change_rate select * from impact_mirror.feed_change_rate",
    ),
    ("feed_change_rate_same_bands", "update impact_mirror.feed_change_rate set days = '{1, 2}'"),
    ("change_rate_not_negative", "update impact_mirror.change_rate set days = -1"),
    ("cell_unchanged_reads_not_negative", "update impact_mirror.cell set unchanged_reads = -1"),
    (
        "cell_locked_is_loaded",
        "update impact_mirror.cell set rows = null, loaded_at = null, as_of = null, job_id = null, failed_at = now(), \
         failed_job_id = 1, locked = true",
    ),
    ("feed_pkey", "insert into impact_mirror.feed select * from impact_mirror.feed"),
    (
        "job_pkey",
        "insert into impact_mirror.job (id, export, account, from_day, to_day, reason, priority, bucket, request, \
         wanted_after, run_at, created_at) overriding system value \
         select id, export, account, from_day, to_day, reason, priority, bucket, request, wanted_after, run_at, created_at \
         from impact_mirror.job where id = 1",
    ),
    ("job_state_known", "update impact_mirror.job set state = 'lost' where id = 1"),
    ("job_reason_known", "update impact_mirror.job set reason = 'whim'"),
    ("job_bucket_known", "update impact_mirror.job set bucket = 'requests'"),
    ("job_window_in_order", "update impact_mirror.job set to_day = from_day - 1"),
    ("job_final_iff_finished", "update impact_mirror.job set finished_at = now() where id = 1"),
    ("job_final_iff_finished", "update impact_mirror.job set state = 'cancelled' where id = 1"),
    ("job_ordered_has_time", "update impact_mirror.job set submitted_at = null where id = 2"),
    ("job_waiting_has_remote_id", "update impact_mirror.job set state = 'waiting' where id = 2"),
    ("job_loaded_iff_load", "update impact_mirror.job set load_id = 1 where id = 1"),
    (
        "job_loaded_iff_load",
        "update impact_mirror.job set state = 'loaded', remote_job_id = 'r', finished_at = now() where id = 2",
    ),
    (
        "job_load_fkey",
        "update impact_mirror.job set state = 'loaded', remote_job_id = 'r', finished_at = now(), load_id = 9 where id = 2",
    ),
    (
        "job_failed_says_why",
        "update impact_mirror.job set state = 'failed', finished_at = now(), error_kind = 'remote' where id = 1",
    ),
    ("job_lease_whole", "update impact_mirror.job set lease_holder = 'me', lease_expires_at = now() where id = 1"),
    (
        "job_final_has_no_lease",
        "update impact_mirror.job set state = 'cancelled', finished_at = now(), lease_holder = 'me', \
         lease_token = gen_random_uuid(), lease_expires_at = now() where id = 1",
    ),
    (
        "job_one_submission_under_way",
        "update impact_mirror.job set state = 'submitting', submitted_at = now() where id = 1",
    ),
    (
        "job_event_pkey",
        "insert into impact_mirror.job_event overriding system value select * from impact_mirror.job_event",
    ),
    (
        "open_cell_pkey",
        "insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket, request, \
         wanted_after, run_at, created_at) \
         select export, account, program, to_day, to_day + 5, reason, priority, bucket, request, wanted_after, run_at, \
         created_at from impact_mirror.job where id = 1",
    ),
    ("remote_job_pkey", "insert into impact_mirror.remote_job select * from impact_mirror.remote_job"),
    (
        "manual_request_pkey",
        "insert into impact_mirror.manual_request overriding system value select * from impact_mirror.manual_request",
    ),
    ("manual_request_kind_known", "update impact_mirror.manual_request set kind = 'wish'"),
    ("manual_request_window_in_order", "update impact_mirror.manual_request set to_day = from_day - 1"),
    ("load_pkey", "insert into impact_mirror.load overriding system value select * from impact_mirror.load"),
    ("load_every_row_accounted_for", "update impact_mirror.load set rows_read = 3, rows_inserted = 2"),
    ("load_warnings_known", "update impact_mirror.load set warnings = array['truncated', 'odd']"),
    ("rejected_row_pkey", "insert into impact_mirror.rejected_row select * from impact_mirror.rejected_row"),
    ("columns_seen_pkey", "insert into impact_mirror.columns_seen select * from impact_mirror.columns_seen"),
    ("click_rollup_pkey", "insert into impact_mirror.click_rollup select * from impact_mirror.click_rollup"),
    ("restated_column_pkey", "insert into impact_mirror.restated_column select * from impact_mirror.restated_column"),
    (
        "mirrored_column_pkey",
        "insert into impact_mirror.mirrored_column select export, column_name, 'D', kind, origin, first_seen_at \
         from impact_mirror.mirrored_column",
    ),
    (
        "mirrored_column_source_once",
        "insert into impact_mirror.mirrored_column select export, 'd', source_name, kind, origin, first_seen_at \
         from impact_mirror.mirrored_column",
    ),
    ("mirrored_column_kind_known", "update impact_mirror.mirrored_column set kind = 'float'"),
    ("mirrored_column_type_origin_known", "update impact_mirror.mirrored_column set type_origin = 'guess'"),
    (
        "mirrored_column_vanished_is_nowhere",
        "update impact_mirror.mirrored_column set vanished_since = now(), accounts = array['a']",
    ),
    ("retyped_column_pkey", "insert into impact_mirror.retyped_column select * from impact_mirror.retyped_column"),
    ("retyped_column_kinds_known", "update impact_mirror.retyped_column set to_kind = 'float'"),
    ("retyped_column_changes", "update impact_mirror.retyped_column set to_kind = from_kind"),
    ("export_keep_positive", "update impact_mirror.export set keep_days = 0"),
    ("mirrored_column_origin_known", "update impact_mirror.mirrored_column set origin = 'guess'"),
    ("cell_pkey", "insert into impact_mirror.cell select * from impact_mirror.cell"),
    ("cell_loaded_whole", "update impact_mirror.cell set as_of = null"),
    ("cell_loaded_whole", "update impact_mirror.cell set rows = null"),
    ("cell_failed_whole", "update impact_mirror.cell set failed_at = now()"),
    ("cell_says_something", "update impact_mirror.cell set rows = null, loaded_at = null, as_of = null, job_id = null"),
    ("bucket_pkey", "insert into impact_mirror.bucket select * from impact_mirror.bucket"),
    ("bucket_known", "update impact_mirror.bucket set bucket = 'catalogs'"),
    ("bucket_limit_not_negative", "update impact_mirror.bucket set \"limit\" = -1"),
    ("charge_pkey", "insert into impact_mirror.charge overriding system value select * from impact_mirror.charge"),
    ("archived_file_pkey", "insert into impact_mirror.archived_file select * from impact_mirror.archived_file"),
    ("archived_file_window_in_order", "update impact_mirror.archived_file set to_day = from_day - 1"),
    ("archived_file_stored_whole", "update impact_mirror.archived_file set stored_at = now()"),
    ("archived_file_manifest_after_file", "update impact_mirror.archived_file set manifest_at = now()"),
    ("archived_file_removed_after_dropped", "update impact_mirror.archived_file set removed_at = now()"),
    ("load_archive_key_fkey", "update impact_mirror.load set archive_key = 'no such file'"),
    (
        "reload_pkey",
        "insert into impact_mirror.reload overriding system value \
         select id, export, account, program, from_day, to_day, since_load_id, started_at, now() from impact_mirror.reload",
    ),
    ("reload_window_in_order", "update impact_mirror.reload set to_day = from_day - 1"),
    (
        "reload_one_open",
        "insert into impact_mirror.reload (export, account, program, from_day, to_day, since_load_id, started_at) \
         select export, account, program, from_day, to_day, since_load_id, started_at from impact_mirror.reload",
    ),
    ("charge_bucket_fkey", "update impact_mirror.charge set bucket = 'click_export'"),
];

#[tokio::test]
async fn every_constraint_refuses_what_it_is_there_for() {
    let database = migrated().await;
    sqlx::raw_sql(SEED).execute(database.pool()).await.unwrap();
    for (constraint, statement) in REFUSED {
        let mut tx = database.pool().begin().await.unwrap();
        let error = sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut *tx).await.err();
        let refused_by = error.as_ref().and_then(|error| error.as_database_error()?.constraint());
        assert_eq!(refused_by, Some(*constraint), "{statement}: {error:?}");
    }
    assert_eq!(names(database.pool()).await, REFUSED.iter().map(|(name, _)| (*name).to_owned()).collect());
}

/// All constraints and unique indexes but plain references, which Postgres names.
async fn names(pool: &PgPool) -> BTreeSet<String> {
    let names: Vec<String> = sqlx::query_scalar(
        "select conname::text from pg_constraint
         where connamespace = 'impact_mirror'::regnamespace
           and (contype in ('c', 'p', 'u') or conname in ('job_load_fkey', 'charge_bucket_fkey', 'load_archive_key_fkey'))
         union
         select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
         where c.relnamespace = 'impact_mirror'::regnamespace and i.indisunique",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    names.into_iter().collect()
}

#[tokio::test]
async fn a_job_holds_its_cells_open_until_its_end_whatever_that_is() {
    let database = migrated().await;
    sqlx::raw_sql(SEED).execute(database.pool()).await.unwrap();
    let open = async || -> Vec<String> {
        sqlx::query_scalar("select concat_ws(' ', job_id, day) from impact_mirror.open_cell order by job_id, day")
            .fetch_all(database.pool())
            .await
            .unwrap()
    };
    let first = ["1 2026-01-01", "1 2026-01-02", "1 2026-01-03", "2 2026-02-01"];
    assert_eq!(open().await, first);
    let step = "update impact_mirror.job set state = 'waiting', remote_job_id = 'r' where id = 2";
    sqlx::raw_sql(step).execute(database.pool()).await.unwrap();
    assert_eq!(open().await, first, "a step is no end");
    let ends = "update impact_mirror.job set state = 'cancelled', finished_at = now() where id = 1;
                update impact_mirror.job set state = 'failed', finished_at = now(), error_kind = 'remote', error_message = 'x'
                where id = 2";
    sqlx::raw_sql(ends).execute(database.pool()).await.unwrap();
    assert!(open().await.is_empty());
    // And the days are free for another job.
    let again = "insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket, request,
                     wanted_after, run_at, created_at)
                 select export, account, program, from_day, to_day, reason, priority, bucket, request, wanted_after, run_at,
                     created_at from impact_mirror.job where id = 1";
    sqlx::raw_sql(again).execute(database.pool()).await.unwrap();
    assert_eq!(open().await.len(), 3);
    sqlx::raw_sql("delete from impact_mirror.job where finished_at is null").execute(database.pool()).await.unwrap();
    assert!(open().await.is_empty(), "a job that is gone holds nothing");
    sqlx::raw_sql(again).execute(database.pool()).await.unwrap();
    sqlx::raw_sql("truncate impact_mirror.job cascade").execute(database.pool()).await.unwrap();
    assert!(open().await.is_empty(), "nor do all of them");
}
