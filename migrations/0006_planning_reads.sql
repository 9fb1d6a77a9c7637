-- Why: a planning pass looks at every cell, and opens the cells of every job that it writes. With what it needs of a cell in
-- the primary key's own index, it reads that index once from end to end and leaves the table alone, where each cell may lie
-- on a page of its own. What is planned of an account is found without walking along all jobs there ever were. And open cells
-- are written by a trigger of their job alone, so looking each one's job up again, which took a third to a half of the time of writing a plan,
-- proved nothing.

alter table impact_mirror.cell
    drop constraint cell_pkey,
    add constraint cell_pkey primary key (export, account, program, day) include (as_of, next_refresh_at, failed_at);

-- Only pages that vacuum has marked are left alone, and young cells are written again and again, so it comes round often.
alter table impact_mirror.cell set (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02);

-- The most wanted job of a bucket, a Replay or a new order, comes first.
create index job_planned on impact_mirror.job (account, bucket, (replay_of is not null), priority, id) include (reason)
    where state = 'planned';

alter table impact_mirror.open_cell drop constraint open_cell_job_id_fkey;
-- What went with a job by that reference still does.
create function impact_mirror.job_takes_its_cells() returns trigger language plpgsql as $$
begin
    delete from impact_mirror.open_cell where job_id = old.id;
    return null;
end
$$;
create trigger job_takes_its_cells after delete on impact_mirror.job
    for each row when (old.finished_at is null) execute function impact_mirror.job_takes_its_cells();

create function impact_mirror.jobs_take_all_cells() returns trigger language plpgsql as $$
begin
    truncate impact_mirror.open_cell;
    return null;
end
$$;
create trigger jobs_take_all_cells after truncate on impact_mirror.job
    for each statement execute function impact_mirror.jobs_take_all_cells();
