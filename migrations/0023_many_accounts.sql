-- Why: what stands next is asked for several times for every job, and read an entry for each account there is; with five hundred
-- accounts these questions took two thirds of Postgres's time. Now they go along the jobs, in the order of an index.
--
-- An older version beside this one asks the same as before, and is as slow as it was.

-- No other question may come by it: while Postgres believes that nothing is planned, one index looks as good to it as another.
create index job_planned_next on impact_mirror.job (run_at) where state = 'planned' and run_at is not null;
create index job_open on impact_mirror.job (account, state)
    where finished_at is null and state in ('submitting', 'waiting', 'ready', 'loading');

-- Last, for these keep everybody away.
drop index impact_mirror.job_planned_due, impact_mirror.job_under_way;
