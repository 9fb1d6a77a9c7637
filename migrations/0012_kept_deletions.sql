-- Why: where a rejected row has no key that can be read, nothing is deleted, so that old versions of rows may stand beside new ones.
-- That is as doubtful as a row that is missing, and is told in the same way.
alter table impact_mirror.load
    drop constraint load_warnings_known,
    add constraint load_warnings_known check (
        warnings <@ array['count_mismatch', 'unexpected_zero', 'truncated', 'kept_deletions']);
comment on column impact_mirror.load.warnings is 'What about the file is doubtful: count_mismatch, unexpected_zero, truncated, kept_deletions. See the view load_warning.';

create or replace view impact_mirror.load_warning as
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
             and c.day between l.from_day and l.to_day and c.job_id = l.job_id) as is_current,
       l.rows_rejected
from impact_mirror.load l
cross join lateral unnest(l.warnings) as w (kind)
where l.warnings <> '{}';
comment on column impact_mirror.load_warning.kind is 'count_mismatch: the file has another number of rows than impact.com said; unexpected_zero: it has none, and the window had some; truncated: it has just as many as a file may hold; kept_deletions: it has rows without a key that could be read, so that rows which it no longer has stay.';
comment on column impact_mirror.load_warning.rows_rejected is 'Rows of the file that were rejected.';
