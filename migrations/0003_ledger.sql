-- Why: the ledger has to hold whatever clocks and headers say. A charge ends by two clocks, ours and impact.com's; what the
-- headers report lowers a bucket until they speak again; and how many calls are left is worked out in one place.

alter table impact_mirror.account
    add column replay_cost       integer not null default 1,
    add column duplicate_cost    integer not null default 1,
    add column refused_cost      integer not null default 1,
    add column remote_clock      timestamptz,
    add column remote_clock_tick bigint  not null default 0,
    add column ticks             bigint  not null default 0,
    add column ticked_at         timestamptz,
    add column clock_asked_at    timestamptz,
    add column doubted_at        timestamptz,
    add constraint account_costs_are_one_or_none check (
        replay_cost in (0, 1) and duplicate_cost in (0, 1) and refused_cost in (0, 1));
comment on column impact_mirror.account.replay_cost is 'What a Replay costs of the daily bucket.';
comment on column impact_mirror.account.duplicate_cost is 'What a submission costs that impact.com answers with an earlier job.';
comment on column impact_mirror.account.refused_cost is 'What a call costs that is answered with 4xx, 429 excepted.';
comment on column impact_mirror.account.remote_clock is 'The Date of the last answer that had one: impact.com''s clock.';
comment on column impact_mirror.account.remote_clock_tick is 'The tick at which remote_clock was read.';
comment on column impact_mirror.account.ticks is 'Counts answers, at most one in five minutes. A clock that jumps makes one tick, not many.';
comment on column impact_mirror.account.ticked_at is 'When the last tick was counted.';
comment on column impact_mirror.account.clock_asked_at is 'When a call was last made only to read impact.com''s clock.';
comment on column impact_mirror.account.doubted_at is 'When headers that make no sense were last told of.';

alter table impact_mirror.bucket
    add column share          double precision not null default 1,
    add column seen_charge_id bigint,
    add column seen_resets_at timestamptz,
    add constraint bucket_share_is_a_part check (share > 0 and share <= 1),
    add constraint bucket_seen_whole check (
        (seen_limit is null) = (seen_remaining is null) and (seen_limit is null) = (seen_at is null)
        and (seen_limit is null) = (seen_charge_id is null) and (seen_resets_at is null or seen_limit is not null));
comment on column impact_mirror.bucket.share is 'The part of impact.com''s limit that is ours.';
comment on column impact_mirror.bucket.seen_limit is 'The limit that the last headers told, for all who use the account.';
comment on column impact_mirror.bucket.seen_remaining is 'What was left when the reporting call was answered; later charges are taken off.';
comment on column impact_mirror.bucket.seen_charge_id is 'The charge of the reporting call. Only the report of a later charge replaces it.';
comment on column impact_mirror.bucket.seen_resets_at is 'When the headers say that the count starts anew, by our clock.';

alter table impact_mirror.charge
    add column ordered_at timestamptz,
    add column remote_at  timestamptz,
    add column tick       bigint not null default 0;
comment on column impact_mirror.charge.at is 'When it was charged, by our clock; moved to now where the clock was set back behind it.';
comment on column impact_mirror.charge.ordered_at is 'The submitted_at of the order that was claimed with this charge.';
comment on column impact_mirror.charge.remote_at is 'The call reached impact.com before this, by its own clock; null until an answer tells.';
comment on column impact_mirror.charge.tick is 'The tick of its account at which it was charged.';
-- Charges from before: they reached impact.com about when they were made, and our own clock counts them anyway.
update impact_mirror.charge set remote_at = at + interval '66 seconds';
create index charge_in_remote_window on impact_mirror.charge (account, bucket, remote_at);
create index charge_by_job on impact_mirror.charge (job_id);

create function impact_mirror.bucket_room(of_account text, of_bucket text, at_time timestamptz)
returns table (
    ceiling     integer,
    used        integer,
    ledger_room integer,
    seen_room   integer,
    seen_until  timestamptz,
    reserve     integer,
    room        integer,
    opens_at    timestamptz,
    first_ends  timestamptz,
    clock_may_tell boolean
) language plpgsql stable as $$
declare
    b impact_mirror.bucket;
    a impact_mirror.account;
    margin    constant interval := interval '65 seconds';
    tick      constant interval := interval '5 minutes';
    is_daily  boolean;
    believes  boolean;
    patience  bigint;
    own_used  integer;
    own_first timestamptz;
    later     integer;
    is_asking boolean;
