-- Why: whose turn it is, whether there is room, and what a call costs is asked several times for every job, and Postgres made a plan for
-- it each time: of what a job took there, a seventh. Plans of functions are kept now. What they ask for does not depend on the values.
--
-- An older version beside this one asks the same.

create or replace function impact_mirror.waits_for_room() returns boolean
language plpgsql stable parallel safe as $$
begin
    return exists (
        select 1
        from impact_mirror.job
        where error_kind = 'no_room' and finished_at is null and state <> 'planned'
          and (run_at > now() - interval '15 minutes' or lease_expires_at > now()));
end
$$;

alter function impact_mirror.waits_for_room() set plan_cache_mode = 'force_generic_plan';
alter function impact_mirror.bucket_room(text, text, timestamptz) set plan_cache_mode = 'force_generic_plan';
alter function impact_mirror.redate(text, timestamptz) set plan_cache_mode = 'force_generic_plan';
alter function impact_mirror.charge_call(text, text, text, bigint, text, timestamptz, integer, timestamptz)
    set plan_cache_mode = 'force_generic_plan';
alter function impact_mirror.hear_answer(
    text, bigint, bigint, timestamptz, timestamptz, timestamptz, boolean, integer, integer, interval, boolean, text)
    set plan_cache_mode = 'force_generic_plan';
