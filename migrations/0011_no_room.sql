-- Why: a result that cannot be stored because a disk is full is paid for all the same. So while a job waits for room, nothing
-- more is ordered; jobs of which nobody has tried to make something of late do not count, for nobody knows what is true of them.
create index job_without_room on impact_mirror.job (run_at) where error_kind = 'no_room' and finished_at is null;

create function impact_mirror.waits_for_room() returns boolean
language sql stable parallel safe as $$
    select exists (
        select 1
        from impact_mirror.job
        where error_kind = 'no_room' and finished_at is null and state <> 'planned'
          and (run_at > now() - interval '15 minutes' or lease_expires_at > now()))
$$;
comment on function impact_mirror.waits_for_room() is 'Whether a job waits for room on a full disk. While one does, nothing is ordered.';