begin
    select * into b from impact_mirror.bucket o where o.account = of_account and o.bucket = of_bucket;
    if not found then return; end if;
    select * into a from impact_mirror.account o where o.name = of_account;
    is_daily := b.window_length > interval '1 hour';
    believes := a.remote_clock is not null and a.ticks - a.remote_clock_tick <= 12;
    patience := 2 * extract(epoch from b.window_length)::bigint / extract(epoch from tick)::bigint;

    ceiling := b."limit";
    if b.seen_at is not null and at_time < b.seen_at + b.window_length then
        ceiling := least(ceiling, greatest(floor(b.seen_limit * b.share)::integer, 1));
        seen_until := coalesce(b.seen_resets_at, b.seen_at + case when is_daily then interval '1 hour' else tick end);
    end if;

    select coalesce(sum(c.cost) filter (where c.ours), 0),
           coalesce(sum(c.cost) filter (where c.ours or c.theirs), 0),
           min(c.at) filter (where c.ours),
           coalesce(sum(c.cost) filter (where c.id > b.seen_charge_id), 0),
           coalesce(bool_or(c.id > b.seen_charge_id and c.at >= greatest(seen_until, at_time - margin)), false)
    into own_used, used, own_first, later, is_asking
    from (
        select h.id, h.at, h.cost,
               h.at + b.window_length + margin > at_time
                   or (is_daily and ((h.at + margin) at time zone a.time_zone)::date >= (at_time at time zone a.time_zone)::date)
                   as ours,
               believes
                   and a.ticks - h.tick <= patience
                   and (h.remote_at is null
                        or h.remote_at + b.window_length > a.remote_clock
                        or (is_daily
                            and (h.remote_at at time zone a.time_zone)::date >= (a.remote_clock at time zone a.time_zone)::date))
                   as theirs
        from impact_mirror.charge h
        where h.account = of_account
          and h.bucket = of_bucket
          and h.cost > 0
          and (h.at > at_time - b.window_length - interval '1 hour' - margin
               or (believes and (h.remote_at is null or h.remote_at > a.remote_clock - b.window_length - interval '1 hour')))
    ) c;

    reserve := case when believes and not is_daily and ceiling >= 10 then greatest(ceiling / 50, 1) else 0 end;
    ledger_room := greatest(ceiling - reserve - used, 0);
    if seen_until is not null then
        seen_room := greatest(b.seen_remaining - later, 0);
        if seen_room = 0 and at_time >= seen_until and not is_asking then
            seen_room := 1;
        end if;
    end if;
    room := case when b.closed_until > at_time then 0 else least(ledger_room, seen_room) end;
    clock_may_tell := own_used < ceiling - reserve and ledger_room = 0 and ceiling > reserve;
    first_ends := own_first + b.window_length + margin;
    if room = 0 then
        opens_at := greatest(
            case when b.closed_until > at_time then b.closed_until end,
            case when clock_may_tell then greatest(a.clock_asked_at + tick, at_time) when ledger_room = 0 then first_ends end,
            case when seen_room = 0 then greatest(seen_until, at_time + margin) end,
            at_time + interval '1 second');
    end if;
    return next;
end
$$;
comment on function impact_mirror.bucket_room(text, text, timestamptz) is
    'How many calls of a bucket are left at a time, and why: the one place that says so. '
    'A charge counts until its window is over by our clock, 65 s later, the longest a request is under way, and by impact.com''s clock, '
    'where its answers carry a Date; daily charges until the account''s day is over too, which may have 25 hours. '
    'A Date that stands still is believed for two windows of ticks; one that is missing for an hour of ticks is not waited for. '
    'ceiling: our limit, lowered by the headers; ledger_room: left by our count; seen_room: left by the headers, null where they say '
    'nothing; after seen_until one call at a time is allowed until they speak again. reserve: requests kept for reading '
    'impact.com''s clock. room: what may be called now. clock_may_tell: only impact.com''s clock holds the bucket shut.';

create or replace view impact_mirror.quota as
select b.account,
       b.bucket,
       b."limit",
       coalesce(r.used, 0) as used,
       coalesce(r.room, 0) as remaining,
       coalesce(r.opens_at, r.first_ends) as resets_at,
       (select count(*)::integer from impact_mirror.job j
        where j.account = b.account and j.bucket = b.bucket and j.state = 'planned') as reserved
from impact_mirror.bucket b
join impact_mirror.account a on a.name = b.account and a.active
left join lateral impact_mirror.bucket_room(b.account, b.bucket, now()) r on true;
comment on column impact_mirror.quota.used is 'Charged, and still counted by our clock or impact.com''s.';
comment on column impact_mirror.quota.remaining is 'What may still be called, by our count and by the response headers; none while the bucket is closed.';
comment on column impact_mirror.quota.resets_at is 'When there may be room again, or else when the oldest charge stops counting.';
