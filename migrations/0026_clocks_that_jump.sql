-- Why: random worlds found two ways past the limit, both by a clock of ours that is set several times within seconds.
--
-- A call whose answer was lost is bounded by the Date of a later answer. It was put five minutes earlier for each tick in between, but
-- a clock that is set three times within a minute makes three ticks in that minute: the call was taken for one of the day before, whose count
-- ended an hour too early on the day that has 25 hours. It is dated by the answer alone now, and counts for as long as it may.
--
-- Where all requests of an hour are charged, one was risked to read impact.com's clock once our own clock said that the hour was over; a
-- clock that was set forward again made it two. Our clock has no say in it any more: the program knows by a clock that nobody sets.
--
-- An older version beside this one calls the same functions, and risks none.

create or replace function impact_mirror.charge_call(
    of_account text, of_bucket text, of_call text, of_job bigint, of_purpose text, order_at timestamptz, order_cost integer,
    at_time timestamptz,
    out charge_id bigint, out opens_at timestamptz, out clock_may_tell boolean, out moved bigint, out ahead_seconds double precision
) language plpgsql as $$
declare
    asked   constant timestamptz := coalesce(at_time, now());
    b       impact_mirror.bucket;
    r       record;
    has_room boolean;
begin
    perform from impact_mirror.account where name = of_account for no key update;
    select d.moved, d.ahead_seconds into moved, ahead_seconds from impact_mirror.redate(of_account, asked) d;
    select * into strict b from impact_mirror.bucket o where o.account = of_account and o.bucket = of_bucket;
    select * into strict r from impact_mirror.bucket_room(of_account, of_bucket, asked);
    has_room := case
        when of_purpose = 'order' and order_cost = 0 then coalesce(b.closed_until <= asked, true)
        when of_purpose in ('clock', 'clock_after_quiet') then
            coalesce(b.closed_until <= asked, true) and r.seen_room is distinct from 0
            and (of_purpose = 'clock_after_quiet' or r.ceiling - r.used > 0)
        else r.room > 0
    end;
    clock_may_tell := r.clock_may_tell;
    if not has_room then
        opens_at := coalesce(r.opens_at, asked + b.window_length);
        return;
    end if;
    -- Waiting for the lock took time, in which the margin of a charge must not be used up.
    insert into impact_mirror.charge (account, bucket, at, cost, call, job_id, ordered_at, tick)
    select a.name, of_bucket, asked + greatest(clock_timestamp() - transaction_timestamp(), interval '0 seconds'),
           case when of_purpose = 'order' then order_cost else 1 end, of_call, of_job, order_at, a.ticks
    from impact_mirror.account a
    where a.name = of_account
    returning id into charge_id;
end
$$;
comment on function impact_mirror.charge_call(text, text, text, bigint, text, timestamptz, integer, timestamptz) is
    'Charges one call to a bucket where it has room, and holds the account''s row from then on. of_purpose: call, order, clock (a call '
    'to read impact.com''s clock, which may take what is kept back for that) or clock_after_quiet (the same where the caller knows by '
    'a clock that nobody sets that nobody has called for a whole window, so that it fits whatever is charged). at_time: null for now. charge_id: null where there is no '
    'room; opens_at: when there may be some; moved, ahead_seconds: see redate().';
alter function impact_mirror.charge_call(text, text, text, bigint, text, timestamptz, integer, timestamptz)
    set plan_cache_mode = 'force_generic_plan';

create or replace function impact_mirror.hear_answer(
    of_account text, of_charge bigint, of_job bigint, order_at timestamptz, at_time timestamptz, remote_date timestamptz,
    is_nonsense boolean, told_limit integer, told_remaining integer, told_reset interval, is_of_requests boolean, ending text,
    out is_doubted boolean, out moved bigint, out ahead_seconds double precision
) language plpgsql as $$
declare
    asked    constant timestamptz := coalesce(at_time, now());
    five_minutes constant interval := interval '5 minutes';
    is_tick  boolean;
    names    text[];
    ids      bigint[];
    newest   bigint;
    reported text;
