-- Why: whose turn it is and what is due next is asked for every job. Postgres made a plan for it each time, which took a third of the
-- answer, for what it remembers of plans made while tables were small keeps it from using the same plan again. They are functions with
-- plans of their own now. And whoever charges a call looked for what a clock that was set back has left, in three statements; one look
-- says that there is nothing.
--
-- An older version beside this one asks the same in its own words.

create function impact_mirror.most_wanted(
    of_accounts text[], of_exports text[], max_under_way bigint, at_time timestamptz, max_rows bigint
) returns table (id bigint, account text, bucket text, replay_of text, cost integer)
language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
    with ours as materialized (
        select a.name, a.replay_cost
        from impact_mirror.account a
        cross join lateral (
            -- Nobody looks at the jobs of a paused export, so others do not wait for their end.
            select count(*) as followed
            from impact_mirror.job u
            where u.account = a.name and u.finished_at is null and u.state in ('submitting', 'waiting')
              and exists (
                  select 1 from impact_mirror.export_account p
                  where p.export = u.export and p.account = u.account and p.paused_since is null
                  offset 0)
        ) o
        where a.name = any((select of_accounts)::text[])
          and a.paused_since is null
          and a.ordering_paused_since is null
          and not (select impact_mirror.waits_for_room())
          and o.followed < max_under_way
    ), best as materialized (
        select o.id, o.account, o.bucket, o.priority, o.replay_of, a.replay_cost
        from ours a
        join impact_mirror.bucket b on b.account = a.name and b.bucket <> 'requests'
        cross join (values (true), (false)) as kind (is_replay)
        cross join lateral (
            select j.id, j.account, j.bucket, j.priority, j.replay_of
            from impact_mirror.job j
            where j.state = 'planned'
              and j.account = b.account and j.bucket = b.bucket and (j.replay_of is not null) = kind.is_replay
              and (j.run_at <= now()) is true -- not by the index of what is due next, which has all accounts
              and j.export = any((select of_exports)::text[])
              and exists (
                  select 1
                  from impact_mirror.export_account ea
                  join impact_mirror.export e on e.name = ea.export and e.ordering_paused_since is null
                  where ea.export = j.export and ea.account = j.account and ea.paused_since is null
                    -- A limit of windows on trial is tried by one order at a time: several would be lost together.
                    and (j.replay_of is not null or ea.max_window_days is null or ea.max_window_learned_at is not null
                         or not exists (
                             select 1 from impact_mirror.job t
                             where t.account = j.account and t.export = j.export
                               and t.finished_at is null and t.state in ('submitting', 'waiting', 'ready', 'loading')
                             offset 0))
                  offset 0)
              and not exists (
                  select 1 from impact_mirror.job s
                  where s.account = j.account and s.bucket = j.bucket and s.program = j.program and s.state = 'submitting'
                  offset 0)
            order by j.priority, j.id
            limit 1
        ) o
    )
    -- Rooms are added up for one after the other, until there is one.
    select o.id, o.account, o.bucket, o.replay_of, case when o.replay_of is null then 1 else o.replay_cost end
    from (select * from best order by priority, id) o
    cross join lateral (
        select r.room > 0 as has_room, coalesce(b.closed_until > at_time, false) as is_closed
        from impact_mirror.bucket b
        cross join lateral impact_mirror.bucket_room(b.account, b.bucket, at_time) r
        where b.account = o.account and b.bucket = o.bucket
    ) d
    where (d.has_room or (o.replay_of is not null and o.replay_cost = 0 and not d.is_closed))
      and (o.replay_of is null
           or exists (select 1 from impact_mirror.bucket_room(o.account, 'requests', at_time) h where h.room > 0))
    order by o.priority, o.id
    limit max_rows;
end
$$;
comment on function impact_mirror.most_wanted(text[], text[], bigint, timestamptz, bigint) is
    'The most wanted planned jobs of some accounts whose buckets have room: of each account, bucket and way of ordering one at most. '
    'What is ordered of an account is counted along the index job_open, so that results that wait to be loaded cost nothing.';

