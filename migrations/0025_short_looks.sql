-- Why: with five hundred accounts two questions took longer than the work they are for. Which jobs to look at together was found by reading
-- all jobs that wait; now by the one whose turn it is, and the others of its account. And each load found out by the lists of accounts
-- at forty columns that its file has the columns of the one before; now by a hash of what it says.
--
-- An older version beside this one asks the first in its own words, and goes by the lists. What it changes there for an account is
-- noticed within a day (docs/upgrade.md).

create function impact_mirror.due_together(
    of_accounts text[], of_exports text[], shortest_pause interval, longest_pause interval, max_rows bigint
) returns table (id bigint, listed_before bigint)
language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
    with lead as materialized (
        select j.id, j.account
        from impact_mirror.job j
        where j.finished_at is null
          and j.state = 'waiting'
          and j.run_at <= now()
          and (j.lease_expires_at is null or j.lease_expires_at <= now())
          and exists (
              select 1
              from impact_mirror.export_account ea
              join impact_mirror.account a on a.name = ea.account and a.paused_since is null
              where ea.export = j.export and ea.account = j.account and ea.paused_since is null
                and ea.account = any((select of_accounts)::text[])
                and ea.export = any((select of_exports)::text[])
              offset 0)
        order by j.priority, j.run_at
        limit 1
    ), free as materialized (
        select j.id, j.account, r.created_at, j.id = lead.id as leads
        from lead
        cross join lateral (
            select j.id, j.account, j.export, j.remote_job_id, j.run_at, j.attempts,
                   greatest(least((j.run_at - j.submitted_at) / case when j.polls = 0 then 1 else 5 end, longest_pause),
                            shortest_pause) as pause
            from impact_mirror.job j
            where j.account = lead.account and j.finished_at is null and j.state = 'waiting'
              and (j.lease_expires_at is null or j.lease_expires_at <= now())
            offset 0
        ) j
        left join impact_mirror.remote_job r on r.account = j.account and r.id = j.remote_job_id
        where j.id = lead.id
           or (j.attempts = 0 and r.id is not null and j.run_at <= now() + j.pause / 2
               and exists (
                   select 1 from impact_mirror.export_account ea
                   where ea.export = j.export and ea.account = j.account and ea.paused_since is null
                     and ea.export = any((select of_exports)::text[])
                   offset 0))
    )
    select f.id,
           case
               when f.created_at is null then 1000000000
               when (select count(*) from free) = 1 then 1
               else (select count(*) from impact_mirror.remote_job n
                     where n.account = f.account and n.created_at >= f.created_at - interval '1 day')
           end
    from free f
    order by not f.leads, f.created_at desc
    limit max_rows;
end
$$;
comment on function impact_mirror.due_together(text[], text[], interval, interval, bigint) is
    'The waiting job whose turn it is to be looked at, and after it those of its account that are due before half of their pause is over. '
    'listed_before: how many remote jobs of the account are younger, or as old as it within a day; 1 for a job that is alone, and more '
    'than any list holds where its remote job is unknown.';
alter function impact_mirror.due_together(text[], text[], interval, interval, bigint) set plan_cache_mode = 'force_generic_plan';
alter function impact_mirror.due_together(text[], text[], interval, interval, bigint) set enable_seqscan = off;

create table impact_mirror.columns_seen (
    export  text not null references impact_mirror.export (name),
    account text not null references impact_mirror.account (name),
    hash    bytea,
    constraint columns_seen_pkey primary key (export, account)
);
comment on table impact_mirror.columns_seen is 'Whether a file of an account that says what the last one did of its columns brings mirrored_column anything new.';
comment on column impact_mirror.columns_seen.hash is
    'What columns_now() gave when a file was last found to change nothing; null since one changed something.';

create function impact_mirror.columns_now(of_export text, told text) returns bytea
language plpgsql stable as $$
begin
    return (
        select sha256(convert_to(concat_ws(E'\n', told, (now() at time zone 'UTC')::date::text,
            string_agg(concat_ws(' ', c.column_name, c.kind, c.type_origin, c.first_seen_at, c.vanished_since), E'\n'
                       order by c.column_name)), 'UTF8'))
        from impact_mirror.mirrored_column c
        where c.export = of_export);
end
$$;
comment on function impact_mirror.columns_now(text, text) is
    'A hash over what a file says of its columns and what mirrored_column does, but for the lists of accounts. Another one each day, so '
    'that these are looked at once a day.';
alter function impact_mirror.columns_now(text, text) set plan_cache_mode = 'force_generic_plan';

create index job_next on impact_mirror.job (state, run_at)
    where finished_at is null and state in ('submitting', 'waiting', 'ready', 'loading');

-- Along that index, as far as one more job could be due before those that were found.
create or replace function impact_mirror.next_due(
    of_states text[], of_accounts text[], of_exports text[], of_followed text[],
    out in_all double precision, out ordered double precision
) language plpgsql stable as $$
declare
    of_state  text;
    due       record;
    under_way timestamptz;
    planned   timestamptz;
begin
    foreach of_state in array array_remove(of_states, 'planned') loop
        for due in
            select j.run_at, greatest(j.run_at, j.lease_expires_at) as at
            from impact_mirror.job j
            where j.finished_at is null and j.state in ('submitting', 'waiting', 'ready', 'loading') -- the index's
              and j.state = of_state
              and exists (
                select 1
                from impact_mirror.export_account ea
                join impact_mirror.account a on a.name = ea.account and a.paused_since is null
                where ea.export = j.export and ea.account = j.account and ea.paused_since is null
                  and ea.account = any((select of_accounts)::text[])
                  and ea.export = any(case when of_state in ('submitting', 'waiting') then (select of_followed)
                                           else (select of_exports) end)
                offset 0)
            order by j.run_at
        loop
            exit when due.run_at >= under_way;
            under_way := least(under_way, due.at);
        end loop;
    end loop;
    if 'planned' = any(of_states) then
        select j.run_at into planned
        from impact_mirror.job j
        where j.state = 'planned'
          and j.run_at is not null -- the index's
          and exists (
              select 1
              from impact_mirror.export_account ea
              join impact_mirror.account a
                  on a.name = ea.account and a.paused_since is null and a.ordering_paused_since is null
              join impact_mirror.export e on e.name = ea.export and e.ordering_paused_since is null
              where ea.export = j.export and ea.account = j.account and ea.paused_since is null
                and ea.account = any((select of_accounts)::text[])
                and ea.export = any((select of_exports)::text[])
              offset 0)
        order by j.run_at
        limit 1;
    end if;
    in_all := extract(epoch from least(under_way, planned) - now());
    ordered := extract(epoch from under_way - now());
end
$$;
alter function impact_mirror.next_due(text[], text[], text[], text[]) set plan_cache_mode = 'force_generic_plan';
alter function impact_mirror.next_due(text[], text[], text[], text[]) set enable_seqscan = off;