begin
    perform from impact_mirror.account where name = of_account for no key update;
    select d.moved, d.ahead_seconds into moved, ahead_seconds from impact_mirror.redate(of_account, asked) d;

    -- The charges of the call, oldest first: all of an order, the last one of other calls for the job.
    if of_charge is not null then
        ids := array[of_charge];
    elsif order_at is not null then
        select array_agg(c.id order by c.id) into ids
        from impact_mirror.charge c where c.job_id = of_job and c.ordered_at = order_at;
    else
        select array_agg(c.id) into ids
        from (select id from impact_mirror.charge where job_id = of_job and ordered_at is null order by id desc limit 1) c;
    end if;
    newest := ids[cardinality(ids)];

    -- An answer counts as a tick, at most one in five minutes. The last date counts, not the latest, so that a wrong one is
    -- forgotten with the next.
    select a.ticked_at is null or a.ticked_at > asked or a.ticked_at <= asked - five_minutes,
           is_nonsense and (a.doubted_at is null or a.doubted_at > asked or a.doubted_at < asked - interval '1 day')
    into strict is_tick, is_doubted
    from impact_mirror.account a where a.name = of_account;
    update impact_mirror.account a
    set ticks = a.ticks + is_tick::integer,
        ticked_at = case when is_tick then asked else a.ticked_at end,
        remote_clock = coalesce(remote_date, a.remote_clock),
        remote_clock_tick = case when remote_date is null then a.remote_clock_tick else a.ticks + is_tick::integer end,
        doubted_at = case when is_doubted then asked else a.doubted_at end
    where a.name = of_account;

    if newest is not null and remote_date is not null then
        -- A date has whole seconds.
        update impact_mirror.charge set remote_at = remote_date + interval '1 second' where id = any((select ids)::bigint[]);
        -- What was charged before reached impact.com at most 66 s after this answer is dated, for a call is under way for 65 s at
        -- most: so are bounded calls whose answer was lost, and those that a wrong clock dated later. No earlier, however many ticks
        -- there were since: a clock that jumps makes them in no time.
        select array_agg(b.bucket) into names from impact_mirror.bucket b where b.account = of_account;
        update impact_mirror.charge c
        set remote_at = remote_date + interval '66 seconds'
        where c.account = of_account and c.bucket = any((select names)::text[]) and c.id < ids[1]
          and (c.remote_at is null or c.remote_at > remote_date + interval '66 seconds');
    end if;

    -- What the headers leave, unless a later call has reported.
    if newest is not null and told_limit is not null then
        select case when is_of_requests or h.seen_limit = told_limit then h.bucket else c.bucket end into strict reported
        from impact_mirror.bucket h, impact_mirror.charge c
        where h.account = of_account and h.bucket = 'requests' and c.id = newest;
        update impact_mirror.bucket b
        set seen_limit = told_limit, seen_remaining = told_remaining, seen_at = asked, seen_charge_id = newest,
            seen_resets_at = case when told_reset is not null then asked + least(told_reset, b.window_length) end
        where b.account = of_account and b.bucket = reported and (b.seen_charge_id is null or b.seen_charge_id <= newest);
    end if;
    if newest is not null then
        -- A report that has had its time is forgotten where a call of its bucket, made since, was answered without another.
        update impact_mirror.bucket b
        set seen_limit = null, seen_remaining = null, seen_at = null, seen_resets_at = null, seen_charge_id = null
        from impact_mirror.charge c
        where c.id = any((select ids)::bigint[]) and b.account = of_account and b.bucket = c.bucket
          and b.bucket is distinct from reported and b.seen_charge_id < c.id
          and c.at >= coalesce(
              b.seen_resets_at, b.seen_at + case when b.window_length > interval '1 hour' then interval '1 hour' else five_minutes end);
    end if;

    if ending = 'good' then
        -- The count of 429s is forgotten after a call that was let through. One that went out before the bucket closed proves nothing.
        update impact_mirror.bucket b
        set throttles = 0, closed_until = null
        from impact_mirror.charge c
        where c.id = any((select ids)::bigint[]) and b.account = of_account and b.bucket = c.bucket
          and b.throttles > 0 and b.closed_until <= least(c.at, asked);
    elsif ending = 'refused' then
        -- Given back, where refused calls cost nothing.
        update impact_mirror.charge c
        set cost = 0
        from impact_mirror.account a
        where c.id = any((select ids)::bigint[]) and a.name = of_account and a.refused_cost = 0;
    end if;
end
$$;
alter function impact_mirror.hear_answer(
    text, bigint, bigint, timestamptz, timestamptz, timestamptz, boolean, integer, integer, interval, boolean, text)
    set plan_cache_mode = 'force_generic_plan';