create function impact_mirror.next_due(
    of_states text[], of_accounts text[], of_exports text[], of_followed text[],
    out in_all double precision, out ordered double precision
) language plpgsql stable as $$
begin
    with under_way as (
        select min(greatest(j.run_at, j.lease_expires_at)) as due_at
        from unnest((select array_remove(of_states, 'planned'))) as s (state)
        cross join lateral (
            select j.export, j.account, j.run_at, j.lease_expires_at
            from impact_mirror.job j
            where j.finished_at is null and j.state = s.state
            offset 0) j
        where (j.account in (select unnest((select of_accounts)))) is true -- which Postgres hashes
          and exists (
            select 1
            from impact_mirror.export_account ea
            join impact_mirror.account a on a.name = ea.account and a.paused_since is null
            where ea.export = j.export and ea.account = j.account and ea.paused_since is null
              and ea.export = any(case when s.state in ('submitting', 'waiting') then (select of_followed) else (select of_exports) end)
            offset 0)
    ), planned as (
        select j.run_at as due_at
        from impact_mirror.job j
        where j.state = 'planned'
          and j.run_at is not null -- the index's
          and 'planned' = any((select of_states)::text[])
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
        limit 1
    )
    select extract(epoch from least(u.due_at, p.due_at) - now())::float8, extract(epoch from u.due_at - now())::float8
    into in_all, ordered
    from under_way u left join planned p on true;
end
$$;
comment on function impact_mirror.next_due(text[], text[], text[], text[]) is
    'Seconds until the first job in one of these states may be worked on; ordered: of those that were ordered already.';

-- Made once, and not while there is hardly anything to read: by the indexes, which are right for any number of jobs.
alter function impact_mirror.most_wanted(text[], text[], bigint, timestamptz, bigint)
    set plan_cache_mode = 'force_generic_plan';
alter function impact_mirror.most_wanted(text[], text[], bigint, timestamptz, bigint) set enable_seqscan = off;
alter function impact_mirror.next_due(text[], text[], text[], text[]) set plan_cache_mode = 'force_generic_plan';
alter function impact_mirror.next_due(text[], text[], text[], text[]) set enable_seqscan = off;

create or replace function impact_mirror.redate(of_account text, at_time timestamptz, out moved bigint, out ahead_seconds double precision)
language plpgsql as $$
declare
    names text[];
begin
    moved := 0;
    if not exists (
        select 1
        from impact_mirror.bucket b
        where b.account = of_account
          and (b.closed_until > at_time + b.window_length or b.seen_at > at_time + interval '1 minute'
               or b.seen_resets_at > at_time + b.window_length
               or exists (
                   select 1 from impact_mirror.charge c
                   where c.account = of_account and c.bucket = b.bucket and c.at > at_time + interval '1 minute'
                   offset 0))
    ) then
        return;
    end if;
    select array_agg(b.bucket) into names from impact_mirror.bucket b where b.account = of_account;
    with ahead as materialized (
        select c.id, c.at from impact_mirror.charge c
        where c.account = of_account and c.bucket = any((select names)::text[]) and c.at > at_time + interval '1 minute'
    ), redated as (
        update impact_mirror.charge c set at = at_time from ahead where c.id = ahead.id
    )
    select count(*), extract(epoch from max(at) - at_time) into moved, ahead_seconds from ahead;
    update impact_mirror.bucket b
    set closed_until = case when b.closed_until > at_time + b.window_length then at_time + b.window_length else b.closed_until end,
        seen_at = case when b.seen_at > at_time + interval '1 minute' then at_time else b.seen_at end,
        seen_resets_at = case when b.seen_resets_at > at_time + b.window_length then at_time + b.window_length
                              else b.seen_resets_at end
    where b.account = of_account
      and (b.closed_until > at_time + b.window_length or b.seen_at > at_time + interval '1 minute'
           or b.seen_resets_at > at_time + b.window_length);
end
$$;
alter function impact_mirror.redate(text, timestamptz) set plan_cache_mode = 'force_generic_plan';
